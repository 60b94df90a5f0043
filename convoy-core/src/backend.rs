//! What a backend implements: one vocabulary of events and commands for every shape of broker.
//!
//! # The rules a backend keeps
//! 1. **One grant, one number.** Every winning of a lock gets a [`Grant`] with an epoch never used before in this source. Nothing is
//!    reported under a grant before its [`Event::Granted`] or after its [`Event::Lost`].
//! 2. **Order.** Messages of a session are delivered in the broker's order, under one grant with strictly growing positions, without a gap
//!    that was not [`Event::Passed`]. The first one after a grant is the first that is not settled, as far as the broker knows.
//! 3. **Evidence.** [`Event::Proved`] is sent only for a request that was answered, that would have failed had the right been gone, and
//!    `asked_at` is when it was *sent*. `valid_for` is the least time for which the broker will not give the right away, counted from there.
//! 4. **Every command is answered**, or its grant is lost: [`Command::Settle`] by [`Event::Settled`], [`Command::SetAside`] by
//!    [`Event::SetAside`]. `Ok` means that the broker is known to have it; `Unknown` that it may; `Refused` that it did not and that the right is gone.
//! 5. **Nothing comes back by itself.** A backend never retries, requeues, reorders or drops a message, and never settles what it was not told to.
//! 6. **Release ends it at the broker at once, surrender too**: after [`Command::Release`] or [`Command::Surrender`] the right is given back there, and what was unsettled is offered again in order,
//!    under a later grant, here or elsewhere. Neither is answered. What the source had buffered of that grant is thrown away.
//! 7. **Nobody waits for ever.** [`Source::submit`] does not wait at all; [`Source::next`] returns when the connection fails; every request to the broker has a limit.
//! 8. **Sends.** A [`Run`] lands whole or not at all, and in the order of `submit` within a session; the outcome of each is reported once.
//!
//! The conformance suite (`convoy-conformance`) checks each of them against a backend of yours.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use bytes::Bytes;

use crate::error::{Error, Result};
use crate::guarantee::Guarantees;
use crate::message::{Content, Inbound};
use crate::position::Position;
use crate::session::SessionId;
use crate::time::Moment;
use crate::topology::{Finding, Topology};

/// What a right covers: a lane with all its sessions, or one session.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Place {
    /// A broker's ordered, exclusively owned sub-stream.
    Lane(u32),
    /// A session that the broker locks itself.
    Session(SessionId),
}

impl Place {
    /// A stable hash, by which places are spread over shards.
    #[must_use]
    pub fn stable_hash(&self) -> u32 {
        match self {
            Self::Lane(lane) => *lane,
            Self::Session(id) => {
                let hash = id.stable_hash();
                (hash ^ (hash >> 32)) as u32
            }
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Lane(lane) => write!(f, "lane {lane}"),
            Self::Session(id) => write!(f, "session {id}"),
        }
    }
}

/// One winning of a lock: a small handle. The epoch is this source's own number, never used twice.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Grant {
    epoch: u64,
    shard: u32,
}

impl Grant {
    /// The grant number `epoch` of this source, on `place`.
    #[must_use]
    pub fn new(epoch: u64, place: &Place) -> Self {
        Self { epoch, shard: place.stable_hash() }
    }

    /// The source's own number of this grant. Numbers of two processes are never compared.
    #[must_use]
    pub fn epoch(self) -> u64 {
        self.epoch
    }

    /// The stable hash of the place, by which events find their shard.
    #[must_use]
    pub fn shard(self) -> u32 {
        self.shard
    }
}

impl fmt::Debug for Grant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "grant {}", self.epoch)
    }
}

/// Names one settlement, so that its answer finds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Ticket(pub u64);

/// How a request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Answer {
    /// The broker is known to have it.
    Ok,
    /// The broker refused: the right is gone (settle), or the store does not take it (set aside).
    Refused,
    /// It left, and no answer will come: it may have been applied.
    Unknown,
}

/// Why a right ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Loss {
    /// The local deadline passed without new evidence.
    Expired,
    /// The broker took it away or gave it to somebody else.
    Revoked,
    /// The connection it rested on ended.
    Disconnected,
    /// A settlement or renewal was refused.
    Refused,
    /// A settlement's answer was lost on a broker that settles message by message.
    Unknown,
    /// It was given back here, finished.
    Released,
    /// The lane or entity is gone from the broker.
    Gone,
}

