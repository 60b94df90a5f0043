//! A body is read as a type that says how.
//~ E0277
//~ take `Received<Bytes>` for the raw body, `Received<String>` for text, `Received<Json<T>>`

use convoy_core::{Broker, Failure, Received};

#[cfg(not(fixed))]
type Body = u32;
#[cfg(fixed)]
type Body = convoy_core::Json<u32>;

async fn bill(_: Received<Body>) -> Result<(), Failure> {
    Ok(())
}

async fn run(broker: Broker) -> convoy_core::Result<()> {
    broker.consumer("orders").processor().start(bill).await?;
    Ok(())
}

fn main() {
    let _ = run;
}
