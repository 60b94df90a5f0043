//! What a scenario has in hand: the stage, the history, and the words for common steps.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use convoy_core::producer::{Producer, ProducerOptions};
use convoy_core::{
    Broker, ConsumerBuilder, Message, Processor, ProcessorBuilder, Retry, SendError, Sentinel, SentinelOptions,
    SessionId, runtime,
};
use parking_lot::Mutex;

use super::harness::{Fault, Shape, Stage};
use crate::agreement::agree;
use crate::checker::{Checker, Options, Verdict};
use crate::history::{Fault as Kind, Memory, Phase, Recorder, Side, Store, What};
use crate::watch::{self, WatchedConsumer, WatchedProducer};

/// A scenario that did not hold, and why.
pub struct Failed(pub(super) String);

/// How a scenario ends.
pub type Held = Result<(), Failed>;

impl<E: std::error::Error> From<E> for Failed {
    fn from(error: E) -> Self {
        Self(format!("{error:?}"))
    }
}

impl fmt::Debug for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Failed {
    /// It did not hold for this reason.
    pub fn because(why: impl Into<String>) -> Self {
        Self(why.into())
    }
}

/// Fails the scenario unless this holds.
macro_rules! hold {
    ($cond:expr, $($why:tt)+) => {
        if !$cond {
            return Err($crate::suite::Failed::because(format!($($why)+)));
        }
    };
}

/// Fails the scenario unless both are equal.
macro_rules! same {
    ($left:expr, $right:expr, $($why:tt)+) => {{
        let (left, right) = (&$left, &$right);
        if *left != *right {
            return Err($crate::suite::Failed::because(format!("{}: {left:?} is not {right:?}", format!($($why)+))));
        }
    }};
}

pub(super) use {hold, same};

/// One scenario at work.
pub struct Act {
    stage: Stage,
    shape: Shape,
    history: Arc<Memory>,
    groups: Mutex<BTreeMap<String, u32>>,
    /// One a group, which watches all consumers of it.
    sentinels: Mutex<BTreeMap<u32, Sentinel>>,
    judged: AtomicBool,
    consumers: AtomicU32,
    options: Mutex<Options>,
    patience: Duration,
    /// What the scenario's choices come from.
    pub seed: u64,
}

/// The group of a scenario that needs one.
pub const GROUP: &str = "workers";

impl Act {
    pub(super) fn new(stage: Stage, shape: Shape, mut options: Options, patience: Duration, seed: u64) -> Self {
        options.grace = nanos(Duration::from_secs(2)) + nanos(Duration::from_millis(500));
        Self {
            stage,
            shape,
            history: Arc::new(Memory::new(1)),
            groups: Mutex::default(),
            sentinels: Mutex::default(),
            judged: AtomicBool::new(false),
            consumers: AtomicU32::new(0),
            options: Mutex::new(options),
            patience,
            seed,
        }
    }

    /// The broker.
    pub fn broker(&self) -> &Broker {
        &self.stage.broker
    }

    /// The channel.
    pub fn channel(&self) -> &str {
        &self.stage.channel
    }

    /// The broker's shape.
    pub fn shape(&self) -> Shape {
        self.shape
    }

    /// Changes what the history is judged by.
    pub fn judged_by(&self, change: impl FnOnce(&mut Options)) {
        change(&mut self.options.lock());
    }

    /// Makes something happen to [`GROUP`]. What the broker does to a right by itself is recorded as a fault, since the right ends with it.
    ///
    /// # Errors
    /// When the harness cannot.
    pub fn inject(&self, fault: Fault) -> Held {
        let ends_a_right = matches!(fault, Fault::Lose(_) | Fault::HandOver(_) | Fault::GiveBack(_) | Fault::Cut(..));
        if ends_a_right {
            self.record(0, What::Fault { fault: Kind::Reset, side: Side::Broker, phase: Phase::Begin, target: 0 });
        }
        let shown = format!("{fault:?}");
        hold!(self.stage.faults.inject(GROUP, fault), "the harness could not inject {shown}");
        Ok(())
    }

