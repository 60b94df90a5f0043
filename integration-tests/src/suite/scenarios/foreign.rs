//! What foreign producers send: envelopes that cannot be read, and messages where they do not belong.
//!
//! Nobody recorded their sends, so that these runs are not judged by the checker, which would call them phantoms.

use std::sync::Arc;

use convoy_core::{Defect, ErrorKind, Foreign, Received, with_state};

use super::settling::note;
use super::{Act, Scenario, scenario};
use crate::suite::Fault;
use crate::suite::act::{Failed, GROUP, Held, Log, hold, id, same, say};

pub(super) const ALL: &[Scenario] = &[
    scenario!("malformed-envelopes-are-dead-lettered", [NoLoss], malformed, needs[Foreign]),
    scenario!("foreign-messages-may-be-allowed", [NoLoss], foreign_allowed, needs[Foreign]),
    scenario!("misrouted-stops-the-consumer", [NoLoss], misrouted, needs[Foreign], only Lanes),
];

async fn malformed(act: Arc<Act>) -> Held {
    let log = Log::default();
    let processor = act.processor().start(with_state(log.clone(), note)).await?;
    let producer = act.producer().await?;
    say(&producer, "s0", "before").await?;
    for defect in [Defect::NoSession, Defect::SessionTooLong, Defect::Headers] {
        act.inject(Fault::Foreign(defect, id("s0"), "garbage"))?;
    }
    say(&producer, "s0", "after").await?;
    act.until("three dead letters", || processor.snapshot().dead_lettered == 3).await?;
    act.completed(&processor, 2).await?;
    processor.drain().await?;
    same!(log.of("s0"), ["before", "after"], "the session goes on");
    let mut codes: Vec<_> = act.dead_letters(GROUP).await?.into_iter().map(|l| l.code).collect();
    codes.sort();
    same!(codes, ["invalid-headers", "no-session", "session-too-long"], "why");
    Ok(())
}

async fn foreign_allowed(act: Arc<Act>) -> Held {
    let log = Log::default();
    let handler = |log: Log, message: Received<String>| async move {
        log.write(format!("{} {}", message.session().is_lone(), message.body));
        Ok(())
    };
    let processor = act.consumer().foreign(Foreign::Allow).processor().start(with_state(log.clone(), handler)).await?;
    act.inject(Fault::Foreign(Defect::NoSession, id("s0"), "one"))?;
    act.inject(Fault::Foreign(Defect::NoSession, id("s0"), "two"))?;
    act.completed(&processor, 2).await?;
    processor.drain().await?;
    let mut lines = log.lines();
    lines.sort();
    same!(lines, ["true one", "true two"], "each in a session of its own that no sender's id can equal");
    Ok(())
}

async fn misrouted(act: Arc<Act>) -> Held {
    act.inject(Fault::Foreign(Defect::Misrouted, id("s0"), "elsewhere"))?;
    let ends = act.processor().run_until(std::future::pending::<()>(), with_state(Log::default(), note)).await;
    let Err(error) = ends else { return Err(Failed::because("it did not stop")) };
    same!(error.kind(), ErrorKind::Misrouted, "the error");
    hold!(error.context("session").is_some(), "it names the session: {error}");
    Ok(())
}
