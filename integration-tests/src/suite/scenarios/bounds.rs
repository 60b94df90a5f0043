//! Fairness and isolation of sessions, limits of memory and of handlers.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use convoy_core::{Bound, Bounds, Failure, Received, with_state};
use parking_lot::Mutex;
use tokio::sync::Semaphore;

use super::settling::numbers;
use super::{Act, Scenario, scenario};
use crate::suite::act::{GROUP, Held, Log, hold, same, say, send};

pub(super) const ALL: &[Scenario] = &[
    scenario!("hot-session-does-not-starve-the-others", [Isolation, SessionFifo], hot),
    scenario!("stuck-sessions-do-not-slow-the-others", [Isolation, NoLoss], stuck),
    scenario!("memory-is-bounded-behind-a-blocked-handler", [NoLoss, SessionFifo], memory),
    scenario!("concurrency-limit-holds", [LiveExclusion, NoLoss], concurrency),
    scenario!("order-under-random-handlers", [SessionFifo, InPlaceRetry, NoLoss], random),
];

async fn hot(act: Arc<Act>) -> Held {
    let log = Log::default();
    let producer = act.producer().await?;
    act.group_number(GROUP);
    // Half of all goes to one session, and is there first.
    for number in 0..200 {
        say(&producer, "hot", &number.to_string()).await?;
    }
    send(&producer, 50, 4).await?;
    let handler = |log: Log, message: Received<String>| async move {
        tokio::time::sleep(Duration::from_millis(5)).await;
        log.write(format!("{}:{}", message.session(), message.body));
        Ok(())
    };
    let builder = act.processor().max_concurrent_sessions(8);
    let processor = builder.start(with_state(log.clone(), handler)).await?;
    act.completed(&processor, 400).await?;
    let lines = log.lines();
    let last_other = lines.iter().rposition(|l| !l.starts_with("hot:")).unwrap_or(lines.len());
    let hot_before = lines[..last_other].iter().filter(|l| l.starts_with("hot:")).count();
    hold!(hot_before <= 100, "{hot_before} of 200 hot messages were handled before the others were done");
    hold!(lines[..100].iter().any(|l| l.starts_with("hot:")), "the hot session itself does not go on");
    same!(log.of("hot"), numbers(0..200), "the hot session");
    for session in 0..50 {
        same!(log.of(&format!("s{session}")), numbers(0..4), "session {session}");
    }
    processor.drain().await?;
    act.judge()
}

