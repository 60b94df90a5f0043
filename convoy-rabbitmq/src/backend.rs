//! The broker, and how programs reach it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};

use async_trait::async_trait;
use convoy_core::backend::{Backend, ConsumerSpec, DeadLetterStore, Sink, Source};
use convoy_core::{ChannelSpec, ErrorKind, Finding, Guarantees, Moment, Result, Severity, Topology};
use lapin::ExchangeKind;
use lapin::options::ExchangeDeclareOptions;
use lapin::types::FieldTable;
use parking_lot::Mutex;

use crate::config::Options;
use crate::connection::{Link, Publishing};
use crate::consumer::RabbitSource;
use crate::dead::Store;
use crate::names::{self, Names};
use crate::permissions::{self, Write};
use crate::producer::RabbitSink;
use crate::{error, guarantees, management, topology};

/// A RabbitMQ broker. One connection is kept for publishing, and one for each consumer.
#[derive(Debug)]
pub struct RabbitBroker {
    options: Options,
    publishing: Arc<Publishing>,
    closed: AtomicBool,
    consumers: Mutex<Vec<Weak<RabbitSource>>>,
    producers: Mutex<Vec<Weak<RabbitSink>>>,
}

impl RabbitBroker {
    /// Connects with these options.
    ///
    /// # Errors
    /// [`InvalidOption`](ErrorKind::InvalidOption), naming the option; [`Unauthorized`](ErrorKind::Unauthorized); what the network says.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub async fn connect(options: Options) -> Result<Self> {
        options.validate()?;
        let publishing = Arc::new(Publishing::new(options.clone()));
        publishing.link().await?;
        Ok(Self {
            options,
            publishing,
            closed: AtomicBool::new(false),
            consumers: Mutex::default(),
            producers: Mutex::default(),
        })
    }

    /// Connects by URL: `amqp://user:password@host:5672/vhost?lanes=64&prefetch=500`. The options are those of [`Options`].
    ///
    /// # Errors
    /// As [`connect`](Self::connect).
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub async fn from_url(url: &str) -> Result<Self> {
        Self::connect(Options::from_url(url)?).await
    }

    fn open(&self, operation: &'static str) -> Result<()> {
        if self.closed.load(Ordering::Acquire) { Err(error::closed(operation)) } else { Ok(()) }
    }

    async fn make(&self, channel: &str, group: Option<&str>) -> Result<()> {
        let spec = ChannelSpec::new(channel);
        let spec = if let Some(group) = group { spec.group(group) } else { spec };
        topology::provision(&self.options, &Topology::new().channel(spec)).await
    }
}

