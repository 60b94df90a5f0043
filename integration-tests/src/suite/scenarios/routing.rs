//! A handler a type of message, and types that are not known to every consumer.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use convoy_core::producer::Producer;
use convoy_core::{
    Exhausted, Failure, Json, Message, Processor, Received, Retry, Router, RouterBuilder, Unknown, Versions, with_state,
};

use super::{Act, Scenario, scenario};
use crate::checker::Reported;
use crate::suite::Failed;
use crate::suite::act::{GROUP, Held, Log, hold, same};

pub(super) const ALL: &[Scenario] = &[
    scenario!("each-type-has-its-handler", [NoLoss, SessionFifo, NoPhantom], each_type),
    scenario!("unknown-type-waits-for-a-consumer-that-knows-it", [InPlaceRetry, SessionFifo, NoLoss], waits),
    scenario!("unknown-type-is-dead-lettered-when-told-to", [DeadLetterOrder, SessionFifo], dead_lettered),
    scenario!("unknown-type-is-skipped-when-told-to", [NoLoss, SessionFifo], skipped),
    scenario!("body-that-its-type-cannot-read-takes-the-exhausted-path", [DeadLetterOrder], unreadable),
    scenario!("versions-of-a-type-side-by-side", [NoLoss, SessionFifo, NoPhantom], versions),
    scenario!("a-type-is-added-in-a-rolling-restart", [NoLoss, SessionFifo, BoundedDuplicates], rolling),
];

const MS: Duration = Duration::from_millis(1);

async fn text(log: Log, message: Received<String>) -> Result<(), Failure> {
    log.write(format!("{}:{}", message.session(), message.body));
    Ok(())
}

async fn number(log: Log, message: Received<Json<u64>>) -> Result<(), Failure> {
    log.write(format!("{}:{}", message.session(), *message.body + 1_000));
    Ok(())
}

async fn raw(log: Log, message: Received<Bytes>) -> Result<(), Failure> {
    log.write(format!("{}:{} bytes", message.session(), message.body.len()));
    Ok(())
}

/// What a consumer knew before there was anything else: text, and numbers.
fn old(log: &Log, unknown: Unknown) -> RouterBuilder {
    Router::builder(unknown)
        .on_type("text", with_state(log.clone(), text))
        .on_type("number", with_state(log.clone(), number))
}

/// The same with a type more.
fn new(log: &Log, unknown: Unknown) -> RouterBuilder {
    old(log, unknown).on_type("raw", with_state(log.clone(), raw))
}

/// A processor whose failing messages would soon be dead-lettered.
async fn start(act: &Arc<Act>, router: RouterBuilder) -> Result<Processor, Failed> {
    let retry = Retry::fixed(5 * MS).at_most(2).then(Exhausted::DeadLetter);
    Ok(act.processor().retry(retry).start(router.build()?).await?)
}

/// Sends a message of a type; of none when its name is empty.
async fn say(producer: &Producer, session: &str, kind: &str, body: impl Into<Bytes>) -> Held {
    let message = Message::new(session, body)?;
    producer.send(if kind.is_empty() { message } else { message.with_type(kind) }).await?;
    Ok(())
}

async fn each_type(act: Arc<Act>) -> Held {
    let log = Log::default();
    let processor = start(&act, new(&log, Unknown::DeadLetter)).await?;
    let producer = act.producer().await?;
    for session in ["s0", "s1"] {
        for (kind, body) in [("text", "a"), ("number", "7"), ("raw", "\u{e4}"), ("number", "8"), ("text", "b")] {
            say(&producer, session, kind, body).await?;
        }
    }
    act.completed(&processor, 10).await?;
    for session in ["s0", "s1"] {
        same!(log.of(session), ["a", "1007", "2 bytes", "1008", "b"], "session {session}");
    }
    processor.drain().await?;
    same!(act.dead_letters(GROUP).await?.len(), 0, "dead letters");
    act.judge()
}

async fn waits(act: Arc<Act>) -> Held {
    let log = Log::default();
    let knows_less = start(&act, old(&log, Unknown::Retry)).await?;
    let producer = act.producer().await?;
    for (session, kind, body) in [("s0", "text", "a"), ("s0", "raw", "xyz"), ("s0", "text", "b"), ("s1", "text", "c")] {
        say(&producer, session, kind, body).await?;
    }
    act.until("it was tried more often than failures are", || knows_less.snapshot().failed >= 8).await?;
    act.until("the other session went on", || log.count("s1:c") == 1).await?;
    same!(log.of("s0"), ["a"], "the session waits");
    let stuck = knows_less.snapshot().stuck.map(|stuck| stuck.session.to_string());
    same!(stuck.as_deref(), Some("s0"), "the session that shows as stuck");
    let report = knows_less.drain().await?;
    hold!(report.drained, "it did not drain: {report:?}");
    let knows_more = start(&act, new(&log, Unknown::Retry)).await?;
    act.completed(&knows_more, 2).await?;
    same!(log.of("s0"), ["a", "3 bytes", "b"], "nothing was lost and nothing overtook it");
    knows_more.drain().await?;
    same!(act.dead_letters(GROUP).await?.len(), 0, "dead letters");
    same!(act.verdict()?.count(Reported::Duplicate), 0, "duplicates");
    Ok(())
}

