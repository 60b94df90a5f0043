//! A handler returns `Result<(), Failure>`.
//~ E0277
//~ does not handle messages of `String`
//~ a handler takes one argument, `Received<T>`, and returns `Result<(), Failure>`

use convoy_core::{Broker, Failure, Received};

#[cfg(not(fixed))]
async fn bill(_: Received<String>) -> Result<u32, Failure> {
    Ok(1)
}

#[cfg(fixed)]
async fn bill(_: Received<String>) -> Result<(), Failure> {
    Ok(())
}

async fn run(broker: Broker) -> convoy_core::Result<()> {
    broker.consumer("orders").processor().start::<String>(bill).await?;
    Ok(())
}

fn main() {
    let _ = run;
}
