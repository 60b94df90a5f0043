//! The future of a handler may be moved to another thread.
//~ E0277
//~ does not handle messages of `String`
//~ its future must be `Send`: hold no `Rc`, `RefCell` borrow or lock guard over an `.await`

use std::rc::Rc;

use convoy_core::{Broker, Failure, Received};

async fn bill(order: Received<String>) -> Result<(), Failure> {
    let seen = Rc::new(order.body.len());
    #[cfg(not(fixed))]
    std::future::ready(()).await;
    if *seen > 0 { Ok(()) } else { Err(Failure::retry("empty")) }
}

async fn run(broker: Broker) -> convoy_core::Result<()> {
    broker.consumer("orders").processor().start(bill).await?;
    Ok(())
}

fn main() {
    let _ = run;
}
