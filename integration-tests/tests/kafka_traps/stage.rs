//! A topic for a scenario, and clients of it: convoy's, and a raw one.

use std::sync::Arc;
use std::time::{Duration, Instant};

use convoy_core::{Broker, ChannelSpec, Failure, Message, Processor, Received, Topology, with_state};
use convoy_kafka::{KafkaBroker, Options};
use parking_lot::Mutex;
use rdkafka::admin::{AdminClient, AdminOptions};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::FromClientConfig;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};

pub(crate) const GROUP: &str = "workers";
/// So long whatever should happen may take.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) struct Stage {
    pub(crate) port: u16,
    pub(crate) channel: String,
}

impl Stage {
    pub(crate) fn new(name: &str) -> Self {
        let url = std::env::var("CONVOY_KAFKA_URL").unwrap_or_else(|_| "kafka://127.0.0.1:9092".to_owned());
        let address = url.trim_start_matches("kafka://").split(['/', '?', ',']).next().unwrap_or_default().to_owned();
        let port = address.strip_prefix("127.0.0.1:").and_then(|port| port.parse().ok());
        let unique = convoy_core::MessageId::random().as_u128() as u32;
        let name = name.replace('_', "-");
        Self {
            port: port.expect("CONVOY_KAFKA_URL is kafka://127.0.0.1:port"),
            channel: format!("trap-{name}-{unique:08x}"),
        }
    }

    /// The group as the broker knows it.
    pub(crate) fn group(&self) -> String {
        format!("{}.{GROUP}", self.channel)
    }

    /// Options for a broker on this port.
    pub(crate) fn options(&self, port: u16) -> Options {
        Options::new("127.0.0.1")
            .port(port)
            .group_prefix(format!("{}.", self.channel))
            .session_timeout(Duration::from_secs(5))
            .heartbeat(Duration::from_millis(200))
            .settle_interval(Duration::from_millis(50))
            .lane_check(Duration::from_millis(500))
    }

    /// A broker handle, with the channel and its group provisioned with so many lanes.
    pub(crate) async fn provisioned(&self, lanes: u32) -> Broker {
        let broker = connect(self.options(self.port)).await;
        let spec = ChannelSpec::new(&self.channel).group(GROUP).lanes(lanes);
        broker.provision(&Topology::new().channel(spec)).await.expect("provision");
        broker
    }

    /// Sends these bodies, in order. A body is `session/number`.
    pub(crate) async fn send(&self, broker: &Broker, bodies: &[String]) {
        let producer = broker.producer(&self.channel).await.expect("producer");
        for body in bodies {
            let session = body.split_once('/').map_or(body.as_str(), |(session, _)| session);
            let message = Message::new(session.to_owned(), body.clone()).expect("a message");
            producer.send(message).await.unwrap_or_else(|e| panic!("send {body}: {e:?}"));
        }
        producer.close(PATIENCE).await.expect("close");
    }

    /// A processor that writes what it gets into a log.
    pub(crate) async fn noting(&self, broker: &Broker, log: &Log) -> Processor {
        let consumer = broker.consumer(&self.channel).group(GROUP);
        consumer.processor().start(with_state(log.clone(), note)).await.expect("a processor")
    }

    pub(crate) fn raw(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", format!("127.0.0.1:{}", self.port)).set("group.id", self.group());
        config
    }

    pub(crate) fn admin(&self) -> AdminClient<DefaultClientContext> {
        AdminClient::from_config(&self.raw()).expect("an admin client")
    }

    /// What the group has committed of a lane: offset and metadata.
    pub(crate) fn committed(&self, lane: u32) -> (Offset, String) {
        let asks: BaseConsumer = self.raw().create().expect("a client");
        let mut list = TopicPartitionList::new();
        list.add_partition(&self.channel, lane as i32);
        let list = asks.committed_offsets(list, PATIENCE).expect("committed offsets");
        let of = list.find_partition(&self.channel, lane as i32).expect("the lane");
        (of.offset(), of.metadata().to_owned())
    }

    /// Commits for the group, which has no member.
    pub(crate) fn commit(&self, lane: u32, offset: i64, metadata: &str) {
        let tells: BaseConsumer = self.raw().create().expect("a client");
        let mut list = TopicPartitionList::new();
        let mut of = list.add_partition(&self.channel, lane as i32);
        of.set_offset(Offset::Offset(offset)).expect("an offset");
        of.set_metadata(metadata);
        tells.commit(&list, CommitMode::Sync).expect("a commit");
    }

    /// What a scenario leaves is files and threads of the broker.
    pub(crate) async fn clear(&self) {
        let store = format!("{}.{GROUP}.dead", self.channel);
        let limit = AdminOptions::new().operation_timeout(Some(PATIENCE));
        self.admin().delete_topics(&[&self.channel, &store], &limit).await.ok();
    }
}

pub(crate) async fn connect(options: Options) -> Broker {
    Broker::new(KafkaBroker::connect(options).await.expect("connect"))
}

/// What handlers did, in order.
pub(crate) type Log = Arc<Mutex<Vec<String>>>;

pub(crate) async fn note(log: Log, message: Received<String>) -> Result<(), Failure> {
    log.lock().push(message.body.clone());
    Ok(())
}

/// So many bodies of each session, turn by turn.
pub(crate) fn bodies(sessions: usize, each: usize) -> Vec<String> {
    (0..each).flat_map(|n| (0..sessions).map(move |s| format!("s{s}/{n}"))).collect()
}

/// Waits for this, and not for ever.
pub(crate) async fn until(what: &str, mut is: impl FnMut() -> bool) {
    let give_up = Instant::now() + PATIENCE;
    while !is() {
        assert!(Instant::now() < give_up, "it did not come to be within {PATIENCE:?}: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
