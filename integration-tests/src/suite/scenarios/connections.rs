//! Brokers that stand still, connections that end or only seem to stand, rights nobody needs.

use std::sync::Arc;
use std::time::Duration;

use convoy_core::{Failure, Received, with_state};

use super::rights::short_lock;
use super::{Act, Scenario, scenario};
use crate::checker::Reported;
use crate::suite::Fault;
use crate::suite::act::{Held, Log, hold, id, same, say, send};

pub(super) const ALL: &[Scenario] = &[
    scenario!(
        "frozen-broker-below-the-lock",
        [NoLoss, LiveExclusion, BoundedDuplicates],
        frozen_below,
        needs[Freeze],
        wishes short_lock()
    ),
    scenario!(
        "frozen-broker-beyond-the-lock",
        [NoLoss, LiveExclusion, ZombieBound],
        frozen_beyond,
        needs[Freeze],
        wishes short_lock()
    ),
    scenario!("connection-cut-and-made-again", [NoLoss, ZombieBound, SuffixRedelivery], cut, needs[Cut]),
    scenario!(
        "what-has-no-answer-holds-the-rest-back",
        [BoundedDuplicates, SuffixRedelivery, NoLoss],
        unanswered,
        needs[Silence],
        wishes short_lock()
    ),
    scenario!("half-open-connection", [LiveExclusion, ZombieBound, NoLoss], half_open, needs[Silence], wishes short_lock()),
    scenario!("stale-events-are-dropped", [NoLoss, SessionFifo, LiveExclusion], stale, needs[Lose, Stale]),
    scenario!("idle-session-is-released-and-forgotten", [SessionFifo, NoLoss], idle, only Sessions),
];

