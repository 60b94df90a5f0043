//! Sends that fail, are unknown, wait, and what becomes of the session then.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use convoy_core::producer::Producer;
use convoy_core::{ErrorKind, Message, Outcome, Processor, ProducerOptions, Resume, SendError, with_state};

use super::settling::{firsts, note, numbers};
use super::{Act, Scenario, scenario};
use crate::suite::act::{Failed, GROUP, Held, Log, hold, id, same, say, send};
use crate::suite::{Fault, SentSo, Wishes};

pub(super) const ALL: &[Scenario] = &[
    scenario!("order-of-calls-is-the-order", [ProducerOrder, SessionFifo], order_of_calls),
    scenario!("failure-in-the-middle-halts-the-session", [ProducerOrder], failure_halts, needs[Sends]),
    scenario!("resume-resend-keeps-the-order", [ProducerOrder, NoLoss], resend, needs[Sends]),
    scenario!("resume-skip-leaves-a-hole-and-the-order", [ProducerOrder], skip, needs[Sends]),
    scenario!("unknown-outcome-that-landed", [ProducerOrder, NoLoss], unknown_landed, needs[Sends]),
    scenario!("unknown-outcome-that-never-lands", [ProducerOrder, NoLoss], unknown_never, needs[Sends]),
    scenario!("unknown-outcome-that-would-land-late", [ProducerOrder, NoLoss], unknown_late, needs[Sends]),
    scenario!("full-broker-gives-backpressure", [NoLoss, ProducerOrder], full, needs[Capacity], wishes Wishes { capacity: 20, ..Wishes::default() }),
    scenario!("send-never-hangs", [ProducerOrder], never_hangs, needs[Freeze]),
    scenario!("dropping-a-send-does-not-cancel-it", [NoLoss, ProducerOrder], dropped_send),
    scenario!("send-all-keeps-the-order", [ProducerOrder, NoLoss], all_at_once),
    scenario!("too-large-is-refused-and-halts", [ProducerOrder], too_large, wishes Wishes { max_message: 1_000, ..Wishes::default() }),
    scenario!("closed-producer-refuses", [ProducerOrder], closed),
];

/// Sends `bodies` to one session without waiting, then waits for all outcomes.
async fn burst(producer: &Producer, session: &str, bodies: &[&str]) -> Result<Vec<Result<(), SendError>>, Failed> {
    let mut sendings = Vec::new();
    for body in bodies {
        sendings.push(producer.send(Message::new(session, (*body).to_owned())?));
    }
    let mut outcomes = Vec::new();
    for sending in sendings {
        outcomes.push(sending.await.map(|_| ()));
    }
    Ok(outcomes)
}

fn kinds(outcomes: &[Result<(), SendError>]) -> Vec<Option<ErrorKind>> {
    outcomes.iter().map(|o| o.as_ref().err().map(SendError::kind)).collect()
}

async fn consumer(act: &Act) -> Result<(Processor, Log), Failed> {
    let log = Log::default();
    Ok((act.processor().start(with_state(log.clone(), note)).await?, log))
}

async fn order_of_calls(act: Arc<Act>) -> Held {
    let (processor, log) = consumer(&act).await?;
    let producer = act.producer().await?;
    let mut sendings = Vec::new();
    for number in 0..200 {
        sendings.push(producer.send(Message::new("s0", number.to_string())?));
    }
    // Waited for in another order than called.
    for sending in sendings.into_iter().rev() {
        sending.await?;
    }
    act.completed(&processor, 200).await?;
    same!(log.of("s0"), numbers(0..200), "the order of the calls");
    processor.drain().await?;
    act.judge()
}

