//! What was sent: `phantom`, `misroute`, `corrupt`, `aborted-read`, `producer-reorder`.

use foldhash::fast::RandomState;
use hashbrown::HashMap;

use super::names::{Fatal, Reported};
use super::options::Order;
use super::report::{Of, tell};
use super::{Checker, ring};
use crate::history::{Answer, Event, GrantId, Message, Position};

/// A message that is sent and not settled in every group; or whose send failed, or was repeated.
#[derive(Clone, Debug)]
pub(super) struct Sent {
    pub(super) session: u64,
    hash: u64,
    pub(super) position: Option<Position>,
    /// The groups that have not settled it, as bits.
    pub(super) owed: u64,
    pub(super) at: u64,
    /// How often it was handed over without a definite failure.
    pub(super) copies: u32,
    /// The outcome; none while it is out.
    pub(super) outcome: Option<Answer>,
    pub(super) seen: bool,
}

/// What is remembered of a session of a producer.
#[derive(Clone, Debug, Default)]
struct Pair {
    /// The last number handed over, to compare with the next.
    last: u64,
    /// The greatest number handed over, to know what was sent.
    greatest: u64,
    /// The first call that failed or is unknown: nothing later goes out before the session is resumed. What was called before it may.
    halted_at: Option<u64>,
    /// The furthest of what is known to be sent well: its number and place.
    placed: Option<(u64, Position)>,
}

#[derive(Debug, Default)]
pub(super) struct Sends {
    pub(super) sent: HashMap<Message, Sent, RandomState>,
    pairs: HashMap<(u64, u32), Pair, RandomState>,
    pub(super) messages: u64,
}

impl Sends {
    pub(super) fn clear(&mut self) {
        self.sent.clear();
        self.pairs.clear();
        self.messages = 0;
    }

    /// A group has settled it; what every group settled is forgotten.
    pub(super) fn settled(&mut self, message: Message, bit: u64) -> Option<Answer> {
        let sent = self.sent.get_mut(&message)?;
        sent.owed &= !bit;
        sent.done().then(|| self.sent.remove(&message)).flatten()?.outcome
    }
}

impl Sent {
    /// Nothing more is to be learnt of it. A copy of a resent one may still come.
    fn done(&self) -> bool {
        self.owed == 0 && self.copies == 1 && matches!(self.outcome, Some(Answer::Ok | Answer::Unknown))
    }
}

impl Checker {
    pub(super) fn send_req(&mut self, event: &Event, session: u64, message: Message, hash: u64) {
        let owed = u32::try_from(self.groups.len()).ok().and_then(|n| 1u64.checked_shl(n)).map_or(u64::MAX, |b| b - 1);
        let pair = self.sends.pairs.entry((session, message.producer)).or_default();
        let wrong = if pair.halted_at.is_some_and(|at| message.pseq > at) {
            Some("was handed over behind a failed or unknown send before the session was resumed")
        } else if message.pseq <= pair.last {
            Some("was handed over behind a later call")
        } else {
            None
        };
        pair.last = message.pseq;
        pair.greatest = pair.greatest.max(message.pseq);
        let fresh = Sent { session, hash, position: None, owed, at: event.time, copies: 0, outcome: None, seen: false };
        let sent = self.sends.sent.entry(message).or_insert_with(|| {
            self.sends.messages += 1;
            fresh
        });
        // A failed one sent again is as good as new; an unknown one may be there twice.
        if sent.outcome == Some(Answer::Refused) {
            (sent.copies, sent.owed, sent.hash) = (sent.copies.min(1), owed, hash);
        }
        (sent.copies, sent.outcome) = (sent.copies + 1, None);
        if let Some(wrong) = wrong {
            self.fatal(event, Fatal::ProducerReorder, Of::sent(session, message), format!("{} {wrong}", tell(message)));
        }
    }

    pub(super) fn send(
        &mut self,
        event: &Event,
        session: u64,
        message: Message,
        outcome: Answer,
        position: Option<Position>,
    ) {
        let pair = self.sends.pairs.entry((session, message.producer)).or_default();
        if outcome != Answer::Ok {
            pair.halted_at = Some(pair.halted_at.map_or(message.pseq, |at| at.min(message.pseq)));
        }
        let Some(sent) = self.sends.sent.get_mut(&message) else {
            // It failed behind a halt and was never handed over; should it be delivered, that is known.
            if outcome == Answer::Refused {
                pair.greatest = pair.greatest.max(message.pseq);
                let sent = Sent {
                    session,
                    hash: 0,
                    position: None,
                    owed: 0,
                    at: event.time,
                    copies: 0,
                    outcome: Some(outcome),
                    seen: false,
                };
                self.sends.sent.insert(message, sent);
            }
            return;
        };
        sent.outcome = Some(outcome);
        sent.position = sent.position.or(position);
        let (seen, copies, done) = (sent.seen, sent.copies, sent.done());
        match outcome {
            Answer::Ok => self.in_log_order(event, session, message),
            Answer::Unknown if done => self.report.count(Reported::UnknownPresent),
            // An earlier copy of a resent one may be there all the same.
            Answer::Refused if copies > 1 => sent.outcome = Some(Answer::Unknown),
            Answer::Refused => {
                sent.copies = 0;
                if seen {
                    self.fatal(event, Fatal::AbortedRead, Of::sent(session, message), aborted(message));
                }
            }
            Answer::Unknown => {}
        }
        if done {
            self.sends.sent.remove(&message);
        }
    }