/// The first run of `0` in a session waits until it is told to end.
async fn told_once((log, name): (Log, &'static str), message: Received<String>) -> Result<(), Failure> {
    let (session, body) = (message.session().to_string(), message.body.clone());
    log.write(format!("{session}:{body}"));
    log.write(format!("{name} in {session} {body}"));
    if body == "0" && log.count(&format!("{session}:0")) == 1 {
        message.lease().ended().await;
        log.write(format!("{name} told {session}"));
        return Err(Failure::retry("told to end"));
    }
    Ok(())
}

async fn frozen_below(act: Arc<Act>) -> Held {
    let log = Log::default();
    let handler = |log: Log, message: Received<String>| async move {
        log.write(format!("{}:{}", message.session(), message.body));
        tokio::time::sleep(Duration::from_secs(3)).await;
        if message.lease().is_live() { Ok(()) } else { Err(Failure::retry("the right was gone")) }
    };
    let processor = act.processor().start(with_state(log.clone(), handler)).await?;
    let producer = act.producer().await?;
    send(&producer, 5, 2).await?;
    act.until("the handlers run", || processor.snapshot().running == 5).await?;
    act.inject(Fault::Freeze)?;
    tokio::time::sleep(Duration::from_secs(2)).await;
    act.inject(Fault::Thaw)?;
    act.completed(&processor, 10).await?;
    let report = processor.drain().await?;
    hold!(report.drained && report.last.lost == 0 && report.last.failed == 0, "a right was lost: {report:?}");
    for session in 0..5 {
        same!(log.of(&format!("s{session}")), ["0", "1"], "session {session}");
    }
    same!(act.verdict()?.count(Reported::Duplicate), 0, "duplicates");
    Ok(())
}

async fn frozen_beyond(act: Arc<Act>) -> Held {
    let log = Log::default();
    let processor = act.processor().start(with_state((log.clone(), "a"), told_once)).await?;
    let producer = act.producer().await?;
    send(&producer, 5, 3).await?;
    act.until("the handlers run", || processor.snapshot().running == 5).await?;
    act.inject(Fault::Freeze)?;
    tokio::time::sleep(Duration::from_secs(6)).await;
    // Nobody but the clock told them.
    for session in 0..5 {
        same!(log.count(&format!("a told s{session}")), 1, "told while the broker stood still, s{session}");
    }
    let started = log.len();
    tokio::time::sleep(Duration::from_secs(6)).await;
    same!(log.len(), started, "something started under a right that had run out");
    act.inject(Fault::Thaw)?;
    act.completed(&processor, 15).await?;
    for session in 0..5 {
        same!(log.of(&format!("s{session}")), ["0", "0", "1", "2"], "session {session}");
    }
    let report = processor.drain().await?;
    hold!(report.drained && report.last.lost >= 1, "nothing stays stuck: {report:?}");
    act.judge()
}

async fn cut(act: Arc<Act>) -> Held {
    let log = Log::default();
    let processor = act.processor().start(with_state((log.clone(), "a"), told_once)).await?;
    let producer = act.producer().await?;
    send(&producer, 3, 3).await?;
    act.until("the handlers run", || processor.snapshot().running == 3).await?;
    act.inject(Fault::Cut(0, Duration::from_secs(3)))?;
    act.until("it is not ready", || !processor.snapshot().ready).await?;
    act.until("all are told", || (0..3).all(|s| log.count(&format!("a told s{s}")) == 1)).await?;
    for session in ["s0", "s1", "s2"] {
        say(&producer, session, "3").await?;
    }
    act.until("it is ready again", || processor.snapshot().ready).await?;
    act.completed(&processor, 12).await?;
    for session in 0..3 {
        same!(log.of(&format!("s{session}")), ["0", "0", "1", "2", "3"], "session {session}");
    }
    let last = processor.drain().await?.last;
    hold!(last.lost >= 1 && last.failed == 0, "the loss is counted and not charged: {last:?}");
    act.judge()
}

async fn half_open(act: Arc<Act>) -> Held {
    let log = Log::default();
    let a = act.processor().start(with_state((log.clone(), "a"), told_once)).await?;
    let producer = act.producer().await?;
    send(&producer, 2, 3).await?;
    act.until("the handlers run", || a.snapshot().running == 2).await?;
    act.inject(Fault::Silence(0))?;
    let b = act.processor().start(with_state((log.clone(), "b"), told_once)).await?;
    act.completed(&b, 6).await?;
    let lines = log.lines();
    for session in ["s0", "s1"] {
        let told = lines.iter().position(|l| *l == format!("a told {session}"));
        let over = lines.iter().position(|l| *l == format!("b in {session} 0"));
        hold!(told.is_some() && told < over, "{session} was taken over before its holder knew: {lines:?}");
        same!(log.of(session), ["0", "0", "1", "2"], "session {session}");
    }
    hold!(a.snapshot().lost >= 1, "it believes to hold what it lost: {:?}", a.snapshot());
    drop(a);
    let report = b.drain().await?;
    hold!(report.drained, "it did not drain: {report:?}");
    act.judge()
}

/// Its settlements have no answer any more, and its right holds for a while: it must not go on and on with what another will have to do again.
async fn unanswered(act: Arc<Act>) -> Held {
    let log = Log::default();
    let work = |(log, name): (Log, &'static str), message: Received<String>| async move {
        tokio::time::sleep(Duration::from_millis(50)).await;
        log.write(format!("{name} {} {}", message.session(), message.body));
        Ok(())
    };
    let a = act.processor().start(with_state((log.clone(), "a"), work)).await?;
    let producer = act.producer().await?;
    send(&producer, 2, 60).await?;
    act.completed(&a, 10).await?;
    act.inject(Fault::Silence(0))?;
    let b = act.processor().start(with_state((log.clone(), "b"), work)).await?;
    act.until("all is handled", || (0..2).all(|s| log.count(&format!("b s{s} 59")) == 1)).await?;
    drop(a);
    let report = b.drain().await?;
    hold!(report.drained, "it did not drain: {report:?}");
    act.judge()
}

async fn stale(act: Arc<Act>) -> Held {
    let log = Log::default();
    let processor = act.processor().start(with_state((log.clone(), "a"), told_once)).await?;
    let producer = act.producer().await?;
    send(&producer, 1, 3).await?;
    act.until("the handler runs", || processor.snapshot().running == 1).await?;
    act.inject(Fault::Lose(id("s0")))?;
    act.inject(Fault::Stale(0))?;
    act.completed(&processor, 3).await?;
    act.inject(Fault::Stale(0))?;
    for body in ["3", "4"] {
        say(&producer, "s0", body).await?;
        act.inject(Fault::Stale(0))?;
    }
    act.completed(&processor, 5).await?;
    same!(log.of("s0"), ["0", "0", "1", "2", "3", "4"], "what ran");
    let report = processor.drain().await?;
    hold!(report.drained && report.last.lost == 1, "what is stale changes nothing: {report:?}");
    same!(report.last.buffered, 0, "messages kept");
    act.judge()
}

async fn idle(act: Arc<Act>) -> Held {
    let (log, gate) = (Log::default(), Arc::new(tokio::sync::Semaphore::new(0)));
    let handler = |(log, gate, name): (Log, Arc<tokio::sync::Semaphore>, &'static str), message: Received<String>| async move {
        log.write(format!("{name} in {} {}", message.session(), message.body));
        if message.session().as_bytes() == b"busy" {
            let _opened = gate.acquire().await?;
        }
        Ok(())
    };
    let state = |name| (log.clone(), Arc::clone(&gate), name);
    let a = act.processor().max_concurrent_sessions(1).start(with_state(state("a"), handler)).await?;
    let producer = act.producer().await?;
    say(&producer, "s0", "0").await?;
    act.completed(&a, 1).await?;
    act.until("it is given back", || a.snapshot().held == 0).await?;
    let seen = a.snapshot();
    same!((seen.active_sessions, seen.buffered, seen.lost), (0, 0, 0), "what is left of it");
    // All that it may hold is held by another session now.
    say(&producer, "busy", "0").await?;
    act.until("it is busy", || a.snapshot().running == 1).await?;
    let b = act.processor().start(with_state(state("b"), handler)).await?;
    say(&producer, "s0", "1").await?;
    act.completed(&b, 1).await?;
    gate.add_permits(1);
    act.completed(&a, 2).await?;
    same!(log.lines(), ["a in s0 0", "a in busy 0", "b in s0 1"], "who had what");
    a.drain().await?;
    b.drain().await?;
    same!(act.verdict()?.count(Reported::Duplicate), 0, "duplicates");
    Ok(())
}
