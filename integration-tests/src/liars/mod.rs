//! Lying backends: each tells one lie, and each lie breaks one guarantee. They prove that the [`checker`](crate::checker) can say no.
//!
//! [`Liar`] wraps a backend and delegates everything, but for the one [`Lie`]. Without a lie it is as honest as what it wraps. What no backend can
//! do is lied about where it is done: by the program (`program`).
//!
//! A backend cannot make every finding. The engine looks at what it is told: it surrenders a right whose positions go back, drops what comes
//! under an old grant, starts nothing past its deadline, and settles only what ended well. So `nonmonotonic` needs a broker that stores a message
//! twice, `start-after-expiry` one that overstates its lock, and `settle-unhandled`, `late-cancel` and `fence-violation` a program that lies.

mod program;
mod sink;
mod source;
mod store;

use std::sync::Arc;

use async_trait::async_trait;
use convoy_core::backend::{Backend, ConsumerSpec, DeadLetterStore, Sink, Source};
use convoy_core::{Finding, Guarantees, Moment, Result, Topology};

pub use program::{Failures, FencedSink, MissesGaps, Swallows, Witness};

use self::sink::LyingSink;
use self::source::{First, LyingSource};
use self::store::LyingStore;

/// What a backend lies about: one message, or all that it says of its first grant, or its store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Lie {
    /// It confirms a message and does not store it.
    DropsConfirmed,
    /// It stores a message that nobody sent.
    Invents,
    /// It says that a send was refused, and has stored it.
    StoresWhatItRefused,
    /// It confirms two messages in the order in which they came, and stores them the other way round.
    StoresOutOfOrder,
    /// It stores a message again, behind later ones.
    StoresTwice,
    /// It delivers two neighbours in the other order, under positions that grow all the same.
    SwapsNeighbours,
    /// It changes a byte of a body.
    FlipsAByte,
    /// It delivers a message under another session.
    DeliversElsewhere,
    /// It calls a message malformed that is not.
    CallsMalformed,
    /// It withholds a message under its first grant, as if it were complete, and delivers it under the next.
    HoldsBack,
    /// It takes what it handed out under a grant that was lost for done, and does not deliver it again.
    SkipsHandedOut,
    /// It gives a session to a second holder, and tells the first one nothing.
    TwoHolders,
    /// It says that its first lock lasts a thousand times longer than it does.
    OverstatesLock,
    /// It takes a settlement under a right that it has given to another, and only then says that the right is gone.
    TakesStaleSettlement,
    /// It confirms the settlements of its first grant and forgets them.
    ForgetsSettlements,
    /// It neither does nor answers the settlements of its first grant.
    IgnoresSettlements,
    /// It takes state under a right that it has given to another.
    TakesStaleState,
    /// Its dead-letter store lacks its second letter.
    LosesDeadLetter,
    /// Its dead-letter store gives its letters in another order.
    ReordersDeadLetters,
}

/// A backend that tells one lie.
#[derive(Debug)]
pub struct Liar<B> {
    inner: B,
    lie: Option<Lie>,
    first: Arc<First>,
}

impl<B: Backend> Liar<B> {
    /// This backend with this lie; with none it is as it was.
    pub fn new(inner: B, lie: Option<Lie>) -> Self {
        Self { inner, lie, first: Arc::default() }
    }
}

#[async_trait]
impl<B: Backend> Backend for Liar<B> {
    fn name(&self) -> &'static str {
        self.inner.name()
    }

    fn guarantees(&self) -> Guarantees {
        self.inner.guarantees()
    }

    async fn provision(&self, topology: &Topology) -> Result<()> {
        self.inner.provision(topology).await
    }

    async fn check(&self, topology: &Topology) -> Result<Vec<Finding>> {
        self.inner.check(topology).await
    }

    async fn consumer(&self, spec: &ConsumerSpec) -> Result<Arc<dyn Source>> {
        let inner = self.inner.consumer(spec).await?;
        Ok(match self.lie {
            Some(lie) => Arc::new(LyingSource::new(inner, lie, Arc::clone(&self.first))),
            None => inner,
        })
    }

    async fn producer(&self, channel: &str) -> Result<Arc<dyn Sink>> {
        let inner = self.inner.producer(channel).await?;
        Ok(match self.lie {
            Some(lie) => Arc::new(LyingSink::new(inner, lie)),
            None => inner,
        })
    }

    async fn dead_letters(&self, channel: &str, group: &str) -> Result<Arc<dyn DeadLetterStore>> {
        let inner = self.inner.dead_letters(channel, group).await?;
        Ok(match self.lie {
            Some(lie) => Arc::new(LyingStore::new(inner, lie)),
            None => inner,
        })
    }

    async fn close(&self, until: Moment) -> Result<()> {
        self.inner.close(until).await
    }
}

/// The lock of a mutex that nobody panics under.
fn lock<T>(of: &std::sync::Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    of.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}
