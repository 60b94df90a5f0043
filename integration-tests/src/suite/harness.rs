//! What the author of a backend writes: how to get a fresh broker, and how to make it misbehave.

use std::fmt;
use std::time::Duration;

use async_trait::async_trait;
use convoy_core::{Broker, Defect, Result, SessionId};

use crate::checker::Options;

/// Which of the two shapes a broker has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// It locks single sessions.
    Sessions,
    /// It assigns lanes of many sessions.
    Lanes,
}

/// A backend under test.
#[async_trait]
pub trait Harness: Send + Sync + 'static {
    /// The name and version of what is tested, as it stands in a report: `memory, sessions`.
    fn name(&self) -> String;

    /// Its shape.
    fn shape(&self) -> Shape;

    /// The runtime that a scenario runs on. A broker on tokio's clock may give one whose time is paused, so that minutes take no time.
    ///
    /// # Errors
    /// When there is none to be had.
    fn runtime(&self) -> std::io::Result<tokio::runtime::Runtime> {
        tokio::runtime::Builder::new_multi_thread().enable_all().build()
    }

    /// How long a scenario waits for something before it fails, on the clock of its runtime.
    fn patience(&self) -> Duration {
        Duration::from_secs(60)
    }

    /// What can be made to happen. A scenario that needs more is reported as unsupported.
    fn hooks(&self) -> &'static [Hook] {
        &[]
    }

    /// What its histories are judged by: how the order of a session is known.
    fn judged_by(&self) -> Options {
        Options::total()
    }

    /// A channel that nobody used before, on a broker that answers.
    ///
    /// # Errors
    /// When no broker can be reached: every scenario fails then.
    async fn stage(&self, wishes: Wishes) -> Result<Stage>;
}

/// What a scenario wants of its broker. A harness that cannot give it gives what it can.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Wishes {
    /// How long a lock lasts without renewal.
    pub lock: Duration,
    /// How many messages the channel holds.
    pub capacity: u32,
    /// How many lanes, on a broker of lanes.
    pub lanes: u32,
    /// The largest message, in bytes.
    pub max_message: usize,
}

impl Default for Wishes {
    fn default() -> Self {
        Self { lock: Duration::from_secs(30), capacity: 100_000, lanes: 4, max_message: 1 << 20 }
    }
}

/// Where a scenario plays.
pub struct Stage {
    /// The broker.
    pub broker: Broker,
    /// The channel, provisioned.
    pub channel: String,
    /// How to make it misbehave.
    pub faults: Box<dyn Faults>,
}

impl fmt::Debug for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stage").field("broker", &self.broker).field("channel", &self.channel).finish_non_exhaustive()
    }
}

/// What a harness can make happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Hook {
    /// [`Fault::Lose`].
    Lose,
    /// [`Fault::HandOver`].
    HandOver,
    /// [`Fault::GiveBack`].
    GiveBack,
    /// [`Fault::Settlements`] and [`Fault::Renewals`].
    Answers,
    /// [`Fault::SetAsides`].
    Store,
    /// [`Fault::Sends`] and [`Fault::Land`].
    Sends,
    /// [`Fault::Cut`].
    Cut,
    /// [`Fault::Silence`].
    Silence,
    /// [`Fault::Freeze`] and [`Fault::Thaw`].
    Freeze,
    /// [`Fault::Foreign`].
    Foreign,
    /// [`Fault::Stale`].
    Stale,
    /// Nothing to inject: the channel holds as many messages as [`Wishes::capacity`] says.
    Capacity,
}

/// Something to make happen.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Fault {
    /// The right that covers this session is lost; its holder is told.
    Lose(SessionId),
    /// It goes to another consumer at once; its holder is told.
    HandOver(SessionId),
    /// It is taken from its holder and given to it again at once.
    GiveBack(SessionId),
    /// So many of the next settlements are answered so.
    Settlements(u32, Answered),
    /// So many of the next copies for the dead-letter store are answered so.
    SetAsides(u32, Answered),
    /// So many of the next renewals are answered so.
    Renewals(u32, Answered),
    /// So many of the next sends end so.
    Sends(u32, SentSo),
    /// What is to land late lands now.
    Land,
    /// The connection of the consumer of this number breaks, seen by both sides, and is made again after a while.
    Cut(usize, Duration),
    /// Nothing passes any more between the broker and the consumer of this number, and neither sees it.
    Silence(usize),
    /// The broker stands still.
    Freeze,
    /// It goes on.
    Thaw,
    /// A foreign producer sends something defective.
    Foreign(Defect, SessionId, &'static str),
    /// The client library of the consumer of this number hands out what belongs to a right that is gone.
    Stale(usize),
}

/// How a request of a consumer is answered. A harness says of each what it does, so this is no open list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answered {
    /// So much later.
    Late(Duration),
    /// With no: the right is gone, or the store does not take it.
    Refused,
    /// It did not happen, and may be asked for again.
    NotApplied,
    /// It is done, and the answer is lost.
    Lost,
}

/// How a send ends. No open list either.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SentSo {
    /// Refused.
    Refused,
    /// The broker is full.
    Full,
    /// It landed, and the outcome is unknown.
    UnknownLanded,
    /// It never lands, and the outcome is unknown.
    UnknownNever,
    /// It lands when [`Fault::Land`] says so, and the outcome is unknown.
    UnknownLate,
    /// The answer comes so much later.
    Late(Duration),
}

/// Makes things happen. Consumers are numbered from 0 in the order in which they were opened on the stage.
pub trait Faults: Send + Sync {
    /// Makes it happen to this consumer group; `false` when it could not, which fails the scenario.
    fn inject(&self, group: &str, fault: Fault) -> bool;
}
