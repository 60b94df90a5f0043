//! What a sentinel costs a message: all that an observer is told of one, from delivered to settled, beside an observer that does nothing. And a processor on the
//! memory broker with the one and with the other.
//!
//! ```text
//! cargo xtask bench sentinel [--rounds 400] [--messages 200000]
//! ```
//!
//! Exit status 1 when a figure misses its target. The figure is that of the best round: what else runs on the machine only adds to it.

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use convoy_core::backend::{Answer, Grant, Place};
use convoy_core::engine::{EndKind, How, Note};
use convoy_core::{
    Broker, Content, Message, Moment, Observed, Observer, Position, ProducerId, Received, Sentinel, SentinelCounts,
    SentinelOptions, SessionId, Stamp, with_state,
};
use convoy_memory::MemoryBroker;

type Any = Box<dyn std::error::Error>;

/// The most nanoseconds a message, with a thousand sessions.
const MOST_NS: f64 = 50.0;
const FEW: usize = 1_000;
const MANY: usize = 50_000;
/// Messages of one round: few enough to lie in a cache, as they do when an engine tells of them.
const ROUND: usize = 1_000;
/// Handlers of the whole processor.
const AT_ONCE: usize = 1_024;

struct Args {
    rounds: usize,
    messages: u64,
}

/// Watches, and does nothing.
struct Empty;

impl Observer for Empty {
    fn on(&self, event: &Observed<'_>) {
        std::hint::black_box(event);
    }
}

/// Messages of sessions in turn, as one producer numbers them.
struct Feed {
    sessions: Vec<(SessionId, u64)>,
    next: usize,
    number: u64,
}

impl Feed {
    fn new(sessions: usize) -> Result<Self, Any> {
        let id = |n: usize| SessionId::new(format!("session-{n}")).map(|id| (id, 0));
        Ok(Self { sessions: (0..sessions).map(id).collect::<Result<_, _>>()?, next: 0, number: 0 })
    }

    /// All that is told of the next messages.
    fn round(&mut self) -> Vec<Note> {
        let grant = Grant::new(1, &Place::Lane(0));
        let mut notes = Vec::with_capacity(ROUND * 5);
        for _ in 0..ROUND {
            self.number += 1;
            let at = self.next;
            self.next = (self.next + 1) % self.sessions.len();
            let (session, last) = &mut self.sessions[at];
            let mut content = Content::new(Bytes::from_static(b"body"));
            let prev = std::mem::replace(last, self.number);
            let stamp = Stamp { producer: ProducerId::from_u128(7), number: self.number, prev, skipped: false };
            content.set_stamp(stamp);
            let (content, session, position) = (Arc::new(content), &*session, Position::new(self.number));
            let (checked_at, deadline, attempt) = (Moment::ORIGIN, Moment::NEVER, 1);
            let of = || session.clone();
            notes.extend([
                Note::Delivered { grant, session: of(), position, content: Arc::clone(&content) },
                Note::Started { grant, session: of(), position, content, attempt, checked_at, deadline },
                Note::Ended { grant, session: of(), position, attempt, how: EndKind::Done, counted: true },
                Note::SettleRequested { grant, session: of(), position, how: How::Completed, reason: None },
                Note::Settled { grant, session: of(), position, answer: Answer::Ok },
            ]);
        }
        notes
    }
}

/// Tells the observers, as a consumer does; nanoseconds a message.
fn tell(observers: &[Arc<dyn Observer>], notes: &[Note]) -> f64 {
    let begun = Instant::now();
    for note in notes {
        for observer in observers {
            observer.on(&Observed::new(Moment::ORIGIN, "orders", "billing", note));
        }
    }
    begun.elapsed().as_nanos() as f64 / ROUND as f64
}

/// The least and the median.
fn best(mut of: Vec<f64>) -> (f64, f64) {
    of.sort_by(f64::total_cmp);
    let at = |i: usize| of.get(i).copied().unwrap_or(f64::NAN);
    (at(0), at(of.len() / 2))
}

struct Told {
    empty: (f64, f64),
    sentinel: (f64, f64),
}

/// So many sessions, told to both in turn.
fn told(sessions: usize, rounds: usize) -> Result<Told, Any> {
    let sentinel = Sentinel::with(SentinelOptions::new().sessions(SentinelOptions::SESSIONS.max(2 * sessions)));
    let watching: [Arc<dyn Observer>; 1] = [Arc::new(sentinel.clone())];
    let nothing: [Arc<dyn Observer>; 1] = [Arc::new(Empty)];
    let mut feed = Feed::new(sessions)?;
    // Each session is there before it is timed.
    let first = sessions.div_ceil(ROUND) + 1;
    let (mut empty, mut full) = (Vec::new(), Vec::new());
    for round in 0..first + rounds {
        let notes = feed.round();
        let (without, with) = (tell(&nothing, &notes), tell(&watching, &notes));
        if round >= first {
            empty.push(without);
            full.push(with);
        }
    }
    judge(&sentinel.counts(), ((first + rounds) * ROUND) as u64)?;
    Ok(Told { empty: best(empty), sentinel: best(full) })
}

