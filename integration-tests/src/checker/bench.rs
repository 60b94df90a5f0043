//! A long correct history, and how fast it is judged.

use std::time::Instant;

use super::{Checker, Options};
use crate::history::{Answer, Ended, Event, GrantId, Message, Place, Position, SettleKind, What};

const SESSIONS: u64 = 10_000;
const STEPS: u64 = 7;

/// Judges a generated correct history of about this many events, over ten thousand sessions
/// of one lane, and says how many events a second that took. A wrong verdict gives 0.
pub fn bench(events: u64) -> f64 {
    let mut checker = Checker::new(Options::total());
    let begin = Instant::now();
    correct(events).for_each(|event| checker.push(&event));
    let verdict = checker.finish();
    let took = begin.elapsed().as_secs_f64();
    #[expect(clippy::cast_precision_loss, reason = "a rate")]
    let rate = verdict.events() as f64 / took;
    if verdict.is_ok() { rate } else { 0.0 }
}

/// A correct history of about this many events, of whole messages.
pub fn correct(events: u64) -> impl Iterator<Item = Event> {
    let grant = GrantId { consumer: 1, n: 1 };
    let begin = [What::GroupStart, What::Grant { place: Place::Lane(0), grant, sent_at: 0, lock: u64::MAX }];
    let total = events / STEPS * STEPS;
    let steps = (0..total).map(move |at| step(at, total, grant));
    begin.into_iter().chain(steps).enumerate().map(|(at, what)| {
        let at = at as u64;
        Event { time: at * 100, process: 1, number: at, group: 1, what }
    })
}

/// The sessions go through the steps of a message side by side, as they would in a run.
fn step(at: u64, total: u64, grant: GrantId) -> What {
    let messages = total / STEPS;
    let round = at / (SESSIONS * STEPS);
    let first = round * SESSIONS;
    let sessions = SESSIONS.min(messages - first);
    let within = at - first * STEPS;
    let (step, index) = (within / sessions, within % sessions);
    let session = index.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let message = Message { producer: 1, pseq: first + index + 1 };
    let position = Some(Position { generation: 0, value: message.pseq });
    let hash = message.pseq;
    match step {
        0 => What::SendReq { session, message, prev: 0, hash },
        1 => What::Send { session, message, outcome: Answer::Ok, position },
        2 => What::Deliver { session, message, grant, hash, position, malformed: false },
        3 => What::Start {
            session,
            message,
            grant,
            attempt: 1,
            checked_at: 0,
            deadline: u64::MAX,
            position,
            blocking: false,
        },
        4 => What::End { session, message, grant, how: Ended::Ok },
        5 => What::SettleReq { session, message, grant, kind: SettleKind::Complete },
        _ => What::Settle { session, message, grant, answer: Answer::Ok },
    }
}
