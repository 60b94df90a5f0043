//! The fixed-size bytes of an event.

use std::fmt;

use zerocopy::little_endian::{U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::codes::{Answer, Cause, Ended, Fault, Phase, Reason, Side, Store};
use super::event::{Event, GrantId, Message, Place, Position, SettleKind, What};

/// Bytes a record.
pub const RECORD_LEN: usize = size_of::<Record>();

const VERSION: u8 = 1;
const POSITION: u8 = 1;
const MARK: u8 = 2;
const LANE: u8 = 4;

/// An [`Event`] as bytes, little-endian on every machine. A field that a kind does not use is zero.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct Record {
    version: u8,
    kind: u8,
    code: u8,
    flags: u8,
    group: U32,
    time: U64,
    number: U64,
    process: U32,
    consumer: U32,
    n: U64,
    session: U64,
    producer: U32,
    attempt: U32,
    pseq: U64,
    x: U64,
    y: U64,
    generation: U64,
    value: U64,
}

/// The bytes are no record of this version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Invalid {
    /// The version byte found.
    pub version: u8,
    /// The kind byte found.
    pub kind: u8,
}

impl fmt::Display for Invalid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "not a history record: version {}, kind {}", self.version, self.kind)
    }
}

impl std::error::Error for Invalid {}

impl From<&Event> for Record {
    fn from(event: &Event) -> Self {
        let mut r = Self {
            version: VERSION,
            group: event.group.into(),
            time: event.time.into(),
            number: event.number.into(),
            process: event.process.into(),
            ..Self::default()
        };
        r.set(&event.what);
        r
    }
}

impl TryFrom<&Record> for Event {
    type Error = Invalid;

    fn try_from(r: &Record) -> Result<Self, Invalid> {
        let invalid = Invalid { version: r.version, kind: r.kind };
        let what = if r.version == VERSION { r.what() } else { None };
        Ok(Self {
            time: r.time.get(),
            process: r.process.get(),
            number: r.number.get(),
            group: r.group.get(),
            what: what.ok_or(invalid)?,
        })
    }
}

impl Record {
    fn set(&mut self, what: &What) {
        match *what {
            What::GroupStart => self.kind = 1,
            What::SendReq { session, message, prev, hash } => {
                self.of(2, session, message);
                (self.x, self.y) = (hash.into(), prev.into());
            }
            What::Send { session, message, outcome, position } => {
                self.of(3, session, message);
                self.code = outcome.code();
                self.at(position);
            }
            What::Resume { session, producer } => self.of(4, session, Message { producer, pseq: 0 }),
            What::Grant { place, grant, sent_at, lock } => {
                self.under(5, grant);
                match place {
                    Place::Lane(lane) => (self.flags, self.session) = (LANE, u64::from(lane).into()),
                    Place::Session(session) => self.session = session.into(),
                }
                (self.x, self.y) = (sent_at.into(), lock.into());
            }
            What::Renewed { grant, sent_at } => {
                self.under(6, grant);
                self.x = sent_at.into();
            }
            What::Lost { grant, cause } => {
                self.under(7, grant);
                self.code = cause.code();
            }
            What::Deliver { session, message, grant, hash, position, malformed } => {
                self.of(8, session, message);
                self.under(8, grant);
                self.at(position);
                self.mark(malformed);
                self.x = hash.into();
            }
            What::Start { session, message, grant, attempt, checked_at, deadline, position, blocking } => {
                self.of(9, session, message);
                self.under(9, grant);
                self.at(position);
                self.mark(blocking);
                self.attempt = attempt.into();
                (self.x, self.y) = (checked_at.into(), deadline.into());
            }
            What::End { session, message, grant, how } => {
                self.of(10, session, message);
                self.under(10, grant);
                self.code = how.code();
            }
            What::SettleReq { session, message, grant, kind } => {
                self.of(11, session, message);
                self.under(11, grant);
                self.code = match kind {
                    SettleKind::Complete => 1,
                    SettleKind::Parked => 2,
                    SettleKind::Dead(reason) => 2 + reason.code(),
                };
            }
            What::Settle { session, message, grant, answer } => {
                self.of(12, session, message);
                self.under(12, grant);
                self.code = answer.code();
            }
            What::Copied { session, message, grant, store, answer } => {
                self.of(13, session, message);
                self.under(13, grant);
                self.code = answer.code();
                self.mark(store == Store::Parked);
            }
            What::Stored { session, message, store } => {
                self.of(14, session, message);
                self.code = store.code();
            }
            What::Redrive { session, message } => self.of(15, session, message),
            What::Purge { session, message } => self.of(16, session, message),
            What::Effect { session, message, position, accepted } => {
                self.of(17, session, message);
                self.at(position);
                self.mark(accepted);
            }
            What::StateReq { session, grant, version } => self.state(18, session, grant, version),
            What::State { session, grant, version, answer } => {
                self.state(19, session, grant, version);
                self.code = answer.code();
            }
            What::StateRead { session, grant, version } => self.state(20, session, grant, version),
            What::KillSent { target } => (self.kind, self.attempt) = (21, target.into()),
            What::Reaped { target } => (self.kind, self.attempt) = (22, target.into()),
            What::Fault { fault, side, phase, target } => {
                (self.kind, self.attempt) = (23, target.into());
                (self.code, self.flags) = (fault.code(), side.code() | phase.code() << 4);
            }
        }
    }

