//! An async closure that captures has no `Send` future that could be named: state is handed to it.
//~ E0277
//~ does not handle messages of `String`
//~ give it something to work with by `with_state(db, async |db, order: Received<Json<Order>>|

use std::sync::Arc;

use convoy_core::{Broker, Failure, Received, with_state};

async fn run(broker: Broker) -> convoy_core::Result<()> {
    let builder = broker.consumer("orders").processor();
    let db: Arc<str> = "db".into();
    #[cfg(not(fixed))]
    builder
        .start(async move |order: Received<String>| {
            println!("{db}: {}", order.body);
            Ok::<(), Failure>(())
        })
        .await?;
    #[cfg(fixed)]
    builder
        .start(with_state(db, async |db: Arc<str>, order: Received<String>| {
            println!("{db}: {}", order.body);
            Ok(())
        }))
        .await?;
    Ok(())
}

fn main() {
    let _ = run;
}
