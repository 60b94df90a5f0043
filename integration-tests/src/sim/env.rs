//! What every part of a schedule shares: the time, the queue of what happens next, the links, the log, the rights, the judge.

use std::sync::Arc;

use convoy_core::Moment;
use convoy_core::backend::{Answer as CoreAnswer, Grant, LeaseCell, Loss};
use convoy_core::engine::{How, Note};

use super::faults::Kind;
use super::judge::Judge;
use super::log::Log;
use super::names::{Names, session_key};
use super::plan::Plan;
use super::queue::{Ev, Queue};
use super::rng::Rng;
use super::wire::{Conn, Down, Up};
use crate::history::{
    Answer, Cause, Fault, GrantId, Message, Phase, Place, Position, Reason, SettleKind, Side, Store, What,
};

/// No token, no place.
pub(crate) const NONE: u32 = u32::MAX;

/// A right, with what each side knows of it. Its number is its token, and one less than its epoch.
#[derive(Debug)]
pub(crate) struct Right {
    pub(crate) grant: Grant,
    pub(crate) place: u8,
    pub(crate) conn: u16,
    pub(crate) process: u8,
    pub(crate) incarnation: u32,
    // The broker's side.
    pub(crate) active: bool,
    pub(crate) told: bool,
    /// Everything below is settled when it is granted.
    pub(crate) start: u64,
    pub(crate) expires: u64,
    pub(crate) reads: bool,
    pub(crate) cursor: u32,
    pub(crate) out: u32,
    /// When it is taken, once it is wanted back.
    pub(crate) taken_at: u64,
    // The client's side.
    pub(crate) live: bool,
    pub(crate) cell: Option<Arc<LeaseCell>>,
    pub(crate) granted_at: u64,
    /// When the last answered request was sent.
    pub(crate) asked_at: u64,
    /// Where reading goes on after a reconnect.
    pub(crate) next: u32,
    /// By when it must be given back.
    pub(crate) until: u64,
    /// What earlier holders had done, as the client read it.
    pub(crate) recovered: super::broker::Committed,
    pub(crate) proved: bool,
    /// Whether the engine wants to read.
    pub(crate) wanted: bool,
}

/// The numbers of a schedule.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Tally {
    pub(crate) kinds: u64,
    pub(crate) faults: u32,
    pub(crate) grants: u32,
    pub(crate) losses: u32,
    pub(crate) handled: u32,
    pub(crate) events: u64,
    /// A session waited for its turn while others had several.
    pub(crate) starved: u32,
    /// A drained engine held something.
    pub(crate) leaks: u32,
    /// Two handlers of one session ran in one process.
    pub(crate) doubled: u32,
    /// A right ran out although nothing kept it from being renewed.
    pub(crate) lapsed: u32,
}

/// The shared part of a schedule.
#[derive(Debug)]
pub(crate) struct Env {
    pub(crate) now: u64,
    pub(crate) rng: Rng,
    pub(crate) queue: Queue,
    pub(crate) plan: Plan,
    pub(crate) names: Names,
    pub(crate) log: Log,
    pub(crate) rights: Vec<Right>,
    pub(crate) conns: Vec<Conn>,
    pub(crate) conns_used: usize,
    pub(crate) judge: Judge,
    pub(crate) tally: Tally,
    pub(crate) incarnations: u32,
    /// Faults are over.
    pub(crate) calm: bool,
    pub(crate) stash: Vec<(u8, u32, Down)>,
}

/// Prints a line of the trace, when it is wanted.
macro_rules! tell {
    ($env:expr, $($arg:tt)*) => {
        if $env.judge.tells {
            println!("{:>14.6} ms  {}", $crate::sim::judge::millis($env.now), format_args!($($arg)*));
        }
    };
}
pub(crate) use tell;

impl Env {
    pub(crate) fn moment(&self) -> Moment {
        Moment::from_nanos(self.now)
    }

    pub(crate) fn after(&mut self, delay: u64, ev: Ev) {
        self.queue.push(self.now + delay, ev);
    }

    /// Notes that a kind of disturbance happened, and counts it.
    pub(crate) fn disturbed(&mut self, kind: Kind) {
        self.tally.kinds |= kind.bit();
        self.tally.faults += 1;
        tell!(self, "-- {}", kind.name());
    }

    /// Notes a kind that is not counted among the faults.
    pub(crate) fn saw(&mut self, kind: Kind) {
        self.tally.kinds |= kind.bit();
    }

    /// Whether a chance disturbance happens now.
    pub(crate) fn strikes(&mut self, permille: u64) -> bool {
        permille > 0 && !self.calm && self.rng.permille(permille)
    }

    pub(crate) fn delay(&mut self) -> u64 {
        let (low, high) = self.plan.delay;
        self.rng.range(low, high)
    }

    pub(crate) fn connect(&mut self, process: u8, incarnation: u32) -> u16 {
        let at = self.conns_used;
        if at == self.conns.len() {
            self.conns.push(Conn::new());
        }
        self.conns_used += 1;
        self.conns[at].open(process, incarnation, self.now);
        at as u16
    }

    pub(crate) fn send_up(&mut self, conn: u16, what: Up) {
        let delay = self.delay();
        let c = &mut self.conns[conn as usize];
        if !c.client_open || c.up.dead {
            return;
        }
        if let Some(at) = c.up.send(self.now, delay + c.slow, what) {
            self.queue.push(at, Ev::Up(conn));
        }
    }

