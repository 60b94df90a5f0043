//! What a backend implements: one vocabulary of events and commands for every shape of broker.
//!
//! # The rules a backend keeps
//! 1. **One grant, one number.** Every winning of a lock gets a [`Grant`] with an epoch higher than any that was reported before in this source: tasks that win rights side by side
//!    draw the number where they report it. Nothing is
//!    reported under a grant before its [`Event::Granted`] or after its [`Event::Lost`]; whatever interrupts a right ends its grant.
//! 2. **Order.** Messages of a session are delivered in the broker's order, under one grant with strictly growing positions (of one generation). A hole
//!    between two of them is complete; holes behind the last one are told by [`Event::Passed`]. The first one after a grant is the first that is not settled, as far as the broker knows.
//! 3. **Evidence.** [`Event::Proved`] is sent only for a request that was answered, that would have failed had the right been gone, for grants held when it was sent;
//!    `asked_at` is when it was *sent*. `valid_for` is the least time for which the broker will not give the right away, counted from there. It may come unasked.
//!    [`Command::Renew`] may end in nothing while the right stands: the engine asks again.
//! 4. **Settlements are answered**, or their grant is lost: [`Command::Settle`] by [`Event::Settled`], [`Command::SetAside`] by
//!    [`Event::SetAside`]; see [`Answer`]. There is one settlement out at a time of a grant. Nothing more is started there while too much waits for one.
//! 5. **Nothing comes back by itself.** A backend never retries, requeues, reorders or drops a message, and never settles what it was not told to.
//! 6. **Release and surrender are the last word** on a grant; neither is answered. The right is given back at the broker (at once where the broker can, at the latest
//!    at [`Source::close`]), what was unsettled is offered again in order under a later grant, here or elsewhere, and what the source had buffered is thrown away.
//!    A surrender does not wait for a broker that may be frozen.
//! 7. **Nobody waits for ever.** [`Source::submit`] does not wait at all; [`Source::next`] is called all the time, so that answers are never behind messages that nobody takes; every request to the broker has a limit.
//! 8. **Sends.** A [`Run`] lands whole or not at all, and in the order of `submit` within a session; the outcome of each is reported once. A sink whose client library takes no
//!    more for the moment keeps the rest itself, in order: that is no failure.
//!
//! The conformance suite (`convoy-conformance`) checks each of them against a backend of yours.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use bytes::Bytes;

use crate::error::{Error, Result};
use crate::guarantee::Guarantees;
pub use crate::lease_cell::LeaseCell;
use crate::message::{Content, Inbound, MessageId, ProducerId};
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
    /// The broker is known to have it, as durably as the backend's guarantees say.
    Ok,
    /// The broker refused: the right is gone (settle), or the store does not take it (set aside).
    Refused,
    /// It certainly did not happen, and the right stands: it may be asked for again.
    NotApplied,
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
        /// What is known of the holder before.
        recovered: Recovered,
        /// Its deadline. The backend keeps a clone and ends it the moment it sees the right end, before it says so.
        lease: Arc<LeaseCell>,
    },
    /// A message.
    Delivered {
        /// The right it was delivered under.
        grant: Grant,
        /// The message.
        message: Inbound,
    },
    /// Everything below `below` that was not delivered under this grant is complete: a hole behind the last delivery.
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
    /// The right ends at `until`, the latest moment for [`Command::Release`]; it is released as soon as all is settled. It is not released under a handler that cannot be ended.
    Revoking {
        /// The right.
        grant: Grant,
        /// The latest time.
        until: Moment,
    },
    /// The right is gone; every request under it without an answer is unknown.
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
    /// One past the highest position that was delivered or passed.
    pub end: u64,
    /// What is complete at or above the watermark, in the form that [`Limits::settle`] asks for.
    pub above: Above,
}

/// What is complete at or above a watermark.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Above {
    /// Nothing that the broker could remember.
    Nothing,
    /// Positions that are done and were in no settlement before, ascending ([`SettleStyle::Delta`]). Not always all of them: see there.
    Done(Vec<u64>),
    /// Every session that has an incomplete message below [`Progress::end`], with the first such position, ascending: what is below the end is complete unless its
    /// session is listed with a position at or below it ([`SettleStyle::Open`]).
    Open(Vec<(SessionId, u64)>),
}