/// What a broker may know of the previous holder's end. Later issues add to it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Recovered {
    /// Whether the previous holder may have ended in the middle of a message.
    pub unclean: bool,
}

/// What a broker tells, oldest first.
#[derive(Debug)]
#[non_exhaustive]
pub enum Event {
    /// A right was won. Nothing starts under it before evidence that was asked for afterwards.
    Granted {
        /// Its handle.
        grant: Grant,
        /// What it covers.
        place: Place,
        /// Everything below is settled; the first delivery is at or after it.
        start: Position,
        /// When the broker was asked for it.
        asked_at: Moment,
        /// What is known of the holder before.
        recovered: Recovered,
    },
    /// A message.
    Delivered {
        /// The right it was delivered under.
        grant: Grant,
        /// The message.
        message: Inbound,
    },
    /// Everything below `below` that was not delivered under this grant is complete (gaps in offsets).
    Passed {
        /// The right.
        grant: Grant,
        /// The first position that is not covered.
        below: u64,
    },
    /// Evidence for the lease.
    Proved {
        /// The right that is proved.
        grant: Grant,
        /// When the request was sent.
        asked_at: Moment,
        /// For how long from then the broker will not give it away.
        valid_for: Duration,
    },
    /// A settlement ended.
    Settled {
        /// The right it was made under.
        grant: Grant,
        /// Which one.
        ticket: Ticket,
        /// How it ended.
        answer: Answer,
    },
    /// A copy for a store ended.
    SetAside {
        /// The right it was made under.
        grant: Grant,
        /// The position of the source.
        position: u64,
        /// How it ended.
        answer: Answer,
    },
    /// The right ends at `until`; answered by [`Command::Release`] when all is settled, or at that time.
    Revoking {
        /// The right.
        grant: Grant,
        /// The latest time.
        until: Moment,
    },
    /// The right is gone.
    Lost {
        /// The right.
        grant: Grant,
        /// Why.
        why: Loss,
    },
    /// A named session could not be had within its limit, or at all.
    Denied {
        /// The session that was asked for.
        session: SessionId,
        /// Why.
        error: Error,
    },
}

impl Event {
    /// The grant it speaks of.
    #[must_use]
    pub fn grant(&self) -> Option<Grant> {
        match self {
            Self::Granted { grant, .. }
            | Self::Delivered { grant, .. }
            | Self::Passed { grant, .. }
            | Self::Proved { grant, .. }
            | Self::Settled { grant, .. }
            | Self::SetAside { grant, .. }
            | Self::Revoking { grant, .. }
            | Self::Lost { grant, .. } => Some(*grant),
            Self::Denied { .. } => None,
        }
    }
}

/// What was done of a place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Everything below is complete.
    pub watermark: u64,
    /// One past the highest position that was delivered.
    pub end: u64,
    /// What is complete at or above the watermark, in the form that [`Limits::settle`] asks for.
    pub above: Above,
}

/// What is complete at or above a watermark.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Above {
    /// Nothing that the broker could remember.
    Nothing,
    /// Positions completed since the settlement before, ascending ([`SettleStyle::Delta`]).
    Done(Vec<u64>),
    /// Every session that has an incomplete message, with the first such position: what is below [`Progress::end`] is complete unless its
    /// session is listed with a position at or below it ([`SettleStyle::Open`]).
    Open(Vec<(SessionId, u64)>),
}

/// Why a message goes to a store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reason {
    /// A short stable code: `attempts-exhausted`, `handler`, `no-session`, …
    pub code: &'static str,
    /// The last error, as text; at most [`Reason::MAX_DETAIL`] bytes.
    pub detail: String,
    /// How often it was attempted here.
    pub attempts: u32,
}

impl Reason {
    /// The longest detail that is kept, in bytes.
    pub const MAX_DETAIL: usize = 1024;

    /// A reason; the detail is cut to size.
    #[must_use]
    pub fn new(code: &'static str, detail: &str, attempts: u32) -> Self {
        let mut end = detail.len().min(Self::MAX_DETAIL);
        while !detail.is_char_boundary(end) {
            end -= 1;
        }
        Self { code, detail: detail[..end].to_owned(), attempts }
    }
}

