//! The dead-letter store of a group: copies into it, and what can be done with them.
//!
//! It is a topic of one partition, so that copies stand in the order in which they were confirmed. A log takes nothing out of its middle: a letter that is taken out is followed by a record that
//! says so, and once nothing is left the broker is asked to delete all of it.

use std::collections::BTreeMap;
use std::sync::{Arc, Weak};
use std::time::Duration;

use async_trait::async_trait;
use convoy_core::backend::{Answer, DeadLetter, DeadLetterStore, Grant, Origin, Reason};
use convoy_core::runtime::{instant, now};
use convoy_core::{ErrorKind, Inbound, Moment, Result};
use hashbrown::{HashMap, HashSet};
use rdkafka::config::{FromClientConfigAndContext, RDKafkaLogLevel};
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::KafkaError;
use rdkafka::message::Message as _;
use rdkafka::{ClientContext, Offset, TopicPartitionList};
use tokio::sync::{Mutex, oneshot};
use tokio::time::timeout_at;

use crate::config::Options;
use crate::envelope::{self, Stored};
use crate::lanes::Shared;
use crate::names::Names;
use crate::publisher::{Outcomes, Publisher, Record, Refusal};
use crate::{client, error, topology};

const PARTITION: u32 = 0;

/// Puts copies into stores, each confirmed.
#[derive(Debug)]
pub(crate) struct Copies {
    publisher: Publisher<Told>,
}

/// Tells outcomes.
#[derive(Debug)]
pub(crate) struct Told;

/// Who waits for an outcome.
pub(crate) enum Mark {
    Copy { to: Weak<Shared>, grant: Grant, position: u64 },
    Asked(oneshot::Sender<std::result::Result<u64, KafkaError>>),
}

impl Outcomes for Told {
    type Mark = Mark;

    fn delivered(&self, mark: Mark, outcome: std::result::Result<u64, KafkaError>) {
        match mark {
            Mark::Asked(asked) => _ = asked.send(outcome),
            Mark::Copy { to, grant, position } => {
                let Some(to) = to.upgrade() else { return };
                let answer = match outcome {
                    Ok(_) => Answer::Ok,
                    Err(why) => {
                        let answer = error::answer_of_send(&why);
                        let why = error::of(why, "dead-letter");
                        tracing::error!(store = to.names.dead(), error = ?why, "a copy did not get into the dead-letter store; its message is not settled and its session waits");
                        // It will not take it the next time either.
                        if why.kind() == ErrorKind::TooLarge { Answer::Refused } else { answer }
                    }
                };
                to.set_aside(grant, position, answer);
            }
        }
    }
}

impl Copies {
    pub(crate) fn new(options: &Options) -> Self {
        let config = client::producer(options, "dead-letters", Some(options.answer_limit));
        Self { publisher: Publisher::new(config, Arc::new(Told)) }
    }

    /// Makes its client, so that no copy waits for that.
    pub(crate) fn open(&self) -> Result<()> {
        self.publisher.open()
    }

    /// Puts a copy into the store of this consumer's group. The answer is told to it. Never waits.
    pub(crate) fn put(&self, to: &Arc<Shared>, grant: Grant, message: &Inbound, reason: &Reason) {
        let store = to.names.dead();
        let position = message.position.value;
        let record = Record {
            topic: &store,
            partition: PARTITION,
            key: envelope::key(&message.session),
            body: message.content.body(),
            headers: envelope::dead_letter(grant.shard(), message, reason),
        };
        let mark = Mark::Copy { to: Arc::downgrade(to), grant, position };
        if let Err((why, _)) = self.publisher.send(record, mark) {
            tracing::warn!(store, error = ?why, "a copy for the dead-letter store could not leave; the message waits");
            to.set_aside(grant, position, Answer::NotApplied);
        }
    }