fn judge(counts: &SentinelCounts, seen: u64) -> Result<(), Any> {
    let as_it_was = counts.is_in_order() && counts.seen == seen && counts.repeats + counts.forgotten == 0;
    if as_it_was { Ok(()) } else { Err(format!("the sentinel counted what was not: {counts:?}").into()) }
}

/// Handles so many messages on the memory broker; nanoseconds of the processor a message.
async fn handled(observer: impl Observer, messages: u64) -> Result<f64, Any> {
    let broker = Broker::new(MemoryBroker::from_url("memory://?lanes=8")?);
    let producer = broker.producer("bench").await?;
    let ids: Vec<String> = (0..FEW).map(|session| format!("session-{session}")).collect();
    for _ in 0..messages / FEW as u64 {
        let messages = ids.iter().map(|id| Message::new(id.as_str(), Bytes::from_static(b"body")));
        producer.send_all(messages.collect::<Result<Vec<_>, _>>()?).await?;
    }
    producer.close(Duration::from_secs(30)).await?;
    let left = Arc::new(AtomicU64::new(messages));
    let handle = |left: Arc<AtomicU64>, _: Received<Bytes>| async move {
        left.fetch_sub(1, Ordering::Relaxed);
        Ok(())
    };
    let begun = cpu_time();
    let consumer = broker.consumer("bench").observer(observer).processor().max_concurrent_sessions(AT_ONCE);
    let processor = consumer.start(with_state(Arc::clone(&left), handle)).await?;
    let until = Instant::now() + Duration::from_secs(120);
    while left.load(Ordering::Relaxed) > 0 {
        if Instant::now() > until {
            return Err("not done within two minutes".into());
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let took = cpu_time() - begun;
    processor.drain().await?;
    broker.close(Duration::from_secs(10)).await?;
    Ok(took.as_nanos() as f64 / messages as f64)
}

fn cpu_time() -> Duration {
    let at = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Duration::new(at.tv_sec.try_into().unwrap_or(0), at.tv_nsec.try_into().unwrap_or(0))
}

fn args() -> Result<Args, String> {
    let mut args = Args { rounds: 400, messages: 200_000 };
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        // `cargo bench` says `--bench`.
        if word == "--bench" {
            continue;
        }
        let value: u64 = words.next().and_then(|value| value.parse().ok()).ok_or(format!("{word} wants a number"))?;
        match word.as_str() {
            "--rounds" => args.rounds = value.max(1) as usize,
            "--messages" => args.messages = value.max(FEW as u64) / FEW as u64 * FEW as u64,
            _ => return Err(format!("there is no option {word}")),
        }
    }
    Ok(args)
}

async fn all(args: &Args) -> Result<bool, Any> {
    println!("{} rounds of {ROUND} messages, five notes each, told to both in turn", args.rounds);
    println!("{:<44}{:>8}{:>10}{:>10}", "ns a message", "best", "median", "target");
    let (few, many) = (told(FEW, args.rounds)?, told(MANY, args.rounds)?);
    let line = |what: String, (best, median): (f64, f64), target: &str| {
        println!("{what:<44}{best:>8.1}{median:>10.1}{target:>10}");
    };
    for (sessions, told, target) in [(FEW, &few, format!("<= {MOST_NS}")), (MANY, &many, String::new())] {
        line(format!("{sessions} sessions, an empty observer"), told.empty, "");
        line(format!("{sessions} sessions, a sentinel"), told.sentinel, &target);
    }
    let (mut without, mut with) = (Vec::new(), Vec::new());
    for _ in 0..5 {
        without.push(handled(Empty, args.messages).await?);
        let sentinel = Sentinel::new();
        with.push(handled(sentinel.clone(), args.messages).await?);
        judge(&sentinel.counts(), args.messages)?;
    }
    let (without, with) = (best(without), best(with));
    line("a processor with an empty observer, CPU".into(), without, "");
    line("a processor with a sentinel, CPU".into(), with, "");
    let held = few.sentinel.0 <= MOST_NS;
    println!(
        "RESULT cmd=bench-sentinel held={held} ns_1e3={:.1} empty_ns_1e3={:.1} ratio_1e3={:.2} ns_5e4={:.1} empty_ns_5e4={:.1} \
         ratio_5e4={:.2} processor_ratio={:.3}",
        few.sentinel.0,
        few.empty.0,
        few.sentinel.0 / few.empty.0,
        many.sentinel.0,
        many.empty.0,
        many.sentinel.0 / many.empty.0,
        with.0 / without.0,
    );
    Ok(held)
}

#[tokio::main]
async fn main() -> ExitCode {
    let outcome = match args() {
        Ok(args) => all(&args).await,
        Err(why) => Err(why.into()),
    };
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            println!("RESULT cmd=bench-sentinel held=false error={:?}", error.to_string());
            ExitCode::from(2)
        }
    }
}