    fn record(&self, group: u32, what: What) {
        self.history.record(runtime::now().as_nanos(), group, what);
    }

    /// A producer, watched.
    ///
    /// # Errors
    /// When the broker refuses.
    pub async fn producer(&self) -> Result<Producer, Failed> {
        self.producer_with(ProducerOptions::default()).await
    }

    /// A producer with these options, watched.
    ///
    /// # Errors
    /// When the broker refuses.
    pub async fn producer_with(&self, options: ProducerOptions) -> Result<Producer, Failed> {
        let watch = Arc::new(WatchedProducer::new(Arc::clone(&self.history)));
        Ok(self.stage.broker.producer_with(&self.stage.channel, options.watch(watch)).await?)
    }

    /// The number of a group in the history; the first time its start is recorded.
    pub fn group_number(&self, group: &str) -> u32 {
        let mut groups = self.groups.lock();
        let next = u32::try_from(groups.len()).unwrap_or_default() + 1;
        *groups.entry(group.to_owned()).or_insert_with(|| {
            self.record(next, What::GroupStart);
            next
        })
    }

    /// The sentinel of a group, which watches each consumer of it.
    pub fn sentinel(&self, group: &str) -> Sentinel {
        let number = self.group_number(group);
        let make = || Sentinel::with(SentinelOptions::new().whole_group());
        self.sentinels.lock().entry(number).or_insert_with(make).clone()
    }

    /// A consumer in this group, watched: by the history, and by the group's sentinel.
    pub fn consumer_in(&self, group: &str) -> ConsumerBuilder {
        let number = self.group_number(group);
        let consumer = self.consumers.fetch_add(1, Ordering::SeqCst) + 1;
        let observer = WatchedConsumer::new(Arc::clone(&self.history), number, consumer);
        let consumer = self.stage.broker.consumer(&self.stage.channel).group(group);
        consumer.observer(observer).observer(self.sentinel(group))
    }

    /// A consumer in [`GROUP`], watched.
    pub fn consumer(&self) -> ConsumerBuilder {
        self.consumer_in(GROUP)
    }

    /// A processor in [`GROUP`], watched, that tries again after a millisecond.
    pub fn processor(&self) -> ProcessorBuilder {
        let retry = Retry::fixed(Duration::from_millis(1));
        self.consumer().processor().retry(retry).drain_within(Duration::from_secs(20))
    }

    /// Waits until `holds`.
    ///
    /// # Errors
    /// When it does not come true in time.
    pub async fn until(&self, what: &str, mut holds: impl FnMut() -> bool) -> Held {
        let give_up = runtime::now() + self.patience;
        let mut wait = Duration::from_micros(200);
        while !holds() {
            hold!(runtime::now() < give_up, "did not come true in {:?}: {what}", self.patience);
            tokio::time::sleep(wait).await;
            wait = (wait * 2).min(Duration::from_millis(20));
        }
        Ok(())
    }

    /// As [`until`](Self::until), of what handlers write down, which is shown when it does not come true.
    ///
    /// # Errors
    /// When it does not come true in time.
    pub async fn until_logged(&self, log: &Log, what: &str, mut holds: impl FnMut(&Log) -> bool) -> Held {
        let waited = self.until(what, || holds(log)).await;
        waited.map_err(|Failed(why)| Failed(format!("{why}; seen so far: {:?}", log.lines())))
    }

    /// Waits until this processor has completed so many messages.
    ///
    /// # Errors
    /// When it does not in time.
    pub async fn completed(&self, processor: &Processor, messages: usize) -> Held {
        let seen = || usize::try_from(processor.snapshot().completed).unwrap_or(usize::MAX) >= messages;
        self.until(&format!("{messages} messages completed"), seen).await
    }

