//! What pull loops are told: neither old news nor none.

#![cfg(feature = "memory")]

use std::time::Duration;

use convoy::backend::Place;
use convoy::memory::{AnswerFault, MemoryBroker, Options};
use convoy::{Broker, Consumer, ErrorKind, Message, SessionId};
use tokio::time::{Instant, timeout};

const SECOND: Duration = Duration::from_secs(1);

async fn open(broker: &Broker) -> Consumer {
    broker.consumer("orders").group("billing").open().await.expect("a consumer")
}

async fn send(broker: &Broker, bodies: &[&'static str]) {
    let orders = broker.producer("orders").await.expect("a producer");
    for body in bodies {
        orders.send(Message::new("order-17", *body).expect("a message")).await.expect("confirmed");
    }
}

#[tokio::test(start_paused = true)]
async fn a_consumer_that_failed_says_so_to_everybody_and_again() {
    let memory = MemoryBroker::new();
    let broker = Broker::new(memory.clone());
    let consumer = open(&broker).await;
    broker.close(SECOND).await.expect("closed");
    let both = tokio::join!(consumer.accept_next(10 * SECOND), consumer.accept_next(10 * SECOND));
    for told in [both.0, both.1, consumer.accept_next(10 * SECOND).await] {
        assert_eq!(told.map(|_| ()).expect_err("the broker is closed").kind(), ErrorKind::Closed);
    }
    let named = consumer.accept("order-17", 10 * SECOND).await;
    assert_eq!(named.map(|_| ()).expect_err("the broker is closed").kind(), ErrorKind::Closed);
}

#[tokio::test(start_paused = true)]
async fn a_denial_that_came_too_late_is_not_for_the_next_who_asks() {
    let broker = Broker::new(MemoryBroker::new());
    send(&broker, &["paid"]).await;
    let (holder, other) = (open(&broker).await, open(&broker).await);
    let held = holder.accept("order-17", SECOND).await.expect("it is free");
    for _ in 0..3 {
        let began = Instant::now();
        assert!(other.accept("order-17", SECOND).await.is_err(), "somebody else holds it");
        assert!(began.elapsed() >= SECOND, "an old answer: {:?}", began.elapsed());
        tokio::time::sleep(SECOND).await;
    }
    // One who gives up is answered all the same.
    assert!(timeout(SECOND / 2, other.accept("order-17", SECOND)).await.is_err());
    tokio::time::sleep(SECOND).await;
    drop(held);
    other.accept("order-17", SECOND).await.expect("it is free again");
}

#[tokio::test(start_paused = true)]
async fn a_flush_that_was_given_up_does_not_answer_the_next() {
    let memory = MemoryBroker::with_options(Options::new().lanes(1)).expect("options");
    let broker = Broker::new(memory.clone());
    send(&broker, &["placed", "paid"]).await;
    let consumer = open(&broker).await;
    let mut session = consumer.accept_next(SECOND).await.expect("accepted").expect("a session");
    let faults = memory.faults().group("orders", "billing").expect("the group");
    for _ in 0..2 {
        faults.settlements(1, AnswerFault::Delay(3 * SECOND));
        session.next::<String>(SECOND).await.expect("held").expect("a message").complete().await.expect("recorded");
        let began = Instant::now();
        assert!(timeout(SECOND, session.flush(10 * SECOND)).await.is_err(), "{:?}", began.elapsed());
        tokio::time::sleep(10 * SECOND).await;
    }
    session.release(SECOND).await.expect("released");
}

#[tokio::test(start_paused = true)]
async fn state_is_written_while_a_message_is_out_and_only_under_the_right() {
    let memory = MemoryBroker::new();
    let broker = Broker::new(memory.clone());
    send(&broker, &["placed", "paid"]).await;
    let consumer = open(&broker).await;
    let mut session = consumer.accept_next(SECOND).await.expect("accepted").expect("a session");
    let placed = session.next::<String>(SECOND).await.expect("held").expect("a message");
    placed.set_state(Some("after placed".into())).await.expect("it is held");
    // It was not settled: it comes again, and what it did is known.
    drop(placed);
    drop(session);
    let mut session = consumer.accept_next(SECOND).await.expect("accepted").expect("the session again");
    assert_eq!(session.state().await.expect("held").as_deref(), Some(&b"after placed"[..]));
    let placed = session.next::<String>(SECOND).await.expect("held").expect("a message");
    assert_eq!(placed.body, "placed");
    let place = Place::Session(SessionId::new("order-17").expect("an id"));
    assert!(memory.faults().group("orders", "billing").expect("the group").lose(&place), "it was held");
    tokio::time::sleep(SECOND).await;
    let refused = placed.set_state(Some("too late".into())).await.expect_err("the right is gone");
    assert_eq!(refused.kind(), ErrorKind::LockLost);
    drop(placed);
    drop(session);
    let session = consumer.accept("order-17", 60 * SECOND).await.expect("it is free again");
    assert_eq!(session.state().await.expect("held").as_deref(), Some(&b"after placed"[..]));
}
