//! From the public seams to the history: what a producer's [`Watch`] and a consumer's [`Observer`] see, written down as events.
//!
//! What the seams tell are the process's own [moments](convoy_core::Moment). A history of one process may keep them; where several are merged, each
//! maps its own to the machine's clock by [`Clock::shared`]. All times of an event are mapped alike, so that they compare with its deadline.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use convoy_core::backend::{self, Loss};
use convoy_core::engine::{EndKind, How, Note};
use convoy_core::producer::{SendEvent, Watch};
use convoy_core::{Content, Moment, Observed, Observer, Outcome, ProducerId, SessionId, runtime};
use foldhash::fast::RandomState;
use hashbrown::HashMap;

use crate::history::{
    self, Answer, Cause, Ended, GrantId, Message, Place, Position, Reason, Recorder, SettleKind, Store, What,
    body_hash, session_hash,
};

/// How a process's moments become the times of its history.
#[derive(Clone, Copy, Debug, Default)]
pub struct Clock {
    /// What is added to a moment.
    ahead: u64,
    /// What is taken off.
    behind: u64,
}

impl Clock {
    /// Moments as they are, for a history of one process; also under a paused clock.
    pub const fn own() -> Self {
        Self { ahead: 0, behind: 0 }
    }

    /// `CLOCK_MONOTONIC`, which all processes of a machine share. Moments count on the same clock from an origin of the process's own, so the two differ by a constant,
    /// which is read here: of several readings the one between which the least time passed. A freeze cannot get into it unnoticed, for then the two
    /// readings around it lie apart.
    pub fn shared() -> Self {
        let read = || {
            let before = history::now();
            let moment = runtime::now().as_nanos();
            (history::now().saturating_sub(before), before, moment)
        };
        let (_, machine, own) = (0..64).map(|_| read()).min().unwrap_or_default();
        Self { ahead: machine.saturating_sub(own), behind: own.saturating_sub(machine) }
    }

    /// The time of a moment; never stays never.
    pub fn time(self, moment: Moment) -> u64 {
        match moment {
            Moment::NEVER => u64::MAX,
            moment => moment.as_nanos().saturating_add(self.ahead).saturating_sub(self.behind),
        }
    }

    fn now(self) -> u64 {
        self.time(runtime::now())
    }
}

/// Writes down what one producer does.
#[derive(Debug)]
pub struct WatchedProducer<R> {
    recorder: Arc<R>,
    clock: Clock,
    /// Its number, once it has sent something.
    producer: AtomicU32,
}

/// Writes down what one consumer does.
#[derive(Debug)]
pub struct WatchedConsumer<R> {
    recorder: Arc<R>,
    clock: Clock,
    group: u32,
    consumer: u32,
    seen: Mutex<Seen>,
}

/// What a note does not say and an event must.
#[derive(Debug, Default)]
struct Seen {
    /// Which message stands at a place of a session, while it is not settled.
    messages: HashMap<(u64, Position), Message, RandomState>,
    /// Grants without a proof so far, and what arrived under them. Nothing starts before the proof.
    unproved: HashMap<u64, (Place, Vec<What>), RandomState>,
    /// What is asked to be settled and has no answer: by which grant, and since when.
    asked: HashMap<(u64, Position), (u64, u64), RandomState>,
}

/// So many nanoseconds a settlement has at least to be answered, before a right that is given back without the answer was given back because its time was up.
const IN_VAIN: u64 = 1_000_000_000;

impl<R: Recorder> WatchedProducer<R> {
    /// For [`ProducerOptions::watch`](convoy_core::ProducerOptions::watch) of one producer.
    pub fn new(recorder: Arc<R>) -> Self {
        Self::on(Clock::own(), recorder)
    }

    /// The same, in times of this clock.
    pub fn on(clock: Clock, recorder: Arc<R>) -> Self {
        Self { recorder, clock, producer: AtomicU32::new(0) }
    }

    fn message(&self, content: &Content) -> Message {
        let message = stamped(content);
        self.producer.store(message.producer, Ordering::Relaxed);
        message
    }
}