    pub(crate) fn send_down(&mut self, conn: u16, what: Down) {
        let delay = self.delay();
        let c = &mut self.conns[conn as usize];
        if !c.broker_open || c.down.dead {
            return;
        }
        if let Some(at) = c.down.send(self.now, delay + c.slow, what) {
            self.queue.push(at, Ev::Down(conn));
        }
    }

    /// The connection ends for the client; the broker is told by it if anything gets through.
    pub(crate) fn hang_up(&mut self, conn: u16, silent: bool) {
        if !silent {
            self.send_up(conn, Up::Closed);
        }
        self.conns[conn as usize].client_open = false;
    }

    pub(crate) fn process_of(&self, token: u32) -> u32 {
        self.rights[token as usize].incarnation
    }

    pub(crate) fn fault(&mut self, fault: Fault, side: Side, phase: Phase, target: u32) {
        self.judge.push_outside(self.now, target, What::Fault { fault, side, phase, target });
    }

    fn position(value: u64) -> Option<Position> {
        Some(Position { generation: 0, value })
    }

    fn message(&self, position: u64) -> Message {
        self.log.at(position).map_or(Message::default(), |entry| entry.message)
    }

    /// Whether nothing can have kept a right from being renewed.
    fn should_hold(&self, token: usize) -> bool {
        let right = &self.rights[token];
        let wanted_back = |r: &Right| r.process == right.process && (r.taken_at != u64::MAX || r.until != u64::MAX);
        let let_go = self.tally.kinds & Kind::DeliveryOut.bit() != 0;
        self.plan.renews_in_time() && !let_go && !self.rights.iter().any(wanted_back)
    }

    /// Tells the judge what an engine says that it did. Starts and ends are told by whoever runs the handlers.
    pub(crate) fn note(&mut self, process: u32, note: Note) {
        let id = |grant: Grant| GrantId { consumer: process, n: grant.epoch() };
        let now = self.now;
        match note {
            Note::Granted { grant, place } => {
                self.tally.grants += 1;
                let token = (grant.epoch() - 1) as usize;
                let place = match place {
                    convoy_core::backend::Place::Lane(lane) => Place::Lane(lane),
                    convoy_core::backend::Place::Session(ref id) => Place::Session(session_key(id)),
                };
                let lock = self.plan.lock - self.plan.margin;
                // Nothing may start before evidence: so the right begins with what is proved, not with the grant.
                self.judge.push(now, process, What::Grant { place, grant: id(grant), sent_at: 0, lock });
                self.rights[token].proved = false;
            }
            Note::Lost { grant, why, .. } => {
                self.tally.losses += u32::from(why != Loss::Released);
                let token = (grant.epoch() - 1) as usize;
                if why == Loss::Expired && self.should_hold(token) {
                    tell!(self, "{token} ran out needlessly");
                    self.tally.lapsed += 1;
                }
                let right = &self.rights[token];
                // What a commit has no room for may never be settled.
                let cannot = self.plan.has_no_room();
                let cause = match why {
                    // Given back before it had to be: so everything is said to be finished.
                    Loss::Released if now < right.until && !cannot => Cause::Drained,
                    Loss::Released => Cause::DrainCut,
                    Loss::Expired => Cause::Expired,
                    Loss::Disconnected => Cause::Connection,
                    Loss::Refused => Cause::Refused,
                    Loss::Unknown => Cause::Surrendered,
                    _ => Cause::Revoked,
                };
                self.judge.push(now, process, What::Lost { grant: id(grant), cause });
            }
            Note::Delivered { grant, session, position, .. } => {
                let Some(entry) = self.log.at(position.value) else { return };
                let (message, malformed) = (entry.message, entry.defect.is_some());
                let hash = message.pseq;
                let (session, position) = (session_key(&session), Self::position(position.value));
                let what = What::Deliver { session, message, grant: id(grant), hash, position, malformed };
                self.judge.push(now, process, what);
            }
            Note::SettleRequested { grant, session, position, how, reason } => {
                let kind = match (how, reason) {
                    (How::DeadLettered, Some("attempts-exhausted" | "time-exhausted")) => {
                        SettleKind::Dead(Reason::Exhausted)
                    }
                    (How::DeadLettered, Some("handler")) => SettleKind::Dead(Reason::Explicit),
                    (How::DeadLettered, _) => SettleKind::Dead(Reason::Malformed),
                    _ => SettleKind::Complete,
                };
                let (session, message) = (session_key(&session), self.message(position.value));
                self.judge.push(now, process, What::SettleReq { session, message, grant: id(grant), kind });
            }
            Note::SetAside { grant, session, position, answer, .. } => {
                let answer = match answer {
                    CoreAnswer::Ok => Answer::Ok,
                    CoreAnswer::Unknown => Answer::Unknown,
                    CoreAnswer::Refused | CoreAnswer::NotApplied => Answer::Refused,
                };
                let (session, message) = (session_key(&session), self.message(position.value));
                let what = What::Copied { session, message, grant: id(grant), store: Store::Dead, answer };
                self.judge.push(now, process, what);
            }
            Note::Settled { grant, session, position, answer } => {
                let answer = match answer {
                    CoreAnswer::Ok => Answer::Ok,
                    CoreAnswer::Refused => Answer::Refused,
                    // Asked for again without another record: it stays maybe settled.
                    CoreAnswer::Unknown | CoreAnswer::NotApplied => Answer::Unknown,
                };
                let (session, message) = (session_key(&session), self.message(position.value));
                self.judge.push(now, process, What::Settle { session, message, grant: id(grant), answer });
            }
            Note::Reading { on: false, .. } => self.saw(Kind::Full),
            _ => {}
        }
    }
}
