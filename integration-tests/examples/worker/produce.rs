//! A producer. What fails or is unknown is sent again, in its place; every message has an outcome in the end.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use convoy_conformance::history::Writer;
use convoy_conformance::watch::{Clock, WatchedProducer};
use convoy_core::producer::{Producer, ProducerOptions, Resume, SendEvent, Watch};
use convoy_core::{ErrorKind, Message, Outcome};
use futures_util::StreamExt;
use tokio::time::Instant;

use crate::args::Args;
use crate::input::{self, Wanted};
use crate::{Any, CLOSE, connect, patiently};

const SEND: Duration = Duration::from_secs(8);
const TICK: Duration = Duration::from_millis(20);
/// How long the last outcomes may take, with a broker that is well.
const LAST: Duration = Duration::from_secs(120);
/// Halted sessions that go on at once: each may have to ask the broker first.
const RESUMED: usize = 64;

/// Counts what the history is told.
struct Counted {
    inner: WatchedProducer<Writer>,
    /// Handed over, once each. What is called while its session stands still is refused at the call, and is nobody's message yet.
    offered: AtomicU64,
    ok: AtomicU64,
    unknown: AtomicU64,
    refused: AtomicU64,
}

impl Watch for Counted {
    fn on(&self, event: &SendEvent<'_>) {
        self.inner.on(event);
        let counter = match event {
            SendEvent::Queued { again: false, .. } => &self.offered,
            SendEvent::Confirmed { .. } => &self.ok,
            SendEvent::Failed { error } if error.outcome() == Outcome::Unknown => &self.unknown,
            SendEvent::Failed { .. } => &self.refused,
            _ => return,
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }
}

pub(crate) async fn produce(args: &Args) -> Result<(), Any> {
    let mut wanted = input::listen();
    let history = Arc::new(Writer::create(&args.history, args.process)?);
    let counted = Arc::new(Counted {
        inner: WatchedProducer::on(Clock::shared(), Arc::clone(&history)),
        offered: AtomicU64::new(0),
        ok: AtomicU64::new(0),
        unknown: AtomicU64::new(0),
        refused: AtomicU64::new(0),
    });
    let broker = connect(args).await?;
    let open = async || {
        let watch: Arc<dyn Watch> = Arc::clone(&counted) as _;
        broker.producer_with(&args.channel, ProducerOptions::default().send_timeout(SEND).watch(watch)).await
    };
    let producer = patiently(open).await?;
    let stop = {
        let mut wanted = wanted.clone();
        async move { input::asked_to_end(&mut wanted).await }
    };
    let all = async {
        offer(args, &producer, &counted, &mut wanted).await?;
        // The outcomes of the last ones, with what is resumed meanwhile.
        flushed(&producer).await
    };
    let outcome = tokio::select! {
        outcome = all => outcome,
        () = resume(&producer) => Ok(()),
        () = tell(&counted, &producer) => Ok(()),
        // Told to end: nothing new is offered, and what is out has its outcome first.
        () = stop => tokio::select! {
            outcome = flushed(&producer) => outcome,
            () = resume(&producer) => Ok(()),
        },
    };
    say(&counted, &producer);
    let closed = producer.close(CLOSE).await;
    broker.close(CLOSE).await?;
    outcome?;
    closed?;
    if history.failed() {
        return Err("the history could not be written".into());
    }
    println!("drained=true");
    Ok(())
}

/// Hands over all messages, at the wanted rate, to sessions drawn by the seed.
async fn offer(
    args: &Args,
    producer: &Producer,
    counted: &Counted,
    wanted: &mut tokio::sync::watch::Receiver<Wanted>,
) -> Result<(), Any> {
    let mut rng = fastrand::Rng::with_seed(args.seed);
    let begun = Instant::now();
    let mut tick = tokio::time::interval(TICK);
    let sent = || counted.offered.load(Ordering::Relaxed);
    while sent() < args.messages {
        tick.tick().await;
        // What a broker that stands still has left over is not made up for in one go.
        let most = if args.rate == 0 || wanted.borrow().hurry { 200 } else { (args.rate / 10).max(1) };
        let due = match args.rate {
            0 => u64::MAX,
            _ if wanted.borrow().hurry => u64::MAX,
            rate => (begun.elapsed().as_secs_f64() * rate as f64) as u64,
        };
        let (until, mut tries) = (due.min(args.messages).min(sent() + most), most);
        match producer.ready(Duration::from_secs(1)).await {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::Backpressure => continue,
            Err(error) => return Err(error.into()),
        }
        // A call to a session that stands still is no try of another: so only so many a tick.
        while sent() < until && tries > 0 {
            let session = format!("session-{}", rng.u32(0..args.sessions));
            // Its outcome is told to the watch, and a failure shows in the halted sessions.
            drop(producer.send(Message::new(session, format!("{} of process {}", sent() + 1, args.process))?));
            tries -= 1;
        }
    }
    Ok(())
}

/// Lets halted sessions go on, for ever: everything is sent again.
async fn resume(producer: &Producer) {
    let mut tick = tokio::time::interval(TICK * 5);
    loop {
        tick.tick().await;
        let halted = producer.halted();
        let again = futures_util::stream::iter(halted).map(|halted| async move {
            if let Err(error) = producer.resume(&halted.session, Resume::Resend).await {
                eprintln!("worker: {} stays halted: {error}", halted.session);
            }
        });
        again.buffer_unordered(RESUMED).collect::<()>().await;
    }
}

async fn flushed(producer: &Producer) -> Result<(), Any> {
    let until = Instant::now() + LAST;
    loop {
        match producer.flush(Duration::from_secs(1)).await {
            Ok(()) => return Ok(()),
            Err(error) if Instant::now() >= until => return Err(error.into()),
            Err(error) if error.kind() == ErrorKind::Closed => return Err(error.into()),
            Err(_) => tokio::time::sleep(TICK * 5).await,
        }
    }
}

async fn tell(counted: &Counted, producer: &Producer) {
    let mut tick = tokio::time::interval(TICK * 10);
    loop {
        tick.tick().await;
        say(counted, producer);
    }
}

fn say(counted: &Counted, producer: &Producer) {
    let of = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    let (ok, unknown, refused) = (of(&counted.ok), of(&counted.unknown), of(&counted.refused));
    let halted = producer.halted().len();
    println!("offered={} ok={ok} unknown={unknown} refused={refused} halted={halted}", of(&counted.offered));
}