    /// Reads the dead letters of a group to their end, records them, and gives them.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn dead_letters(&self, group: &str) -> Result<Vec<convoy_core::backend::DeadLetter>, Failed> {
        let number = self.group_number(group);
        let store = self.stage.broker.dead_letters(&self.stage.channel, group).await?;
        let letters = store.list(0, usize::MAX).await?;
        for letter in &letters {
            let (session, message) = (watch::key(&letter.session), watch::stamped(&letter.content));
            if letter.content.stamp().is_some() {
                self.record(number, What::Stored { session, message, store: Store::Dead });
            }
        }
        self.judged_by(|options| options.dead_read = true);
        Ok(letters)
    }

    /// Judges what happened, once: a fatal finding fails, and so does a message that was left, unless the scenario says that nobody was there to the end; and a sentinel that
    /// counted otherwise.
    ///
    /// # Errors
    /// What the checker found.
    pub fn judge(&self) -> Held {
        self.verdict().map(|_| ())
    }

    /// As [`judge`](Self::judge), for a look at what is only reported.
    ///
    /// # Errors
    /// What the checker found.
    pub fn verdict(&self) -> Result<Verdict, Failed> {
        hold!(
            !self.judged.swap(true, Ordering::SeqCst),
            "a scenario is judged once: what came before is gone from the history"
        );
        let mut checker = Checker::new(self.options.lock().clone());
        let events = self.history.take();
        events.iter().for_each(|event| checker.push(event));
        let verdict = checker.finish();
        let live = verdict.is_live() || !self.options.lock().settled_by_end;
        hold!(verdict.is_ok() && live, "seed {}: {verdict}", self.seed);
        let sentinels: Vec<_> = self.sentinels.lock().iter().map(|(group, s)| (*group, s.counts())).collect();
        agree(&events, &verdict, &sentinels)?;
        Ok(verdict)
    }
}

impl fmt::Debug for Act {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Act").field("stage", &self.stage).field("seed", &self.seed).finish_non_exhaustive()
    }
}

/// A session of this name.
pub fn id(name: &str) -> SessionId {
    SessionId::new(name.to_owned()).unwrap_or_else(|_| SessionId::lone(0, 0))
}

/// Sends `each` messages to each of `sessions` sessions, `s0` and so on, in turn; bodies are their numbers from 0. Waits for every confirm.
///
/// # Errors
/// What a send failed with.
pub async fn send(producer: &Producer, sessions: usize, each: usize) -> Result<(), Failed> {
    let mut sendings = Vec::new();
    for number in 0..each {
        for session in 0..sessions {
            sendings.push(producer.send(Message::new(format!("s{session}"), number.to_string())?));
        }
    }
    for sending in sendings {
        sending.await?;
    }
    Ok(())
}

/// Sends one message and waits for its confirm.
///
/// # Errors
/// What the send failed with.
pub async fn say(producer: &Producer, session: &str, body: &str) -> Result<(), Failed> {
    let sent: Result<_, SendError> = producer.send(Message::new(session, body.to_owned())?).await;
    sent?;
    Ok(())
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// What handlers did, in order: `session:body`, and whatever else a scenario writes.
#[derive(Clone, Debug, Default)]
pub struct Log(Arc<Mutex<Vec<String>>>);

impl Log {
    /// Adds a line.
    pub fn write(&self, line: impl Into<String>) {
        self.0.lock().push(line.into());
    }

    /// All lines.
    pub fn lines(&self) -> Vec<String> {
        self.0.lock().clone()
    }

    /// How many lines there are.
    pub fn len(&self) -> usize {
        self.0.lock().len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many lines are this one.
    pub fn count(&self, line: &str) -> usize {
        self.0.lock().iter().filter(|l| *l == line).count()
    }

    /// The bodies of one session, in order.
    pub fn of(&self, session: &str) -> Vec<String> {
        let prefix = format!("{session}:");
        self.0.lock().iter().filter_map(|l| l.strip_prefix(&prefix)).map(str::to_owned).collect()
    }
}
