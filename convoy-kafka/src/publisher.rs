//! A client that sends: idempotent, confirmed by all replicas, with the outcome of each record told once. One that cannot go on is replaced.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use convoy_core::{Error, Outcome, Result};
use parking_lot::Mutex;
use rdkafka::client::ClientContext;
use rdkafka::config::{ClientConfig, FromClientConfigAndContext, RDKafkaLogLevel};
use rdkafka::error::KafkaError;
use rdkafka::message::{DeliveryResult, Message as _, OwnedHeaders};
use rdkafka::producer::{BaseRecord, Producer, ProducerContext, ThreadedProducer};

use crate::client;
use crate::error;

/// Who is told of outcomes.
pub(crate) trait Outcomes: Send + Sync + 'static {
    /// By what it knows a record again.
    type Mark: Send + Sync + 'static;

    /// A record ended: the offset that it has, or why it has none. On a thread of the client library's.
    fn delivered(&self, mark: Self::Mark, outcome: std::result::Result<u64, KafkaError>);
}

/// A record to send.
#[derive(Debug)]
pub(crate) struct Record<'a> {
    pub(crate) topic: &'a str,
    pub(crate) partition: u32,
    pub(crate) key: Option<&'a [u8]>,
    pub(crate) body: &'a [u8],
    pub(crate) headers: OwnedHeaders,
}

pub(crate) struct Publisher<O: Outcomes> {
    config: ClientConfig,
    outcomes: Arc<O>,
    broken: Arc<AtomicBool>,
    client: Mutex<Option<Arc<Client<O>>>>,
}

type Client<O> = ThreadedProducer<Context<O>>;

struct Context<O> {
    outcomes: Arc<O>,
    broken: Arc<AtomicBool>,
}

impl<O: Outcomes> ClientContext for Context<O> {
    fn log(&self, level: RDKafkaLogLevel, fac: &str, line: &str) {
        client::log(level, fac, line);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        if error::is_fatal(&error) {
            self.broken.store(true, Ordering::Release);
        }
        client::told(&error, reason);
    }
}

impl<O: Outcomes> ProducerContext for Context<O> {
    type DeliveryOpaque = Box<O::Mark>;

    fn delivery(&self, result: &DeliveryResult<'_>, mark: Self::DeliveryOpaque) {
        let outcome = match result {
            Ok(record) => Ok(u64::try_from(record.offset()).unwrap_or_default()),
            Err((why, _)) => {
                if error::is_fatal(why) {
                    self.broken.store(true, Ordering::Release);
                }
                Err(why.clone())
            }
        };
        self.outcomes.delivered(*mark, outcome);
    }
}

impl<O: Outcomes> Publisher<O> {
    pub(crate) fn new(config: ClientConfig, outcomes: Arc<O>) -> Self {
        Self { config, outcomes, broken: Arc::new(AtomicBool::new(false)), client: Mutex::default() }
    }

    fn client(&self) -> Result<Arc<Client<O>>> {
        let mut client = self.client.lock();
        if self.broken.swap(false, Ordering::AcqRel)
            && let Some(old) = client.take()
        {
            tracing::warn!("a producer's client cannot go on; another one is made");
            bury(old);
        }
        if let Some(client) = &*client {
            return Ok(Arc::clone(client));
        }
        let context = Context { outcomes: Arc::clone(&self.outcomes), broken: Arc::clone(&self.broken) };
        let made = Client::from_config_and_context(&self.config, context).map_err(|e| error::of(e, "open producer"))?;
        let made = Arc::new(made);
        *client = Some(Arc::clone(&made));
        Ok(made)
    }

    /// Makes the client now, so that a wrong option is told at once.
    pub(crate) fn open(&self) -> Result<()> {
        self.client().map(|_| ())
    }

    /// Hands a record to the client library, which never waits. One that it does not take comes back.
    pub(crate) fn send(&self, record: Record<'_>, mark: O::Mark) -> std::result::Result<(), (Refusal, O::Mark)> {
        let client = match self.client() {
            Ok(client) => client,
            Err(why) => return Err((Refusal::Failed(why), mark)),
        };
        let Record { topic, partition, key, body, headers } = record;
        let mut sent: BaseRecord<'_, [u8], [u8], Box<O::Mark>> = BaseRecord::with_opaque_to(topic, Box::new(mark))
            .partition(i32::try_from(partition).unwrap_or(i32::MAX))
            .payload(body)
            .headers(headers);
        if let Some(key) = key {
            sent = sent.key(key);
        }
        client.send(sent).map_err(|(why, sent)| {
            let refusal = if error::is_fatal(&why) {
                self.broken.store(true, Ordering::Release);
                Refusal::Full
            } else if error::is_full(&why) {
                Refusal::Full
            } else {
                // It was not even taken.
                Refusal::Failed(error::of(why, "send").with_outcome(Outcome::NotApplied))
            };
            (refusal, *sent.delivery_opaque)
        })
    }

    /// How many partitions a topic has; none when there is no such topic. It waits, and belongs on a thread that may.
    pub(crate) fn partitions(&self, topic: &str, limit: Duration) -> Result<u32> {
        let client = self.client()?;
        let metadata =
            client.client().fetch_metadata(Some(topic), limit).map_err(|e| error::of(e, "look at the channel"))?;
        let of = metadata.topics().iter().find(|of| of.name() == topic);
        Ok(of.map_or(0, |of| u32::try_from(of.partitions().len()).unwrap_or_default()))
    }

    /// Ends the client; what has not left never will.
    pub(crate) fn close(&self) {
        if let Some(client) = self.client.lock().take() {
            bury(client);
        }
    }
}

/// Why a record was not taken.
#[derive(Debug)]
pub(crate) enum Refusal {
    /// The client library has no room for the moment, or a new client is needed.
    Full,
    /// It never will be.
    Failed(Error),
}

impl<O: Outcomes> Drop for Publisher<O> {
    fn drop(&mut self) {
        self.close();
    }
}

impl<O: Outcomes> std::fmt::Debug for Publisher<O> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Publisher").finish_non_exhaustive()
    }
}

/// The end of a client takes a while, and must not be waited for by whoever happens to be the last to hold it.
fn bury<T: Send + 'static>(client: T) {
    let buried = std::thread::Builder::new().name("convoy-kafka-close".to_owned()).spawn(move || drop(client));
    if let Err(why) = buried {
        tracing::warn!(error = %why, "no thread could be started to close a client");
    }
}
