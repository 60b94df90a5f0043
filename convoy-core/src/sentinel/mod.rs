//! The sentinel: an observer that watches the order of each session by the numbers that producers give their messages.

mod counts;
mod rights;
mod table;
mod track;

#[cfg(test)]
mod tests;

use std::fmt;
use std::hash::BuildHasher;
use std::sync::Arc;

use foldhash::quality::RandomState;

pub use self::counts::{Deviation, DeviationKind, SentinelCounts};
use self::rights::{Right, Rights};
use self::table::Stripe;
use self::track::Seen;
use crate::backend::{Answer, Grant};
use crate::engine::{EndKind, Note};
use crate::message::Stamp;
use crate::observe::{Observed, Observer};
use crate::position::Position;
use crate::session::SessionId;
use crate::sync::{AtomicU64, Mutex, Ordering};

/// Watches a consumer for messages that are missing, repeated or out of order.
///
/// A producer counts its messages, and each carries the number of its session's message before it ([`Stamp`]). The sentinel compares that with what it saw start, a
/// few tens of nanoseconds a message, and counts what does not fit: the rule of the conformance suite's checker, for production. It changes nothing, and a number that it
/// counts is a reason to look: [`gaps`](SentinelCounts::gaps) and [`inversions`](SentinelCounts::inversions) break the promise of convoy,
/// [`repeats`](SentinelCounts::repeats) are its price, and [`skips`](SentinelCounts::skips) were declared by the sender. Each is told as it
/// happens as well: to [`tracing`], or to [`SentinelOptions::on_deviation`].
///
/// One sentinel is for one consumer group: give each consumer one of its own, or let a clone watch each consumer of the group when all of them are in this process
/// ([`SentinelOptions::whole_group`]); the next consumer of a process may have that of the one before it. A session that another process had meanwhile is taken up where it is, and that is counted as `moved`. Messages without a number, of
/// foreign producers, are counted and not judged. A message that is missing at the end of a session shows only when another one follows.
///
/// ```
/// # use convoy_core::{Broker, Failure, Received, Sentinel};
/// # async fn run(broker: Broker, bill: impl convoy_core::Handler<String>) -> convoy_core::Result<()> {
/// let sentinel = Sentinel::new();
/// let consumer = broker.consumer("orders").group("billing").observer(sentinel.clone());
/// let processor = consumer.processor().start(bill).await?;
/// // … for whatever gathers metrics:
/// let counts = sentinel.counts();
/// println!("{} seen, {} gaps, {} inversions", counts.seen, counts.gaps, counts.inversions);
/// # processor.drain().await?; Ok(()) }
/// ```
#[derive(Clone)]
pub struct Sentinel(Arc<Inner>);

/// How a [`Sentinel`] watches.
pub struct SentinelOptions {
    sessions: usize,
    whole_group: bool,
    tell: Box<Tell>,
}

