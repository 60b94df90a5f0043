//! Every form of a handler and of a payload that is accepted handles a message.

#![cfg(all(feature = "memory", feature = "json"))]

use std::sync::{Arc, Mutex};
use std::time::Duration;

use convoy::memory::MemoryBroker;
use convoy::{
    Broker, Bytes, Content, ErrorKind, Exhausted, Failure, Handler, Json, Message, Payload, Received, Retry, with_state,
};

type Seen = Arc<Mutex<Vec<String>>>;

fn tell(seen: &Seen, what: impl ToString) {
    seen.lock().expect("no panic under it").push(what.to_string());
}

/// Handles one message with this body, on a broker of its own.
async fn handle<T: Payload>(body: &'static str, handler: impl Handler<T>) {
    let broker = Broker::new(MemoryBroker::new());
    let orders = broker.producer("orders").await.expect("a producer");
    orders.send(Message::new("order-17", body).expect("a message")).await.expect("confirmed");
    let processor = broker.consumer("orders").processor().start(handler).await.expect("a processor");
    while processor.snapshot().completed == 0 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert!(processor.drain().await.expect("drained").drained);
}

async fn plain(order: Received<String>) -> Result<(), Failure> {
    assert_eq!((order.body.as_str(), order.attempt()), ("paid", 1));
    Ok(())
}

struct Audit(Seen);

impl Handler<Json<Vec<u32>>> for Audit {
    async fn handle(&self, order: Received<Json<Vec<u32>>>) -> Result<(), Failure> {
        tell(&self.0, order.body.len());
        Ok(())
    }
}

#[tokio::test(start_paused = true)]
async fn a_function_a_closure_a_struct_and_each_with_state() {
    let seen = Seen::default();
    handle("paid", plain).await;
    handle("paid", |order: Received<String>| async move {
        assert_eq!(order.body, "paid");
        Ok(())
    })
    .await;
    handle("paid", async |order: Received<String>| {
        assert_eq!(order.body, "paid");
        Ok(())
    })
    .await;
    let captured = Arc::clone(&seen);
    handle("captured", move |order: Received<String>| {
        let seen = Arc::clone(&captured);
        async move {
            tell(&seen, order.body);
            Ok(())
        }
    })
    .await;
    handle("[1, 2, 3]", Audit(Arc::clone(&seen))).await;
    handle(
        "stateful",
        with_state(Arc::clone(&seen), async |seen: Seen, order: Received<String>| {
            tell(&seen, &order.body);
            Ok(())
        }),
    )
    .await;
    async fn function(seen: Seen, order: Received<String>) -> Result<(), Failure> {
        tell(&seen, &order.body);
        Ok(())
    }
    handle("function", with_state(Arc::clone(&seen), function)).await;
    let seen = seen.lock().expect("no panic under it").clone();
    assert_eq!(seen, ["captured", "3", "stateful", "function"]);
}

#[tokio::test(start_paused = true)]
async fn bytes_text_json_and_the_whole_content() {
    handle("paid", async |order: Received<Bytes>| {
        assert_eq!(order.body, "paid");
        Ok(())
    })
    .await;
    handle("paid", async |order: Received<Arc<Content>>| {
        assert_eq!(order.body.body(), "paid");
        Ok(())
    })
    .await;
    handle("17", async |order: Received<Json<u64>>| {
        assert_eq!(*order.body, 17);
        Ok(())
    })
    .await;
}

/// What a message whose handler gives this error comes to: its attempts, and the code and text of its dead letter; or how the processor stopped.
async fn fail(failure: fn() -> Failure) -> Result<(u32, String, String), ErrorKind> {
    let broker = Broker::new(MemoryBroker::new());
    let orders = broker.producer("orders").await.expect("a producer");
    orders.send(Message::new("order-17", "paid").expect("a message")).await.expect("confirmed");
    let retry = Retry::fixed(Duration::from_secs(1)).at_most(3).then(Exhausted::DeadLetter);
    let builder = broker.consumer("orders").processor().retry(retry);
    let minute = tokio::time::sleep(Duration::from_secs(60));
    let ended =
        builder.run_until(minute, with_state(failure, async |f: fn() -> Failure, _: Received<String>| Err(f())));
    ended.await.map_err(|error| error.kind())?;
    let store = broker.dead_letters("orders", "default").await.expect("a store");
    let letters = store.list(0, 2).await.expect("a list");
    assert_eq!(letters.len(), 1);
    Ok((letters[0].attempts, letters[0].code.clone(), letters[0].detail.clone()))
}

#[tokio::test(start_paused = true)]
async fn an_error_is_tried_again_and_a_failure_says_more() {
    let parse: fn() -> Failure = || "x".parse::<u32>().expect_err("no number").into();
    assert_eq!(
        fail(parse).await,
        Ok((3, "attempts-exhausted".to_owned(), "invalid digit found in string".to_owned())),
        "any error is tried again"
    );
    let dead = fail(|| Failure::dead_letter("no such order")).await;
    assert_eq!(dead, Ok((1, "handler".to_owned(), "no such order".to_owned())));
    assert_eq!(fail(|| Failure::stop("the database is gone")).await, Err(ErrorKind::HandlerStopped));
}
