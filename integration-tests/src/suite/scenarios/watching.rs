//! What a sentinel makes of skips, retries, sessions that move, and too many of them. That it counts what happened is judged in every scenario.

use std::sync::Arc;
use std::time::Duration;

use convoy_core::{
    Failure, Message, Processor, Received, Resume, Sentinel, SentinelCounts, SentinelOptions, with_state,
};

use super::settling::{note, numbers};
use super::{Act, Scenario, scenario};
use crate::suite::act::{Failed, GROUP, Held, Log, hold, id, same, say, send};
use crate::suite::{Fault, SentSo, Wishes};

pub(super) const ALL: &[Scenario] = &[
    scenario!("sentinel-tells-a-declared-skip-from-a-gap", [ProducerOrder, SessionFifo], skip, wishes Wishes { max_message: 1_000, ..Wishes::default() }),
    scenario!("sentinel-counts-a-resent-message-as-a-repeat", [ProducerOrder, NoLoss], resent, needs[Sends]),
    scenario!("sentinel-counts-no-retry-as-a-repeat", [InPlaceRetry, DeadLetterOrder], retries),
    scenario!("sentinel-follows-sessions-that-move", [SessionFifo, SuffixRedelivery], moves),
    scenario!("sentinel-forgets-the-least-recent-and-says-so", [SessionFifo], forgets),
    scenario!("sentinel-watches-pulled-sessions", [SessionFifo, SuffixRedelivery], pulled),
];

const SOON: Duration = Duration::from_secs(30);

/// Gaps, inversions, strays, repeats, skips, late ones.
fn told(counts: &SentinelCounts) -> [u64; 6] {
    [counts.gaps, counts.inversions, counts.strays, counts.repeats, counts.skips, counts.late]
}

async fn start(act: &Act, log: &Log, sentinel: &Sentinel) -> Result<Processor, Failed> {
    let consumer = act.consumer().observer(sentinel.clone()).processor();
    Ok(consumer.drain_within(SOON).start(with_state(log.clone(), note)).await?)
}

async fn skip(act: Arc<Act>) -> Held {
    let log = Log::default();
    let processor = act.processor().start(with_state(log.clone(), note)).await?;
    let producer = act.producer().await?;
    for body in ["0".to_owned(), "x".repeat(1_001), "1".to_owned()] {
        // What is too large is refused, and its session halts until it is given up.
        if producer.send(Message::new("s0", body)?).await.is_err() {
            producer.resume(&id("s0"), Resume::Skip).await?.await?;
        }
        say(&producer, "s1", "x").await?;
    }
    act.completed(&processor, 5).await?;
    same!(log.of("s0"), numbers(0..2), "what arrived");
    processor.drain().await?;
    let counts = act.sentinel(GROUP).counts();
    same!((told(&counts), counts.seen, counts.sessions), ([0, 0, 0, 0, 1, 0], 5, 2), "what the sentinel counts");
    act.judge()
}

async fn resent(act: Arc<Act>) -> Held {
    let log = Log::default();
    let processor = act.processor().start(with_state(log.clone(), note)).await?;
    let producer = act.producer().await?;
    say(&producer, "s0", "0").await?;
    act.inject(Fault::Sends(1, SentSo::UnknownLanded))?;
    hold!(producer.send(Message::new("s0", "1")?).await.is_err(), "its outcome is unknown");
    producer.resume(&id("s0"), Resume::Resend).await?.await?;
    say(&producer, "s0", "2").await?;
    act.until("the last one is handled", || log.count("s0:2") == 1).await?;
    processor.drain().await?;
    // Where the backend learnt meanwhile that it landed, it is not sent again.
    let twice = log.count("s0:1") as u64 - 1;
    let counts = act.sentinel(GROUP).counts();
    same!((told(&counts), counts.seen), ([0, 0, 0, twice, 0, 0], 3 + twice), "what the sentinel counts");
    act.judge()
}