/// What the engine asks of a broker. Submitted in order; commands of one grant must be carried out in that order.
#[derive(Debug)]
#[non_exhaustive]
pub enum Command {
    /// Session brokers: keep this many requests for "the next free session" open, no more and no fewer, until told another number.
    Accept {
        /// How many.
        wanted: u32,
    },
    /// Session brokers: ask for this session until then. Ends in [`Event::Granted`] or [`Event::Denied`].
    AcceptNamed {
        /// The session.
        session: SessionId,
        /// The latest time.
        until: Moment,
    },
    /// Record what is done.
    Settle {
        /// The right it is done under.
        grant: Grant,
        /// Names the answer.
        ticket: Ticket,
        /// What is done.
        progress: Progress,
    },
    /// Put a copy into the dead-letter store, confirmed.
    SetAside {
        /// The right.
        grant: Grant,
        /// The message.
        message: Inbound,
        /// Why.
        reason: Reason,
    },
    /// Get evidence for the lease: answered by [`Event::Proved`], or the right is lost.
    Renew {
        /// The right.
        grant: Grant,
    },
    /// Stop or go on delivering from this place; what was sent meanwhile may still arrive.
    Read {
        /// The right.
        grant: Grant,
        /// Whether to deliver.
        on: bool,
    },
    /// Give the right back; everything that can be settled is.
    Release {
        /// The right.
        grant: Grant,
    },
    /// End the right at the broker: it ran out here though the broker may not have noticed.
    Surrender {
        /// The right.
        grant: Grant,
    },
}

/// How a broker records what is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SettleStyle {
    /// Every message for itself, in order: `watermark` is one past it.
    Each,
    /// A watermark, and single positions above it ([`Above::Done`]).
    Delta,
    /// A watermark, and which sessions are open above it ([`Above::Open`]).
    Open,
}

/// Which shape a broker has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Shape {
    /// It assigns lanes.
    Lanes,
    /// It is asked for sessions.
    Sessions {
        /// The most requests for "the next free session" that may be open at once.
        pending_accepts: u32,
    },
}

/// What makes a fence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FenceKind {
    /// The broker's position.
    Position,
    /// The producer's own sequence: the broker has no position.
    Producer,
}

/// What the engine must know of a source.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Limits {
    /// Lanes or sessions.
    pub shape: Shape,
    /// How progress is recorded.
    pub settle: SettleStyle,
    /// Settle when so many messages are done and not yet settled.
    pub settle_count: u32,
    /// Settle when the oldest message that is done and not yet settled is so old.
    pub settle_interval: Duration,
    /// Whether a later settlement covers one whose answer was lost. Otherwise a lost answer ends the grant.
    pub later_settle_covers: bool,
    /// Whether setting a message aside settles it too, in one step.
    pub set_aside_settles: bool,
    /// Taken off the validity of every piece of evidence.
    pub margin: Duration,
    /// What makes a fence.
    pub fence: FenceKind,
    /// The largest message, in bytes as [`Content::size`] counts.
    pub max_message: usize,
}

impl Limits {
    /// A broker of lanes that records a watermark and what is done above it.
    #[must_use]
    pub fn lanes() -> Self {
        Self {
            shape: Shape::Lanes,
            settle: SettleStyle::Delta,
            settle_count: 256,
            settle_interval: Duration::from_millis(250),
            later_settle_covers: true,
            set_aside_settles: false,
            margin: Duration::from_millis(500),
            fence: FenceKind::Position,
            max_message: usize::MAX,
        }
    }

    /// A broker that locks sessions and settles message by message.
    #[must_use]
    pub fn sessions() -> Self {
        Self {
            shape: Shape::Sessions { pending_accepts: 16 },
            settle: SettleStyle::Each,
            settle_count: 1,
            settle_interval: Duration::ZERO,
            later_settle_covers: false,
            set_aside_settles: true,
            ..Self::lanes()
        }
    }
}

/// A consumer's side of a broker: events out, commands in.
#[async_trait]
pub trait Source: Send + Sync + fmt::Debug {
    /// What the engine must know. Constant over the life of the source.
    fn limits(&self) -> Limits;

