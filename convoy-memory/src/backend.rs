//! The broker itself, and how programs reach it.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, Weak};

use async_trait::async_trait;
use convoy_core::backend::{Backend, ConsumerSpec, DeadLetterStore, Sink, Source};
use convoy_core::{Finding, Guarantees, Moment, Result, Severity, Topology};
use parking_lot::Mutex;

use crate::config::{self, Options};
use crate::consumer::MemorySource;
use crate::dead::MemoryDeadLetters;
use crate::error;
use crate::gate::Gate;
use crate::guarantees;
use crate::producer::MemorySink;
use crate::state::{Channel, Map};

/// An in-process broker, or rather a connection to one: cheap to clone, and the clones share it.
///
/// Messages live as long as the broker does, and the broker as long as somebody is connected, consumes or produces.
#[derive(Clone, Debug)]
pub struct MemoryBroker {
    client: Arc<Client>,
}

/// A connection: what was opened through it ends with it.
#[derive(Debug)]
struct Client {
    broker: Arc<Broker>,
    closed: AtomicBool,
    consumers: Mutex<Vec<Weak<MemorySource>>>,
    producers: Mutex<Vec<Weak<MemorySink>>>,
}

/// What all connections to one broker share.
#[derive(Debug)]
pub(crate) struct Broker {
    pub(crate) options: Options,
    pub(crate) gate: Arc<Gate>,
    pub(crate) channels: Mutex<Map<String, Arc<Channel>>>,
    last_consumer: AtomicU64,
}

impl MemoryBroker {
    /// A broker of its own that locks sessions, with the default options.
    #[must_use]
    pub fn new() -> Self {
        Self::of(Arc::new(Broker::new(Options::default())))
    }

    /// A broker of its own with these options.
    ///
    /// # Errors
    /// [`InvalidOption`](convoy_core::ErrorKind::InvalidOption), naming the option.
    pub fn with_options(options: Options) -> Result<Self> {
        options.validate()?;
        Ok(Self::of(Arc::new(Broker::new(options))))
    }

    /// Connects to the broker of this name in this process, and makes it when there is none: `memory://name?lanes=8&lock=30s`. Without a
    /// name it is a broker of its own. The options are those of [`Options`].
    ///
    /// # Errors
    /// [`InvalidOption`](convoy_core::ErrorKind::InvalidOption), naming the option: when it is unknown or its value wrong, or when the
    /// broker is there and has another value.
    pub fn from_url(url: &str) -> Result<Self> {
        let url = config::parse(url)?;
        if url.name.is_empty() {
            return Ok(Self::of(Arc::new(Broker::new(url.options))));
        }
        let mut brokers = registry().lock();
        brokers.retain(|_, broker| broker.strong_count() > 0);
        if let Some(broker) = brokers.get(&url.name).and_then(Weak::upgrade) {
            for (name, value) in &url.given {
                let mut with = broker.options.clone();
                with.set(name, value)?;
                if with != broker.options {
                    let why = format!("the broker `{}` was made with another value of `{name}`", url.name);
                    return Err(error::invalid_option(name, why));
                }
            }
            return Ok(Self::of(broker));
        }
        let broker = Arc::new(Broker::new(url.options));
        brokers.insert(url.name, Arc::downgrade(&broker));
        Ok(Self::of(broker))
    }

    fn of(broker: Arc<Broker>) -> Self {
        let (closed, consumers, producers) = (AtomicBool::new(false), Mutex::default(), Mutex::default());
        Self { client: Arc::new(Client { broker, closed, consumers, producers }) }
    }

    pub(crate) fn shared(&self) -> &Arc<Broker> {
        &self.client.broker
    }

    /// Waits until the broker answers, and refuses when this connection was closed.
    async fn connected(&self, operation: &'static str) -> Result<&Broker> {
        let broker = &self.client.broker;
        broker.gate.pass(operation, convoy_core::runtime::now() + broker.options.answer_limit).await?;
        if self.client.closed.load(Ordering::Acquire) { Err(error::closed(operation)) } else { Ok(broker) }
    }
}

impl Default for MemoryBroker {
    fn default() -> Self {
        Self::new()
    }
}

fn registry() -> &'static Mutex<Map<String, Weak<Broker>>> {
    static BROKERS: OnceLock<Mutex<Map<String, Weak<Broker>>>> = OnceLock::new();
    BROKERS.get_or_init(Mutex::default)
}