    fn what(&self) -> Option<What> {
        let session = self.session.get();
        let message = Message { producer: self.producer.get(), pseq: self.pseq.get() };
        let grant = GrantId { consumer: self.consumer.get(), n: self.n.get() };
        let (x, y, target) = (self.x.get(), self.y.get(), self.attempt.get());
        let mark = self.flags & MARK != 0;
        let position = (self.flags & POSITION != 0)
            .then(|| Position { generation: self.generation.get(), value: self.value.get() });
        Some(match self.kind {
            1 => What::GroupStart,
            2 => What::SendReq { session, message, prev: y, hash: x },
            3 => What::Send { session, message, outcome: Answer::from_code(self.code)?, position },
            4 => What::Resume { session, producer: message.producer },
            5 => {
                let lane = self.flags & LANE != 0;
                let place = if lane { Place::Lane(u32::try_from(session).ok()?) } else { Place::Session(session) };
                What::Grant { place, grant, sent_at: x, lock: y }
            }
            6 => What::Renewed { grant, sent_at: x },
            7 => What::Lost { grant, cause: Cause::from_code(self.code)? },
            8 => What::Deliver { session, message, grant, hash: x, position, malformed: mark },
            9 => What::Start {
                session,
                message,
                grant,
                attempt: self.attempt.get(),
                checked_at: x,
                deadline: y,
                position,
                blocking: mark,
            },
            10 => What::End { session, message, grant, how: Ended::from_code(self.code)? },
            11 => {
                let kind = match self.code {
                    1 => SettleKind::Complete,
                    2 => SettleKind::Parked,
                    code => SettleKind::Dead(Reason::from_code(code.checked_sub(2)?)?),
                };
                What::SettleReq { session, message, grant, kind }
            }
            12 => What::Settle { session, message, grant, answer: Answer::from_code(self.code)? },
            13 => {
                let store = if mark { Store::Parked } else { Store::Dead };
                What::Copied { session, message, grant, store, answer: Answer::from_code(self.code)? }
            }
            14 => What::Stored { session, message, store: Store::from_code(self.code)? },
            15 => What::Redrive { session, message },
            16 => What::Purge { session, message },
            17 => What::Effect { session, message, position, accepted: mark },
            18 => What::StateReq { session, grant, version: x },
            19 => What::State { session, grant, version: x, answer: Answer::from_code(self.code)? },
            20 => What::StateRead { session, grant, version: x },
            21 => What::KillSent { target },
            22 => What::Reaped { target },
            23 => What::Fault {
                fault: Fault::from_code(self.code)?,
                side: Side::from_code(self.flags & 15)?,
                phase: Phase::from_code(self.flags >> 4)?,
                target,
            },
            _ => return None,
        })
    }

    fn of(&mut self, kind: u8, session: u64, message: Message) {
        (self.kind, self.session) = (kind, session.into());
        (self.producer, self.pseq) = (message.producer.into(), message.pseq.into());
    }

    fn under(&mut self, kind: u8, grant: GrantId) {
        (self.kind, self.consumer, self.n) = (kind, grant.consumer.into(), grant.n.into());
    }

    fn state(&mut self, kind: u8, session: u64, grant: GrantId, version: u64) {
        self.under(kind, grant);
        (self.session, self.x) = (session.into(), version.into());
    }

    fn at(&mut self, position: Option<Position>) {
        if let Some(at) = position {
            self.flags |= POSITION;
            (self.generation, self.value) = (at.generation.into(), at.value.into());
        }
    }

    fn mark(&mut self, on: bool) {
        if on {
            self.flags |= MARK;
        }
    }
}
