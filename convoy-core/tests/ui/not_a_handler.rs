//! What is no function has to say how it handles a message.
//~ E0277
//~ `Audit` does not handle messages of `String`
//~ a handler takes one argument, `Received<T>`, and returns `Result<(), Failure>`

use convoy_core::{Broker, Failure, Handler, Received};

struct Audit;

#[cfg(fixed)]
impl Handler<String> for Audit {
    async fn handle(&self, _: Received<String>) -> Result<(), Failure> {
        Ok(())
    }
}

async fn run(broker: Broker) -> convoy_core::Result<()> {
    broker.consumer("orders").processor().start::<String>(Audit).await?;
    Ok(())
}

fn main() {
    let _ = run;
}
