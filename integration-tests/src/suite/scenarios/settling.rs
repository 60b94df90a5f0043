//! Settlements that are lost, refused, not applied, late; what comes again after a right ended.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use convoy_core::{Failure, Received, with_state};

use super::{Act, Scenario, scenario};
use crate::checker::Reported;
use crate::suite::act::{GROUP, Held, Log, hold, same, say, send};
use crate::suite::{Answered, Fault};

pub(super) const ALL: &[Scenario] = &[
    scenario!("settlement-answer-lost", [GapFreeSettlement, BoundedDuplicates], answer_lost, needs[Answers]),
    scenario!("settlement-refused-ends-the-right", [SuffixRedelivery, BoundedDuplicates], refused, needs[Answers]),
    scenario!("settlement-not-applied-is-asked-again", [NoLoss, BoundedDuplicates], not_applied, needs[Answers]),
    scenario!("settlement-answer-late", [NoLoss, GapFreeSettlement], late, needs[Answers]),
    scenario!(
        "duplicates-stay-within-the-bound-after-unclean-ends",
        [BoundedDuplicates, SuffixRedelivery, NoLoss],
        within_the_bound
    ),
    scenario!("nothing-is-settled-that-did-not-end-well", [NoLoss, SuffixRedelivery], did_not_end_well),
];

/// Writes `session:body`.
pub(super) async fn note(log: Log, message: Received<String>) -> Result<(), Failure> {
    log.write(format!("{}:{}", message.session(), message.body));
    Ok(())
}

/// The numbers of `range`, as bodies.
pub(super) fn numbers(range: std::ops::Range<usize>) -> Vec<String> {
    range.map(|n| n.to_string()).collect()
}

/// What is left when everything that was there before is taken out.
pub(super) fn firsts(of: Vec<String>) -> Vec<String> {
    let mut seen: Vec<String> = Vec::new();
    for one in of {
        if !seen.contains(&one) {
            seen.push(one);
        }
    }
    seen
}

async fn answer_lost(act: Arc<Act>) -> Held {
    let log = Log::default();
    act.inject(Fault::Settlements(1, Answered::Lost))?;
    let processor = act.processor().start(with_state(log.clone(), note)).await?;
    let producer = act.producer().await?;
    send(&producer, 1, 6).await?;
    act.until("all handled", || log.count("s0:5") > 0).await?;
    // The answer that does not come is given up meanwhile.
    tokio::time::sleep(Duration::from_secs(8)).await;
    act.until("nothing is left", || processor.snapshot().buffered == 0).await?;
    same!(firsts(log.of("s0")), numbers(0..6), "in order");
    same!(log.count("s0:0"), 1, "what is settled does not come again though nobody heard of it");
    hold!(log.len() <= 11, "more came again than was unsettled: {:?}", log.lines());
    let report = processor.drain().await?;
    hold!(report.drained, "it did not drain: {report:?}");
    act.judge()
}

async fn refused(act: Arc<Act>) -> Held {
    let log = Log::default();
    act.inject(Fault::Settlements(1, Answered::Refused))?;
    let processor = act.processor().start(with_state(log.clone(), note)).await?;
    let producer = act.producer().await?;
    say(&producer, "s0", "0").await?;
    act.until("the right ended", || processor.snapshot().lost == 1).await?;
    act.until("it comes again", || log.count("s0:0") == 2).await?;
    for body in ["1", "2"] {
        say(&producer, "s0", body).await?;
    }
    act.until("all done", || log.count("s0:2") == 1).await?;
    same!(log.of("s0"), ["0", "0", "1", "2"], "what ran");
    let report = processor.drain().await?;
    hold!(report.drained && report.last.lost == 1, "one right ended: {report:?}");
    same!(act.verdict()?.count(Reported::Duplicate), 1, "duplicates");
    Ok(())
}

