//! What goes into the engine and what comes out of it.

use std::sync::Arc;
use std::time::Duration;

use super::claims::ClaimId;
use crate::backend::{Answer, Event, Grant, LeaseCell, Loss, Place, Reason};
use crate::error::Error;
use crate::message::{Content, Inbound};
use crate::policy::{Bounds, Defective, Foreign, Retry, Turn};
use crate::position::Position;
use crate::session::SessionId;
use crate::time::Moment;

/// The policies of an engine.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Config {
    /// What follows a failed attempt.
    pub retry: Retry,
    /// How long a handler may run; then it is cancelled, and that counts as a failed attempt.
    pub handler_timeout: Option<Duration>,
    /// How long a cancelled handler may go on before its future is dropped.
    pub grace: Duration,
    /// How long a session without work is kept, on brokers that lock sessions.
    pub idle_release: Duration,
    /// The same while others may be waiting for its place.
    pub idle_under_pressure: Duration,
    /// How much of a session is handled before its place goes to another one, on brokers that lock sessions.
    pub turn: Option<Turn>,
    /// How long the first evidence of a grant may take before it is given up.
    pub prove_within: Duration,
    /// How much is buffered.
    pub bounds: Bounds,
    /// Messages without a session id.
    pub foreign: Foreign,
    /// Messages whose envelope cannot be read.
    pub defective: Defective,
    /// Messages in the wrong lane.
    pub misrouted: Defective,
    /// Whether to keep [`Note`]s for observers.
    pub observe: bool,
    /// Seeds the hash of the engine's maps.
    pub hash_seed: u64,
    /// The defect to run with.
    #[cfg(feature = "seeded-bugs")]
    pub bug: Option<super::Bug>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            retry: Retry::default(),
            handler_timeout: None,
            grace: Duration::from_secs(2),
            idle_release: Duration::from_secs(1),
            idle_under_pressure: Duration::ZERO,
            turn: None,
            prove_within: Duration::from_secs(30),
            bounds: Bounds::default(),
            foreign: Foreign::DeadLetter,
            defective: Defective::DeadLetter,
            misrouted: Defective::Stop,
            observe: false,
            hash_seed: 0,
            #[cfg(feature = "seeded-bugs")]
            bug: None,
        }
    }
}

/// What the engine is told.
#[derive(Debug)]
#[non_exhaustive]
pub enum Input {
    /// By the broker.
    Event(Event),
    /// By whoever ran a handler: it ended, and its future is gone.
    Ended {
        /// The run.
        run: RunId,
        /// How it ended.
        end: End,
        /// A random number, for the spread of waits.
        jitter: u64,
    },
    /// The time that [`Engine::next_deadline`](super::Engine::next_deadline) named has come.
    Tick,
    /// Start nothing, keep every right.
    Pause,
    /// Go on.
    Resume,
    /// Start nothing any more, finish and settle what runs, give every right back; by then.
    Drain {
        /// The latest time.
        until: Moment,
    },
    /// Whether all places for sessions are taken, so that idle ones should make room.
    Pressure(bool),
}

/// Names one run of a handler.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RunId {
    pub(super) index: usize,
    pub(super) serial: u64,
}

impl RunId {
    /// A number that no other run of this engine has.
    #[must_use]
    pub fn serial(self) -> u64 {
        self.serial
    }
}

/// A message to handle now.
#[derive(Debug)]
#[non_exhaustive]
pub struct Start {
    /// Names the run; its end is told with it.
    pub run: RunId,
    /// The right it runs under.
    pub grant: Grant,
    /// The message.
    pub message: Inbound,
    /// Which attempt this is, within this grant; the first is 1.
    pub attempt: u32,
    /// The lease, to be looked at right before the handler starts.
    pub lease: Arc<LeaseCell>,
    /// When the deadline was checked.
    pub checked_at: Moment,
}

/// How a run ended.
#[derive(Debug)]
#[non_exhaustive]
pub enum End {
    /// Handled.
    Done,
    /// Not handled.
    Failed {
        /// What the handler asked for.
        then: Then,
        /// The error, as text.
        detail: String,
    },
    /// It panicked: a failed attempt.
    Panicked {
        /// What the panic said.
        detail: String,
    },
    /// Its future was dropped after [`Notice::Drop`], or ended because it was told to.
    Cancelled,
    /// It never started, or a pulled delivery was given back unsettled: the message is offered again, uncharged.
    Returned,
}