async fn failure_halts(act: Arc<Act>) -> Held {
    let (processor, log) = consumer(&act).await?;
    let producer = act.producer().await?;
    say(&producer, "s0", "0").await?;
    act.inject(Fault::Sends(1, SentSo::Refused))?;
    let outcomes = burst(&producer, "s0", &["1", "2", "3"]).await?;
    // Those that went to the broker in one run with the first one failed with it; the others were held back.
    let kinds = kinds(&outcomes);
    let held_back = |kind: &Option<ErrorKind>| matches!(kind, Some(ErrorKind::Refused | ErrorKind::Halted));
    hold!(kinds[0] == Some(ErrorKind::Refused) && kinds.iter().all(held_back), "outcomes: {kinds:?}");
    let not_applied = outcomes.iter().flat_map(|o| o.as_ref().err()).all(|e| e.outcome() == Outcome::NotApplied);
    hold!(not_applied, "none of them was applied");
    say(&producer, "s1", "0").await?;
    same!(producer.halted().len(), 1, "halted sessions");
    let kept = producer.halted_messages(&id("s0"));
    let bodies: Vec<_> = kept.iter().map(|k| k.message.content().body().clone()).collect();
    same!(bodies, ["1", "2", "3"].map(Bytes::from), "what it keeps, in order");
    let again = producer.send(Message::new("s0", "4")?).await.err().map(|e| e.kind());
    same!(again, Some(ErrorKind::Halted), "a later send");
    act.completed(&processor, 2).await?;
    same!((log.of("s0"), log.of("s1")), (vec!["0".into()], vec!["0".into()]), "what arrived");
    processor.drain().await?;
    act.judge()
}

async fn resume(act: &Act, so: SentSo, how: Resume) -> Result<Vec<String>, Failed> {
    let (processor, log) = consumer(act).await?;
    let producer = act.producer().await?;
    say(&producer, "s0", "0").await?;
    act.inject(Fault::Sends(1, so))?;
    let outcomes = burst(&producer, "s0", &["1", "2", "3"]).await?;
    hold!(outcomes.iter().all(Result::is_err), "all failed or were held back: {outcomes:?}");
    producer.resume(&id("s0"), how).await?.await?;
    say(&producer, "s0", "4").await?;
    hold!(producer.halted().is_empty(), "nothing is halted any more");
    act.until("the last one is handled", || log.count("s0:4") == 1).await?;
    processor.drain().await?;
    act.judge()?;
    Ok(log.of("s0"))
}

async fn resend(act: Arc<Act>) -> Held {
    same!(resume(&act, SentSo::Refused, Resume::Resend).await?, numbers(0..5), "all of them, in order");
    Ok(())
}

async fn skip(act: Arc<Act>) -> Held {
    let handled = resume(&act, SentSo::Refused, Resume::Skip).await?;
    // What went to the broker in one run with the failed one failed with it, and is given up with it.
    hold!(handled.first().is_some_and(|b| b == "0") && handled.last().is_some_and(|b| b == "4"), "{handled:?}");
    hold!(!handled.contains(&"1".to_owned()) && handled.is_sorted(), "a hole, and the order: {handled:?}");
    Ok(())
}

async fn unknown_landed(act: Arc<Act>) -> Held {
    let handled = resume(&act, SentSo::UnknownLanded, Resume::Resend).await?;
    same!(firsts(handled), numbers(0..5), "in order; the unknown one may come twice");
    Ok(())
}

async fn unknown_never(act: Arc<Act>) -> Held {
    same!(resume(&act, SentSo::UnknownNever, Resume::Resend).await?, numbers(0..5), "in order, and none is missing");
    Ok(())
}

async fn unknown_late(act: Arc<Act>) -> Held {
    let handled = resume(&act, SentSo::UnknownLate, Resume::Resend).await?;
    same!(firsts(handled), numbers(0..5), "in order: a resumed session is not overtaken by what was on its way");
    Ok(())
}

