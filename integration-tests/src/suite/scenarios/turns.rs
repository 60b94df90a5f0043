//! Turns: a session that has had its own gives its place to the next one, on a broker that locks sessions; on one of lanes they take turns message by message anyway.

use std::sync::Arc;
use std::time::Duration;

use convoy_core::{Exhausted, Failure, Received, Retry, Turn, with_state};

use super::settling::numbers;
use super::{Act, Scenario, scenario};
use crate::suite::act::{Held, Log, hold, same, send};

pub(super) const ALL: &[Scenario] = &[
    scenario!("turns-go-round", [Isolation, SessionFifo, NoLoss], round, only Sessions),
    scenario!("a-turn-ends-after-the-handler-that-runs", [SessionFifo, BoundedDuplicates, NoLoss], by_time),
    scenario!("a-turn-does-not-cut-attempts-short", [InPlaceRetry, DeadLetterOrder, SessionFifo], attempts),
    scenario!("who-is-alone-goes-on-after-its-turn", [SessionFifo, NoLoss], alone),
];

const MS: Duration = Duration::from_millis(1);

/// Each message with the attempt that it was.
async fn write(log: Log, message: Received<String>) -> Result<(), Failure> {
    log.write(format!("{}:{}/{}", message.session(), message.body, message.attempt()));
    Ok(())
}

async fn round(act: Arc<Act>) -> Held {
    const SESSIONS: usize = 30;
    const EACH: usize = 12;
    const TURN: usize = 3;
    const AT_ONCE: usize = 2;
    let log = Log::default();
    // All of it waits before the first one starts.
    send(&act.producer().await?, SESSIONS, EACH).await?;
    let builder = act.processor().max_concurrent_sessions(AT_ONCE).turn(Turn::messages(TURN as u32));
    let processor = builder.start(with_state(log.clone(), write)).await?;
    act.completed(&processor, SESSIONS * EACH).await?;
    let lines = log.lines();
    let all: Vec<&str> = lines.iter().filter_map(|line| Some(line.split_once(':')?.0)).collect();
    // The ideal round: everybody else has one turn before it is one's own again. Who shares the places may be a turn ahead.
    let most = 2 * SESSIONS * TURN;
    for session in 0..SESSIONS {
        let name = format!("s{session}");
        let expected: Vec<String> = (0..EACH).map(|n| format!("{n}/1")).collect();
        same!(log.of(&name), expected, "session {session}");
        let at: Vec<usize> = all.iter().enumerate().filter(|(_, of)| **of == name).map(|(at, _)| at).collect();
        hold!(at[0] < most, "session {session} waited for {} messages of others before its first", at[0]);
        let longest = at.windows(2).map(|two| two[1] - two[0]).max().unwrap_or(0);
        hold!(longest <= most, "session {session} waited for {longest} messages of others, more than {most}");
        let streaks =
            at.windows(TURN * (AT_ONCE + 1)).filter(|window| window[window.len() - 1] - window[0] + 1 == window.len());
        hold!(streaks.count() == 0, "session {session} kept its place for more than its turn");
    }
    processor.drain().await?;
    act.judge()
}

async fn by_time(act: Arc<Act>) -> Held {
    let log = Log::default();
    send(&act.producer().await?, 6, 5).await?;
    let slow = |log: Log, message: Received<String>| async move {
        tokio::time::sleep(20 * MS).await;
        if message.lease().token().is_cancelled() {
            log.write("told to end");
        }
        write(log, message).await
    };
    let builder = act.processor().max_concurrent_sessions(2).turn(Turn::time(MS));
    let processor = builder.start(with_state(log.clone(), slow)).await?;
    act.completed(&processor, 30).await?;
    for session in 0..6 {
        let expected: Vec<String> = (0..5).map(|n| format!("{n}/1")).collect();
        same!(log.of(&format!("s{session}")), expected, "session {session}");
    }
    same!(log.len(), 30, "what ran, once each, and nobody was told to end");
    let last = processor.drain().await?.last;
    same!((last.failed, last.lost), (0, 0), "failed attempts and rights lost");
    act.judge()
}

async fn attempts(act: Arc<Act>) -> Held {
    let log = Log::default();
    act.judged_by(|options| options.max_attempts = 3);
    send(&act.producer().await?, 3, 4).await?;
    let picky = |log: Log, message: Received<String>| async move {
        let fails = message.body == "1" && message.session().to_string() != "s2";
        write(log, message).await?;
        if fails { Err(Failure::retry("it never works")) } else { Ok(()) }
    };
    let retry = Retry::fixed(5 * MS).at_most(3).then(Exhausted::DeadLetter);
    let builder = act.processor().max_concurrent_sessions(1).turn(Turn::messages(1).or_time(MS)).retry(retry);
    let processor = builder.start(with_state(log.clone(), picky)).await?;
    act.until("all is handled or dead", || {
        let now = processor.snapshot();
        (now.completed, now.dead_lettered) == (10, 2)
    })
    .await?;
    for session in ["s0", "s1"] {
        same!(log.of(session), ["0/1", "1/1", "1/2", "1/3", "2/1", "3/1"], "all attempts, one after the other");
    }
    same!(log.of("s2"), ["0/1", "1/1", "2/1", "3/1"], "the one that works");
    processor.drain().await?;
    act.judge()
}

async fn alone(act: Arc<Act>) -> Held {
    let log = Log::default();
    send(&act.producer().await?, 1, 20).await?;
    let only = |log: Log, message: Received<String>| async move {
        log.write(format!("{}:{}", message.session(), message.body));
        Ok::<(), Failure>(())
    };
    let builder = act.processor().max_concurrent_sessions(1).turn(Turn::messages(2));
    let processor = builder.start(with_state(log.clone(), only)).await?;
    act.completed(&processor, 20).await?;
    same!(log.of("s0"), numbers(0..20), "what ran");
    processor.drain().await?;
    act.judge()
}