type Tell = dyn Fn(&Deviation<'_>) + Send + Sync;

struct Inner {
    /// The sessions, dealt by their hash, so that the threads of a consumer do not wait for each other. Their number is a power of two.
    stripes: Box<[Mutex<Stripe>]>,
    hasher: RandomState,
    whole_group: bool,
    unnumbered: AtomicU64,
    rights: Mutex<Rights>,
    /// The consumer that was given a right last.
    consumer: AtomicU64,
    tell: Box<Tell>,
}

/// Fewer sessions than this for each are kept in one.
const STRIPES: usize = 16;
const LEAST_OF_A_STRIPE: usize = 256;

impl Sentinel {
    /// A sentinel of one consumer, that remembers [`SentinelOptions::SESSIONS`] sessions.
    #[must_use]
    pub fn new() -> Self {
        Self::with(SentinelOptions::new())
    }

    /// A sentinel with these options.
    #[must_use]
    pub fn with(options: SentinelOptions) -> Self {
        let stripes = if options.sessions < STRIPES * LEAST_OF_A_STRIPE { 1 } else { STRIPES };
        let each = options.sessions.div_ceil(stripes);
        Self(Arc::new(Inner {
            stripes: (0..stripes).map(|_| Mutex::new(Stripe::new(each))).collect(),
            hasher: RandomState::default(),
            whole_group: options.whole_group,
            unnumbered: AtomicU64::new(0),
            rights: Mutex::new(Rights::default()),
            consumer: AtomicU64::new(0),
            tell: options.tell,
        }))
    }

    /// What it has counted so far.
    #[must_use]
    pub fn counts(&self) -> SentinelCounts {
        let mut all = SentinelCounts { unnumbered: self.0.unnumbered.load(Ordering::Relaxed), ..Default::default() };
        for stripe in &self.0.stripes {
            all += stripe.lock().counts();
        }
        all
    }
}

impl Default for Sentinel {
    fn default() -> Self {
        Self::new()
    }
}

impl SentinelOptions {
    /// How many sessions are remembered unless said: some ten megabytes, when there are so many.
    pub const SESSIONS: usize = 65_536;

    /// The options of a sentinel that watches one consumer among others.
    #[must_use]
    pub fn new() -> Self {
        Self { sessions: Self::SESSIONS, whole_group: false, tell: Box::new(trace) }
    }

    /// How many sessions are remembered. Of more than that the least recently used are forgotten, which
    /// [`forgotten`](SentinelCounts::forgotten) says; one that comes back is taken up where it is.
    #[must_use]
    pub fn sessions(mut self, sessions: usize) -> Self {
        self.sessions = sessions.clamp(1, 1 << 28);
        self
    }

    /// Says that this sentinel watches every consumer of the group. Then nobody else can have handled what it did not see: what is missing where a session
    /// changes hands is a gap as well.
    #[must_use]
    pub fn whole_group(mut self) -> Self {
        self.whole_group = true;
        self
    }

    /// Calls this with each deviation, instead of telling [`tracing`]. It is called where observers are: return fast, and call nothing of the consumer.
    #[must_use]
    pub fn on_deviation(mut self, tell: impl Fn(&Deviation<'_>) + Send + Sync + 'static) -> Self {
        self.tell = Box::new(tell);
        self
    }
}

impl Default for SentinelOptions {
    fn default() -> Self {
        Self::new()
    }
}

impl Inner {
    fn find(&self, session: &SessionId) -> (u64, &Mutex<Stripe>) {
        // The hash stands for the session: that two of them meet in 64 bits of a secret hash is not to be expected in the life of a program.
        let hash = self.hasher.hash_one(session);
        (hash, &self.stripes[(hash >> 32) as usize & (self.stripes.len() - 1)])
    }

    /// The right of the consumer that has one now.
    fn right(&self, grant: Grant) -> Right {
        Right { grant, consumer: self.consumer.load(Ordering::Relaxed) }
    }

    #[cold]
    fn granted(&self, grant: Grant) {
        let mut rights = self.rights.lock();
        self.consumer.store(rights.granted(grant), Ordering::Relaxed);
    }

    fn started(&self, event: &Observed<'_>, session: &SessionId, stamp: Stamp, grant: Grant, position: Position) {
        let (hash, stripe) = self.find(session);
        let mut stripe = stripe.lock();
        let (seen, last) = stripe.started(hash, stamp, self.right(grant), position, self.whole_group);
        drop(stripe);
        if seen != Seen::AS_EXPECTED {
            self.tell(event, session, stamp, seen, last);
        }
    }

    /// A message goes out of the session's way without a start: its envelope is broken. Where it had started this is nothing new.
    fn set_aside(&self, event: &Observed<'_>, session: &SessionId, stamp: Stamp, grant: Grant) {
        let (hash, stripe) = self.find(session);
        let (seen, last) = stripe.lock().passed(hash, stamp, self.right(grant), self.whole_group);
        if seen != Seen::AS_EXPECTED {
            self.tell(event, session, stamp, seen, last);
        }
    }

    #[cold]
    fn tell(&self, event: &Observed<'_>, session: &SessionId, stamp: Stamp, seen: Seen, last: u64) {
        let Observed { at, channel, group, .. } = *event;
        for kind in seen.deviations() {
            let (producer, number, prev) = (stamp.producer, stamp.number, stamp.prev);
            (self.tell)(&Deviation { kind, at, channel, group, session, producer, number, prev, last });
        }
    }
}

impl Observer for Sentinel {
    fn on(&self, event: &Observed<'_>) {
        match event.note {
            Note::Started { grant, session, position, content, .. } if !session.is_lone() => match content.stamp() {
                Some(stamp) => self.0.started(event, session, stamp, *grant, *position),
                None => {
                    self.0.unnumbered.fetch_add(1, Ordering::Relaxed);
                }
            },
            // That a run ended well is taken for granted; only the others are looked up.
            Note::Ended { grant, session, position, how, .. } if *how != EndKind::Done && !session.is_lone() => {
                let (hash, stripe) = self.0.find(session);
                stripe.lock().not_done(hash, self.0.right(*grant), *position);
            }
            Note::SetAside { grant, session, content, answer: Answer::Ok | Answer::Unknown, .. } => {
                if let Some(stamp) = content.stamp().filter(|_| !session.is_lone()) {
                    self.0.set_aside(event, session, stamp, *grant);
                }
            }
            Note::Granted { grant, .. } => self.0.granted(*grant),
            _ => {}
        }
    }
}

impl fmt::Debug for Sentinel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sentinel").field("whole_group", &self.0.whole_group).field("counts", &self.counts()).finish()
    }
}

impl fmt::Debug for SentinelOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (sessions, whole) = (self.sessions, self.whole_group);
        f.debug_struct("SentinelOptions")
            .field("sessions", &sessions)
            .field("whole_group", &whole)
            .finish_non_exhaustive()
    }
}

fn trace(of: &Deviation<'_>) {
    let Deviation { channel, group, session, producer, number, prev, last, .. } = *of;
    match of.kind {
        DeviationKind::Gap | DeviationKind::Inversion | DeviationKind::Stray => {
            tracing::warn!(channel, group, %session, %producer, number, prev, last, "{}", of.kind);
        }
        _ => tracing::debug!(channel, group, %session, %producer, number, prev, last, "{}", of.kind),
    }
}