/// Why a message goes to a store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reason {
    /// A short stable code: `attempts-exhausted`, `handler`, `unknown-type`, `no-session`, …
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
    /// Get evidence for the lease.
    Renew {
        /// The right.
        grant: Grant,
    },
    /// Stop or go on delivering from this place. A new grant is read. What is on its way (a prefetch) still arrives.
    Read {
        /// The right.
        grant: Grant,
        /// Whether to deliver.
        on: bool,
    },
    /// This consumer leaves: win no right any more, and do not join again what is released. May come more than once.
    Leave,
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
    /// Every message for itself, in order, each after the answer to the one before: `watermark` is one past it.
    Each,
    /// A watermark, and single positions above it ([`Above::Done`]), each told once. Most of what is done above the watermark is below it a moment later, so it waits for that: it is told when
    /// it is as old as [`Limits::settle_interval`], when nearly nothing else is to be told, or when somebody waits.
    Delta,
    /// A watermark, and which sessions are open above it ([`Above::Open`]).
    Open {
        /// The most sessions that can be listed. With more of them [`Progress::end`] is the first position that is not covered.
        most: u32,
    },
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
    /// Settle when so many messages are done and not yet settled: at most half of what the broker hands out ahead. When nothing is left to do it is settled at once,
    /// but a lane that falls quiet again and again not more often than five times in a `settle_interval`.
    /// When twice as many are done and not known to be settled, nothing more is started in their place: so many may come again after a loss, and with
    /// [`SettleStyle::Open`] some more of those sessions that have to end first to make room in a settlement.
    pub settle_count: u32,
    /// Settle when the oldest message that is done and not yet settled is so old. When it is twice as old and not known to be settled, nothing more is started in its
    /// place. Not with [`SettleStyle::Each`], where each is settled at once.
    pub settle_interval: Duration,
    /// Whether a later settlement covers one whose answer was lost. Otherwise a lost answer ends the grant.
    pub later_settle_covers: bool,
    /// Whether setting a message aside settles it too, in one step.
    pub set_aside_settles: bool,
    /// Taken off the validity of every piece of evidence.
    pub margin: Duration,
    /// How long after its deadline a right is kept, without starting anything, for evidence that may still come; then it is surrendered. For brokers
    /// that hold back every answer for a while though nothing is lost.
    pub surrender_after: Duration,
    /// How long a session without work is worth keeping although others may be waiting: what it costs to accept one, and at least the time in which its first message
    /// comes after the grant.
    pub accept_cost: Duration,
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
            surrender_after: Duration::ZERO,
            accept_cost: Duration::ZERO,
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
            accept_cost: Duration::from_millis(100),
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

    /// Where the messages of a session are delivered here. For lanes, what the pinned hash says.
    fn place(&self, session: &SessionId) -> Place {
        Place::Session(session.clone())
    }

    /// Whether the right to this place is on its way here: who asks for a session of it by name waits then, and is not told that somebody else has it.
    fn awaits(&self, place: &Place) -> bool {
        let _ = place;
        false
    }

    /// Whether the source is connected and able to win a right, for readiness.
    fn is_ready(&self) -> bool {
        true
    }

    /// The state that sessions can keep at this broker, if it can hold any.
    fn session_state(&self) -> Option<&dyn SessionState> {
        None
    }

    /// Ends everything by `until`: rights that were not released run out by themselves. Idempotent. [`next`](Source::next) gives what is left, then
    /// [`Closed`](crate::ErrorKind::Closed).
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
    /// When its sender stops waiting. What has not left by then must not leave any more.
    pub until: Moment,
}

/// How a run ended.
#[derive(Debug)]
pub struct Sent {
    /// Which one.
    pub ticket: Ticket,
    /// The position of the last of its messages, where the broker tells it; or why not, and whether it may have landed.
    pub outcome: Result<Option<Position>>,
}

/// What became of a run whose outcome was unknown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fate {
    /// It landed.
    Landed,
    /// It did not land, and cannot any more.
    Never,
    /// That cannot be told.
    Unknown,
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

    /// Makes sure, where the broker allows it, that the run whose outcome is unknown cannot land any more, and says what became of it.
    ///
    /// # Errors
    /// When the broker could not be asked.
    async fn fate(&self, ticket: Ticket, until: Moment) -> Result<Fate> {
        let _ = (ticket, until);
        Ok(Fate::Unknown)
    }

    /// Ends it by `until`, after what is out was answered.
    ///
    /// # Errors
    /// When the broker could not be told in time.
    async fn close(&self, until: Moment) -> Result<()>;
}

/// Where a copy in a store came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Origin {
    /// The broker's position.
    Position(Position),
    /// A producer's own sequence, where the broker has no position.
    Producer(ProducerId, u64),
    /// Only the message's id is known.
    Message(MessageId),
}

/// A message in a dead-letter store.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct DeadLetter {
    /// Its place in the store, by which it is taken out.
    pub at: u64,
    /// Its session.
    pub session: SessionId,
    /// Where it came from. Two copies of one origin are copies of one message; the first counts.
    pub origin: Origin,
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
    pub fn new(at: u64, origin: Origin, message: &Inbound, reason: &Reason, since: SystemTime) -> Self {
        Self {
            at,
            session: message.session.clone(),
            origin,
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
