//! The vocabulary of the history. Times are nanoseconds of `CLOCK_MONOTONIC`.

use super::codes::{Answer, Cause, Ended, Fault, Phase, Reason, Side, Store};

/// One thing that happened. Left exhaustive, since the suite and the simulation build it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event {
    /// When it happened, taken where it happened.
    pub time: u64,
    /// The process in which it happened.
    pub process: u32,
    /// The number of the record in its process: breaks ties of time.
    pub number: u64,
    /// The consumer group; 0 for what producers and the harness record.
    pub group: u32,
    /// What happened.
    pub what: What,
}

/// A message: a producer's incarnation and the number that it gave the message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Message {
    /// The producer's incarnation.
    pub producer: u32,
    /// The producer's own number of the message, growing over all its sessions.
    pub pseq: u64,
}

/// A place in a session's log, where the broker gives one. Ordered; never computed with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Position {
    /// The generation of the log (a recreated queue starts a new one).
    pub generation: u64,
    /// The offset, sequence number or index.
    pub value: u64,
}

/// A grant: a consumer and its local number. Numbers of two consumers are never compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub struct GrantId {
    /// The consumer, one per process and place where it is configured.
    pub consumer: u32,
    /// The consumer's own number of the grant, growing.
    pub n: u64,
}

/// What a grant is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Place {
    /// A lane: the grant covers every session that is delivered under it.
    Lane(u32),
    /// One session.
    Session(u64),
}

/// The kinds of event, each with its fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum What {
    /// The record's group exists from here on: it is owed every message sent later.
    GroupStart,
    /// A message is handed to the client library. A second one of the same message is a resend.
    SendReq {
        /// The session.
        session: u64,
        /// The message.
        message: Message,
        /// The number of this session's message before it; 0 when not known.
        prev: u64,
        /// Hash of body and headers, see [`body_hash`](super::body_hash).
        hash: u64,
    },
    /// A send has its outcome. One that fails behind a halted session has no [`What::SendReq`].
    Send {
        /// The session.
        session: u64,
        /// The message.
        message: Message,
        /// `Refused` says that it definitely did not land.
        outcome: Answer,
        /// Where it landed, if the broker says so.
        position: Option<Position>,
    },
    /// A halted session of a producer goes on.
    Resume {
        /// The session.
        session: u64,
        /// The producer.
        producer: u32,
    },
    /// A consumer holds a place.
    Grant {
        /// What is held.
        place: Place,
        /// The grant.
        grant: GrantId,
        /// When the request that won it left.
        sent_at: u64,
        /// The lock's time less the margin: the right ends at `sent_at + lock`; `u64::MAX` for never.
        lock: u64,
    },
    /// A fenced request was answered: the deadline moves to `sent_at + lock`.
    Renewed {
        /// The grant.
        grant: GrantId,
        /// When the answered request left.
        sent_at: u64,
    },
    /// A grant ended, as its process saw it.
    Lost {
        /// The grant.
        grant: GrantId,
        /// Why.
        cause: Cause,
    },
    /// A message reached a consumer.
    Deliver {
        /// The session under which it came.
        session: u64,
        /// The message.
        message: Message,
        /// The grant under which it came.
        grant: GrantId,
        /// Hash of body and headers as received.
        hash: u64,
        /// Its place in the log, where the broker gives one.
        position: Option<Position>,
        /// The envelope is broken, so that the policy may set it aside.
        malformed: bool,
    },
    /// A handler starts.
    Start {
        /// The session.
        session: u64,
        /// The message.
        message: Message,
        /// The grant under which it runs.
        grant: GrantId,
        /// The attempt as the handler sees it, from 1.
        attempt: u32,
        /// When the right was checked, just before the start.
        checked_at: u64,
        /// The deadline against which it was checked.
        deadline: u64,
        /// Its place in the log, where the broker gives one.
        position: Option<Position>,
        /// The handler declared that it blocks its thread.
        blocking: bool,
    },
    /// A handler ended.
    End {
        /// The session.
        session: u64,
        /// The message.
        message: Message,
        /// The grant under which it ran.
        grant: GrantId,
        /// How. A handler that ran into its own time limit is an `Error`.
        how: Ended,
    },
    /// A settlement is recorded, and on its way.
    SettleReq {
        /// The session.
        session: u64,
        /// The message.
        message: Message,
        /// The grant.
        grant: GrantId,
        /// What is asked for.
        kind: SettleKind,
    },
    /// A settlement has its answer: `Ok` says that the broker is known to have it.
    Settle {
        /// The session.
        session: u64,
        /// The message.
        message: Message,
        /// The grant.
        grant: GrantId,
        /// The answer.
        answer: Answer,
    },
    /// The copy of a message that is set aside has its answer.
    Copied {
        /// The session.
        session: u64,
        /// The origin.
        message: Message,
        /// The grant.
        grant: GrantId,
        /// Where to.
        store: Store,
        /// The answer.
        answer: Answer,
    },
    /// A reader of a store saw a copy; recorded in the order of the store.
    Stored {
        /// The session.
        session: u64,
        /// The origin.
        message: Message,
        /// Which store.
        store: Store,
    },
    /// A message set aside is brought back.
    Redrive {
        /// The session.
        session: u64,
        /// The message.
        message: Message,
    },
    /// A message set aside is given up.
    Purge {
        /// The session.
        session: u64,
        /// The message.
        message: Message,
    },
    /// A sink was asked to take an effect.
    Effect {
        /// The session.
        session: u64,
        /// The message.
        message: Message,
        /// The fencing position; none on a broker without one.
        position: Option<Position>,
        /// The sink took it.
        accepted: bool,
    },
    /// A write of session state leaves.
    StateReq {
        /// The session.
        session: u64,
        /// The grant.
        grant: GrantId,
        /// A number that the writer stores with the state, unique in its session.
        version: u64,
    },
    /// A write of session state has its answer: `Refused` also says that it is void.
    State {
        /// The session.
        session: u64,
        /// The grant.
        grant: GrantId,
        /// The version written.
        version: u64,
        /// The answer.
        answer: Answer,
    },
    /// Session state was read.
    StateRead {
        /// The session.
        session: u64,
        /// The grant.
        grant: GrantId,
        /// The version found; 0 for no state.
        version: u64,
    },
    /// `SIGKILL` is about to be sent.
    KillSent {
        /// The process.
        target: u32,
    },
    /// The process is known to be gone.
    Reaped {
        /// The process.
        target: u32,
    },
    /// A fault begins or ends.
    Fault {
        /// The kind.
        fault: Fault,
        /// Which side was cut.
        side: Side,
        /// Begin or end.
        phase: Phase,
        /// The process whose link or right is meant; 0 for all.
        target: u32,
    },
}

impl What {
    /// The message that it is about, if it is about one.
    pub fn message(&self) -> Option<Message> {
        match self {
            Self::SendReq { message, .. }
            | Self::Send { message, .. }
            | Self::Deliver { message, .. }
            | Self::Start { message, .. }
            | Self::End { message, .. }
            | Self::SettleReq { message, .. }
            | Self::Settle { message, .. }
            | Self::Copied { message, .. }
            | Self::Stored { message, .. }
            | Self::Redrive { message, .. }
            | Self::Purge { message, .. }
            | Self::Effect { message, .. } => Some(*message),
            _ => None,
        }
    }
}

/// What a settlement asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum SettleKind {
    /// Handled.
    Complete,
    /// To the dead letters.
    Dead(Reason),
    /// To the parking store.
    Parked,
}
