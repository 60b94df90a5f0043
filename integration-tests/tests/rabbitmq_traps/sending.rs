//! Messages that no queue takes.

use std::sync::Arc;

use convoy_core::{ErrorKind, Outcome, Resume, SendError, SessionId};

use crate::members::Gate;
use crate::seen::Seen;
use crate::stage::{CHANNEL, SLOTS, Stage, lane, message, slot, topology, until};

crate::traps![an_unroutable_send_is_an_error, a_send_to_a_deleted_channel_is_an_error];

const LANES: u32 = 4;

fn id(session: &str) -> SessionId {
    SessionId::new(session.to_owned()).expect("an id")
}

/// An error and what it rests on, as text.
fn chain(error: &SendError) -> String {
    let mut said = error.to_string();
    let mut next = std::error::Error::source(error);
    while let Some(error) = next {
        said = format!("{said}: {error}");
        next = error.source();
    }
    said
}

async fn an_unroutable_send_is_an_error(stage: Arc<Stage>) {
    let broker = stage.provisioned(stage.options(LANES)).await;
    let producer = broker.producer(CHANNEL).await.expect("producer");
    let other = (0..).map(|n| format!("other-{n}")).find(|other| slot(other) != slot("s0")).expect("one");
    producer.send(message("s0/0")).await.expect("sent");
    let of = slot("s0");
    stage.raw().await.unbind(&lane(LANES, of * LANES / SLOTS), of).await;

    let (first, behind) = (producer.send(message("s0/1")), producer.send(message("s0/2")));
    let failed = first.await.expect_err("nothing takes it");
    assert_eq!((failed.kind(), failed.outcome()), (ErrorKind::NotFound, Outcome::NotApplied), "{failed:?}");
    assert!(chain(&failed).contains(CHANNEL), "{}", chain(&failed));
    // Its session stands still until somebody says how it goes on, also once the way is free again; the others go on.
    let held = behind.await.expect_err("it is halted");
    assert_eq!((held.kind(), held.outcome()), (ErrorKind::Halted, Outcome::NotApplied), "{held:?}");
    producer.send(message(&format!("{other}/0"))).await.expect("another session goes on");
    broker.provision(&topology()).await.expect("bound again");
    let held = producer.send(message("s0/3")).await.expect_err("it is halted still");
    assert_eq!(held.kind(), ErrorKind::Halted, "{held:?}");
    let halted: Vec<SessionId> = producer.halted().into_iter().map(|halted| halted.session).collect();
    assert_eq!(halted, [id("s0")]);
    producer.resume(&id("s0"), Resume::Resend).await.expect("resumed").await.expect("all sent");
    producer.send(message("s0/4")).await.expect("it goes on");

    let (gate, seen) = (Gate::open(), Seen::default());
    let processor = gate.start(&broker, &seen).await;
    until("all is settled", || seen.settled() == 5).await;
    assert!(processor.drain().await.expect("drained").drained);
    let handled: Vec<String> = gate.handled().into_iter().filter(|body| body.starts_with("s0/")).collect();
    assert_eq!(handled, ["s0/0", "s0/1", "s0/2", "s0/4"], "each once, in order, but what came while it was halted");
}

async fn a_send_to_a_deleted_channel_is_an_error(stage: Arc<Stage>) {
    let broker = stage.provisioned(stage.options(LANES)).await;
    let producer = broker.producer(CHANNEL).await.expect("producer");
    producer.send(message("s0/0")).await.expect("sent");
    stage.delete_exchange(CHANNEL);
    // The broker closes the AMQP channel for it, so it says nothing of this message by itself; but why, it says.
    let (first, behind) = (producer.send(message("s0/1")), producer.send(message("s0/2")));
    let failed = first.await.expect_err("there is no channel");
    assert_eq!((failed.kind(), failed.outcome()), (ErrorKind::OutcomeUnknown, Outcome::Unknown), "{failed:?}");
    let said = chain(&failed);
    assert!(said.contains("NOT_FOUND") && said.contains(CHANNEL), "{said}");
    let held = behind.await.expect_err("it is halted");
    assert_eq!(held.kind(), ErrorKind::Halted, "{held:?}");
    let missing = broker.producer(CHANNEL).await.expect_err("no new producer");
    assert_eq!((missing.kind(), missing.context("channel")), (ErrorKind::NotFound, Some(CHANNEL)), "{missing:?}");

    broker.provision(&topology()).await.expect("made again");
    producer.resume(&id("s0"), Resume::Resend).await.expect("resumed").await.expect("all sent");
    let (gate, seen) = (Gate::open(), Seen::default());
    let processor = gate.start(&broker, &seen).await;
    until("all is settled", || seen.settled() == 3).await;
    assert!(processor.drain().await.expect("drained").drained);
    assert_eq!(gate.handled(), ["s0/0", "s0/1", "s0/2"], "each once, in order");
}
