//! A tiny workload on the memory broker: a few sessions of a few messages, one or two processors, and something that goes wrong in between.

use std::collections::HashSet;
use std::pin::pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Waker};
use std::time::Duration;

use convoy_conformance::agreement::{Disagreement, agree};
use convoy_conformance::checker::{Checker, Options, Verdict};
use convoy_conformance::history::{Fault, Memory, Phase, Recorder, Side, Store, What};
use convoy_conformance::liars::{Failures, FencedSink, Liar, Lie, MissesGaps, Swallows, Witness};
use convoy_conformance::watch::{self, WatchedConsumer, WatchedProducer};
use convoy_core::backend::Place;
use convoy_core::producer::Resume;
use convoy_core::{
    Broker, Failure, Handler, Message, Processor, ProducerOptions, Received, Retry, Sentinel, SentinelCounts,
    SentinelOptions, SessionId,
};
use convoy_memory::{MemoryBroker, Options as MemoryOptions};

pub const CHANNEL: &str = "orders";
pub const GROUP: &str = "billing";

/// What is done.
#[derive(Clone, Copy, Debug)]
pub struct Play {
    pub sessions: &'static [&'static str],
    pub messages: u32,
    pub consumers: u32,
    /// None for a broker that locks sessions.
    pub lanes: u32,
    pub lock: Duration,
    /// How long a handler takes.
    pub work: Duration,
    /// Messages that the handler wants to be dead-lettered.
    pub poison: &'static [u32],
    pub trouble: Trouble,
}

/// What happens to a right, in the middle of the handler of this message.
#[derive(Clone, Copy, Debug)]
pub enum Trouble {
    None,
    /// It is lost.
    Lose(u32),
    /// It goes to the other consumer.
    HandOver(u32),
    /// Nothing passes between its holder and the broker any more, and neither knows.
    Silence(u32),
}

/// A lie that only a program can tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Program {
    /// A handler blocks its thread for ten seconds and has not said that it does.
    HoldsItsThread,
    /// A handler fails, and its wrapper says that it did not.
    SwallowsErrors,
    /// The sink does not look at the fence.
    UnfencedSink,
    /// The sentinel is not told what is missing.
    MissesGaps,
}

/// What the checker and a sentinel made of it.
#[derive(Debug)]
pub struct Judged {
    pub verdict: Verdict,
    pub counts: SentinelCounts,
    /// Whether they agree.
    pub agreed: Result<(), Disagreement>,
}

impl Play {
    /// Three sessions, one consumer, nothing goes wrong.
    pub const PLAIN: Self = Self {
        sessions: &["anna", "bert", "cleo"],
        messages: 5,
        consumers: 1,
        lanes: 0,
        lock: Duration::from_secs(30),
        work: Duration::from_millis(10),
        poison: &[],
        trouble: Trouble::None,
    };
    /// One session.
    pub const ALONE: Self = Self { sessions: &["anna"], ..Self::PLAIN };
    /// One session and two consumers that want it.
    pub const TWO: Self = Self { consumers: 2, messages: 3, ..Self::ALONE };
}

/// Handles the messages of one consumer.
struct Worker {
    play: Play,
    program: Option<(Program, bool)>,
    memory: MemoryBroker,
    recorder: Arc<Memory>,
    sink: Arc<FencedSink<Memory>>,
    /// What is told once was.
    done: Arc<Mutex<HashSet<&'static str>>>,
}

impl Worker {
    fn once(&self, what: &'static str) -> bool {
        self.done.lock().expect("no panic under it").insert(what)
    }

    fn make_trouble(&self, number: u32, session: &SessionId) {
        let (Trouble::Lose(at) | Trouble::HandOver(at) | Trouble::Silence(at)) = self.play.trouble else { return };
        if number != at || !self.once("trouble") {
            return;
        }
        let faults = self.memory.faults().group(CHANNEL, GROUP).expect("the group");
        let place = Place::Session(session.clone());
        let happened = match self.play.trouble {
            Trouble::HandOver(_) => {
                self.recorder.record(now(), 1, taken_away());
                faults.hand_to_another(&place)
            }
            Trouble::Silence(_) => faults.silence(faults.holder(&place).expect("a holder")),
            _ => faults.lose(&place),
        };
        assert!(happened, "{:?}", self.play.trouble);
    }

    async fn work(&self, number: u32) {
        match self.program {
            Some((Program::HoldsItsThread, lies)) if number == 2 && self.once("holds") => {
                let time = Duration::from_secs(10);
                if !lies {
                    return tokio::time::sleep(time).await;
                }
                // The clock goes on under the first poll: to everybody else this is a thread that is blocked for so long.
                let _ = pin!(tokio::time::advance(time)).poll(&mut Context::from_waker(Waker::noop()));
            }
            _ => tokio::time::sleep(self.play.work).await,
        }
    }
}