async fn retries(act: Arc<Act>) -> Held {
    let handler = |log: Log, message: Received<String>| async move {
        log.write(format!("{}:{}", message.session(), message.body));
        match (message.body.as_str(), message.attempt()) {
            ("1", 1..=3) => Err(Failure::retry("not yet")),
            ("2", 2) => Err(Failure::dead_letter("of no use")),
            ("2", _) => std::panic::resume_unwind(Box::new("a panic of the scenario")),
            _ => Ok(()),
        }
    };
    let log = Log::default();
    let processor = act.processor().start(with_state(log.clone(), handler)).await?;
    let producer = act.producer().await?;
    send(&producer, 2, 5).await?;
    act.completed(&processor, 8).await?;
    processor.drain().await?;
    same!(act.dead_letters(GROUP).await?.len(), 2, "dead letters");
    let counts = act.sentinel(GROUP).counts();
    same!((told(&counts), counts.seen), ([0; 6], 2 * (5 + 3 + 1)), "what the sentinel counts");
    act.judge()
}

/// Three consumers have the sessions one after the other. A sentinel watches the first and the last.
async fn moves(act: Arc<Act>) -> Held {
    let (one, other) = (Sentinel::new(), Sentinel::new());
    let producer = act.producer().await?;
    act.group_number(GROUP);
    let log = Log::default();
    for (number, sentinel) in [&one, &other, &one].into_iter().enumerate() {
        let processor = start(&act, &log, sentinel).await?;
        send(&producer, 5, 4).await?;
        act.until("all handled", || log.len() == (number + 1) * 20).await?;
        let report = processor.drain().await?;
        hold!(report.drained, "it did not drain: {report:?}");
    }
    let (one, other) = (one.counts(), other.counts());
    same!((told(&one), told(&other)), ([0; 6], [0; 6]), "deviations");
    same!((one.seen, one.moved, one.joined), (40, 5, 0), "of the first: seen, moved, joined");
    same!((other.seen, other.moved, other.joined), (20, 0, 5), "of the one between: seen, moved, joined");
    act.judge()
}

async fn forgets(act: Arc<Act>) -> Held {
    let sentinel = Sentinel::with(SentinelOptions::new().sessions(8).whole_group());
    let log = Log::default();
    let processor = start(&act, &log, &sentinel).await?;
    let producer = act.producer().await?;
    for round in 1..=3 {
        send(&producer, 50, 1).await?;
        act.completed(&processor, round * 50).await?;
    }
    processor.drain().await?;
    let counts = sentinel.counts();
    same!((told(&counts), counts.seen, counts.sessions), ([0; 6], 150, 8), "deviations, seen, remembered");
    hold!(counts.forgotten >= 42 && counts.joined > 0, "it forgot, and took up what it had forgotten: {counts:?}");
    act.judge()
}

async fn pulled(act: Arc<Act>) -> Held {
    let producer = act.producer().await?;
    act.group_number(GROUP);
    send(&producer, 1, 4).await?;
    let consumer = act.consumer().open().await?;
    let Some(mut session) = consumer.accept_next(SOON).await? else {
        return Err(Failed::because("no session came"));
    };
    let mut bodies = Vec::new();
    for step in 0..6 {
        let Some(delivery) = session.next::<String>(SOON).await? else {
            return Err(Failed::because(format!("no message came in step {step}")));
        };
        bodies.push(delivery.body.clone());
        match step {
            1 => drop(delivery),
            3 => delivery.retry_in(Duration::from_millis(5)).await?,
            _ => delivery.complete().await?,
        }
    }
    same!(bodies, ["0", "1", "1", "2", "2", "3"], "what was pulled");
    session.release(SOON).await?;
    let report = consumer.close(SOON).await?;
    hold!(report.drained, "it did not end cleanly: {report:?}");
    let counts = act.sentinel(GROUP).counts();
    same!((told(&counts), counts.seen), ([0; 6], 6), "what the sentinel counts");
    act.judge()
}
