//! What happened, told to the checker and folded into the trace's hash.

use crate::checker::{Checker, Options, Order};
use crate::history::{Answer, Ended, Event, GrantId, What};

/// The group of all consumers.
const GROUP: u32 = 1;

/// The checker, and the hash of all that it was told.
#[derive(Debug)]
pub(crate) struct Judge {
    pub(crate) checker: Checker,
    number: u64,
    pub(crate) hash: u64,
    /// Whether everything is printed.
    pub(crate) tells: bool,
}

impl Judge {
    pub(crate) fn new() -> Self {
        let mut options = Options::total();
        options.order = Order::Total;
        options.dead_read = true;
        options.keep = 6;
        Self { checker: Checker::new(options), number: 0, hash: 0, tells: false }
    }

    pub(crate) fn reset(&mut self, seed: u64) {
        self.checker.reset();
        self.number = 0;
        self.hash = seed;
    }

    /// Folds a number into the hash.
    pub(crate) fn mix(&mut self, what: u64) {
        self.hash = (self.hash.rotate_left(5) ^ what).wrapping_mul(0x517c_c1b7_2722_0a95);
    }

    /// Something a consumer did.
    pub(crate) fn push(&mut self, now: u64, process: u32, what: What) {
        self.tell(Event { time: now, process, number: self.number, group: GROUP, what });
    }

    /// Something a producer did, or was done to a process.
    pub(crate) fn push_outside(&mut self, now: u64, process: u32, what: What) {
        self.tell(Event { time: now, process, number: self.number, group: 0, what });
    }

    fn tell(&mut self, event: Event) {
        self.number += 1;
        let (a, b) = fingerprint(&event.what);
        self.mix(event.time ^ (u64::from(event.process) << 48));
        self.mix(a ^ b.rotate_left(32));
        if self.tells {
            println!("{:>14.6} ms  p{:<3} {:?}", millis(event.time), event.process, event.what);
        }
        self.checker.push(&event);
    }
}

/// Milliseconds since a schedule's begin, for people.
pub(crate) fn millis(time: u64) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "for people")]
    let millis = time.saturating_sub(super::plan::BEGIN) as f64 / 1e6;
    millis
}

fn id(grant: GrantId) -> u64 {
    (u64::from(grant.consumer) << 32) ^ grant.n
}

/// Two numbers that differ where events differ.
fn fingerprint(what: &What) -> (u64, u64) {
    let answer = |answer: Answer| match answer {
        Answer::Ok => 1,
        Answer::Refused => 2,
        _ => 3,
    };
    match *what {
        What::SendReq { session, message, prev, .. } => (1 ^ (session << 8), message.pseq ^ (prev << 32)),
        What::Send { session, message, outcome, position } => {
            (2 ^ (session << 8) ^ (answer(outcome) << 40), message.pseq ^ (position.map_or(0, |p| p.value) << 32))
        }
        What::Resume { session, producer } => (3 ^ (session << 8), u64::from(producer)),
        What::Grant { grant, lock, .. } => (4 ^ (lock << 8), id(grant)),
        What::Renewed { grant, sent_at } => (5 ^ (sent_at << 8), id(grant)),
        What::Lost { grant, cause } => (6 ^ ((cause as u64) << 8), id(grant)),
        What::Deliver { session, message, grant, .. } => (7 ^ (session << 8), id(grant) ^ (message.pseq << 40)),
        What::Start { session, message, grant, attempt, .. } => {
            (8 ^ (session << 8) ^ (u64::from(attempt) << 48), id(grant) ^ (message.pseq << 40))
        }
        What::End { session, message, grant, how } => {
            let how = match how {
                Ended::Ok => 1,
                Ended::Error => 2,
                Ended::Panic => 3,
                _ => 4,
            };
            (9 ^ (session << 8) ^ (how << 48), id(grant) ^ (message.pseq << 40))
        }
        What::SettleReq { session, message, grant, .. } => (10 ^ (session << 8), id(grant) ^ (message.pseq << 40)),
        What::Settle { session, message, grant, answer: how } => {
            (11 ^ (session << 8) ^ (answer(how) << 48), id(grant) ^ (message.pseq << 40))
        }
        What::Copied { session, message, grant, answer: how, .. } => {
            (12 ^ (session << 8) ^ (answer(how) << 48), id(grant) ^ (message.pseq << 40))
        }
        What::Stored { session, message, .. } => (13 ^ (session << 8), message.pseq),
        What::KillSent { target } => (14, u64::from(target)),
        What::Reaped { target } => (15, u64::from(target)),
        What::Fault { fault, side, phase, target } => {
            (16 ^ ((fault as u64) << 8) ^ ((side as u64) << 16) ^ ((phase as u64) << 24), u64::from(target))
        }
        _ => (17, 0),
    }
}