impl<R: Recorder + 'static> Watch for WatchedProducer<R> {
    fn on(&self, event: &SendEvent<'_>) {
        let time = self.clock.now();
        let what = match event {
            SendEvent::Queued { session, content, .. } => What::SendReq {
                session: key(session),
                message: self.message(content),
                prev: content.stamp().map_or(0, |stamp| stamp.prev),
                hash: hash(content),
            },
            SendEvent::Confirmed { session, receipt } => What::Send {
                session: key(session),
                message: Message { producer: self.producer.load(Ordering::Relaxed), pseq: receipt.number },
                outcome: Answer::Ok,
                position: receipt.position.map(position),
            },
            // Refused at the call without a number: nothing was handed over.
            SendEvent::Failed { error } if error.content().stamp().is_none() => return,
            SendEvent::Failed { error } => What::Send {
                session: key(error.session()),
                message: self.message(error.content()),
                outcome: if error.outcome() == Outcome::Unknown { Answer::Unknown } else { Answer::Refused },
                position: None,
            },
            SendEvent::Resumed { session, .. } => {
                What::Resume { session: key(session), producer: self.producer.load(Ordering::Relaxed) }
            }
            _ => return,
        };
        self.recorder.record(time, 0, what);
    }
}

impl<R: Recorder> WatchedConsumer<R> {
    /// Watches the consumer that the history calls `consumer`, in the group that it calls `group`, and says that the group is there.
    pub fn new(recorder: Arc<R>, group: u32, consumer: u32) -> Self {
        Self::on(Clock::own(), recorder, group, consumer)
    }

    /// The same, in times of this clock.
    pub fn on(clock: Clock, recorder: Arc<R>, group: u32, consumer: u32) -> Self {
        recorder.record(clock.now(), group, What::GroupStart);
        Self { recorder, clock, group, consumer, seen: Mutex::default() }
    }

    fn grant(&self, grant: &backend::Grant) -> GrantId {
        GrantId { consumer: self.consumer, n: grant.epoch() }
    }
}

impl<R: Recorder + 'static> Observer for WatchedConsumer<R> {
    fn on(&self, event: &Observed<'_>) {
        let clock = self.clock;
        let time = clock.time(event.at);
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let seen = &mut *seen;
        let record = |what| self.recorder.record(time, self.group, what);
        // A grant is told with the request that proved it and its lock, and what arrived before behind it.
        let told = |seen: &mut Seen, grant: &backend::Grant, sent_at: u64, lock: u64| {
            let Some((place, arrived)) = seen.unproved.remove(&grant.epoch()) else { return };
            record(What::Grant { place, grant: self.grant(grant), sent_at, lock });
            arrived.into_iter().for_each(record);
        };
        match event.note {
            Note::Granted { grant, place } => {
                let place = match place {
                    backend::Place::Lane(lane) => Place::Lane(*lane),
                    backend::Place::Session(session) => Place::Session(key(session)),
                };
                seen.unproved.insert(grant.epoch(), (place, Vec::new()));
            }
            Note::Proved { grant, asked_at, deadline } => {
                let lock = deadline.as_nanos() - asked_at.as_nanos().min(deadline.as_nanos());
                told(seen, grant, clock.time(*asked_at), lock);
                record(What::Renewed { grant: self.grant(grant), sent_at: clock.time(*asked_at) });
            }
            Note::Lost { grant, why, .. } => {
                told(seen, grant, time, 0);
                let cause = match cause(*why) {
                    Cause::Drained if seen.waited(grant.epoch(), time) => Cause::DrainCut,
                    cause => cause,
                };
                seen.asked.retain(|_, (epoch, _)| *epoch != grant.epoch());
                record(What::Lost { grant: self.grant(grant), cause });
            }
            Note::Delivered { grant, session, position: at, content } => {
                let message = stamped(content);
                let (session, malformed, at) = (key(session), session.is_lone(), position(*at));
                seen.messages.insert((session, at), message);
                let (id, hash) = (self.grant(grant), hash(content));
                let arrived = What::Deliver { session, message, grant: id, hash, position: Some(at), malformed };
                match seen.unproved.get_mut(&grant.epoch()) {
                    Some((_, before)) => before.push(arrived),
                    None => record(arrived),
                }
            }
            Note::Started { grant, session, position: at, content, attempt, checked_at, deadline } => {
                record(What::Start {
                    session: key(session),
                    message: stamped(content),
                    grant: self.grant(grant),
                    attempt: *attempt,
                    checked_at: clock.time(*checked_at),
                    deadline: clock.time(*deadline),
                    position: Some(position(*at)),
                    blocking: false,
                });
            }
            Note::Ended { grant, session, position: at, how, .. } => {
                if let Some((session, message)) = seen.at(session, *at) {
                    let how = match how {
                        EndKind::Done => Ended::Ok,
                        EndKind::Failed => Ended::Error,
                        EndKind::Panicked => Ended::Panic,
                        _ => Ended::Cancelled,
                    };
                    record(What::End { session, message, grant: self.grant(grant), how });
                }
            }
            Note::SettleRequested { grant, session, position: at, how, reason } => {
                if let Some((session, message)) = seen.at(session, *at) {
                    let kind = match how {
                        How::DeadLettered => SettleKind::Dead(why(reason.unwrap_or_default())),
                        _ => SettleKind::Complete,
                    };
                    seen.asked.entry((session, position(*at))).or_insert((grant.epoch(), time));
                    record(What::SettleReq { session, message, grant: self.grant(grant), kind });
                }
            }
            Note::SetAside { grant, session, position: at, answer: given, .. } => {
                if let Some((session, message)) = seen.at(session, *at) {
                    let (grant, store) = (self.grant(grant), Store::Dead);
                    record(What::Copied { session, message, grant, store, answer: answer(*given) });
                }
            }
            Note::Settled { grant, session, position: at, answer: given } => {
                // What did not happen goes again with the next one, and stays asked for: that is no answer yet. The next one may happen without an answer that anybody sees.
                let goes_again = *given == backend::Answer::NotApplied;
                if let Some((session, message)) = seen.at(session, *at).filter(|_| !goes_again) {
                    seen.asked.remove(&(session, position(*at)));
                    record(What::Settle { session, message, grant: self.grant(grant), answer: answer(*given) });
                    if *given == backend::Answer::Ok {
                        seen.messages.remove(&(session, position(*at)));
                    }
                }
            }
            _ => {}
        }
    }
}

