//! The dead-letter store of a group: copies into it, and what can be done with them.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use convoy_core::backend::{Answer, DeadLetter, DeadLetterStore, Origin, Reason};
use convoy_core::runtime::{instant, now};
use convoy_core::{Error, ErrorKind, Inbound, Moment, Result};
use hashbrown::{HashMap, HashSet};
use lapin::message::Delivery;
use lapin::options::{
    BasicAckOptions, BasicConsumeOptions, BasicPublishOptions, BasicQosOptions, ConfirmSelectOptions,
    QueueDeclareOptions,
};
use lapin::types::{FieldTable, ShortString};
use lapin::{Channel, Confirmation};
use tokio::sync::Mutex;
use tokio::time::{sleep, timeout_at};
use uuid::Uuid;

use crate::config::Options;
use crate::connection::{Link, Publishing, Registration};
use crate::{envelope, error};

/// How many letters can be seen at once. Pinned: a reader with a smaller one would put the letters back in another order.
pub(crate) const PREFETCH: u16 = 10_000;

/// Puts copies into the store, one at a time, each confirmed.
#[derive(Debug)]
pub(crate) struct Copies {
    publishing: Arc<Publishing>,
    store: ShortString,
    limit: Duration,
    current: Mutex<Option<(Arc<Link>, Channel)>>,
}

impl Copies {
    pub(crate) fn new(publishing: Arc<Publishing>, store: ShortString, limit: Duration) -> Self {
        Self { publishing, store, limit, current: Mutex::new(None) }
    }

    /// Puts a copy into the store and waits until the broker has it.
    pub(crate) async fn put(&self, message: &Inbound, reason: &Reason) -> Answer {
        let until = now() + self.limit;
        let Ok(mut current) = timeout_at(instant(until), self.current.lock()).await else {
            return Answer::NotApplied;
        };
        let (link, channel) = match self.channel(&mut current).await {
            Ok(current) => current,
            Err(why) => {
                tracing::warn!(store = self.store.as_str(), error = ?why, "the dead-letter store cannot be reached; the message waits");
                return Answer::NotApplied;
            }
        };
        if link.is_blocked() {
            tracing::warn!(
                store = self.store.as_str(),
                "the broker takes no messages at the moment; the message waits"
            );
            return Answer::NotApplied;
        }
        let properties = envelope::dead_letter(message, reason, link.frame());
        let mandatory = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
        let (store, body) = (self.store.clone(), message.content.body());
        let sent = async { channel.basic_publish("".into(), store, mandatory, body, properties).await?.await };
        let answer = match link.ask("dead-letter", sent).await {
            Ok(Confirmation::Ack(None)) => return Answer::Ok,
            Ok(Confirmation::Ack(Some(_))) => {
                tracing::error!(
                    store = self.store.as_str(),
                    "the dead-letter store is missing; the message is not settled and its session waits: provision it"
                );
                return Answer::NotApplied;
            }
            Ok(_) => {
                tracing::error!(
                    store = self.store.as_str(),
                    "the dead-letter store does not take the message; it is not settled and its session waits"
                );
                Answer::NotApplied
            }
            Err(why) => {
                tracing::warn!(store = self.store.as_str(), error = ?why, "a copy for the dead-letter store had no answer");
                Answer::Unknown
            }
        };
        // What is still under way on it must not be taken for the next one's.
        *current = None;
        answer
    }

    async fn channel(&self, current: &mut Option<(Arc<Link>, Channel)>) -> Result<(Arc<Link>, Channel)> {
        if let Some((link, channel)) = current
            && !link.is_broken()
            && channel.status().connected()
        {
            return Ok((Arc::clone(link), channel.clone()));
        }
        *current = None;
        let link = self.publishing.link().await?;
        let channel = link.channel("dead-letter").await?;
        link.ask("dead-letter", channel.confirm_select(ConfirmSelectOptions::default())).await?;
        *current = Some((Arc::clone(&link), channel.clone()));
        Ok((link, channel))
    }
}

/// Access to the store. A letter's place is its number among all that this handle has seen, so that it stays while others are taken out.
#[derive(Debug)]
pub(crate) struct Store {
    options: Options,
    queue: ShortString,
    /// One reader at a time, with the places it gave.
    places: Mutex<Places>,
}

#[derive(Debug, Default)]
struct Places {
    of: HashMap<u128, u64, foldhash::fast::RandomState>,
    last: u64,
}

impl Places {
    fn of(&mut self, copy: u128) -> u64 {
        *self.of.entry(copy).or_insert_with(|| {
            self.last += 1;
            self.last
        })
    }
}

/// The store while it is read. Everything goes back, in order, when the channel is closed.
struct Reading {
    link: Arc<Link>,
    channel: Channel,
    letters: Vec<Delivery>,
    registration: Registration,
}

impl Store {
    pub(crate) fn new(options: Options, queue: ShortString) -> Self {
        Self { options, queue, places: Mutex::default() }
    }

