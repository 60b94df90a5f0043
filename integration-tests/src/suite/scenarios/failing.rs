//! Attempts that fail, and what becomes of their messages.

use std::sync::Arc;
use std::time::Duration;

use convoy_core::backend::DeadLetter;
use convoy_core::{Bytes, ErrorKind, Exhausted, Failure, Guarantee, Message, Received, Retry, Support, with_state};

use super::{Act, Scenario, scenario};
use crate::suite::act::{GROUP, Held, Log, hold, id, same, say, send};
use crate::suite::{Answered, Fault};

pub(super) const ALL: &[Scenario] = &[
    scenario!("retried-in-place", [InPlaceRetry, SessionFifo], retried_in_place),
    scenario!("panic-is-a-failed-attempt", [InPlaceRetry, NoLoss], panics),
    scenario!("handler-timeout-is-a-failed-attempt", [InPlaceRetry, NoLoss], timeout),
    scenario!("exhausted-attempts-dead-letter-with-reason", [DeadLetterOrder, InPlaceRetry], exhausted),
    scenario!("explicit-dead-letter", [DeadLetterOrder], explicit),
    scenario!("dead-letter-order-is-kept", [DeadLetterOrder, SessionFifo], order_is_kept),
    scenario!("dead-letter-store-refuses-then-takes", [DeadLetterOrder, NoLoss], store_refuses, needs[Store]),
    scenario!("dead-letter-answer-lost", [DeadLetterOrder, NoLoss], answer_lost, needs[Store]),
    scenario!("dead-letters-are-listed-sent-back-and-removed", [DeadLetterOrder, NoLoss], sent_back),
    scenario!("stop-on-exhausted-attempts-drains-and-says-so", [NoLoss, SuffixRedelivery], stops),
    scenario!("undecodable-body-takes-the-exhausted-path", [DeadLetterOrder], undecodable),
    scenario!("attempts-restart-after-an-unclean-end", [NoLoss, SuffixRedelivery], attempts_restart),
];

const MS: Duration = Duration::from_millis(1);

fn give_up_after(attempts: u32) -> Retry {
    Retry::fixed(MS).at_most(attempts).then(Exhausted::DeadLetter)
}

/// What a handler was given: `session:body/attempt`.
fn seen(message: &Received<String>) -> String {
    format!("{}:{}/{}", message.session(), message.body, message.attempt())
}

/// Writes what it sees, and fails on each body that begins with `bad`.
async fn picky(log: Log, message: Received<String>) -> Result<(), Failure> {
    log.write(seen(&message));
    if message.body.starts_with("bad") { Err(Failure::retry(format!("no {}", message.body))) } else { Ok(()) }
}

/// The bodies of dead letters, as text.
fn bodies(letters: &[DeadLetter]) -> Vec<String> {
    letters.iter().map(|letter| String::from_utf8_lossy(letter.content.body()).into_owned()).collect()
}

async fn retried_in_place(act: Arc<Act>) -> Held {
    let log = Log::default();
    let handler = |log: Log, message: Received<String>| async move {
        log.write(seen(&message));
        let fails = message.session().to_string() == "s0" && message.body == "1" && message.attempt() < 4;
        if fails { Err(Failure::retry("not yet")) } else { Ok(()) }
    };
    let wait = Duration::from_millis(500);
    let processor = act.processor().retry(Retry::fixed(wait)).start(with_state(log.clone(), handler)).await?;
    let producer = act.producer().await?;
    send(&producer, 3, 4).await?;
    act.until("it failed once", || processor.snapshot().failed == 1).await?;
    act.until("the others went on", || log.count("s1:3/1") == 1 && log.count("s2:3/1") == 1).await?;
    same!(log.of("s0"), ["0/1", "1/1"], "its session waits while the others end");
    act.completed(&processor, 12).await?;
    same!(log.of("s0"), ["0/1", "1/1", "1/2", "1/3", "1/4", "2/1", "3/1"], "again in place");
    let last = processor.drain().await?.last;
    same!((last.failed, last.retried, last.dead_lettered), (3, 3, 0), "what is counted");
    act.judge()
}

