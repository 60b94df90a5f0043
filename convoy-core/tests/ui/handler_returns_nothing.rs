//! A handler says whether it handled its message.
//~ E0277
//~ does not handle messages of `String`
//~ a handler takes one argument, `Received<T>`, and returns `Result<(), Failure>`

use convoy_core::{Broker, Failure, Received};

async fn run(broker: Broker) -> convoy_core::Result<()> {
    let builder = broker.consumer("orders").processor();
    #[cfg(not(fixed))]
    builder.start(|_: Received<String>| async move {}).await?;
    #[cfg(fixed)]
    builder.start(|_: Received<String>| async move { Ok::<(), Failure>(()) }).await?;
    Ok(())
}

fn main() {
    let _ = run;
}
