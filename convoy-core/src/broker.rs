//! The one concrete type that a program holds of a broker.

use std::sync::Arc;
use std::time::Duration;

use crate::backend::{Backend, DeadLetter, DeadLetterStore};
use crate::consumer::ConsumerBuilder;
use crate::error::{Error, ErrorKind, Result};
use crate::guarantee::Guarantees;
use crate::message::Message;
use crate::producer::{Producer, ProducerOptions};
use crate::runtime::now;
use crate::topology::{Finding, Topology};

/// A broker, whichever it is. Cheap to clone; made by `convoy::connect(url)`, or of a backend by [`Broker::new`].
#[derive(Clone, Debug)]
pub struct Broker(Arc<dyn Backend>);

impl Broker {
    /// A broker of this backend.
    #[must_use]
    pub fn new(backend: impl Backend) -> Self {
        Self(Arc::new(backend))
    }

    /// The short name of the backend: `memory`, `kafka`.
    #[must_use]
    pub fn name(&self) -> &'static str {
        self.0.name()
    }

    /// What it promises, and how.
    #[must_use]
    pub fn guarantees(&self) -> Guarantees {
        self.0.guarantees()
    }

    /// A consumer of this channel, to be set up.
    pub fn consumer(&self, channel: impl Into<String>) -> ConsumerBuilder {
        ConsumerBuilder::new(Arc::clone(&self.0), channel.into())
    }

    /// A producer for this channel, with the options as they are; see [`Broker::producer_with`].
    ///
    /// # Errors
    /// When the channel does not exist, or the credentials do not allow it.
    ///
    /// # Cancel safety
    /// Nothing is held when it is dropped.
    pub async fn producer(&self, channel: &str) -> Result<Producer> {
        self.producer_with(channel, ProducerOptions::default()).await
    }

    /// A producer for this channel. Order holds among the sends of one producer and its clones.
    ///
    /// # Errors
    /// When the channel does not exist, or the credentials do not allow it.
    ///
    /// # Cancel safety
    /// Nothing is held when it is dropped.
    pub async fn producer_with(&self, channel: &str, options: ProducerOptions) -> Result<Producer> {
        Producer::open(self.0.producer(channel).await?, options)
    }

    /// Creates what is missing of `topology`. Changes nothing that exists.
    ///
    /// # Errors
    /// When the broker refuses or cannot be reached.
    ///
    /// # Cancel safety
    /// What was created by then stays.
    pub async fn provision(&self, topology: &Topology) -> Result<()> {
        self.0.provision(topology).await
    }

    /// Compares the broker with `topology`.
    ///
    /// # Errors
    /// When the broker cannot be asked. What is wrong with its set-up is a finding and no error.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub async fn check(&self, topology: &Topology) -> Result<Vec<Finding>> {
        self.0.check(topology).await
    }

    /// The dead letters of a consumer group.
    ///
    /// # Errors
    /// When the channel does not exist, or the credentials do not allow it.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub async fn dead_letters(&self, channel: &str, group: &str) -> Result<DeadLetters> {
        let store = self.0.dead_letters(channel, group).await?;
        Ok(DeadLetters { broker: self.clone(), channel: channel.to_owned(), store })
    }

    /// Ends every connection within `limit`. Consumers and producers should be closed before.
    ///
    /// # Errors
    /// When the broker could not be told in time.
    ///
    /// # Cancel safety
    /// May be called again.
    pub async fn close(&self, limit: Duration) -> Result<()> {
        self.0.close(now() + limit).await
    }
}

/// The dead letters of a consumer group: to be listed, read, sent back, removed.
#[derive(Debug)]
pub struct DeadLetters {
    broker: Broker,
    channel: String,
    store: Arc<dyn DeadLetterStore>,
}

impl DeadLetters {
    /// Lists from place `from` on, at most `most`, in the order they came.
    ///
    /// # Errors
    /// When the store cannot be read.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub async fn list(&self, from: u64, most: usize) -> Result<Vec<DeadLetter>> {
        self.store.list(from, most).await
    }

    /// Sends a dead letter to its channel again, behind what its session has by then, under its old id, and takes it out of the store. It goes to every
    /// group of the channel.
    ///
    /// # Errors
    /// What the send failed with; the dead letter is in the store still.
    ///
    /// # Cancel safety
    /// When it is dropped, the message may have been sent and be in the store still.
    pub async fn send_back(&self, letter: &DeadLetter) -> Result<()> {
        if letter.session.is_lone() {
            let why = "it came without a session id; send its content in a session of your choice, then remove it";
            return Err(Error::new(ErrorKind::InvalidSession, "send back").because(why));
        }
        let producer = self.broker.producer(&self.channel).await?;
        let message = Message::from_parts(letter.session.clone(), (*letter.content).clone());
        producer.send(message).await?;
        self.store.remove(letter.at).await.map(|_| ())
    }

    /// Takes a dead letter out for good; `false` when it is not there.
    ///
    /// # Errors
    /// When the store cannot be changed.
    ///
    /// # Cancel safety
    /// Whether it was removed is unknown when it is dropped.
    pub async fn remove(&self, letter: &DeadLetter) -> Result<bool> {
        self.store.remove(letter.at).await
    }
}