async fn panics(act: Arc<Act>) -> Held {
    let log = Log::default();
    let handler = |log: Log, message: Received<String>| async move {
        log.write(seen(&message));
        if message.body == "1" && message.attempt() < 3 {
            std::panic::resume_unwind(Box::new("a panic of the scenario"));
        }
        Ok::<(), Failure>(())
    };
    // With one place for a handler, one that a panic kept would stop everything.
    let builder = act.processor().max_concurrent_sessions(1);
    let processor = builder.start(with_state(log.clone(), handler)).await?;
    let producer = act.producer().await?;
    send(&producer, 1, 3).await?;
    act.completed(&processor, 3).await?;
    say(&producer, "s1", "after").await?;
    act.completed(&processor, 4).await?;
    same!(log.lines(), ["s0:0/1", "s0:1/1", "s0:1/2", "s0:1/3", "s0:2/1", "s1:after/1"], "what ran");
    let last = processor.drain().await?.last;
    same!((last.failed, last.lost), (2, 0), "failed attempts and rights lost");
    act.judge()
}

async fn timeout(act: Arc<Act>) -> Held {
    let log = Log::default();
    let handler = |log: Log, message: Received<String>| async move {
        log.write(seen(&message));
        if message.body == "1" && message.attempt() == 1 {
            message.lease().ended().await;
            log.write("told");
            std::future::pending::<()>().await;
        }
        Ok::<(), Failure>(())
    };
    let builder = act.consumer().grace(Duration::from_millis(500)).processor().retry(Retry::fixed(MS));
    let builder = builder.handler_timeout(Duration::from_secs(1));
    let processor = builder.start(with_state(log.clone(), handler)).await?;
    let producer = act.producer().await?;
    send(&producer, 1, 3).await?;
    act.completed(&processor, 3).await?;
    same!(log.lines(), ["s0:0/1", "s0:1/1", "told", "s0:1/2", "s0:2/1"], "what ran");
    let last = processor.drain().await?.last;
    same!((last.failed, last.lost), (1, 0), "failed attempts and rights lost");
    act.judge()
}

async fn exhausted(act: Arc<Act>) -> Held {
    let log = Log::default();
    act.judged_by(|options| options.max_attempts = 3);
    let processor = act.processor().retry(give_up_after(3)).start(with_state(log.clone(), picky)).await?;
    let producer = act.producer().await?;
    for body in ["a", "bad", "b"] {
        say(&producer, "s0", body).await?;
        say(&producer, "s1", body.trim_start_matches("bad")).await?;
    }
    act.completed(&processor, 5).await?;
    act.until("it is dead-lettered", || processor.snapshot().dead_lettered == 1).await?;
    same!(log.of("s0"), ["a/1", "bad/1", "bad/2", "bad/3", "b/1"], "its session");
    same!(log.of("s1"), ["a/1", "/1", "b/1"], "its neighbour");
    same!(processor.drain().await?.last.failed, 3, "failed attempts");
    let letters = act.dead_letters(GROUP).await?;
    same!(bodies(&letters), ["bad"], "the dead letters");
    let letter = &letters[0];
    same!((letter.code.as_str(), letter.attempts), ("attempts-exhausted", 3), "why");
    same!(letter.detail, "no bad", "the last error");
    same!(letter.session, id("s0"), "its session is kept");
    act.judge()
}

async fn explicit(act: Arc<Act>) -> Held {
    let log = Log::default();
    let handler = |log: Log, message: Received<String>| async move {
        log.write(seen(&message));
        if message.body == "1" { Err(Failure::dead_letter("of no use")) } else { Ok(()) }
    };
    let processor = act.processor().start(with_state(log.clone(), handler)).await?;
    let producer = act.producer().await?;
    send(&producer, 2, 3).await?;
    act.completed(&processor, 4).await?;
    act.until("both are dead-lettered", || processor.snapshot().dead_lettered == 2).await?;
    for session in ["s0", "s1"] {
        same!(log.of(session), ["0/1", "1/1", "2/1"], "session {session}");
    }
    processor.drain().await?;
    let letters = act.dead_letters(GROUP).await?;
    same!(bodies(&letters), ["1", "1"], "the dead letters");
    for letter in &letters {
        same!((letter.code.as_str(), letter.detail.as_str(), letter.attempts), ("handler", "of no use", 1), "why");
    }
    act.judge()
}

