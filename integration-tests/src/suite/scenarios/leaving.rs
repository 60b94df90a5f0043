//! Leaving and joining: drains, restarts, unclean ends, pauses.

use std::sync::Arc;
use std::time::Duration;

use convoy_core::{Failure, Processor, Received, with_state};

use super::rights::short_lock;
use super::settling::{note, numbers};
use super::{Act, Scenario, scenario};
use crate::checker::Reported;
use crate::suite::Failed;
use crate::suite::act::{GROUP, Held, Log, hold, same, say, send};

pub(super) const ALL: &[Scenario] = &[
    scenario!("graceful-drain-leaves-no-duplicates", [BoundedDuplicates, SuffixRedelivery], graceful),
    scenario!("rolling-restart-without-duplicates", [BoundedDuplicates, NoLoss, SessionFifo], rolling),
    scenario!("scale-one-three-one", [BoundedDuplicates, NoLoss, SessionFifo], scale),
    scenario!("unclean-drop-redelivers-the-suffix", [SuffixRedelivery, NoLoss], unclean),
    scenario!("drain-tells-a-hanging-handler-to-end", [ZombieBound, SuffixRedelivery], told_by_the_drain),
    scenario!("stop-in-the-middle-of-a-hand-over", [BoundedDuplicates, NoLoss, LiveExclusion], stop_in_a_hand_over),
    scenario!("pause-and-resume-keep-the-right", [LiveExclusion, NoLoss], pause, wishes short_lock()),
    scenario!("readiness-and-snapshot-tell-the-truth", [NoLoss], snapshot),
];

/// As [`note`], after some milliseconds.
async fn slow(log: Log, message: Received<String>) -> Result<(), Failure> {
    tokio::time::sleep(Duration::from_millis(4)).await;
    note(log, message).await
}

async fn start(act: &Arc<Act>, log: &Log) -> Result<Processor, Failed> {
    Ok(act.processor().start(with_state(log.clone(), slow)).await?)
}

async fn leave(processor: Processor) -> Held {
    let report = processor.drain().await?;
    hold!(report.drained && report.last.lost == 0, "it did not end cleanly: {report:?}");
    Ok(())
}

/// Each session saw each number once, in order, and the checker counts no duplicate.
fn each_once(act: &Act, log: &Log, sessions: usize, each: usize) -> Held {
    for session in 0..sessions {
        same!(log.of(&format!("s{session}")), numbers(0..each), "session {session}");
    }
    same!(act.verdict()?.count(Reported::Duplicate), 0, "duplicates");
    Ok(())
}

async fn graceful(act: Arc<Act>) -> Held {
    let log = Log::default();
    let producer = act.producer().await?;
    act.group_number(GROUP);
    send(&producer, 10, 40).await?;
    for part in 1..4 {
        let processor = start(&act, &log).await?;
        act.until("it is in the middle", || log.len() >= part * 80).await?;
        leave(processor).await?;
    }
    hold!(log.len() < 400, "the drains were not under load");
    let processor = start(&act, &log).await?;
    act.until("all done", || log.len() >= 400).await?;
    leave(processor).await?;
    each_once(&act, &log, 10, 40)
}