    /// Takes the letter at this offset out of a store. Gives the offset of the record that says so.
    async fn remove(&self, store: &str, at: u64, until: Moment) -> Result<u64> {
        const OPERATION: &str = "remove dead letter";
        let (asked, answer) = oneshot::channel();
        let headers = envelope::removal(at);
        let record = Record { topic: store, partition: PARTITION, key: None, body: &[], headers };
        match self.publisher.send(record, Mark::Asked(asked)) {
            Ok(()) => {}
            Err((Refusal::Failed(why), _)) => return Err(why),
            Err((Refusal::Full, _)) => {
                return Err(convoy_core::Error::new(ErrorKind::Backpressure, OPERATION).with("store", store));
            }
        }
        match timeout_at(instant(until), answer).await {
            Ok(Ok(Ok(offset))) => Ok(offset),
            Ok(Ok(Err(why))) => Err(error::of(why, OPERATION).with("store", store)),
            Ok(Err(_)) | Err(_) => Err(error::no_answer(OPERATION)),
        }
    }

    pub(crate) fn close(&self) {
        self.publisher.close();
    }
}

/// Access to a store. A letter's place is the offset of its copy.
#[derive(Debug)]
pub(crate) struct Store {
    options: Options,
    names: Names,
    copies: Arc<Copies>,
    /// One change at a time.
    changing: Mutex<()>,
}

/// A store as it was read.
#[derive(Debug, Default)]
struct Letters {
    /// First copies that are there, by their place.
    there: BTreeMap<u64, DeadLetter>,
    /// The offset behind the last record.
    end: u64,
}

impl Letters {
    /// Makes out of what is in the log what is in the store.
    fn of(records: Vec<(u64, Stored)>, end: u64) -> Self {
        let mut copies: BTreeMap<u64, DeadLetter> = BTreeMap::new();
        let mut of_origin: HashMap<Origin, Vec<u64>, foldhash::fast::RandomState> = HashMap::default();
        let mut origins: HashMap<u64, Origin, foldhash::fast::RandomState> = HashMap::default();
        for (offset, stored) in records {
            match stored {
                Stored::Letter(letter) => {
                    of_origin.entry(letter.origin).or_default().push(offset);
                    origins.insert(offset, letter.origin);
                    copies.insert(offset, *letter);
                }
                // One that was taken out before is none, whatever came of its origin since.
                Stored::Removal(at) if !copies.contains_key(&at) => {}
                Stored::Removal(at) => {
                    let all = origins.get(&at).and_then(|origin| of_origin.remove(origin)).unwrap_or_default();
                    all.iter().for_each(|copy| _ = copies.remove(copy));
                }
            }
        }
        let mut seen: HashSet<Origin, foldhash::fast::RandomState> = HashSet::default();
        copies.retain(|_, letter| seen.insert(letter.origin));
        Self { there: copies, end }
    }
}

impl Store {
    pub(crate) fn new(options: Options, names: Names, copies: Arc<Copies>) -> Self {
        Self { options, names, copies, changing: Mutex::new(()) }
    }

    /// Reads all of it, on a thread that may wait.
    async fn read(&self, operation: &'static str) -> Result<Letters> {
        let (options, names) = (self.options.clone(), self.names.clone());
        let read = tokio::task::spawn_blocking(move || read(&options, &names, operation)).await;
        read.unwrap_or_else(|_| Err(error::closed(operation)))
    }
}

#[async_trait]
impl DeadLetterStore for Store {
    async fn list(&self, from: u64, most: usize) -> Result<Vec<DeadLetter>> {
        let letters = self.read("list dead letters").await?;
        Ok(letters.there.into_iter().filter(|(at, _)| *at >= from).take(most).map(|(_, letter)| letter).collect())
    }