async fn order_is_kept(act: Arc<Act>) -> Held {
    let log = Log::default();
    act.judged_by(|options| options.max_attempts = 2);
    let processor = act.processor().retry(give_up_after(2)).start(with_state(log.clone(), picky)).await?;
    let producer = act.producer().await?;
    for body in ["bad1", "bad2", "a", "bad3", "b", "bad4"] {
        say(&producer, "s0", body).await?;
    }
    act.until("all are dead-lettered", || processor.snapshot().dead_lettered == 4).await?;
    let ran = ["bad1/1", "bad1/2", "bad2/1", "bad2/2", "a/1", "bad3/1", "bad3/2", "b/1", "bad4/1", "bad4/2"];
    same!(log.of("s0"), ran, "what ran");
    processor.drain().await?;
    same!(bodies(&act.dead_letters(GROUP).await?), ["bad1", "bad2", "bad3", "bad4"], "the dead letters");
    // That each start waits for the settlement of what was set aside before it is the checker's to say.
    act.judge()
}

async fn store_refuses(act: Arc<Act>) -> Held {
    let log = Log::default();
    act.inject(Fault::SetAsides(3, Answered::Refused))?;
    let processor = act.processor().retry(give_up_after(1)).start(with_state(log.clone(), picky)).await?;
    let producer = act.producer().await?;
    for body in ["bad", "after"] {
        say(&producer, "s0", body).await?;
    }
    say(&producer, "s1", "other").await?;
    act.until("the other session goes on", || log.count("s1:other/1") == 1).await?;
    act.until("the attempt failed", || processor.snapshot().failed > 0).await?;
    let refused = act.broker().dead_letters(act.channel(), GROUP).await?.list(0, 10).await?;
    same!((refused.len(), log.count("s0:after/1")), (0, 0), "in the store, and behind it, while the store refuses");
    act.until("the session goes on", || log.count("s0:after/1") == 1).await?;
    same!(log.of("s0").pop().unwrap_or_default(), "after/1", "the last that ran");
    act.completed(&processor, 2).await?;
    processor.drain().await?;
    same!(bodies(&act.dead_letters(GROUP).await?), ["bad"], "the dead letters");
    act.judge()
}

async fn answer_lost(act: Arc<Act>) -> Held {
    let log = Log::default();
    act.inject(Fault::SetAsides(1, Answered::Lost))?;
    let processor = act.processor().retry(give_up_after(1)).start(with_state(log.clone(), picky)).await?;
    let producer = act.producer().await?;
    for body in ["bad", "after"] {
        say(&producer, "s0", body).await?;
    }
    act.until("the session goes on", || log.count("s0:after/1") == 1).await?;
    same!(log.of("s0").pop().unwrap_or_default(), "after/1", "the last that ran");
    let report = processor.drain().await?;
    hold!(report.drained, "it did not drain: {report:?}");
    same!(bodies(&act.dead_letters(GROUP).await?), ["bad"], "a message is there once, though its copy was unanswered");
    act.judge()
}

async fn sent_back(act: Arc<Act>) -> Held {
    let log = Log::default();
    let handler = |log: Log, message: Received<String>| async move {
        log.write(format!("{}:{}", message.session(), message.body));
        let well = log.count("well") > 0;
        if well || !message.body.starts_with("bad") { Ok(()) } else { Err(Failure::dead_letter("not now")) }
    };
    let processor = act.processor().start(with_state(log.clone(), handler)).await?;
    let producer = act.producer().await?;
    let mut ids = Vec::new();
    for body in ["bad1", "bad2", "a"] {
        ids.push(producer.send(Message::new("s0", body)?).await?.id);
    }
    act.until("both are dead-lettered", || processor.snapshot().dead_lettered == 2).await?;
    act.completed(&processor, 1).await?;
    let letters = act.dead_letters(GROUP).await?;
    same!(bodies(&letters), ["bad1", "bad2"], "the dead letters");
    same!(letters[0].content.id(), ids[0], "its id");
    act.judge()?;
    // From here on the broker's own producer sends, whose sends are in no history.
    let store = act.broker().dead_letters(act.channel(), GROUP).await?;
    same!(store.list(letters[1].at, 1).await?.len(), 1, "from a place on");
    same!(store.list(letters[1].at + 1, 9).await?.len(), 0, "behind the last");
    log.write("well");
    store.send_back(&letters[0]).await?;
    act.completed(&processor, 2).await?;
    same!(log.of("s0"), ["bad1", "bad2", "a", "bad1"], "it comes again, behind what its session has");
    same!(bodies(&store.list(0, 9).await?), ["bad2"], "what is left");
    hold!(store.remove(&letters[1]).await?, "it is not there to be removed");
    hold!(!store.remove(&letters[1]).await?, "it is there after it was removed");
    same!(store.list(0, 9).await?.len(), 0, "what is left in the end");
    let report = processor.drain().await?;
    hold!(report.drained, "it did not drain: {report:?}");
    Ok(())
}

