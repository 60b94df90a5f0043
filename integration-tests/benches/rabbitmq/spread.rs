//! How long it takes until the lanes of a group lie evenly on its members, after the last of them has come.

use std::time::{Duration, Instant};

use bytes::Bytes;
use convoy_core::{Broker, ChannelSpec, Processor, Received, Topology};
use convoy_rabbitmq::{Options, RabbitBroker};

use crate::Any;

const LANES: usize = 24;
const MEMBERS: usize = 3;
const LIMIT: Duration = Duration::from_secs(30);
const LOOK: Duration = Duration::from_millis(10);
const DRAIN: Duration = Duration::from_secs(10);

/// Members come one after the other, each with connections of its own, and the last one is timed from its first step; so many times. The channel is empty: lanes move all the same.
pub(crate) async fn spread(url: &str, run: &str, trials: usize) -> Result<Vec<Duration>, Any> {
    let channel = format!("bench-spread-{run}");
    let options = Options::from_url(url)?.lanes(LANES as u32);
    let first = Broker::new(RabbitBroker::connect(options.clone()).await?);
    first.provision(&Topology::new().channel(ChannelSpec::new(&channel).group("bench"))).await?;
    first.close(DRAIN).await?;
    let mut took = Vec::with_capacity(trials);
    for _ in 0..trials {
        let mut members = Vec::with_capacity(MEMBERS);
        for number in 1..=MEMBERS {
            let begun = Instant::now();
            members.push(join(options.clone(), &channel).await?);
            even(&members, LANES / number).await?;
            if number == MEMBERS {
                took.push(begun.elapsed());
            }
        }
        for (broker, processor) in members {
            processor.drain().await?;
            broker.close(DRAIN).await?;
        }
    }
    Ok(took)
}

async fn join(options: Options, channel: &str) -> Result<(Broker, Processor), Any> {
    let broker = Broker::new(RabbitBroker::connect(options).await?);
    let processor = broker.consumer(channel).group("bench").processor();
    let processor = processor.start(|_: Received<Bytes>| async { Ok::<(), convoy_core::Failure>(()) }).await?;
    Ok((broker, processor))
}

/// Waits until each has as many.
async fn even(members: &[(Broker, Processor)], each: usize) -> Result<(), Any> {
    let begun = Instant::now();
    loop {
        let held: Vec<usize> = members.iter().map(|(_, processor)| processor.snapshot().held).collect();
        if held.iter().all(|held| *held == each) {
            return Ok(());
        }
        if begun.elapsed() > LIMIT {
            return Err(format!("the lanes lie as {held:?} after {LIMIT:?}").into());
        }
        tokio::time::sleep(LOOK).await;
    }
}