#[async_trait]
impl Backend for RabbitBroker {
    fn name(&self) -> &'static str {
        "rabbitmq"
    }

    fn guarantees(&self) -> Guarantees {
        guarantees::guarantees()
    }

    async fn provision(&self, topology: &Topology) -> Result<()> {
        self.open("provision")?;
        topology::provision(&self.options, topology).await
    }

    async fn check(&self, topology: &Topology) -> Result<Vec<Finding>> {
        self.open("check")?;
        topology::check(&self.options, topology).await
    }

    async fn consumer(&self, spec: &ConsumerSpec) -> Result<Arc<dyn Source>> {
        self.open("open consumer")?;
        let names = Names::new(&spec.channel, &spec.group, self.options.lanes, self.options.prefetch)?
            .entry(self.options.entry);
        let link = Link::open(&self.options, "consumer").await?;
        let mut findings = topology::check_group(&link, &names, self.options.waits_for_node()).await?;
        let is_mended = |finding: &Finding| matches!(finding.code, "group-missing" | "entry-missing");
        if self.options.auto_create && findings.iter().any(is_mended) {
            self.make(&spec.channel, Some(&spec.group)).await?;
            findings = topology::check_group(&link, &names, self.options.waits_for_node()).await?;
        }
        findings.extend(management::look(&self.options, std::slice::from_ref(&names)).await?);
        for finding in findings.iter().filter(|finding| finding.severity == Severity::Warning) {
            tracing::warn!(channel = spec.channel, group = spec.group, %finding, "a consumer starts all the same");
        }
        if permissions::may_try(&findings) {
            // Of one lane; who may not read another one is told by that lane.
            permissions::read(&link, &names.lane(0)).await?;
        }
        if let Some(missing) = findings.iter().find(|f| f.code == "group-missing") {
            let why = convoy_core::Error::new(ErrorKind::NotFound, "open consumer")
                .because(format!("{}; {}", missing.what, missing.remedy));
            return Err(why.with("channel", &spec.channel).with("group", &spec.group));
        }
        let stands = |f: &&Finding| f.severity == Severity::Breaks && !spec.allowed.iter().any(|code| code == f.code);
        let broken: Vec<&Finding> = findings.iter().filter(stands).collect();
        if !broken.is_empty() {
            return Err(error::topology(&spec.channel, &spec.group, &broken));
        }
        let source = Arc::new(RabbitSource::start(&self.options, names, Arc::clone(&self.publishing), link));
        let mut consumers = self.consumers.lock();
        consumers.retain(|consumer| consumer.strong_count() > 0);
        consumers.push(Arc::downgrade(&source));
        Ok(source)
    }

    async fn producer(&self, channel: &str) -> Result<Arc<dyn Sink>> {
        const OPERATION: &str = "open producer";
        self.open(OPERATION)?;
        let exchange = names::exchange(channel, self.options.entry)?;
        let link = self.publishing.link().await?;
        let asked = link.channel(OPERATION).await?;
        let passive = ExchangeDeclareOptions { passive: true, ..ExchangeDeclareOptions::default() };
        let there = asked.exchange_declare(exchange.clone(), ExchangeKind::Direct, passive, FieldTable::default());
        match link.ask_raw(OPERATION, there).await? {
            Ok(()) => {
                link.ask(OPERATION, asked.close(200, "looked".into())).await?;
            }
            Err(why) if error::is_missing(&why) && self.options.auto_create => self.make(channel, None).await?,
            Err(why) if error::is_missing(&why) => {
                let why = error::of(why, OPERATION);
                return Err(error::not_there(OPERATION, "the channel does not exist: provision it", channel, why));
            }
            // Newer brokers show nothing to whoever may do nothing with it.
            Err(why) => {
                let why = error::lacks(error::of(why, OPERATION), "write", "exchange", channel);
                return Err(why.with("channel", channel));
            }
        }
        if let Write::Forbidden(why) = permissions::write(&link, &exchange, self.options.entry).await? {
            return Err(why.with("channel", channel));
        }
        let sink = Arc::new(RabbitSink::start(&self.options, channel, exchange, Arc::clone(&self.publishing)));
        let mut producers = self.producers.lock();
        producers.retain(|producer| producer.strong_count() > 0);
        producers.push(Arc::downgrade(&sink));
        Ok(sink)
    }

    async fn dead_letters(&self, channel: &str, group: &str) -> Result<Arc<dyn DeadLetterStore>> {
        const OPERATION: &str = "open dead letters";
        self.open(OPERATION)?;
        let names = Names::new(channel, group, self.options.lanes, self.options.prefetch)?;
        let store = Store::new(self.options.clone(), names.dead());
        match store.exists().await {
            Ok(()) => Ok(Arc::new(store)),
            Err(why) if why.kind() == ErrorKind::NotFound => {
                Err(error::not_there(OPERATION, "the group has no dead-letter store: provision it", channel, why)
                    .with("group", group))
            }
            Err(why) => Err(why),
        }
    }

    async fn close(&self, until: Moment) -> Result<()> {
        self.closed.store(true, Ordering::Release);
        let consumers: Vec<_> = self.consumers.lock().iter().filter_map(Weak::upgrade).collect();
        let producers: Vec<_> = self.producers.lock().iter().filter_map(Weak::upgrade).collect();
        let consumers = futures_util::future::join_all(consumers.iter().map(|consumer| consumer.close(until)));
        let producers = futures_util::future::join_all(producers.iter().map(|producer| producer.close(until)));
        let (consumers, producers) = futures_util::future::join(consumers, producers).await;
        let ended: Result<Vec<()>> = consumers.into_iter().chain(producers).collect();
        let closed = self.publishing.close(until).await;
        ended.and(closed)
    }
}