async fn dead_lettered(act: Arc<Act>) -> Held {
    let log = Log::default();
    let processor = start(&act, old(&log, Unknown::DeadLetter)).await?;
    let producer = act.producer().await?;
    for (kind, body) in [("text", "a"), ("raw", "xyz"), ("", "plain"), ("text", "b")] {
        say(&producer, "s0", kind, body).await?;
    }
    act.completed(&processor, 2).await?;
    same!(log.of("s0"), ["a", "b"], "the session goes on behind them");
    let report = processor.drain().await?;
    same!((report.last.dead_lettered, report.last.failed), (2, 2), "one attempt each");
    let letters = act.dead_letters(GROUP).await?;
    let told: Vec<_> = letters.iter().map(|l| (l.code.as_str(), l.content.type_name(), l.attempts)).collect();
    same!(told, [("unknown-type", Some("raw"), 1), ("unknown-type", None, 1)], "why, and that the type is kept");
    let details: Vec<_> = letters.iter().map(|letter| letter.detail.as_str()).collect();
    hold!(
        details[0].contains("`raw`") && details[0].contains("number, text"),
        "what is unknown, what not: {details:?}"
    );
    hold!(details[1].contains("without a type"), "a message without a type is told so: {details:?}");
    act.judge()
}

async fn skipped(act: Arc<Act>) -> Held {
    let log = Log::default();
    let router = old(&log, Unknown::Skip).build()?;
    let processor = act.processor().start(router.clone()).await?;
    let producer = act.producer().await?;
    for (kind, body) in [("text", "a"), ("raw", "xyz"), ("", "plain"), ("text", "b")] {
        say(&producer, "s0", kind, body).await?;
    }
    act.completed(&processor, 4).await?;
    same!((log.of("s0"), router.skipped()), (vec!["a".to_owned(), "b".to_owned()], 2), "what ran, and what is counted");
    processor.drain().await?;
    same!(act.dead_letters(GROUP).await?.len(), 0, "dead letters");
    // To the checker they are handled, as the program asked.
    act.judge()
}

async fn unreadable(act: Arc<Act>) -> Held {
    let log = Log::default();
    let processor = start(&act, old(&log, Unknown::Skip)).await?;
    let producer = act.producer().await?;
    for (kind, body) in [("number", "1"), ("number", "no number"), ("text", "no number")] {
        say(&producer, "s0", kind, body).await?;
    }
    act.completed(&processor, 2).await?;
    act.until("it is dead-lettered", || processor.snapshot().dead_lettered == 1).await?;
    same!(log.of("s0"), ["1001", "no number"], "what the handlers were given");
    same!(processor.drain().await?.last.failed, 1, "attempts that failed");
    let letters = act.dead_letters(GROUP).await?;
    same!(letters.len(), 1, "dead letters");
    let letter = &letters[0];
    same!((letter.code.as_str(), letter.content.type_name()), ("handler", Some("number")), "why, and of which type");
    hold!(letter.detail.contains("JSON"), "it does not say what was expected: {}", letter.detail);
    act.judge()
}

async fn versions(act: Arc<Act>) -> Held {
    let log = Log::default();
    // Once it was sent as text of pounds, then as a number of pence.
    let pence = |pounds: String| Json(pounds.parse::<u64>().unwrap_or_default() * 100);
    let versions = Versions::named("price.2").and_named("price", pence);
    let router = Router::builder(Unknown::Retry).on_versions(versions, with_state(log.clone(), number));
    let producer = act.producer().await?;
    act.group_number(GROUP);
    // Both are in the convoy before anybody takes them, and both are sent for a while.
    for (kind, body) in [("price", "1"), ("price.2", "150"), ("price", "2")] {
        say(&producer, "s0", kind, body).await?;
    }
    let processor = start(&act, router).await?;
    for (kind, body) in [("price.2", "250"), ("price", "3")] {
        say(&producer, "s0", kind, body).await?;
    }
    act.completed(&processor, 5).await?;
    same!(log.of("s0"), ["1100", "1150", "1200", "1250", "1300"], "each as the newest");
    processor.drain().await?;
    act.judge()
}

/// Two consumers that know too little are replaced, one by one, while the new type is sent.
async fn rolling(act: Arc<Act>) -> Held {
    const SESSIONS: usize = 12;
    const EACH: usize = 40;
    let log = Log::default();
    let mut running = Vec::new();
    for _ in 0..2 {
        running.push(start(&act, old(&log, Unknown::Retry)).await?);
    }
    let producer = act.producer().await?;
    let mut expected = vec![Vec::new(); SESSIONS];
    for number in 0..EACH {
        for (session, expected) in expected.iter_mut().enumerate() {
            // From the middle on every fifth is of the new type.
            let (kind, body) = match number {
                n if n >= EACH / 2 && n % 5 == 0 => ("raw", "x".repeat(n)),
                n => ("text", n.to_string()),
            };
            expected.push(if kind == "raw" { format!("{} bytes", body.len()) } else { body.clone() });
            say(&producer, &format!("s{session}"), kind, body).await?;
        }
    }
    // Half of it is done, and every session stands before the first of the new type.
    act.until("every session waits", || log.len() == SESSIONS * EACH / 2).await?;
    act.until("they were tried", || running.iter().any(|old| old.snapshot().failed > 0)).await?;
    for old in std::mem::take(&mut running) {
        running.push(start(&act, new(&log, Unknown::Retry)).await?);
        let report = old.drain().await?;
        hold!(report.drained && report.last.lost == 0, "it did not end cleanly: {report:?}");
    }
    act.until("all done", || log.len() >= SESSIONS * EACH).await?;
    for (session, expected) in expected.iter().enumerate() {
        same!(log.of(&format!("s{session}")), *expected, "session {session}");
    }
    for new in running {
        new.drain().await?;
    }
    same!(act.dead_letters(GROUP).await?.len(), 0, "dead letters");
    same!(act.verdict()?.count(Reported::Duplicate), 0, "duplicates");
    Ok(())
}
