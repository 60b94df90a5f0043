//! The harness of RabbitMQ.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use convoy_core::{Broker, ChannelSpec, Error, ErrorKind, Result, Topology};
use convoy_rabbitmq::{Options, RabbitBroker};
use lapin::options::{ExchangeDeleteOptions, QueueDeleteOptions};
use lapin::{Connection, ConnectionProperties};

use convoy_conformance::checker;
use convoy_conformance::suite::{Fault, Faults, GROUP, Harness, Hook, Shape, Stage, Wishes};

/// Where `cargo xtask brokers up rabbitmq` puts it.
const URL: &str = "amqp://guest:guest@127.0.0.1:5672";
const PREFETCH: u16 = 500;

/// A RabbitMQ broker under test.
#[derive(Debug)]
pub(crate) struct Rabbit {
    url: String,
    run: u128,
    stages: AtomicU32,
}

impl Rabbit {
    pub(crate) fn from_env() -> Self {
        let url = std::env::var("CONVOY_RABBITMQ_URL").unwrap_or_else(|_| URL.to_owned());
        let run = convoy_core::MessageId::random().as_u128();
        Self { url, run, stages: AtomicU32::new(0) }
    }

    async fn raw(&self) -> Result<Connection> {
        let connect = Connection::connect(&self.url, ConnectionProperties::default());
        let connected = tokio::time::timeout(Duration::from_secs(10), connect).await;
        let why =
            |e: Box<dyn std::error::Error + Send + Sync>| Error::new(ErrorKind::Disconnected, "stage").caused_by(e);
        connected.map_err(|e| why(e.into()))?.map_err(|e| why(e.into()))
    }
}

#[async_trait]
impl Harness for Rabbit {
    fn name(&self) -> String {
        "rabbitmq".to_owned()
    }

    fn shape(&self) -> Shape {
        Shape::Lanes
    }

    fn hooks(&self) -> &'static [Hook] {
        &[]
    }

    fn judged_by(&self) -> checker::Options {
        checker::Options::partial()
    }

    async fn stage(&self, wishes: Wishes) -> Result<Stage> {
        let number = self.stages.fetch_add(1, Ordering::Relaxed);
        let channel = format!("orders-{:x}-{number}", self.run & u128::from(u32::MAX));
        let heartbeat = Duration::from_secs(wishes.lock.as_secs_f64().ceil().max(1.0) as u64);
        let options = Options::from_url(&self.url)?
            .lanes(wishes.lanes)
            .prefetch(PREFETCH)
            .heartbeat(heartbeat)
            .max_message(wishes.max_message)
            .auto_create(true);
        let broker = Broker::new(RabbitBroker::connect(options).await?);
        broker.provision(&Topology::new().channel(ChannelSpec::new(&channel).group(GROUP))).await?;
        Ok(Stage { broker, channel, faults: Box::new(RabbitFaults) })
    }

    async fn strike(&self, channel: &str) {
        let Ok(connection) = self.raw().await else { return };
        let Ok(raw) = connection.create_channel().await else { return };
        let lanes = Wishes::default().lanes.max(64);
        for lane in 0..lanes {
            let queue = format!("{channel}.{GROUP}.g1.l{lanes}.p{PREFETCH}.lane.{lane}");
            raw.queue_delete(queue.as_str().into(), QueueDeleteOptions::default()).await.ok();
        }
        for end in ["pin", "dead"] {
            let queue = format!("{channel}.{GROUP}.{end}");
            raw.queue_delete(queue.as_str().into(), QueueDeleteOptions::default()).await.ok();
        }
        raw.exchange_delete(channel.into(), ExchangeDeleteOptions::default()).await.ok();
    }
}

struct RabbitFaults;

impl Faults for RabbitFaults {
    fn inject(&self, _group: &str, _fault: Fault) -> bool {
        false
    }
}