impl Seen {
    /// Whether what was done under a right waited in vain to be settled when the right was given back: so its time was up. One that is given back with an answer still on its way was not waited for.
    fn waited(&self, epoch: u64, now: u64) -> bool {
        self.asked.values().any(|(of, since)| *of == epoch && now.saturating_sub(*since) >= IN_VAIN)
    }

    fn at(&self, session: &SessionId, at: convoy_core::Position) -> Option<(u64, Message)> {
        let session = key(session);
        Some((session, *self.messages.get(&(session, position(at)))?))
    }
}

/// How the history names a message. One of a foreign producer has no name.
pub fn stamped(content: &Content) -> Message {
    content.stamp().map_or(Message::default(), |s| Message { producer: number(s.producer), pseq: s.number })
}

/// The number by which the history names a producer: the bits of its id that are drawn at random.
fn number(producer: ProducerId) -> u32 {
    (producer.as_u128() & u128::from(u32::MAX)) as u32
}

/// The number by which the history names a session.
pub fn key(session: &SessionId) -> u64 {
    let lone = u64::from(session.is_lone());
    session_hash(session.as_bytes()) ^ lone
}

/// The hash of what a message carries, as sent and as received.
pub fn hash(content: &Content) -> u64 {
    body_hash(content.body(), content.headers().iter().map(|(name, value)| (name.as_bytes(), value.as_bytes())))
}

fn position(at: convoy_core::Position) -> Position {
    Position { generation: u64::from(at.generation), value: at.value }
}

fn answer(given: backend::Answer) -> Answer {
    match given {
        backend::Answer::Ok => Answer::Ok,
        backend::Answer::Unknown => Answer::Unknown,
        _ => Answer::Refused,
    }
}

fn cause(why: Loss) -> Cause {
    match why {
        Loss::Released => Cause::Drained,
        Loss::Expired => Cause::Expired,
        Loss::Disconnected => Cause::Connection,
        Loss::Refused => Cause::Refused,
        Loss::Unknown => Cause::Surrendered,
        _ => Cause::Revoked,
    }
}

fn why(code: &str) -> Reason {
    match code {
        "attempts-exhausted" | "time-exhausted" => Reason::Exhausted,
        "handler" | "unknown-type" => Reason::Explicit,
        _ => Reason::Malformed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_map_to_the_clock_that_all_processes_share() {
        let clock = Clock::shared();
        for _ in 0..100 {
            let (before, time, after) = (history::now(), clock.now(), history::now());
            let slack = 1_000_000;
            assert!(before <= time + slack && time <= after + slack, "{before} {time} {after}");
        }
        assert_eq!(clock.time(Moment::NEVER), u64::MAX);
        let at = runtime::now();
        assert_eq!(Clock::own().time(at), at.as_nanos());
    }

    #[test]
    fn a_right_that_is_given_back_while_an_answer_is_on_its_way_was_not_waited_for() {
        let mut seen = Seen::default();
        seen.asked.insert((1, Position::default()), (7, 100));
        assert!(!seen.waited(7, 100 + IN_VAIN - 1), "it gave up at once");
        assert!(seen.waited(7, 100 + IN_VAIN), "its time was up");
        assert!(!seen.waited(8, 100 + IN_VAIN), "another right");
    }
}
