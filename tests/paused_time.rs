//! How a program tests its own handlers: on the memory broker, under tokio's paused clock, so that waits of seconds take none.

#![cfg(feature = "memory")]

use std::sync::{Arc, Mutex};
use std::time::Duration;

use convoy::memory::MemoryBroker;
use convoy::{Broker, Exhausted, Failure, Message, Received, Retry, with_state};

type Seen = Arc<Mutex<Vec<String>>>;

async fn ship(seen: Seen, order: Received<String>) -> Result<(), Failure> {
    seen.lock().expect("no panic under it").push(format!("{}#{}", order.body, order.attempt()));
    if order.body == "lost parcel" { Err(Failure::retry("nobody knows where it is")) } else { Ok(()) }
}

#[tokio::test(start_paused = true)]
async fn a_message_that_keeps_failing_is_dead_lettered_and_its_session_goes_on() {
    let broker = Broker::new(MemoryBroker::new());
    let orders = broker.producer("orders").await.expect("a producer");
    for body in ["placed", "lost parcel", "refunded"] {
        orders.send(Message::new("order-17", body).expect("a message")).await.expect("confirmed");
    }

    let seen = Seen::default();
    let began = tokio::time::Instant::now();
    let processor = broker
        .consumer("orders")
        .group("shipping")
        .processor()
        .retry(Retry::fixed(Duration::from_secs(60)).at_most(3).then(Exhausted::DeadLetter))
        .start(with_state(Arc::clone(&seen), ship))
        .await
        .expect("a processor");
    while processor.snapshot().completed < 2 {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    processor.drain().await.expect("drained");

    // Two waits of half a minute to a minute each (they are drawn) passed, in no time.
    assert!(began.elapsed() >= Duration::from_secs(60));
    let seen = seen.lock().expect("no panic under it").clone();
    assert_eq!(seen, ["placed#1", "lost parcel#1", "lost parcel#2", "lost parcel#3", "refunded#1"]);
    let letters = broker.dead_letters("orders", "shipping").await.expect("a store").list(0, 10).await.expect("a list");
    assert_eq!(letters.len(), 1);
    assert_eq!((letters[0].attempts, letters[0].detail.as_str()), (3, "nobody knows where it is"));
}