impl Broker {
    fn new(options: Options) -> Self {
        Self { options, gate: Arc::default(), channels: Mutex::default(), last_consumer: AtomicU64::new(0) }
    }

    pub(crate) fn find(&self, channel: &str) -> Option<Arc<Channel>> {
        self.channels.lock().get(channel).cloned()
    }

    pub(crate) fn all(&self) -> Vec<Arc<Channel>> {
        self.channels.lock().values().cloned().collect()
    }

    /// The channel of this name, made with `options` when there is none.
    pub(crate) fn make(&self, channel: &str, options: Options) -> Arc<Channel> {
        let mut channels = self.channels.lock();
        let make = || Arc::new(Channel::new(channel, options, &self.gate));
        Arc::clone(channels.entry(channel.to_owned()).or_insert_with(make))
    }

    /// The channel of this name, made on first use where that is allowed.
    pub(crate) fn open(&self, operation: &'static str, channel: &str) -> Result<Arc<Channel>> {
        match self.find(channel) {
            Some(channel) => Ok(channel),
            None if self.options.auto_create => Ok(self.make(channel, self.options.clone())),
            None => Err(error::channel_missing(operation, channel)),
        }
    }

    /// The same of a group.
    pub(crate) fn open_group(
        &self,
        operation: &'static str,
        channel: &str,
        group: &str,
    ) -> Result<(Arc<Channel>, u32)> {
        let it = self.open(operation, channel)?;
        let found = it.with(|state, _| match self.options.auto_create {
            true => Some(state.open_group(group)),
            false => state.group(group),
        });
        let found = found.ok_or_else(|| error::group_missing(operation, channel, group))?;
        Ok((it, found))
    }
}

#[async_trait]
impl Backend for MemoryBroker {
    fn name(&self) -> &'static str {
        "memory"
    }

    fn guarantees(&self) -> Guarantees {
        guarantees::of(self.client.broker.options.lanes > 0)
    }

    async fn provision(&self, topology: &Topology) -> Result<()> {
        self.connected("provision").await?.provision(topology)
    }

    async fn check(&self, topology: &Topology) -> Result<Vec<Finding>> {
        self.connected("check").await?.check(topology)
    }

    async fn consumer(&self, spec: &ConsumerSpec) -> Result<Arc<dyn Source>> {
        let broker = self.connected("open consumer").await?;
        let (channel, group) = broker.open_group("open consumer", &spec.channel, &spec.group)?;
        let stands = |f: &Finding| f.severity == Severity::Breaks && !spec.allowed.iter().any(|code| code == f.code);
        let broken: Vec<String> = channel.findings().iter().filter(|f| stands(f)).map(Finding::to_string).collect();
        if !broken.is_empty() {
            return Err(error::topology(&spec.channel, &broken));
        }
        let id = broker.last_consumer.fetch_add(1, Ordering::Relaxed) + 1;
        let source = Arc::new(MemorySource::open(channel, id, group));
        let mut consumers = self.client.consumers.lock();
        consumers.retain(|consumer| consumer.strong_count() > 0);
        consumers.push(Arc::downgrade(&source));
        Ok(source)
    }

    async fn producer(&self, channel: &str) -> Result<Arc<dyn Sink>> {
        let channel = self.connected("open producer").await?.open("open producer", channel)?;
        let sink = Arc::new(MemorySink::new(channel));
        let mut producers = self.client.producers.lock();
        producers.retain(|producer| producer.strong_count() > 0);
        producers.push(Arc::downgrade(&sink));
        Ok(sink)
    }

    async fn dead_letters(&self, channel: &str, group: &str) -> Result<Arc<dyn DeadLetterStore>> {
        let broker = self.connected("open dead letters").await?;
        let (channel, group) = broker.open_group("open dead letters", channel, group)?;
        Ok(Arc::new(MemoryDeadLetters { channel, group }))
    }

    async fn close(&self, until: Moment) -> Result<()> {
        let answered = self.client.broker.gate.pass("close", until).await;
        self.client.closed.store(true, Ordering::Release);
        for consumer in self.client.consumers.lock().iter().filter_map(Weak::upgrade) {
            consumer.close_now();
        }
        for producer in self.client.producers.lock().iter().filter_map(Weak::upgrade) {
            producer.close_now();
        }
        answered
    }
}