    /// Whether it is there.
    pub(crate) async fn exists(&self) -> Result<()> {
        let link = Link::open(&self.options, "dead letters").await?;
        let channel = link.channel("open dead letters").await?;
        let found = link.ask("open dead letters", self.look(&channel)).await;
        link.close(now() + self.options.answer_limit).await.ok();
        found.map(|_| ())
    }

    async fn look(&self, channel: &Channel) -> lapin::Result<lapin::Queue> {
        let passive = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
        channel.queue_declare(self.queue.clone(), passive, FieldTable::default()).await
    }

    /// Reads all that can be seen.
    async fn read(&self, operation: &'static str) -> Result<Reading> {
        let until = now() + self.options.answer_limit;
        let link = Link::open(&self.options, "dead letters").await?;
        let channel = link.channel(operation).await?;
        // Another reader has the letters in its hands; they are back when it is done.
        let there = loop {
            let found = link.ask(operation, self.look(&channel)).await?;
            if found.consumer_count() == 0 {
                break found.message_count().min(u32::from(PREFETCH));
            }
            if now() >= until {
                return Err(Error::new(ErrorKind::Timeout, operation)
                    .because("somebody else reads the store")
                    .with_outcome(convoy_core::Outcome::NotApplied));
            }
            sleep(Duration::from_millis(20)).await;
        };
        link.ask(operation, channel.basic_qos(PREFETCH, BasicQosOptions::default())).await?;
        let tag = crate::names::short(format!("convoy-{}", Uuid::now_v7()));
        let consume =
            channel.basic_consume(self.queue.clone(), tag, BasicConsumeOptions::default(), FieldTable::default());
        let consumer = link.ask(operation, consume).await?;
        let mut registration = Registration::new(&link, &channel, consumer);
        let mut letters = Vec::with_capacity(there as usize);
        while letters.len() < there as usize {
            match timeout_at(instant(until), registration.next()).await {
                Ok(Some(Ok(letter))) => letters.push(letter),
                Ok(Some(Err(e))) => return Err(error::of(e, operation)),
                Ok(None) => return Err(error::disconnected(operation)),
                Err(_) => return Err(error::no_answer(operation)),
            }
        }
        Ok(Reading { link, channel, letters, registration })
    }

    /// Gives everything back and waits until it is there again for the next reader.
    async fn give_back(&self, reading: Reading, operation: &'static str, left: usize) -> Result<()> {
        let Reading { link, channel, letters, mut registration } = reading;
        link.ask(operation, channel.close(200, "read".into())).await?;
        registration.let_go();
        drop(letters);
        let until = now() + self.options.answer_limit;
        let channel = link.channel(operation).await?;
        loop {
            let found = link.ask(operation, self.look(&channel)).await?;
            if found.message_count() as usize >= left || found.consumer_count() > 0 {
                break;
            }
            if now() >= until {
                return Err(error::no_answer(operation));
            }
            sleep(Duration::from_millis(5)).await;
        }
        link.close(until).await
    }

    async fn lock(&self, operation: &'static str) -> Result<tokio::sync::MutexGuard<'_, Places>> {
        let until: Moment = now() + self.options.answer_limit;
        timeout_at(instant(until), self.places.lock()).await.map_err(|_| error::no_answer(operation))
    }
}

fn copy_of(letter: &Delivery) -> Option<u128> {
    // A letter that somebody else put there has no number of a copy; its own id has to do.
    envelope::copy_of(&letter.properties).or_else(|| envelope::id_of(&letter.properties).map(|id| id.as_u128()))
}

#[async_trait]
impl DeadLetterStore for Store {
    async fn list(&self, from: u64, most: usize) -> Result<Vec<DeadLetter>> {
        let mut places = self.lock("list dead letters").await?;
        let mut reading = self.read("list dead letters").await?;
        let mut seen: HashSet<Origin, foldhash::fast::RandomState> = HashSet::default();
        let mut letters = Vec::new();
        for letter in &mut reading.letters {
            let body = Bytes::from(std::mem::take(&mut letter.data));
            let Some(copy) = copy_of(letter) else { continue };
            let stored = envelope::stored(places.of(copy), letter, body);
            if seen.insert(stored.origin) && stored.at >= from && letters.len() < most {
                letters.push(stored);
            }
        }
        let left = reading.letters.len();
        self.give_back(reading, "list dead letters", left).await?;
        Ok(letters)
    }

    async fn remove(&self, at: u64) -> Result<bool> {
        let mut places = self.lock("remove dead letter").await?;
        let reading = self.read("remove dead letter").await?;
        let found = reading.letters.iter().find(|letter| copy_of(letter).is_some_and(|copy| places.of(copy) == at));
        let mut left = reading.letters.len();
        let removed = found.is_some();
        if let Some(letter) = found {
            left -= 1;
            let ack = reading.channel.basic_ack(letter.delivery_tag, BasicAckOptions::default());
            reading.link.ask("remove dead letter", ack).await?;
            // An acknowledgement has no answer; this one comes after it.
            reading.link.ask("remove dead letter", self.look(&reading.channel)).await?;
        }
        self.give_back(reading, "remove dead letter", left).await?;
        Ok(removed)
    }
}