/// Sends the numbers of each session in steps, so that there is work all the while.
fn load(act: &Arc<Act>, sessions: usize, each: usize) -> tokio::task::JoinHandle<Held> {
    let act = Arc::clone(act);
    tokio::spawn(async move {
        let producer = act.producer().await?;
        for number in 0..each {
            for session in 0..sessions {
                say(&producer, &format!("s{session}"), &number.to_string()).await?;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Ok(())
    })
}

async fn rolling(act: Arc<Act>) -> Held {
    let log = Log::default();
    let mut running = std::collections::VecDeque::from([start(&act, &log).await?, start(&act, &log).await?]);
    let sending = load(&act, 20, 60);
    for round in 1..=6 {
        act.until("it is in the middle", || log.len() >= round * 120).await?;
        // The new one comes before the old one goes, then the other way about.
        if round % 2 == 0 {
            running.push_back(start(&act, &log).await?);
        }
        if let Some(oldest) = running.pop_front() {
            leave(oldest).await?;
        }
        if round % 2 == 1 {
            running.push_back(start(&act, &log).await?);
        }
    }
    hold!(log.len() < 1_200, "the restarts were not under load");
    sending.await??;
    act.until("all done", || log.len() >= 1_200).await?;
    for processor in running {
        leave(processor).await?;
    }
    each_once(&act, &log, 20, 60)
}

async fn scale(act: Arc<Act>) -> Held {
    let log = Log::default();
    let one = start(&act, &log).await?;
    let sending = load(&act, 20, 60);
    act.until("one works", || log.len() >= 200).await?;
    let (two, three) = (start(&act, &log).await?, start(&act, &log).await?);
    let works = |p: &Processor| p.snapshot().completed > 0;
    // Where the first takes every session, the others have nothing to do.
    if act.shape() == crate::suite::Shape::Lanes {
        act.until("three work", || works(&two) && works(&three)).await?;
    }
    act.until("some more is done", || log.len() >= 600).await?;
    leave(two).await?;
    leave(three).await?;
    hold!(log.len() < 1_200, "the changes were not under load");
    sending.await??;
    act.until("all done", || log.len() >= 1_200).await?;
    leave(one).await?;
    each_once(&act, &log, 20, 60)
}

async fn unclean(act: Arc<Act>) -> Held {
    let (before, after) = (Log::default(), Log::default());
    let handler = |log: Log, message: Received<String>| async move {
        log.write(format!("{}:{}", message.session(), message.body));
        if message.body == "3" {
            std::future::pending::<()>().await;
        }
        Ok(())
    };
    let processor = act.processor().start(with_state(before.clone(), handler)).await?;
    let producer = act.producer().await?;
    send(&producer, 3, 6).await?;
    act.until("all hang", || (0..3).all(|s| before.count(&format!("s{s}:3")) == 1)).await?;
    // What was handled is settled meanwhile.
    tokio::time::sleep(Duration::from_secs(2)).await;
    drop(processor);
    let processor = act.processor().start(with_state(after.clone(), note)).await?;
    act.completed(&processor, 9).await?;
    for session in ["s0", "s1", "s2"] {
        same!(before.of(session), numbers(0..4), "session {session} before");
        same!(after.of(session), numbers(3..6), "session {session} after");
    }
    leave(processor).await?;
    act.judge()
}

async fn told_by_the_drain(act: Arc<Act>) -> Held {
    let (log, after) = (Log::default(), Log::default());
    let handler = |log: Log, message: Received<String>| async move {
        log.write(format!("{}:{}", message.session(), message.body));
        match message.session().as_bytes() {
            // It ends what it does when it is told, and well.
            b"s0" => message.lease().ended().await,
            _ => std::future::pending().await,
        }
        log.write("told");
        Ok(())
    };
    let builder = act.processor().drain_within(Duration::from_secs(5));
    let processor = builder.start(with_state(log.clone(), handler)).await?;
    let producer = act.producer().await?;
    send(&producer, 2, 2).await?;
    act.until("both run", || log.len() == 2).await?;
    let began = convoy_core::runtime::now();
    let last = processor.drain().await?.last;
    let took = convoy_core::runtime::now().since(began);
    hold!(took <= Duration::from_secs(6), "a handler that hangs held up the drain for {took:?}");
    same!(log.count("told"), 1, "told");
    same!(last.completed, 1, "the one that ended well is completed");
    same!(log.of("s0"), ["0"], "nothing started in the drain");
    let processor = act.processor().start(with_state(after.clone(), note)).await?;
    act.completed(&processor, 3).await?;
    same!(after.of("s0"), ["1"], "what ended well does not come again");
    same!(after.of("s1"), ["0", "1"], "what was dropped comes again");
    leave(processor).await?;
    act.judge()
}

async fn stop_in_a_hand_over(act: Arc<Act>) -> Held {
    let log = Log::default();
    let producer = act.producer().await?;
    act.group_number(GROUP);
    send(&producer, 16, 40).await?;
    let first = start(&act, &log).await?;
    act.until("it works", || log.len() >= 50).await?;
    // Its lanes are on their way to this one when it goes; and this one goes at once as well.
    let second = start(&act, &log).await?;
    let (one, two) = tokio::join!(leave(first), leave(second));
    one?;
    two?;
    let third = start(&act, &log).await?;
    act.until("all done", || log.len() >= 640).await?;
    leave(third).await?;
    each_once(&act, &log, 16, 40)
}

async fn pause(act: Arc<Act>) -> Held {
    let log = Log::default();
    let processor = start(&act, &log).await?;
    let producer = act.producer().await?;
    say(&producer, "s0", "0").await?;
    act.completed(&processor, 1).await?;
    processor.pause();
    for body in ["1", "2"] {
        say(&producer, "s0", body).await?;
    }
    // Four locks long.
    tokio::time::sleep(Duration::from_secs(20)).await;
    let paused = processor.snapshot();
    same!(log.len(), 1, "started in the pause");
    hold!(paused.held >= 1 && paused.lost == 0, "it kept nothing: {paused:?}");
    same!((paused.running, paused.buffered), (0, 2), "handlers, and messages that wait");
    processor.resume();
    act.completed(&processor, 3).await?;
    same!(log.of("s0"), numbers(0..3), "what ran");
    leave(processor).await?;
    same!(act.verdict()?.count(Reported::Duplicate), 0, "duplicates");
    Ok(())
}

async fn snapshot(act: Arc<Act>) -> Held {
    let gate = Arc::new(tokio::sync::Semaphore::new(0));
    let handler = |gate: Arc<tokio::sync::Semaphore>, message: Received<String>| async move {
        gate.acquire().await?.forget();
        if message.body == "1" && message.attempt() == 1 { Err(Failure::retry("once")) } else { Ok(()) }
    };
    let processor = act.processor().start(with_state(Arc::clone(&gate), handler)).await?;
    act.until("it is ready", || processor.snapshot().ready).await?;
    let before = processor.snapshot();
    same!((before.running, before.buffered, before.completed, before.active_sessions), (0, 0, 0, 0), "before");
    let producer = act.producer().await?;
    send(&producer, 2, 3).await?;
    act.until("all is there", || processor.snapshot().buffered == 6).await?;
    act.until("both run", || processor.snapshot().running == 2).await?;
    let amid = processor.snapshot();
    hold!(amid.ready && amid.held >= 1, "it holds something: {amid:?}");
    same!((amid.active_sessions, amid.waiting_sessions, amid.completed), (2, 0, 0), "in the middle: {amid:?}");
    same!(amid.buffered_bytes > 0, true, "bytes are counted");
    same!(amid.stuck, None, "stuck");
    // Six messages, and one more attempt in each session.
    gate.add_permits(8);
    act.completed(&processor, 6).await?;
    let report = processor.drain().await?;
    let last = &report.last;
    hold!(report.drained && !last.ready, "after the drain: {report:?}");
    same!((last.running, last.buffered, last.buffered_bytes, last.held), (0, 0, 0, 0), "after: {last:?}");
    same!((last.completed, last.failed, last.retried), (6, 2, 2), "totals: {last:?}");
    same!((last.dead_lettered, last.lost), (0, 0), "totals: {last:?}");
    act.judge()
}
