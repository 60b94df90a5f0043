//! The memory broker through the processor: messages a second and CPU a message with a handler that does nothing, and how busy handlers are kept that
//! do something. Each figure beside its target; order is judged inside each timed run.
//!
//! ```text
//! cargo xtask bench memory [--repeats 5] [--messages 500000] [--records 200]
//! ```

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use convoy_core::{Broker, Failure, Message, Processor, Received, with_state};
use convoy_memory::MemoryBroker;
use tokio::sync::Notify;

type Any = Box<dyn std::error::Error>;

const MODES: [(&str, &str); 2] = [("sessions", "memory://"), ("lanes", "memory://?lanes=8")];
const FEW: u32 = 1_000;
const MANY: u32 = 100_000;
/// The targets.
const RATE: f64 = 500_000.0;
const CPU: f64 = 1.5;
const KEPT: f64 = 0.6;
const BUSY: f64 = 0.95;
const WORK: Duration = Duration::from_millis(10);

struct Args {
    repeats: usize,
    messages: u32,
    records: u32,
}

/// What the handlers of one run share.
struct Job {
    work: Duration,
    /// The last record of each session.
    last: Vec<AtomicU32>,
    left: AtomicU64,
    busy: AtomicU64,
    violations: AtomicU64,
    done: Notify,
}

/// What one run came to.
#[derive(Clone, Copy)]
struct Run {
    took: f64,
    cpu: f64,
    /// Seconds of all handlers together.
    busy: f64,
    violations: u64,
}

async fn handle(job: Arc<Job>, message: Received<Bytes>) -> Result<(), Failure> {
    if !job.work.is_zero() {
        let begun = Instant::now();
        tokio::time::sleep(job.work).await;
        job.busy.fetch_add(nanos(begun.elapsed()), Ordering::Relaxed);
    }
    let number =
        |at: usize| message.body.get(at..at + 4).and_then(|b| b.try_into().ok()).map_or(u32::MAX, u32::from_le_bytes);
    let (session, record) = (number(0), number(4));
    let last = job.last.get(session as usize).map(|last| last.swap(record, Ordering::Relaxed));
    if last.and_then(|last| last.checked_add(1)) != Some(record) {
        job.violations.fetch_add(1, Ordering::Relaxed);
    }
    if job.left.fetch_sub(1, Ordering::AcqRel) == 1 {
        job.done.notify_one();
    }
    Ok(())
}

/// Loads the records, dealt evenly over the sessions, and times how long handling them takes.
async fn run(url: &str, sessions: u32, records: u32, at_once: usize, work: Duration) -> Result<Run, Any> {
    let broker = Broker::new(MemoryBroker::from_url(url)?);
    load(&broker, sessions, records).await?;
    let job = Arc::new(Job {
        work,
        last: (0..sessions).map(|_| AtomicU32::new(0)).collect(),
        left: AtomicU64::new(u64::from(sessions) * u64::from(records)),
        busy: AtomicU64::new(0),
        violations: AtomicU64::new(0),
        done: Notify::new(),
    });
    let (begun, cpu) = (Instant::now(), cpu_time());
    let processor = broker.consumer("bench").processor().max_concurrent_sessions(at_once);
    let processor: Processor = processor.start(with_state(Arc::clone(&job), handle)).await?;
    tokio::select! {
        () = job.done.notified() => {}
        error = processor.failed() => return Err(error.map_or("the processor was closed".into(), Any::from)),
        () = tokio::time::sleep(Duration::from_secs(120)) => return Err("not done within two minutes".into()),
    }
    let (took, cpu) = (begun.elapsed().as_secs_f64(), (cpu_time() - cpu).as_secs_f64());
    let report = processor.drain().await?;
    if !report.drained || report.last.completed != u64::from(sessions) * u64::from(records) {
        return Err(format!("not everything was handled once: {report:?}").into());
    }
    broker.close(Duration::from_secs(10)).await?;
    let violations = job.violations.load(Ordering::Relaxed);
    let busy = Duration::from_nanos(job.busy.load(Ordering::Relaxed)).as_secs_f64();
    Ok(Run { took, cpu, busy, violations })
}

async fn load(broker: &Broker, sessions: u32, records: u32) -> Result<(), Any> {
    let producer = broker.producer("bench").await?;
    let ids: Vec<String> = (0..sessions).map(|session| format!("session-{session}")).collect();
    for record in 1..=records {
        for part in (0..sessions).collect::<Vec<_>>().chunks(8_192) {
            let message = |session: &u32| {
                let body = [session.to_le_bytes(), record.to_le_bytes()].concat();
                Message::new(ids.get(*session as usize).map_or("", String::as_str), body)
            };
            let messages = part.iter().map(message).collect::<Result<Vec<_>, _>>()?;
            producer.send_all(messages).await?;
        }
    }
    producer.close(Duration::from_secs(30)).await?;
    Ok(())
}

/// The ceiling: as many tasks that only sleep, as often.
async fn bare(tasks: u32, records: u32) -> f64 {
    let (begun, busy) = (Instant::now(), Arc::new(AtomicU64::new(0)));
    let tasks: Vec<_> = (0..tasks)
        .map(|_| {
            let busy = Arc::clone(&busy);
            tokio::spawn(async move {
                for _ in 0..records {
                    let begun = Instant::now();
                    tokio::time::sleep(WORK).await;
                    busy.fetch_add(nanos(begun.elapsed()), Ordering::Relaxed);
                }
            })
        })
        .collect();
    let count = tasks.len() as f64;
    for task in tasks {
        let _ = task.await;
    }
    Duration::from_nanos(busy.load(Ordering::Relaxed)).as_secs_f64() / (count * begun.elapsed().as_secs_f64())
}

