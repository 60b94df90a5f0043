//! A virtual host for a scenario, and clients of it: convoy's, and a raw one.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use convoy_core::{Broker, ChannelSpec, ConsumerBuilder, Message, Topology};
use convoy_rabbitmq::{Options, RabbitBroker};
use lapin::options::{BasicPublishOptions, ConfirmSelectOptions};
use lapin::types::{AMQPValue, FieldTable, LongString};
use lapin::{BasicProperties, Channel, Confirmation, Connection, ConnectionProperties};
use parking_lot::Mutex;

use crate::http::{Http, amqp_port};

pub(crate) const CHANNEL: &str = "orders";
pub(crate) const GROUP: &str = "workers";
pub(crate) const SLOTS: u32 = 1_024;
/// So long whatever should happen may take.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// The broker under test.
pub(crate) struct Server {
    amqp: u16,
    run: u32,
    version: String,
    stages: AtomicU32,
    notes: Mutex<Vec<String>>,
}

impl Server {
    pub(crate) fn from_env() -> Self {
        let amqp = amqp_port();
        let version = Http::beside(amqp).version().unwrap_or_else(|| "that-does-not-answer".to_owned());
        let seed = std::env::var("CONVOY_SEED").ok().and_then(|seed| seed.parse().ok());
        let run = seed.unwrap_or_else(|| fastrand::u32(..));
        Self { amqp, run, version, stages: AtomicU32::new(0), notes: Mutex::default() }
    }

    pub(crate) fn version(&self) -> &str {
        &self.version
    }

    pub(crate) fn seed(&self) -> u32 {
        self.run
    }

    pub(crate) fn notes(&self) -> Vec<String> {
        self.notes.lock().clone()
    }
}

/// A virtual host of a scenario's own.
pub(crate) struct Stage {
    server: Arc<Server>,
    name: &'static str,
    vhost: String,
}

impl Stage {
    pub(crate) fn new(server: &Arc<Server>, name: &'static str) -> Result<Self, String> {
        let number = server.stages.fetch_add(1, Ordering::Relaxed);
        let unique = convoy_core::MessageId::random().as_u128() as u32;
        let vhost = format!("traps-{unique:08x}-{number}");
        let stage = Self { server: Arc::clone(server), name, vhost };
        stage.try_ask("PUT", &format!("vhosts/{}", stage.vhost), "").map_err(|e| format!("no broker: {e:?}"))?;
        Ok(stage)
    }

    pub(crate) fn vhost(&self) -> &str {
        &self.vhost
    }

    pub(crate) fn amqp(&self) -> u16 {
        self.server.amqp
    }

    /// Where the broker's HTTP API is.
    pub(crate) fn http(&self) -> String {
        Http::beside(self.server.amqp).url()
    }

    /// Chance of its own for this scenario, from the seed of the run.
    pub(crate) fn random(&self) -> fastrand::Rng {
        fastrand::Rng::with_seed(u64::from(self.server.run))
    }

    /// Whether the broker is of this release or a later one, as one is that did not say: then nothing is left out.
    pub(crate) fn is_from(&self, major: u32, minor: u32) -> bool {
        let mut parts = self.server.version.split('.').map(|part| part.parse().unwrap_or(u32::MAX));
        let is: (u32, u32) = (parts.next().unwrap_or(u32::MAX), parts.next().unwrap_or(0));
        is >= (major, minor)
    }

    /// Says something at the end of the run.
    pub(crate) fn note(&self, text: impl std::fmt::Display) {
        self.server.notes.lock().push(format!("{}: {text}", self.name));
    }

    fn try_ask(&self, method: &str, path: &str, body: &str) -> convoy_core::Result<Vec<u8>> {
        Http::beside(self.server.amqp).ask(method, path, body)
    }

    /// Asks the HTTP API.
    pub(crate) fn ask(&self, method: &str, path: &str, body: &str) {
        self.try_ask(method, path, body).unwrap_or_else(|e| panic!("{method} {path}: {e:?}"));
    }

    pub(crate) fn delete_queue(&self, queue: &str) {
        self.ask("DELETE", &format!("queues/{}/{queue}", self.vhost), "");
    }

    pub(crate) fn delete_exchange(&self, exchange: &str) {
        self.ask("DELETE", &format!("exchanges/{}/{exchange}", self.vhost), "");
    }

