//! The broker, and how programs reach it.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};

use async_trait::async_trait;
use convoy_core::backend::{Backend, ConsumerSpec, DeadLetterStore, Sink, Source};
use convoy_core::{ChannelSpec, Error, ErrorKind, Finding, Guarantees, Moment, Result, Severity, Topology};
use parking_lot::Mutex;

use crate::config::Options;
use crate::consumer::{KafkaSource, Opened};
use crate::dead::{Copies, Store};
use crate::names::{self, Names};
use crate::producer::KafkaSink;
use crate::{error, guarantees, topology};

/// A Kafka cluster. Each consumer and each producer has a client of its own.
#[derive(Debug)]
pub struct KafkaBroker {
    options: Options,
    copies: Arc<Copies>,
    closed: AtomicBool,
    opened: AtomicUsize,
    consumers: Mutex<Vec<Weak<KafkaSource>>>,
    producers: Mutex<Vec<Weak<KafkaSink>>>,
}

impl KafkaBroker {
    /// Connects with these options.
    ///
    /// # Errors
    /// [`InvalidOption`](ErrorKind::InvalidOption), naming the option; [`Unauthorized`](ErrorKind::Unauthorized); [`Disconnected`](ErrorKind::Disconnected) or
    /// [`Timeout`](ErrorKind::Timeout) when no broker answers.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub async fn connect(options: Options) -> Result<Self> {
        options.validate()?;
        topology::reach(&options).await?;
        Ok(Self {
            copies: Arc::new(Copies::new(&options)),
            options,
            closed: AtomicBool::new(false),
            opened: AtomicUsize::new(0),
            consumers: Mutex::default(),
            producers: Mutex::default(),
        })
    }

    /// Connects by URL: `kafka://host:9092,host:9092?session_timeout=10s`. The options are those of [`Options`].
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
impl Backend for KafkaBroker {
    fn name(&self) -> &'static str {
        "kafka"
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
        const OPERATION: &str = "open consumer";
        self.open(OPERATION)?;
        let names = Names::new(&spec.channel, &spec.group)?;
        let groups = std::slice::from_ref(&names);
        let (mut lanes, mut findings) = topology::look(&self.options, &spec.channel, groups).await?;
        let is_missing = |finding: &&Finding| matches!(finding.code, "channel-missing" | "group-missing");
        if self.options.auto_create && findings.iter().any(|finding| is_missing(&finding)) {
            self.make(&spec.channel, Some(&spec.group)).await?;
            (lanes, findings) = topology::look(&self.options, &spec.channel, groups).await?;
        }
        let is_allowed = |finding: &&Finding| spec.allowed.iter().any(|code| code == finding.code);
        if let Some(missing) = findings.iter().find(|finding| is_missing(finding) && !is_allowed(finding)) {
            return Err(Error::new(ErrorKind::NotFound, OPERATION)
                .because(format!("{}; {}", missing.what, missing.remedy))
                .with("channel", &spec.channel)
                .with("group", &spec.group));
        }
        let broken: Vec<&Finding> =
            findings.iter().filter(|finding| finding.severity == Severity::Breaks && !is_allowed(finding)).collect();
        if !broken.is_empty() {
            return Err(error::topology(OPERATION, &spec.channel, &broken).with("group", &spec.group));
        }
        for finding in findings.iter().filter(|finding| finding.severity > Severity::Note) {
            tracing::warn!(channel = spec.channel, group = spec.group, "{finding}");
        }
        let Some(lanes) = lanes else {
            return Err(error::not_there(OPERATION, "the channel does not exist: provision it", &spec.channel));
        };
        let number = self.opened.fetch_add(1, Ordering::Relaxed);
        let opened = Opened { names, lanes, allowed: spec.allowed.clone(), number };
        let source = Arc::new(KafkaSource::start(&self.options, opened, Arc::clone(&self.copies))?);
        let mut consumers = self.consumers.lock();
        consumers.retain(|consumer| consumer.strong_count() > 0);
        consumers.push(Arc::downgrade(&source));
        Ok(source)
    }

    async fn producer(&self, channel: &str) -> Result<Arc<dyn Sink>> {
        const OPERATION: &str = "open producer";
        self.open(OPERATION)?;
        names::channel(channel)?;
        let (mut lanes, mut findings) = topology::look(&self.options, channel, &[]).await?;
        if self.options.auto_create && lanes.is_none() {
            self.make(channel, None).await?;
            (lanes, findings) = topology::look(&self.options, channel, &[]).await?;
        }
        if let Some(forbidden) = findings.iter().find(|finding| finding.code == "forbidden") {
            let why = format!("{}; {}", forbidden.what, forbidden.remedy);
            return Err(Error::new(ErrorKind::Unauthorized, OPERATION).because(why).with("channel", channel));
        }
        let Some(lanes) = lanes else {
            return Err(error::not_there(OPERATION, "the channel does not exist: provision it", channel));
        };
        let of_producers = |finding: &&Finding| matches!(finding.code, "lane-count" | "min-insync");
        let broken: Vec<&Finding> =
            findings.iter().filter(of_producers).filter(|finding| finding.severity == Severity::Breaks).collect();
        if !broken.is_empty() {
            return Err(error::topology(OPERATION, channel, &broken));
        }
        let sink = Arc::new(KafkaSink::start(&self.options, channel, lanes)?);
        let mut producers = self.producers.lock();
        producers.retain(|producer| producer.strong_count() > 0);
        producers.push(Arc::downgrade(&sink));
        Ok(sink)
    }

    async fn dead_letters(&self, channel: &str, group: &str) -> Result<Arc<dyn DeadLetterStore>> {
        const OPERATION: &str = "open dead letters";
        self.open(OPERATION)?;
        let names = Names::new(channel, group)?;
        if !topology::is_there(&self.options, &names.dead(), OPERATION).await? {
            let what = "the group has no dead-letter store: provision it";
            return Err(error::not_there(OPERATION, what, channel).with("group", group));
        }
        Ok(Arc::new(Store::new(self.options.clone(), names, Arc::clone(&self.copies))))
    }

    async fn close(&self, until: Moment) -> Result<()> {
        self.closed.store(true, Ordering::Release);
        let consumers: Vec<_> = self.consumers.lock().iter().filter_map(Weak::upgrade).collect();
        let producers: Vec<_> = self.producers.lock().iter().filter_map(Weak::upgrade).collect();
        let consumers = futures_util::future::join_all(consumers.iter().map(|consumer| consumer.close(until)));
        let producers = futures_util::future::join_all(producers.iter().map(|producer| producer.close(until)));
        let (consumers, producers) = futures_util::future::join(consumers, producers).await;
        let ended: Result<Vec<()>> = consumers.into_iter().chain(producers).collect();
        self.copies.close();
        ended.map(|_| ())
    }
}
