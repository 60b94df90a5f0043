//! The main job: every event of a log goes to its session; sessions are handled in parallel, and each session's events one at a time, in order.
//!
//! ```text
//! cargo run --release --example orders
//! cargo run --release --example orders -- --input events.jsonl --fail-rate 0.05
//! cargo run --release --example orders -- --poison 10 --attempts 3
//! ```
//!
//! What happened is recorded and judged by the checker of the conformance suite. The last line is `RESULT example=orders …`; the exit status is 0
//! only when the guarantees held and every message was completed, or dead-lettered as asked; 2 when it could not be tried.

/// Prints a line. Whoever read it may have gone, as `head` does; the job goes on to its end all the same.
macro_rules! say {
    ($($what:tt)*) => {{
        use std::io::Write;
        let _ = writeln!(std::io::stdout(), $($what)*);
    }};
}

mod history;
mod input;
mod progress;
mod report;
mod work;

use std::error::Error;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::Parser;
use convoy::{ChannelSpec, Exhausted, Producer, ProducerOptions, Retry, Topology, with_state};
use convoy_conformance::watch::{WatchedConsumer, WatchedProducer};

use history::History;
use input::Input;
use progress::Progress;
use report::Outcome;
use work::Job;

const CHANNEL: &str = "orders";

/// Sends every event of the input to its session and handles the sessions in parallel.
#[derive(Parser, Debug)]
struct Args {
    /// Events, one JSON object a line, with `session`, `type`, `time` and `body`; without it, generated orders
    #[arg(long, value_name = "FILE")]
    input: Option<PathBuf>,
    /// What handling an event takes, as in 500us, 2ms, 1s
    #[arg(long, default_value = "2ms", value_parser = work::duration)]
    work: Duration,
    /// How many sessions are handled at once
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    concurrency: u32,
    /// What is drawn at random follows from this number
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// The broker
    #[arg(long, default_value = "memory://orders")]
    url: String,
    /// The consumer group
    #[arg(long, default_value = "billing")]
    group: String,
    /// The share of attempts that fail, from 0 to below 1. With --attempts the last attempt of a message is spared
    #[arg(long, default_value_t = 0.0, value_parser = work::share)]
    fail_rate: f64,
    /// So many messages, each of another session, fail at every attempt
    #[arg(long, default_value_t = 0, requires = "attempts")]
    poison: usize,
    /// After so many failed attempts a message is dead-lettered; without it, it is tried for ever
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..))]
    attempts: Option<u32>,
}

#[tokio::main]
async fn main() -> ExitCode {
    let args = Args::parse();
    match run(&args).await {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("orders: {error}");
            let mut cause = error.source();
            while let Some(error) = cause {
                eprintln!("  because: {error}");
                cause = error.source();
            }
            ExitCode::from(2)
        }
    }
}

async fn run(args: &Args) -> Result<bool, Box<dyn Error>> {
    let input = match &args.input {
        Some(path) => Input::read(path)?,
        None => Input::generated(args.seed)?,
    };
    input.tell();
    let poison = input.choose(args.poison, args.seed)?;
    let broker = convoy::connect(&args.url).await?;
    broker.provision(&Topology::new().channel(ChannelSpec::new(CHANNEL).group(&args.group))).await?;

    // The history is written from the seams that every program has.
    let history = Arc::new(History::new());
    let watch = Arc::new(WatchedProducer::new(Arc::clone(&history)));
    let producer = broker.producer_with(CHANNEL, ProducerOptions::default().watch(watch)).await?;
    let sent = input.messages.iter().map(convoy::Message::id).collect();
    let job = Arc::new(Job::new(args, poison, sent));
    let retry = Retry::exponential(Duration::from_millis(1)..Duration::from_millis(100));
    let processor = broker
        .consumer(CHANNEL)
        .group(&args.group)
        .observer(WatchedConsumer::new(Arc::clone(&history), 1, 1))
        .processor()
        .max_concurrent_sessions(args.concurrency as usize)
        .retry(match args.attempts {
            Some(attempts) => retry.at_most(attempts).then(Exhausted::DeadLetter),
            None => retry,
        })
        .start(with_state(Arc::clone(&job), work::handle))
        .await?;

    let begun = Instant::now();
    let mut progress = Progress::new(input.messages.len());
    let (sessions, total) = (input.sessions(), input.messages.len());
    let sending = send(&producer, input.messages);
    let shutdown = convoy::shutdown_signal();
    tokio::pin!(sending, shutdown);
    let mut tick = tokio::time::interval(Duration::from_millis(10));
    let (mut sent, mut ended) = (None, None);
    while ended.is_none() {
        tokio::select! {
            outcome = &mut sending, if sent.is_none() => sent = Some(outcome),
            _ = tick.tick() => {
                let now = processor.snapshot();
                let done = (now.completed + now.dead_lettered).saturating_sub(job.left_over());
                progress.show(done, &now);
                if sent.is_some() && done >= total as u64 {
                    ended = Some("everything handled".to_owned());
                }
            }
            failure = processor.failed() => ended = Some(failure.map_or("closed".to_owned(), |e| e.to_string())),
            () = &mut shutdown => ended = Some("asked to end".to_owned()),
        }
        // What was not sent will never be handled.
        if let Some(Err(error)) = &sent {
            ended = Some(error.to_string());
        }
    }
    let took = begun.elapsed();
    progress.end();

    let report = processor.drain().await?;
    let closed = producer.close(Duration::from_secs(30)).await;
    let mut dead = report::dead_letters(&broker, &args.group).await?;
    dead.retain(|letter| job.sent.contains(&letter.content.id()));
    let completed = report.last.completed.saturating_sub(job.left_over());
    // What was cut off leaves messages behind, and that is no loss.
    let whole = completed + dead.len() as u64 >= total as u64;
    let outcome = Outcome {
        sessions,
        messages: total,
        malformed: input.malformed.len(),
        took,
        busy: job.busy(),
        peak: job.peak(),
        ended: ended.unwrap_or_default(),
        closed: closed.is_ok(),
        verdict: report::judge(&history, &dead, report::rules(&args.url, args.attempts, whole)),
        completed,
        left_over: job.left_over(),
        report,
        dead,
        poison: job.poison.clone(),
    };
    broker.close(Duration::from_secs(10)).await?;
    Ok(outcome.print())
}

/// Sends everything, in the order of the input, as fast as there is room.
async fn send(producer: &Producer, messages: Vec<convoy::Message>) -> Result<(), convoy::Error> {
    let mut messages = messages.into_iter().peekable();
    let mut out = std::collections::VecDeque::new();
    while messages.peek().is_some() {
        producer.ready(Duration::from_secs(60)).await?;
        out.push_back(producer.send_all(messages.by_ref().take(1024)));
        if out.len() > 16
            && let Some(oldest) = out.pop_front()
        {
            confirmed(oldest).await?;
        }
    }
    for sending in out {
        confirmed(sending).await?;
    }
    Ok(())
}

async fn confirmed(sending: convoy::producer::SendingAll) -> Result<(), convoy::Error> {
    let Err(error) = sending.await else { return Ok(()) };
    let first = error.into_results().into_iter().find_map(Result::err);
    first.map_or(Ok(()), |error| Err(error.into()))
}