    /// Options for this virtual host, with so many lanes. Bindings are not checked, so that nothing comes between.
    pub(crate) fn options(&self, lanes: u32) -> Options {
        let options = Options::new("127.0.0.1").port(self.server.amqp).vhost(&self.vhost).lanes(lanes);
        let options = options.heartbeat(Duration::from_secs(5)).settle_interval(Duration::from_millis(20));
        options.binding_check(Duration::ZERO).answer_limit(PATIENCE * 2)
    }

    /// A broker handle, with the channel and its group provisioned.
    pub(crate) async fn provisioned(&self, options: Options) -> Broker {
        let broker = connect(options).await;
        broker.provision(&topology()).await.expect("provision");
        broker
    }

    pub(crate) async fn raw(&self) -> Raw {
        Raw::connect(self, "guest", "guest").await
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        // What a scenario leaves fills the memory of the broker in the end.
        self.try_ask("DELETE", &format!("vhosts/{}", self.vhost), "").ok();
    }
}

pub(crate) fn topology() -> Topology {
    Topology::new().channel(ChannelSpec::new(CHANNEL).group(GROUP))
}

pub(crate) async fn connect(options: Options) -> Broker {
    Broker::new(RabbitBroker::connect(options).await.expect("connect"))
}

pub(crate) fn consumer(broker: &Broker) -> ConsumerBuilder {
    broker.consumer(CHANNEL).group(GROUP)
}

/// The queue of a lane.
pub(crate) fn lane(lanes: u32, lane: u32) -> String {
    format!("{CHANNEL}.{GROUP}.g1.l{lanes}.p500.lane.{lane}")
}

/// The slot of a session.
pub(crate) fn slot(session: &str) -> u32 {
    convoy_core::SessionId::new(session.to_owned()).expect("an id").lane_hash() % SLOTS
}

/// Sends these bodies, in order, and waits until the broker has all of them. A body is `session/number`.
pub(crate) async fn send(broker: &Broker, bodies: &[String]) {
    let producer = broker.producer(CHANNEL).await.expect("producer");
    for body in bodies {
        producer.send(message(body)).await.unwrap_or_else(|e| panic!("send {body}: {e:?}"));
    }
    producer.close(PATIENCE).await.expect("close");
}

/// The message of a body `session/number`.
pub(crate) fn message(body: &str) -> Message {
    Message::new(session(body).to_owned(), body.to_owned()).expect("a message")
}

/// The session that a body is of.
pub(crate) fn session(body: &str) -> &str {
    body.split_once('/').map_or(body, |(session, _)| session)
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

/// A client that knows nothing of convoy.
pub(crate) struct Raw {
    /// It lives as long as this.
    _connection: Connection,
    pub(crate) channel: Channel,
}

impl Raw {
    pub(crate) async fn connect(stage: &Stage, user: &str, password: &str) -> Self {
        let uri = format!("amqp://{user}:{password}@127.0.0.1:{}/{}", stage.server.amqp, stage.vhost);
        let connection = Connection::connect(&uri, ConnectionProperties::default()).await.expect("a raw client");
        let channel = connection.create_channel().await.expect("a channel");
        channel.confirm_select(ConfirmSelectOptions::default()).await.expect("confirms");
        Self { _connection: connection, channel }
    }

    /// Publishes, and says whether a queue took it.
    pub(crate) async fn publish(&self, exchange: &str, key: &str, properties: BasicProperties, body: &[u8]) -> bool {
        let mandatory = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
        let sent = self.channel.basic_publish(exchange.into(), key.into(), mandatory, body, properties).await;
        let confirmed = sent.expect("published").await.expect("confirmed");
        matches!(confirmed, Confirmation::Ack(None))
    }

    /// Takes the binding of a slot to a lane away.
    pub(crate) async fn unbind(&self, queue: &str, slot: u32) {
        let key = slot.to_string();
        let unbound =
            self.channel.queue_unbind(queue.into(), CHANNEL.into(), key.as_str().into(), FieldTable::default());
        unbound.await.expect("unbound");
    }
}

/// Text as it is in headers.
pub(crate) fn text(bytes: &[u8]) -> AMQPValue {
    AMQPValue::LongString(LongString::from(bytes.to_vec()))
}
