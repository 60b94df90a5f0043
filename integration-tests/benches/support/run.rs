//! What the benchmarks of brokers share: a run of handlers that is timed and judged, and what it is measured against.

use std::process::ExitCode;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use bytes::Bytes;
use convoy_core::{Broker, Failure, Received, with_state};
use tokio::sync::Notify;

pub(crate) type Any = Box<dyn std::error::Error + Send + Sync>;

/// Runs a benchmark to its end, which says whether its targets held.
pub(crate) fn conclude<F: Future<Output = Result<bool, Any>>>(name: &str, measure: impl FnOnce() -> F) -> ExitCode {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    match runtime.map_err(Any::from).and_then(|runtime| runtime.block_on(measure())) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(why) => {
            eprintln!("bench {name}: {why}");
            println!("RESULT bench={name} held=false");
            ExitCode::FAILURE
        }
    }
}

/// What was asked for: a name and a number each.
pub(crate) fn options(mut take: impl FnMut(&str, u64) -> bool) -> Result<(), String> {
    let mut given = std::env::args().skip(1).filter(|arg| arg != "--bench");
    while let Some(name) = given.next() {
        let value = given.next().and_then(|value| value.parse::<u64>().ok()).filter(|value| *value > 0);
        let value = value.ok_or_else(|| format!("{name} wants a number"))?;
        if !take(&name, value) {
            return Err(format!("there is no option {name}"));
        }
    }
    Ok(())
}

/// The body of a record: whose it is, and the how manieth of that session, counted from one.
pub(crate) fn body(session: u32, record: u32) -> Vec<u8> {
    [session.to_le_bytes(), record.to_le_bytes()].concat()
}

/// Which records are to be handled, all of them there already.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Load<'a> {
    pub(crate) channel: &'a str,
    pub(crate) group: &'a str,
    pub(crate) sessions: u32,
    /// So many of each session were handled before.
    pub(crate) first: u32,
    pub(crate) records: u32,
}

/// What the handlers of one run share.
struct Job {
    work: Duration,
    last: Vec<AtomicU32>,
    left: AtomicU64,
    busy: AtomicU64,
    violations: AtomicU64,
    done: Notify,
    /// When the first handler started: until then lanes are looked at and registered for.
    first: OnceLock<(Instant, Duration)>,
}

/// How a run went: messages a second, the handlers' share of the time, CPU a message in microseconds, and messages out of order.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Run {
    pub(crate) rate: f64,
    pub(crate) busy: f64,
    pub(crate) cpu: f64,
    pub(crate) violations: u64,
}

async fn handle(job: Arc<Job>, message: Received<Bytes>) -> Result<(), Failure> {
    job.first.get_or_init(|| (Instant::now(), cpu_time()));
    if !job.work.is_zero() {
        let begun = Instant::now();
        tokio::time::sleep(job.work).await;
        job.busy.fetch_add(u64::try_from(begun.elapsed().as_nanos()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }
    let number =
        |at: usize| message.body.get(at..at + 4).and_then(|b| b.try_into().ok()).map_or(u32::MAX, u32::from_le_bytes);
    let last = job.last.get(number(0) as usize).map(|last| last.swap(number(4), Ordering::Relaxed));
    if last.and_then(|last| last.checked_add(1)) != Some(number(4)) {
        job.violations.fetch_add(1, Ordering::Relaxed);
    }
    if job.left.fetch_sub(1, Ordering::AcqRel) == 1 {
        job.done.notify_one();
    }
    Ok(())
}

/// Handles what was loaded, each message with so much work, of all sessions at once: from the first handler's start to the last one's end.
pub(crate) async fn consume(broker: &Broker, load: Load<'_>, work: Duration) -> Result<Run, Any> {
    let messages = u64::from(load.sessions) * u64::from(load.records);
    let job = Arc::new(Job {
        work,
        last: (0..load.sessions).map(|_| AtomicU32::new(load.first)).collect(),
        left: AtomicU64::new(messages),
        busy: AtomicU64::new(0),
        violations: AtomicU64::new(0),
        done: Notify::new(),
        first: OnceLock::new(),
    });
    let consumer = broker.consumer(load.channel).group(load.group);
    let processor = consumer.processor().max_concurrent_sessions(load.sessions as usize);
    let processor = processor.start(with_state(Arc::clone(&job), handle)).await?;
    tokio::select! {
        () = job.done.notified() => {}
        error = processor.failed() => return Err(error.map_or("the processor was closed".into(), Any::from)),
        () = tokio::time::sleep(Duration::from_secs(120)) => return Err("not done within two minutes".into()),
    }
    let (begun, cpu) = job.first.get().copied().ok_or("nothing was handled")?;
    let (took, cpu) = (begun.elapsed().as_secs_f64(), (cpu_time() - cpu).as_secs_f64());
    let report = processor.drain().await?;
    if !report.drained || report.last.completed != messages {
        return Err(format!("not everything was handled once: {report:?}").into());
    }
    let busy = Duration::from_nanos(job.busy.load(Ordering::Relaxed)).as_secs_f64();
    Ok(Run {
        rate: messages as f64 / took,
        busy: busy / (f64::from(load.sessions) * took),
        cpu: cpu * 1e6 / messages as f64,
        violations: job.violations.load(Ordering::Relaxed),
    })
}

/// What this process has spent.
pub(crate) fn cpu_time() -> Duration {
    let at = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Duration::new(at.tv_sec.try_into().unwrap_or(0), at.tv_nsec.try_into().unwrap_or(0))
}

/// How busy as many tasks are that do nothing but the work.
pub(crate) async fn bare(tasks: u32, records: u32, work: Duration) -> f64 {
    let begun = Instant::now();
    let running: Vec<_> = (0..tasks)
        .map(|_| {
            tokio::spawn(async move {
                let mut busy = Duration::ZERO;
                for _ in 0..records {
                    let begun = Instant::now();
                    tokio::time::sleep(work).await;
                    busy += begun.elapsed();
                }
                busy
            })
        })
        .collect();
    let mut busy = Duration::ZERO;
    for task in running {
        busy += task.await.unwrap_or_default();
    }
    busy.as_secs_f64() / (f64::from(tasks) * begun.elapsed().as_secs_f64())
}