async fn stops(act: Arc<Act>) -> Held {
    let log = Log::default();
    let retry = Retry::fixed(MS).at_most(2).then(Exhausted::Stop);
    let producer = act.producer().await?;
    act.group_number(GROUP);
    for body in ["a", "bad", "b"] {
        say(&producer, "s0", body).await?;
    }
    let builder = act.processor().retry(retry);
    let ended = builder.run_until(std::future::pending::<()>(), with_state(log.clone(), picky)).await;
    let Err(error) = ended else { return Err(crate::suite::Failed::because("it ended well")) };
    same!(error.kind(), ErrorKind::HandlerStopped, "how it ended");
    same!(log.of("s0"), ["a/1", "bad/1", "bad/2"], "what ran until then");
    let log = Log::default();
    let handler = |log: Log, message: Received<String>| async move {
        log.write(seen(&message));
        Ok(())
    };
    let processor = act.processor().start(with_state(log.clone(), handler)).await?;
    act.completed(&processor, 2).await?;
    same!(log.of("s0"), ["bad/1", "b/1"], "the next one starts at what was not settled");
    processor.drain().await?;
    same!(act.dead_letters(GROUP).await?.len(), 0, "dead letters");
    act.judge()
}

async fn undecodable(act: Arc<Act>) -> Held {
    let log = Log::default();
    let processor = act.processor().retry(give_up_after(3)).start(with_state(log.clone(), picky)).await?;
    let producer = act.producer().await?;
    say(&producer, "s0", "a").await?;
    producer.send(Message::new("s0", Bytes::from_static(&[0xff, 0xfe]))?).await?;
    say(&producer, "s0", "b").await?;
    act.completed(&processor, 2).await?;
    act.until("it is dead-lettered", || processor.snapshot().dead_lettered == 1).await?;
    same!(log.of("s0"), ["a/1", "b/1"], "what the handler was given");
    processor.drain().await?;
    let letters = act.dead_letters(GROUP).await?;
    same!(letters.len(), 1, "dead letters");
    same!(letters[0].content.body().as_ref(), [0xff, 0xfe], "its body is as it was");
    hold!(letters[0].detail.contains("UTF-8"), "it does not say what was expected: {}", letters[0].detail);
    act.judge()
}

async fn attempts_restart(act: Arc<Act>) -> Held {
    let log = Log::default();
    // The first processor fails whatever happens: what it was about to start when it was dropped must not end well.
    let handler = |(log, well): (Log, bool), message: Received<String>| async move {
        log.write(seen(&message));
        if well { Ok(()) } else { Err(Failure::retry("not yet")) }
    };
    let processor = act.processor().start(with_state((log.clone(), false), handler)).await?;
    let producer = act.producer().await?;
    say(&producer, "s0", "0").await?;
    act.until("it failed", || log.count("s0:0/3") == 1).await?;
    drop(processor);
    let after = Log::default();
    let processor = act.processor().start(with_state((after.clone(), true), handler)).await?;
    act.completed(&processor, 1).await?;
    let after = after.lines();
    if act.broker().guarantees().of(Guarantee::DurableAttempts).support == Support::Unsupported {
        same!(after, ["s0:0/1"], "attempts are counted in one holding");
    } else {
        hold!(after.len() == 1 && after != ["s0:0/1"], "attempts are not counted across holdings: {after:?}");
    }
    processor.drain().await?;
    act.judge()
}