/// What a failed handler asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Then {
    /// What the retry policy says.
    Retry,
    /// Another attempt after this time, whatever the policy says.
    RetryIn(Duration),
    /// Another attempt after the wait that the policy gives, however often it failed: the policy's limits do not count.
    Wait,
    /// The dead-letter store, at once.
    DeadLetter,
    /// The same, for a reason with this code.
    DeadLetterAs(&'static str),
    /// Stop the consumer.
    Stop,
}

/// Why a run is told to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum CancelWhy {
    /// The right is gone.
    Lost(Loss),
    /// The handler timeout.
    TimedOut,
    /// The deadline of a drain or of a revocation.
    Leaving,
}

/// What the driver must do or know.
#[derive(Debug)]
#[non_exhaustive]
pub enum Notice {
    /// Tell this run to end: fire its token.
    Cancel {
        /// The run.
        run: RunId,
        /// Why.
        why: CancelWhy,
    },
    /// Drop the future of this run; its end is told as [`End::Cancelled`].
    Drop {
        /// The run.
        run: RunId,
    },
    /// A claimed session has a message, or its lane cannot bring one.
    Wake {
        /// The claim.
        claim: ClaimId,
    },
    /// The right of a claimed session is gone; the claim is void.
    ClaimLost {
        /// The claim.
        claim: ClaimId,
        /// Why.
        why: Loss,
    },
    /// Everything that was done in a claimed session is settled.
    Flushed {
        /// The claim.
        claim: ClaimId,
    },
    /// A named session could not be had.
    Denied {
        /// The session.
        session: SessionId,
        /// Why.
        error: Error,
    },
    /// A message says that the consumer must stop. Nothing starts any more.
    Stop {
        /// The session.
        session: SessionId,
        /// The message's place.
        position: Position,
        /// Why.
        reason: Reason,
    },
}

/// How a message is resolved.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum How {
    /// Handled.
    Completed,
    /// Dead-lettered.
    DeadLettered,
}

/// What happened, for observers.
#[derive(Debug)]
#[non_exhaustive]
#[allow(missing_docs, reason = "each field is named by what it is; the variants say what happened")]
pub enum Note {
    /// A right was won.
    Granted { grant: Grant, place: Place },
    /// A right was proved, and holds until the deadline.
    Proved { grant: Grant, asked_at: Moment, deadline: Moment },
    /// A right is gone.
    Lost { grant: Grant, place: Place, why: Loss },
    /// A message arrived.
    Delivered { grant: Grant, session: SessionId, position: Position, content: Arc<Content> },
    /// A handler is about to start.
    Started {
        grant: Grant,
        session: SessionId,
        position: Position,
        content: Arc<Content>,
        attempt: u32,
        checked_at: Moment,
        deadline: Moment,
    },
    /// A handler ended. `counted` says whether its right still held, so that the end counts.
    Ended { grant: Grant, session: SessionId, position: Position, attempt: u32, how: EndKind, counted: bool },
    /// A message is resolved here; the broker is told.
    SettleRequested { grant: Grant, session: SessionId, position: Position, how: How, reason: Option<&'static str> },
    /// The copy for the dead-letter store was answered.
    SetAside { grant: Grant, session: SessionId, position: Position, content: Arc<Content>, answer: Answer },
    /// The broker answered the settlement of a message.
    Settled { grant: Grant, session: SessionId, position: Position, answer: Answer },
    /// The message is tried again after the wait.
    Retrying { grant: Grant, session: SessionId, position: Position, attempt: u32, wait: Duration },
    /// Reading of a place stopped, or went on. `hottest` has the most messages there.
    Reading { grant: Grant, place: Place, on: bool, hottest: Option<SessionId> },
    /// The next message of this session waits until the broker is known to have more of what is done in its place: otherwise too much might be handled again.
    HeldBack { grant: Grant, session: SessionId },
}

/// How a run ended, without its details.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum EndKind {
    /// Handled.
    Done,
    /// Failed.
    Failed,
    /// Panicked.
    Panicked,
    /// Cancelled.
    Cancelled,
    /// Never started, or given back.
    Returned,
}

impl End {
    /// The kind.
    #[must_use]
    pub fn kind(&self) -> EndKind {
        match self {
            Self::Done => EndKind::Done,
            Self::Failed { .. } => EndKind::Failed,
            Self::Panicked { .. } => EndKind::Panicked,
            Self::Cancelled => EndKind::Cancelled,
            Self::Returned => EndKind::Returned,
        }
    }
}