    /// Waits until there are events and appends them, oldest first.
    ///
    /// There is one caller at a time. A failure that is retryable is followed by another call; any other ends the consumer. Reconnecting is
    /// the source's own affair: it reports what was lost and goes on.
    ///
    /// # Errors
    /// What keeps this source from ever delivering again.
    ///
    /// # Cancel safety
    /// Must be cancel safe: a dropped call loses no event.
    async fn next(&self, into: &mut Vec<Event>) -> Result<()>;

    /// Takes all commands, in order. Never waits: it is called from any thread, under the lock of the engine's shard.
    fn submit(&self, commands: &mut Vec<Command>);

    /// Whether the source is connected and able to win a right, for readiness.
    fn is_ready(&self) -> bool {
        true
    }

    /// The state that sessions can keep at this broker, if it can hold any.
    fn session_state(&self) -> Option<&dyn SessionState> {
        None
    }

    /// Ends everything by `until`: rights that were not released run out by themselves. Idempotent. A pending [`next`](Source::next) returns.
    ///
    /// # Errors
    /// When the broker could not be told in time.
    async fn close(&self, until: Moment) -> Result<()>;
}

/// State that a session keeps at its broker, fenced by the lock.
#[async_trait]
pub trait SessionState: Send + Sync {
    /// Reads the state of this session.
    ///
    /// # Errors
    /// [`LockLost`](crate::ErrorKind::LockLost) when the grant is not the current one any more.
    async fn state(&self, grant: Grant, session: &SessionId) -> Result<Option<Bytes>>;

    /// Replaces or removes the state of this session. Refused under an older grant.
    ///
    /// # Errors
    /// [`LockLost`](crate::ErrorKind::LockLost) when the grant is not the current one any more, [`TooLarge`](crate::ErrorKind::TooLarge).
    async fn set_state(&self, grant: Grant, session: &SessionId, state: Option<Bytes>) -> Result<()>;
}

/// Messages of one session that land all or none.
#[derive(Clone, Debug)]
pub struct Run {
    /// Names the outcome.
    pub ticket: Ticket,
    /// The session.
    pub session: SessionId,
    /// The messages, in order.
    pub messages: Vec<Arc<Content>>,
}

/// How a run ended.
#[derive(Debug)]
pub struct Sent {
    /// Which one.
    pub ticket: Ticket,
    /// The position of the last of its messages, where the broker tells it; or why not, and whether it may have landed.
    pub outcome: Result<Option<Position>>,
}

/// A producer's side of a broker.
#[async_trait]
pub trait Sink: Send + Sync + fmt::Debug {
    /// The largest message, in bytes as [`Content::size`] counts.
    fn max_message(&self) -> usize;

    /// The most messages of a run. One where the broker cannot take several at once.
    fn max_run(&self) -> usize {
        1
    }

    /// Checks what only this broker can refuse of an id, as one that is not text.
    ///
    /// # Errors
    /// [`InvalidSession`](crate::ErrorKind::InvalidSession), naming the byte.
    fn check_session(&self, session: &SessionId) -> Result<()> {
        let _ = session;
        Ok(())
    }

    /// Takes all runs, in order. Never waits.
    fn submit(&self, runs: &mut Vec<Run>);

    /// Waits until outcomes are known and appends them.
    ///
    /// # Errors
    /// What keeps this sink from ever sending again; what is out then is unknown.
    ///
    /// # Cancel safety
    /// Must be cancel safe.
    async fn next(&self, into: &mut Vec<Sent>) -> Result<()>;

    /// Makes sure, where the broker allows it, that the run whose outcome is unknown cannot land any more, and says whether that is certain.
    ///
    /// # Errors
    /// When the broker could not be asked.
    async fn settle_unknown(&self, ticket: Ticket, until: Moment) -> Result<bool> {
        let _ = (ticket, until);
        Ok(false)
    }

    /// Ends it by `until`, after what is out was answered.
    ///
    /// # Errors
    /// When the broker could not be told in time.
    async fn close(&self, until: Moment) -> Result<()>;
}

