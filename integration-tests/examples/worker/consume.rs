//! A consumer.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use convoy_conformance::history::Writer;
use convoy_conformance::watch::{Clock, WatchedConsumer};
use convoy_core::{Failure, Received, Retry, Snapshot, with_state};

use crate::args::Args;
use crate::{Any, CLOSE, GROUP, GROUP_NUMBER, connect, input, patiently};

const TELL: Duration = Duration::from_millis(200);
const DRAIN: Duration = Duration::from_secs(10);

#[derive(Debug)]
struct Job {
    work_us: u64,
    fail_permille: u32,
}

/// Works for a while; now and then it fails, so that there are second attempts.
async fn handle(job: Arc<Job>, _message: Received<Bytes>) -> Result<(), Failure> {
    let (work, fails) = (fastrand::u64(0..=2 * job.work_us), fastrand::u32(0..1000) < job.fail_permille);
    tokio::time::sleep(Duration::from_micros(work)).await;
    if fails { Err(Failure::retry("told to fail")) } else { Ok(()) }
}

pub(crate) async fn consume(args: &Args) -> Result<(), Any> {
    let mut wanted = input::listen();
    let history = Arc::new(Writer::create(&args.history, args.process)?);
    let watched = WatchedConsumer::on(Clock::shared(), Arc::clone(&history), GROUP_NUMBER, args.process);
    let broker = tokio::select! {
        broker = connect(args) => broker?,
        () = input::asked_to_end(&mut wanted) => return end(&history),
    };
    let builder = broker.consumer(&args.channel).group(GROUP).observer(watched).processor();
    let builder = builder.retry(Retry::fixed(Duration::from_millis(5))).drain_within(DRAIN);
    let job = Arc::new(Job { work_us: args.work_us, fail_permille: args.fail_permille });
    let start = patiently(async || builder.clone().start(with_state(Arc::clone(&job), handle)).await);
    let mut again = wanted.clone();
    let processor = tokio::select! {
        processor = start => processor?,
        () = input::asked_to_end(&mut again) => return end(&history),
    };
    let mut tick = tokio::time::interval(TELL);
    let failed = loop {
        tokio::select! {
            () = input::asked_to_end(&mut wanted) => break None,
            error = processor.failed() => break Some(error.map_or_else(|| "it was closed".into(), Any::from)),
            _ = tick.tick() => tell(&processor.snapshot()),
        }
    };
    let report = processor.drain().await;
    if let Ok(report) = &report {
        tell(&report.last);
    }
    let closed = broker.close(CLOSE).await;
    match failed {
        Some(error) => Err(error),
        None => {
            let report = report?;
            closed?;
            println!("drained={}", report.drained);
            end(&history)
        }
    }
}

fn end(history: &Writer) -> Result<(), Any> {
    if history.failed() { Err("the history could not be written".into()) } else { Ok(()) }
}

fn tell(now: &Snapshot) {
    let Snapshot { ready, held, running, buffered, completed, lost, .. } = now;
    println!("ready={ready} held={held} running={running} buffered={buffered} completed={completed} lost={lost}");
}
