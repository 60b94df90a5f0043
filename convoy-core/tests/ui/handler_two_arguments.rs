//! A handler takes one argument. (Of a wrong number of arguments rustc speaks itself, and clearly; no attribute changes that.)
//~ E0593

use std::sync::Arc;

use convoy_core::{Broker, Failure, Received, with_state};

async fn bill(_: Arc<str>, _: Received<String>) -> Result<(), Failure> {
    Ok(())
}

async fn run(broker: Broker) -> convoy_core::Result<()> {
    let builder = broker.consumer("orders").processor();
    #[cfg(not(fixed))]
    builder.start::<String>(bill).await?;
    #[cfg(fixed)]
    builder.start::<String>(with_state("db".into(), bill)).await?;
    Ok(())
}

fn main() {
    let _ = run;
}