/// A fixed piece of arithmetic, for how evenly this machine runs.
fn fixed_work() -> f64 {
    let begun = Instant::now();
    let mut x = 1_u64;
    for i in 0..20_000_000_u64 {
        x = std::hint::black_box(x.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(i));
    }
    std::hint::black_box(x);
    begun.elapsed().as_secs_f64()
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

fn cpu_time() -> Duration {
    let at = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Duration::new(at.tv_sec.try_into().unwrap_or(0), at.tv_nsec.try_into().unwrap_or(0))
}

/// The least, the middle and the greatest.
fn spread(mut of: Vec<f64>) -> (f64, f64, f64) {
    of.sort_by(f64::total_cmp);
    let at = |i: usize| of.get(i).copied().unwrap_or(f64::NAN);
    (at(0), at(of.len() / 2), at(of.len().saturating_sub(1)))
}

/// The figures of one mode, and whether each meets its target.
async fn mode(name: &str, url: &str, args: &Args, noise: &mut Vec<f64>) -> Result<(bool, String), Any> {
    let (mut few, mut many, mut busy, mut ceiling, mut violations) = (vec![], vec![], vec![], vec![], 0);
    for _ in 0..args.repeats {
        // Side by side, so that what disturbs one disturbs the other.
        noise.push(fixed_work());
        few.push(run(url, FEW, args.messages / FEW, 1024, Duration::ZERO).await?);
        many.push(run(url, MANY, (args.messages / MANY).max(1), 1024, Duration::ZERO).await?);
    }
    for _ in 0..args.repeats.min(3) {
        let run = run(url, FEW, args.records, FEW as usize, WORK).await?;
        violations += run.violations;
        busy.push(run.busy / (f64::from(FEW) * run.took));
        ceiling.push(bare(FEW, args.records).await);
    }
    violations += few.iter().chain(&many).map(|run| run.violations).sum::<u64>();

    let messages = |sessions: u32| f64::from(sessions) * f64::from((args.messages / sessions).max(1));
    let rate = |runs: &[Run], sessions| spread(runs.iter().map(|run| messages(sessions) / run.took).collect());
    let cpu = |runs: &[Run], sessions| spread(runs.iter().map(|run| run.cpu * 1e6 / messages(sessions)).collect());
    let (rate_few, rate_many) = (rate(&few, FEW), rate(&many, MANY));
    let (cpu_few, cpu_many) = (cpu(&few, FEW), cpu(&many, MANY));
    let (busy, ceiling) = (spread(busy), spread(ceiling));
    let kept = rate_many.1 / rate_few.1;
    let judged = [
        ("messages/s, 10^3 sessions", rate_few, format!(">= {RATE}"), rate_few.1 >= RATE),
        ("CPU us a message, 10^3 sessions", cpu_few, format!("<= {CPU}"), cpu_few.1 <= CPU),
        ("messages/s, 10^5 sessions", rate_many, format!(">= {KEPT} of that at 10^3: {kept:.2}"), kept >= KEPT),
        ("CPU us a message, 10^5 sessions", cpu_many, String::new(), true),
        ("utilisation, 10 ms of work", busy, format!(">= {BUSY}"), busy.1 >= BUSY),
        ("the same of a bare sleep loop", ceiling, String::new(), true),
        ("order violations", (violations as f64, violations as f64, violations as f64), "0".into(), violations == 0),
    ];
    println!("\n{name:<34} {:>12} {:>12} {:>12}  target", "min", "median", "max");
    for (what, (min, median, max), target, held) in &judged {
        let digits = if *max > 1000.0 { 0 } else { 3 };
        let missed = if *held { "" } else { "  MISSED" };
        println!("{what:<34} {min:>12.digits$} {median:>12.digits$} {max:>12.digits$}  {target}{missed}");
    }
    let pairs = format!(
        "{name}_rate={:.0} {name}_cpu_us={:.3} {name}_rate_many={:.0} {name}_kept={kept:.3} {name}_utilisation={:.4} \
         {name}_bare={:.4} {name}_violations={violations}",
        rate_few.1, cpu_few.1, rate_many.1, busy.1, ceiling.1
    );
    Ok((judged.iter().all(|(.., held)| *held), pairs))
}

fn args() -> Result<Args, String> {
    let mut args = Args { repeats: 5, messages: 500_000, records: 200 };
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        // `cargo bench` says `--bench`.
        if word == "--bench" {
            continue;
        }
        let value: u32 = words.next().and_then(|value| value.parse().ok()).ok_or(format!("{word} wants a number"))?;
        match word.as_str() {
            "--repeats" => args.repeats = value.max(1) as usize,
            "--messages" => args.messages = value.max(MANY),
            "--records" => args.records = value.max(1),
            _ => return Err(format!("there is no option {word}")),
        }
    }
    Ok(args)
}

async fn all(args: &Args) -> Result<bool, Any> {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    println!("{} messages, {} repeats, {cores} cores; the median is judged", args.messages, args.repeats);
    let (mut held, mut pairs, mut noise) = (true, Vec::new(), Vec::new());
    for (name, url) in MODES {
        let (met, said) = mode(name, url, args, &mut noise).await?;
        held &= met;
        pairs.push(said);
    }
    let (min, median, max) = spread(noise);
    let noise = (max - min) / median;
    println!("\nnoise: a fixed piece of work took {:.1} to {:.1} ms", min * 1e3, max * 1e3);
    println!("\nRESULT cmd=bench-memory held={held} {} cores={cores} noise={noise:.3}", pairs.join(" "));
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
            println!("RESULT cmd=bench-memory held=false error={:?}", error.to_string());
            ExitCode::from(2)
        }
    }
}
