//! The forms of a handler and of a payload that are accepted, and a retry with its consequence.

use std::sync::Arc;
use std::time::Duration;

use convoy_core::{Broker, Content, Exhausted, Failure, Handler, Json, Received, Retry, with_state};

async fn plain(_: Received<String>) -> Result<(), Failure> {
    Ok(())
}

async fn content(message: Received<Arc<Content>>) -> Result<(), Failure> {
    let _: u32 = std::str::from_utf8(message.body.body())?.parse()?;
    Ok(())
}

struct Audit(Arc<str>);

impl Handler<Json<u32>> for Audit {
    async fn handle(&self, message: Received<Json<u32>>) -> Result<(), Failure> {
        if *message.body > 7 { Err(Failure::dead_letter(&self.0)) } else { Err(Failure::stop("enough")) }
    }
}

async fn run(broker: Broker) -> convoy_core::Result<()> {
    let retry = Retry::default().at_most(5).then(Exhausted::DeadLetter);
    let processor = || broker.consumer("orders").processor().retry(retry.clone());
    let never = std::future::pending::<()>;
    processor().run_until(never(), plain).await?;
    processor().run_until(never(), content).await?;
    processor().run_until(never(), |_: Received<String>| async move { Ok(()) }).await?;
    processor().run_until(never(), async |_: Received<String>| Ok(())).await?;
    processor().run_until(never(), Audit("too much".into())).await?;
    let state = Arc::new(Duration::ZERO);
    let with = async |time: Arc<Duration>, _: Received<String>| if time.is_zero() { Ok(()) } else { Err(Failure::retry("not now")) };
    processor().run_until(never(), with_state(state, with)).await?;
    Ok(())
}

fn main() {
    let _ = run;
}