    pub(super) fn resume(&mut self, session: u64, producer: u32) {
        if let Some(pair) = self.sends.pairs.get_mut(&(session, producer)) {
            (pair.halted_at, pair.last) = (None, 0);
        }
    }

    /// Among what was sent well, the order of the calls is the order of the log. Where the broker
    /// gives no position only the deliveries show it, and they are judged as such.
    fn in_log_order(&mut self, event: &Event, session: u64, message: Message) {
        let Some(sent) = self.sends.sent.get(&message) else { return };
        let (Order::Total, Some(position), 1) = (self.options.order, sent.position, sent.copies) else { return };
        let Some(pair) = self.sends.pairs.get_mut(&(session, message.producer)) else { return };
        let (pseq, place) = pair.placed.unwrap_or((0, position));
        if (message.pseq > pseq && position < place) || (message.pseq < pseq && position > place) {
            let why = format!("{} lies in the log on the wrong side of number {pseq}", tell(message));
            self.fatal(event, Fatal::ProducerReorder, Of::sent(session, message), why);
        } else if message.pseq > pseq {
            pair.placed = Some((message.pseq, position));
        }
    }

    /// Compares what is delivered with what was sent.
    pub(super) fn known(
        &mut self,
        event: &Event,
        session: u64,
        message: Message,
        grant: GrantId,
        hash: u64,
        position: Option<Position>,
    ) {
        let of = Of::new(session, message, grant);
        let Some(sent) = self.sends.sent.get_mut(&message) else {
            // Settled everywhere and forgotten, or never sent.
            if !self.was_sent(session, message) {
                self.fatal(event, Fatal::Phantom, of, format!("{} was delivered and never sent", tell(message)));
            }
            return;
        };
        let first = !std::mem::replace(&mut sent.seen, true);
        let (home, outcome) = (sent.session, sent.outcome);
        if home != session {
            // Told of the session that misses it, so that the gap there has its cause.
            let why = format!("{} of session {home:016x} came under {session:016x}", tell(message));
            self.fatal(event, Fatal::Misroute, Of { session: home, ..of }, why);
        } else if outcome == Some(Answer::Refused) {
            self.fatal(event, Fatal::AbortedRead, of, aborted(message));
        } else if sent.hash != hash {
            self.fatal(event, Fatal::Corrupt, of, format!("{} was not what was sent", tell(message)));
        } else if first && position.is_some() {
            let known = sent.position.is_some();
            sent.position = sent.position.or(position);
            if !known && outcome == Some(Answer::Ok) {
                self.in_log_order(event, session, message);
            }
        }
    }

    /// Whether a message was handed over, as far as its number tells.
    pub(super) fn was_sent(&self, session: u64, message: Message) -> bool {
        let pair = self.sends.pairs.get(&(session, message.producer));
        pair.is_some_and(|pair| message.pseq <= pair.greatest)
    }

    /// Whether a message that is not live here was settled here before.
    pub(super) fn settled_before(&self, at: u32, message: Message, position: Option<Position>) -> bool {
        let Some(convoy) = self.convoys.all.get(at as usize) else { return false };
        match self.sends.sent.get(&message) {
            Some(sent) if sent.owed & self.group_bit(convoy.group) != 0 => false,
            _ if convoy.serial == 0 => false,
            _ => match (self.options.order, position) {
                (Order::Total, Some(position)) => position <= convoy.started_to,
                _ => self.convoys.started_of(at, message.producer).is_some_and(|to| message.pseq <= to),
            },
        }
    }

    pub(super) fn settled_here(&mut self, id: u32, at: u32) {
        let group = self.convoys.all.get(at as usize).map_or(0, |convoy| convoy.group);
        let bit = self.group_bit(group);
        let Some(message) = self.ring.get(id).map(|entry: &ring::Entry| entry.message) else { return };
        if self.sends.settled(message, bit) == Some(Answer::Unknown) {
            self.report.count(Reported::UnknownPresent);
        }
    }
}

fn aborted(message: Message) -> String {
    format!("{} was delivered although its send definitely failed", tell(message))
}