impl Handler<String> for Worker {
    async fn handle(&self, message: Received<String>) -> Result<(), Failure> {
        let number = message.body.parse().unwrap_or(0);
        self.make_trouble(number, message.session());
        self.work(number).await;
        self.sink.take(1, &message);
        if self.play.poison.contains(&number) {
            return Err(Failure::dead_letter("poison"));
        }
        if matches!(self.program, Some((Program::SwallowsErrors, _))) && number == 2 && self.once("fails") {
            return Err(Failure::retry("not now"));
        }
        Ok(())
    }
}

/// Plays it with this lie of the backend, or of the program when it lies.
pub async fn perform(play: &Play, lie: Option<Lie>, program: Option<(Program, bool)>) -> Judged {
    let options = MemoryOptions::new().lanes(play.lanes).lock(play.lock);
    let memory = MemoryBroker::with_options(options).expect("valid options");
    let broker = Broker::new(Liar::new(memory.clone(), lie));
    let recorder = Arc::new(Memory::new(1));
    let failures = Arc::<Failures>::default();
    let watched = |consumer| {
        let observer = WatchedConsumer::new(Arc::clone(&recorder), 1, consumer);
        Witness::new(observer, play.lock, Arc::clone(&failures))
    };
    let observers: Vec<_> = (1..=play.consumers).map(watched).collect();
    send(&broker, &recorder, play).await;

    let lying = |of: Program| program == Some((of, true));
    let sink = Arc::new(FencedSink::new(Arc::clone(&recorder), lying(Program::UnfencedSink)));
    let done = Arc::default();
    let mut processors: Vec<Processor> = Vec::new();
    let sentinel = sentinel();
    for observer in observers {
        let told = MissesGaps::new(sentinel.clone(), lying(Program::MissesGaps));
        let worker = Worker {
            play: *play,
            program,
            memory: memory.clone(),
            recorder: Arc::clone(&recorder),
            sink: Arc::clone(&sink),
            done: Arc::clone(&done),
        };
        let handler = Swallows::new(worker, Arc::clone(&failures), lying(Program::SwallowsErrors));
        let consumer = broker.consumer(CHANNEL).group(GROUP).observer(observer).observer(told).processor();
        // Who holds one session of two consumers asks for no other.
        let sessions = if play.consumers > 1 { 1 } else { 8 };
        let consumer = consumer.max_concurrent_sessions(sessions).drain_within(Duration::from_secs(5));
        let retry = Retry::fixed(Duration::from_millis(10));
        processors.push(consumer.retry(retry).start(handler).await.expect("a processor"));
    }
    settled(&memory).await;
    for processor in processors {
        processor.drain().await.expect("drained");
    }
    record_dead_letters(&broker, &recorder).await;
    judge(&recorder, &sentinel)
}

/// Sends to every session, one after the other. What fails is given up.
pub async fn send(broker: &Broker, recorder: &Arc<Memory>, play: &Play) {
    let watch = Arc::new(WatchedProducer::new(Arc::clone(recorder)));
    let producer = broker.producer_with(CHANNEL, ProducerOptions::default().watch(watch)).await.expect("a producer");
    for number in 1..=play.messages {
        for session in play.sessions {
            let message = Message::new(*session, number.to_string()).expect("a message");
            if let Err(error) = producer.send(message).await {
                producer.resume(error.session(), Resume::Skip).await.expect("given up").await.expect("nothing is sent");
            }
        }
    }
}

/// Waits until everything is settled. With some lies it never is.
async fn settled(memory: &MemoryBroker) {
    let until = tokio::time::Instant::now() + Duration::from_secs(60);
    while memory.stats(CHANNEL).is_some_and(|channel| channel.messages > 0) && tokio::time::Instant::now() < until {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    // Let what was settled be answered.
    tokio::time::sleep(Duration::from_secs(1)).await;
}

async fn record_dead_letters(broker: &Broker, recorder: &Memory) {
    let store = broker.dead_letters(CHANNEL, GROUP).await.expect("a store");
    for letter in store.list(0, 100).await.expect("a list") {
        let (session, message) = (watch::key(&letter.session), watch::stamped(&letter.content));
        recorder.record(now(), 1, What::Stored { session, message, store: Store::Dead });
    }
}

/// The broker takes the rights away, and their holders know nothing yet.
pub fn taken_away() -> What {
    What::Fault { fault: Fault::Detach, side: Side::Broker, phase: Phase::Begin, target: 0 }
}

pub fn now() -> u64 {
    convoy_core::runtime::now().as_nanos()
}

/// A sentinel that watches all consumers of the group.
pub fn sentinel() -> Sentinel {
    Sentinel::with(SentinelOptions::new().whole_group())
}

pub fn judge(recorder: &Memory, sentinel: &Sentinel) -> Judged {
    let mut options = Options::total();
    options.dead_read = true;
    let mut checker = Checker::new(options);
    let events = recorder.take();
    events.iter().for_each(|event| checker.push(event));
    let (verdict, counts) = (checker.finish(), sentinel.counts());
    let agreed = agree(&events, &verdict, &[(1, counts)]);
    Judged { verdict, counts, agreed }
}