async fn full(act: Arc<Act>) -> Held {
    let producer = act.producer().await?;
    act.group_number(GROUP);
    let mut accepted = Vec::new();
    let mut refused = 0;
    for number in 0..40 {
        let session = format!("s{number}");
        match producer.send(Message::new(session.as_str(), "x")?).await {
            Ok(_) => accepted.push(session),
            Err(error) => {
                same!((error.kind(), error.outcome()), (ErrorKind::Backpressure, Outcome::NotApplied), "the error");
                refused += 1;
            }
        }
    }
    hold!(!accepted.is_empty() && refused > 0, "it took {} and refused {refused}", accepted.len());
    let (processor, log) = consumer(&act).await?;
    act.completed(&processor, accepted.len()).await?;
    hold!(accepted.iter().all(|s| log.of(s).len() == 1), "each that was confirmed arrived once");
    say(&producer, "another", "y").await?;
    act.completed(&processor, accepted.len() + 1).await?;
    processor.drain().await?;
    act.judge()
}

async fn never_hangs(act: Arc<Act>) -> Held {
    let producer = act.producer_with(ProducerOptions::default().send_timeout(Duration::from_secs(5))).await?;
    say(&producer, "s0", "0").await?;
    act.inject(Fault::Freeze)?;
    let began = convoy_core::runtime::now();
    let outcomes = burst(&producer, "s0", &["1", "2"]).await?;
    let took = convoy_core::runtime::now().since(began);
    hold!(took <= Duration::from_secs(8), "it took {took:?}");
    hold!(outcomes.iter().all(Result::is_err), "nothing was confirmed: {outcomes:?}");
    act.inject(Fault::Thaw)?;
    let (processor, log) = consumer(&act).await?;
    producer.resume(&id("s0"), Resume::Resend).await?.await?;
    act.until("all handled", || log.count("s0:2") >= 1).await?;
    same!(firsts(log.of("s0")), numbers(0..3), "in order");
    processor.drain().await?;
    act.judge()
}

async fn dropped_send(act: Arc<Act>) -> Held {
    let (processor, log) = consumer(&act).await?;
    let producer = act.producer().await?;
    for number in 0..20 {
        drop(producer.send(Message::new("s0", number.to_string())?));
    }
    act.completed(&processor, 20).await?;
    same!(log.of("s0"), numbers(0..20), "all of them, in order");
    processor.drain().await?;
    act.judge()
}

async fn all_at_once(act: Arc<Act>) -> Held {
    let (processor, log) = consumer(&act).await?;
    let producer = act.producer().await?;
    let mut messages = Vec::new();
    for number in 0..50 {
        messages.push(Message::new("s0", number.to_string())?);
        messages.push(Message::new("s1", number.to_string())?);
    }
    producer.send_all(messages).await?;
    act.completed(&processor, 100).await?;
    same!((log.of("s0"), log.of("s1")), (numbers(0..50), numbers(0..50)), "both sessions in order");
    processor.drain().await?;
    act.judge()
}

async fn too_large(act: Arc<Act>) -> Held {
    let (processor, log) = consumer(&act).await?;
    let producer = act.producer().await?;
    let Err(error) = producer.send(Message::new("s0", vec![b'x'; 1_001])?).await else {
        return Err(Failed::because("a message over the limit was taken"));
    };
    same!((error.kind(), error.outcome()), (ErrorKind::TooLarge, Outcome::NotApplied), "the error");
    same!(error.into_message().content().body().len(), 1_001, "it is given back");
    producer.resume(&id("s0"), Resume::Discard).await?.await?;
    send(&producer, 1, 2).await?;
    act.completed(&processor, 2).await?;
    same!(log.of("s0"), numbers(0..2), "the session goes on");
    processor.drain().await?;
    act.judge()
}

async fn closed(act: Arc<Act>) -> Held {
    let (processor, log) = consumer(&act).await?;
    let producer = act.producer().await?;
    let pending = producer.send(Message::new("s0", "0")?);
    producer.close(Duration::from_secs(5)).await?;
    pending.await?;
    let refused = producer.send(Message::new("s0", "1")?).await.err().map(|e| (e.kind(), e.outcome()));
    same!(refused, Some((ErrorKind::Closed, Outcome::NotApplied)), "a send after the close");
    act.completed(&processor, 1).await?;
    same!(log.of("s0"), ["0"], "what was queued before was sent");
    processor.drain().await?;
    act.judge()
}
