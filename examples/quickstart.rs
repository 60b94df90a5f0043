//! The smallest whole program: three events of two orders, handled in order, on the broker in this process.
//!
//! ```text
//! cargo run --release --example quickstart
//! ```

use std::sync::Arc;

use convoy::{Failure, Json, Message, Received, with_state};
use serde::{Deserialize, Serialize};
use tokio::sync::Semaphore;

#[derive(Serialize, Deserialize)]
struct Order {
    step: String,
}

async fn bill(done: Arc<Semaphore>, order: Received<Json<Order>>) -> Result<(), Failure> {
    println!("{}: {} (attempt {})", order.session(), order.body.step, order.attempt());
    if order.body.step == "paid" && order.attempt() == 1 {
        // Tried again in place: what follows in this session waits, other sessions go on.
        return Err(Failure::retry("the bank did not answer"));
    }
    done.add_permits(1);
    Ok(())
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let broker = convoy::connect("memory://quickstart").await?;
    let orders = broker.producer("orders").await?;
    for (session, step) in [("order-1", "paid"), ("order-2", "placed"), ("order-1", "shipped")] {
        orders.send(Message::json(session, &Order { step: step.to_owned() })?).await?;
    }

    let done = Arc::new(Semaphore::new(0));
    let until = Arc::clone(&done);
    // A service would say `run_until(convoy::shutdown_signal(), …)`.
    let report = broker
        .consumer("orders")
        .group("billing")
        .processor()
        .run_until(async move { until.acquire_many(3).await.map(drop) }, with_state(done, bill))
        .await?;
    println!("{} handled, {} tried again", report.last.completed, report.last.retried);
    Ok(())
}
