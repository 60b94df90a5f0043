//! One process of a run with faults: a consumer or a producer, built on what every program has, that writes its own history.
//!
//! It is made to be killed, stopped and continued. It drains on `SIGTERM`, on the line `drain`, and when its standard input ends, so none outlives
//! the program that started it. What it does is told on standard output, a line of `key=value` at a time, for that program to show; what is judged is the history alone.
//!
//! ```text
//! worker provision --url amqp://…|kafka://… --channel C
//! worker consume   --url …  --channel C --history FILE --process N [--work-us U] [--fail-permille F] [--lie early|ahead]
//! worker produce   --url …  --channel C --history FILE --process N --sessions S --messages M --rate R --seed X
//! ```

mod args;
mod consume;
mod input;
mod lie;
mod produce;

use std::process::ExitCode;
use std::time::Duration;

use convoy_core::backend::Backend;
use convoy_core::{Broker, ChannelSpec, Topology};
use convoy_kafka::KafkaBroker;
use convoy_rabbitmq::RabbitBroker;
use lie::Hasty;

use args::Args;

pub(crate) type Any = Box<dyn std::error::Error + Send + Sync>;

/// The one group.
pub(crate) const GROUP: &str = "chaos";
/// Its number in the history.
pub(crate) const GROUP_NUMBER: u32 = 1;
/// How long a broker that does not answer is tried again, when this process starts.
const CONNECT: Duration = Duration::from_secs(90);
const CLOSE: Duration = Duration::from_secs(5);

fn main() -> ExitCode {
    let args = match Args::read(std::env::args().skip(1)) {
        Ok(args) => args,
        Err(why) => {
            eprintln!("worker: {why}");
            return ExitCode::from(2);
        }
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    match runtime.map_err(Any::from).and_then(|runtime| runtime.block_on(run(&args))) {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("worker: {why}");
            ExitCode::FAILURE
        }
    }
}

async fn run(args: &Args) -> Result<(), Any> {
    match args.verb.as_str() {
        "provision" => {
            let broker = connect(args).await?;
            broker.provision(&Topology::new().channel(ChannelSpec::new(&args.channel).group(GROUP))).await?;
            broker.close(CLOSE).await?;
            Ok(())
        }
        "consume" => consume::consume(args).await,
        "produce" => produce::produce(args).await,
        other => Err(format!("there is no `{other}`").into()),
    }
}

/// Connects; a broker that is just being restarted is waited for.
pub(crate) async fn connect(args: &Args) -> Result<Broker, Any> {
    patiently(async || {
        Ok(match args.url.starts_with("kafka:") {
            true => honest_or_not(KafkaBroker::from_url(&args.url).await?, args),
            false => honest_or_not(RabbitBroker::from_url(&args.url).await?, args),
        })
    })
    .await
}

fn honest_or_not(backend: impl Backend, args: &Args) -> Broker {
    match args.lie {
        Some(lie) => Broker::new(Hasty::new(backend, lie)),
        None => Broker::new(backend),
    }
}

/// Does something until it succeeds, or until the time is over.
pub(crate) async fn patiently<T>(mut attempt: impl AsyncFnMut() -> convoy_core::Result<T>) -> Result<T, Any> {
    let until = tokio::time::Instant::now() + CONNECT;
    loop {
        match attempt().await {
            Ok(done) => return Ok(done),
            Err(error) if tokio::time::Instant::now() >= until => return Err(error.into()),
            Err(error) => {
                eprintln!("worker: trying again: {error}");
                tokio::time::sleep(Duration::from_millis(250)).await;
            }
        }
    }
}