    async fn remove(&self, at: u64) -> Result<bool> {
        const OPERATION: &str = "remove dead letter";
        let until = now() + self.options.answer_limit;
        let Ok(_changing) = timeout_at(instant(until), self.changing.lock()).await else {
            return Err(error::no_answer(OPERATION));
        };
        let mut letters = self.read(OPERATION).await?;
        if letters.there.remove(&at).is_none() {
            return Ok(false);
        }
        let store = self.names.dead();
        let said_at = self.copies.remove(&store, at, until).await?;
        // Nothing is left, and nothing came in between: the log may go.
        if letters.there.is_empty()
            && said_at == letters.end
            && let Err(why) = topology::delete_below(&self.options, &store, said_at + 1).await
        {
            tracing::debug!(store, error = ?why, "an empty dead-letter store could not be deleted from");
        }
        Ok(true)
    }
}

struct Quiet;

impl ClientContext for Quiet {
    fn log(&self, level: RDKafkaLogLevel, fac: &str, line: &str) {
        client::log(level, fac, line);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        client::told(&error, reason);
    }
}

impl ConsumerContext for Quiet {}

/// It reads as no member of the group, and commits nothing.
fn read(options: &Options, names: &Names, operation: &'static str) -> Result<Letters> {
    let of = |why: KafkaError| error::of(why, operation);
    let store = names.dead();
    let mut config = client::consumer(options, "dead-letters", &names.group);
    config.set("enable.partition.eof", "true");
    let reader: BaseConsumer<Quiet> = BaseConsumer::from_config_and_context(&config, Quiet).map_err(of)?;
    let (low, high) = reader.fetch_watermarks(&store, PARTITION as i32, options.answer_limit).map_err(of)?;
    let mut records = Vec::new();
    let end = u64::try_from(high).unwrap_or_default();
    if low < high {
        {
            let mut list = TopicPartitionList::new();
            list.add_partition_offset(&store, PARTITION as i32, Offset::Offset(low)).map_err(of)?;
            reader.assign(&list).map_err(of)?;
        }
        let mut give_up = now() + options.answer_limit;
        loop {
            match reader.poll(Duration::from_millis(100)) {
                Some(Ok(record)) => {
                    give_up = now() + options.answer_limit;
                    let offset = u64::try_from(record.offset()).unwrap_or_default();
                    if offset < end {
                        records.push((offset, envelope::stored(&record, offset)));
                    }
                    if offset + 1 >= end {
                        break;
                    }
                }
                Some(Err(KafkaError::PartitionEOF(_))) => break,
                Some(Err(why)) if error::ends_a_consumer(&why) || error::is_out_of_range(&why) => return Err(of(why)),
                _ => {}
            }
            if now() >= give_up {
                return Err(error::no_answer(operation));
            }
        }
        reader.unassign().ok();
    }
    Ok(Letters::of(records, end))
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use convoy_core::{Content, MessageId, Position, Redelivered, SessionId};

    use super::*;

    fn letter(at: u64, origin: u128) -> (u64, Stored) {
        let message = Inbound {
            position: Position::new(at),
            session: SessionId::new("s").unwrap(),
            redelivered: Redelivered::No,
            defect: None,
            content: Arc::new(Content::new("")),
        };
        let origin = Origin::Message(MessageId::from_u128(origin));
        (at, Stored::Letter(Box::new(DeadLetter::new(at, origin, &message, &Reason::new("x", "", 1), UNIX_EPOCH))))
    }

    #[test]
    fn the_first_copy_of_each_origin_is_there_until_it_is_taken_out() {
        let log = vec![
            letter(3, 1),
            letter(4, 2),
            letter(5, 1),
            (6, Stored::Removal(3)),
            letter(7, 3),
            (8, Stored::Removal(99)),
            letter(9, 1),
            (10, Stored::Removal(3)),
        ];
        let letters = Letters::of(log, 11);
        assert_eq!(letters.there.keys().copied().collect::<Vec<_>>(), [4, 7, 9], "what came again afterwards is there");
        assert_eq!(letters.end, 11);
    }
}