/// A message in a dead-letter store.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct DeadLetter {
    /// Its place in the store, by which it is taken out.
    pub at: u64,
    /// Its session.
    pub session: SessionId,
    /// Where it came from.
    pub origin: Position,
    /// Why it is here.
    pub code: String,
    /// The last error, as text.
    pub detail: String,
    /// How often it was attempted.
    pub attempts: u32,
    /// When it was put here, by the wall clock.
    pub since: SystemTime,
    /// What it carries, as it came.
    pub content: Arc<Content>,
}

impl DeadLetter {
    /// A dead letter as a store holds it.
    #[must_use]
    pub fn new(at: u64, message: &Inbound, reason: &Reason, since: SystemTime) -> Self {
        Self {
            at,
            session: message.session.clone(),
            origin: message.position,
            code: reason.code.to_owned(),
            detail: reason.detail.clone(),
            attempts: reason.attempts,
            since,
            content: Arc::clone(&message.content),
        }
    }
}

/// Access to a dead-letter store.
#[async_trait]
pub trait DeadLetterStore: Send + Sync + fmt::Debug {
    /// Lists from place `from` on, at most `most`, in the order they came. The first copy of each origin only.
    ///
    /// # Errors
    /// When the store cannot be read.
    async fn list(&self, from: u64, most: usize) -> Result<Vec<DeadLetter>>;

    /// Takes one out for good; `false` when it is not there.
    ///
    /// # Errors
    /// When the store cannot be changed.
    async fn remove(&self, at: u64) -> Result<bool>;
}

/// What a consumer asks of its backend.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ConsumerSpec {
    /// The channel.
    pub channel: String,
    /// The consumer group; see [`ConsumerSpec::DEFAULT_GROUP`].
    pub group: String,
    /// Findings, by code, that the user allows although they break a guarantee.
    pub allowed: Vec<String>,
}

impl ConsumerSpec {
    /// The group of a consumer that names none.
    pub const DEFAULT_GROUP: &'static str = "default";

    /// A consumer of this channel in this group.
    #[must_use]
    pub fn new(channel: impl Into<String>, group: impl Into<String>) -> Self {
        Self { channel: channel.into(), group: group.into(), allowed: Vec::new() }
    }

    /// Allows a finding by its code.
    #[must_use]
    pub fn allowing(mut self, code: impl Into<String>) -> Self {
        self.allowed.push(code.into());
        self
    }
}

/// A broker, as convoy sees it.
#[async_trait]
pub trait Backend: Send + Sync + fmt::Debug + 'static {
    /// A short name: `memory`, `kafka`.
    fn name(&self) -> &'static str;

    /// What it promises, and how.
    fn guarantees(&self) -> Guarantees;

    /// Creates what is missing of `topology`. Changes nothing that exists.
    ///
    /// # Errors
    /// When the broker refuses or cannot be reached.
    async fn provision(&self, topology: &Topology) -> Result<()>;

    /// Compares the broker with `topology`.
    ///
    /// # Errors
    /// When the broker cannot be asked. What is wrong with the set-up is a finding and no error.
    async fn check(&self, topology: &Topology) -> Result<Vec<Finding>>;

    /// Opens a consumer. Refuses when a finding breaks a guarantee and is not allowed by name.
    ///
    /// # Errors
    /// [`NotFound`](crate::ErrorKind::NotFound), [`Topology`](crate::ErrorKind::Topology), [`Unauthorized`](crate::ErrorKind::Unauthorized), …
    async fn consumer(&self, spec: &ConsumerSpec) -> Result<Arc<dyn Source>>;

    /// Opens a producer.
    ///
    /// # Errors
    /// [`NotFound`](crate::ErrorKind::NotFound), [`Unauthorized`](crate::ErrorKind::Unauthorized), …
    async fn producer(&self, channel: &str) -> Result<Arc<dyn Sink>>;

    /// Opens the dead-letter store of a group.
    ///
    /// # Errors
    /// [`NotFound`](crate::ErrorKind::NotFound), …
    async fn dead_letters(&self, channel: &str, group: &str) -> Result<Arc<dyn DeadLetterStore>>;

    /// Ends every connection by `until`.
    ///
    /// # Errors
    /// When the broker could not be told in time.
    async fn close(&self, until: Moment) -> Result<()>;
}