async fn stuck(act: Arc<Act>) -> Held {
    let (log, gate) = (Log::default(), Arc::new(Semaphore::new(0)));
    let handler = |(log, gate): (Log, Arc<Semaphore>), message: Received<String>| async move {
        let session = message.session().to_string();
        if session.ends_with('0') {
            let _opened = gate.acquire().await?;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
        log.write(format!("{session}:{}", message.body));
        Ok(())
    };
    let producer = act.producer().await?;
    act.group_number(GROUP);
    send(&producer, 100, 20).await?;
    let processor = act.processor().start(with_state((log.clone(), Arc::clone(&gate)), handler)).await?;
    act.completed(&processor, 1_800).await?;
    let seen = processor.snapshot();
    same!((seen.running, seen.completed), (10, 1_800), "only what hangs is left");
    for session in (0..100).filter(|s| s % 10 != 0) {
        same!(log.of(&format!("s{session}")), numbers(0..20), "session {session}");
    }
    // Those that hang are no hindrance for what comes later either.
    say(&producer, "later", "0").await?;
    act.until("what came later is done", || log.count("later:0") == 1).await?;
    gate.add_permits(10);
    act.completed(&processor, 2_001).await?;
    for session in (0..100).step_by(10) {
        same!(log.of(&format!("s{session}")), numbers(0..20), "session {session}");
    }
    let report = processor.drain().await?;
    hold!(report.drained && report.last.failed == 0 && report.last.lost == 0, "it did not end well: {report:?}");
    act.judge()
}

async fn memory(act: Arc<Act>) -> Held {
    const BOUND: usize = 60;
    /// What a broker may have sent before it knew: one batch.
    const AHEAD: usize = 1_024;
    let (log, gate) = (Log::default(), Arc::new(Semaphore::new(0)));
    let handler = |(log, gate): (Log, Arc<Semaphore>), message: Received<String>| async move {
        let _opened = gate.acquire().await?;
        log.write(format!("{}:{}", message.session(), message.body));
        Ok(())
    };
    let mut bounds = Bounds::default();
    bounds.session = Bound::new(BOUND, 1 << 20);
    bounds.lane = Bound::new(BOUND, 1 << 20);
    bounds.total = Bound::new(BOUND, 1 << 20);
    let producer = act.producer().await?;
    act.group_number(GROUP);
    send(&producer, 2, 2_000).await?;
    let builder = act.consumer().bounds(bounds).shards(1).processor();
    let processor = builder.start(with_state((log.clone(), Arc::clone(&gate)), handler)).await?;
    act.until("it is full", || processor.snapshot().buffered >= BOUND).await?;
    let mut most = 0;
    for _ in 0..200 {
        most = most.max(processor.snapshot().buffered);
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    hold!(most <= BOUND + AHEAD, "{most} messages were buffered under a bound of {BOUND}");
    hold!(log.is_empty(), "something was handled behind a shut gate");
    gate.add_permits(64);
    act.completed(&processor, 4_000).await?;
    for session in ["s0", "s1"] {
        same!(log.of(session), numbers(0..2_000), "session {session}");
    }
    let report = processor.drain().await?;
    hold!(report.drained && report.last.lost == 0, "it did not end well: {report:?}");
    act.judge()
}

async fn concurrency(act: Arc<Act>) -> Held {
    #[derive(Clone, Default)]
    struct Running(Arc<(AtomicUsize, AtomicUsize)>);
    let running = Running::default();
    let handler = |running: Running, _: Received<String>| async move {
        let (now, most) = &*running.0;
        most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
        tokio::time::sleep(Duration::from_millis(3)).await;
        now.fetch_sub(1, Ordering::SeqCst);
        Ok(())
    };
    let producer = act.producer().await?;
    act.group_number(GROUP);
    send(&producer, 30, 5).await?;
    let builder = act.processor().max_concurrent_sessions(3);
    let processor = builder.start(with_state(running.clone(), handler)).await?;
    act.completed(&processor, 150).await?;
    same!(running.0.1.load(Ordering::SeqCst), 3, "handlers at once");
    let last = processor.drain().await?.last;
    same!(last.peak, 3, "handlers at once, as the snapshot says");
    act.judge()
}

async fn random(act: Arc<Act>) -> Held {
    let log = Log::default();
    let draws = Arc::new(Mutex::new(fastrand::Rng::with_seed(act.seed)));
    let handler = |(log, draws): (Log, Arc<Mutex<fastrand::Rng>>), message: Received<String>| async move {
        let (wait, fails) = {
            let mut draws = draws.lock();
            (draws.u64(0..6), draws.u8(0..10) < 2)
        };
        if wait > 0 {
            tokio::time::sleep(Duration::from_millis(wait)).await;
        }
        if fails {
            return Err(Failure::retry("drawn"));
        }
        log.write(format!("{}:{}", message.session(), message.body));
        Ok(())
    };
    let processor = act.processor().start(with_state((log.clone(), draws), handler)).await?;
    let producer = act.producer().await?;
    send(&producer, 50, 30).await?;
    act.completed(&processor, 1_500).await?;
    let mut of: HashMap<String, Vec<String>> = HashMap::new();
    for line in log.lines() {
        if let Some((session, body)) = line.split_once(':') {
            of.entry(session.to_owned()).or_default().push(body.to_owned());
        }
    }
    same!(of.len(), 50, "sessions");
    for (session, bodies) in of {
        same!(bodies, numbers(0..30), "session {session} of seed {}", act.seed);
    }
    let last = processor.drain().await?.last;
    hold!(last.failed > 0 && last.lost == 0, "attempts failed, and no right was lost: {last:?}");
    act.judge()
}