async fn not_applied(act: Arc<Act>) -> Held {
    let log = Log::default();
    act.inject(Fault::Settlements(3, Answered::NotApplied))?;
    let processor = act.processor().start(with_state(log.clone(), note)).await?;
    let producer = act.producer().await?;
    say(&producer, "s0", "0").await?;
    act.until("it is settled in the end", || {
        let seen = processor.snapshot();
        seen.completed == 1 && seen.active_sessions == 0
    })
    .await?;
    for body in ["1", "2"] {
        say(&producer, "s0", body).await?;
    }
    act.completed(&processor, 3).await?;
    let report = processor.drain().await?;
    hold!(report.drained && report.last.lost == 0, "it was not asked again: {report:?}");
    same!(log.of("s0"), numbers(0..3), "what ran");
    same!(act.verdict()?.count(Reported::Duplicate), 0, "duplicates");
    Ok(())
}

async fn late(act: Arc<Act>) -> Held {
    let log = Log::default();
    act.inject(Fault::Settlements(2, Answered::Late(Duration::from_secs(2))))?;
    let processor = act.processor().start(with_state(log.clone(), note)).await?;
    let producer = act.producer().await?;
    send(&producer, 2, 5).await?;
    act.completed(&processor, 10).await?;
    let report = processor.drain().await?;
    hold!(report.drained && report.last.lost == 0, "a late answer is an answer: {report:?}");
    for session in ["s0", "s1"] {
        same!(log.of(session), numbers(0..5), "session {session}");
    }
    same!(act.verdict()?.count(Reported::Duplicate), 0, "duplicates");
    Ok(())
}

async fn within_the_bound(act: Arc<Act>) -> Held {
    const SESSIONS: usize = 12;
    const EACH: usize = 60;
    let log = Log::default();
    let producer = act.producer().await?;
    act.group_number(GROUP);
    send(&producer, SESSIONS, EACH).await?;
    let handler = |log: Log, message: Received<String>| async move {
        tokio::time::sleep(Duration::from_millis(5)).await;
        log.write(format!("{}:{}", message.session(), message.body));
        Ok(())
    };
    for _ in 0..5 {
        let processor = act.processor().start(with_state(log.clone(), handler)).await?;
        let until = log.len() + 70;
        act.until("it is in the middle", || log.len() >= until).await?;
        drop(processor);
    }
    let processor = act.processor().start(with_state(log.clone(), handler)).await?;
    let last = (EACH - 1).to_string();
    act.until("all done", || (0..SESSIONS).all(|s| log.count(&format!("s{s}:{last}")) > 0)).await?;
    for session in 0..SESSIONS {
        same!(firsts(log.of(&format!("s{session}"))), numbers(0..EACH), "first runs of session {session}");
    }
    let report = processor.drain().await?;
    hold!(report.drained, "it did not drain: {report:?}");
    act.judge()
}

async fn did_not_end_well(act: Arc<Act>) -> Held {
    let (log, well) = (Log::default(), Arc::new(AtomicBool::new(false)));
    let handler = |(log, well): (Log, Arc<AtomicBool>), message: Received<String>| async move {
        let session = message.session().to_string();
        log.write(format!("{session}:{}", message.body));
        if well.load(Ordering::SeqCst) || message.body != "1" {
            return Ok(());
        }
        match session.as_str() {
            "s0" => Err(Failure::retry("not now")),
            "s1" => std::panic::resume_unwind(Box::new("not now")),
            // Until its time is over, and again at the next attempt.
            _ => std::future::pending().await,
        }
    };
    let state = (log.clone(), Arc::clone(&well));
    let builder = act.processor().handler_timeout(Duration::from_secs(1)).drain_within(Duration::from_secs(2));
    let processor = builder.start(with_state(state, handler)).await?;
    let producer = act.producer().await?;
    send(&producer, 3, 3).await?;
    act.until("all are tried again", || (0..3).all(|s| log.count(&format!("s{s}:1")) >= 2)).await?;
    let report = processor.drain().await?;
    same!(report.last.completed, 3, "only what ended well is completed");
    well.store(true, Ordering::SeqCst);
    let before = log.len();
    let processor = act.processor().start(with_state((log.clone(), well), handler)).await?;
    act.completed(&processor, 6).await?;
    for session in ["s0", "s1", "s2"] {
        let after: Vec<String> = log.lines().split_off(before);
        let of_it: Vec<&str> = after.iter().filter_map(|l| l.strip_prefix(&format!("{session}:"))).collect();
        same!(of_it, ["1", "2"], "session {session} goes on where it stood");
    }
    processor.drain().await?;
    act.judge()
}
