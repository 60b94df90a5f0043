//! What the group says: these lanes are yours, these are not any more. Called on the polling thread, inside of a poll.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use convoy_core::backend::Loss;
use convoy_core::runtime::now;
use convoy_core::{Error, Moment};
use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext, RebalanceProtocol};
use rdkafka::error::{KafkaError, KafkaResult};
use rdkafka::types::RDKafkaRespErr;
use rdkafka::{Offset, TopicPartitionList};

use crate::lanes::{About, Found, Lane, Phase, Shared, Slot};
use crate::queue::Queue;
use crate::{client, error, positions};

/// How long a release may come late.
const SLACK: Duration = Duration::from_millis(500);
/// How often it is looked whether the assignment was lost meanwhile.
const LOOK: Duration = Duration::from_millis(20);

/// What the client library calls.
#[derive(Debug)]
pub(crate) struct Context {
    pub(crate) shared: Arc<Shared>,
}

/// A consumer of the client library.
pub(crate) type Client = BaseConsumer<Context>;

impl ClientContext for Context {
    fn log(&self, level: RDKafkaLogLevel, fac: &str, line: &str) {
        client::log(level, fac, line);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        if error::is_down(&error) {
            self.shared.down.store(true, Ordering::Release);
        }
        client::told(&error, reason);
    }
}

impl ConsumerContext for Context {
    fn rebalance(&self, consumer: &Client, code: RDKafkaRespErr, list: &mut TopicPartitionList) {
        let lanes: Vec<u32> = list
            .elements_for_topic(&self.shared.names.channel)
            .iter()
            .filter_map(|of| u32::try_from(of.partition()).ok())
            .collect();
        self.shared.is_about(About::Change);
        let done = match code {
            RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS => self.assigned(consumer, &lanes, list),
            _ => self.revoked(consumer, &lanes, list),
        };
        self.shared.is_about(if self.shared.state().stop.is_some() { About::Leaving } else { About::Polling });
        if let Err(why) = done {
            // The client library is where nobody expects it: it is given up.
            tracing::warn!(error = %why, "a change of the group could not be followed");
            abandon(&self.shared);
        }
    }
}

impl Context {
    fn assigned(&self, consumer: &Client, lanes: &[u32], list: &mut TopicPartitionList) -> KafkaResult<()> {
        let shared = &self.shared;
        tracing::debug!(channel = shared.names.channel, group = shared.names.group, ?lanes, "assigned");
        let closing = shared.state().stop.is_some();
        let limit = shared.options.answer_limit.min(shared.options.max_poll_interval / 3);
        let found = match lanes {
            [] => Ok(Vec::new()),
            _ if closing => Ok(Vec::new()),
            _ => positions::find(consumer, shared, lanes, now() + limit),
        };
        let found = found.unwrap_or_else(|why| {
            self.not_found(why);
            Vec::new()
        });
        for (lane, at) in &found {
            let offset = i64::try_from(at.done.watermark).unwrap_or(i64::MAX);
            list.set_partition_offset(&shared.names.channel, *lane as i32, Offset::Offset(offset))?;
        }
        let client = shared.client.lock().upgrade();
        let mut split = Vec::with_capacity(lanes.len());
        for lane in lanes {
            split.push(
                client.as_ref().and_then(|client| Queue::split(client, &shared.names.channel, *lane, &shared.bell)),
            );
        }
        drop(client);
        let mut state = shared.state();
        let leaving = state.leaving || state.stop.is_some();
        for (lane, queue) in lanes.iter().zip(split) {
            let phase = if leaving { Phase::Given } else { Phase::Opening(None) };
            state.add(*lane, phase, queue);
        }
        for (lane, at) in found.iter().filter(|_| !leaving) {
            shared.grant(&mut state, *lane, at);
        }
        shared.flush(&mut state);
        drop(state);
        shared.joined.store(true, Ordering::Release);
        shared.wake();
        shared.bell.ring();
        // What was not found stands anywhere, is not read, and is put where it belongs later.
        for lane in lanes.iter().filter(|lane| !found.iter().any(|(of, _)| of == *lane)) {
            list.set_partition_offset(&shared.names.channel, *lane as i32, Offset::Beginning)?;
        }
        match consumer.rebalance_protocol() {
            RebalanceProtocol::Cooperative => consumer.incremental_assign(list),
            _ => consumer.assign(list),
        }
    }

    fn not_found(&self, why: Error) {
        if positions::ends_a_consumer(&why) {
            self.shared.fail(why);
        } else {
            tracing::info!(error = ?why, "the positions of a group are not known yet");
        }
    }

    fn revoked(&self, consumer: &Client, lanes: &[u32], list: &TopicPartitionList) -> KafkaResult<()> {
        let shared = &self.shared;
        let lost = consumer.assignment_lost();
        tracing::debug!(channel = shared.names.channel, group = shared.names.group, ?lanes, lost, "revoked");
        let held = !lost && self.hand_over(consumer, lanes);
        if !held {
            shared.joined.store(false, Ordering::Release);
        }
        let mut state = shared.state();
        let queues = state.remove(lanes, if held { Loss::Revoked } else { Loss::Disconnected });
        shared.flush(&mut state);
        drop(state);
        queues.end();
        if !self.commits_ended() {
            // The client library would send it again later, under whatever membership it then has. It is not told that the lanes are given up, so that it does not join again.
            return Err(KafkaError::Canceled);
        }
        match consumer.rebalance_protocol() {
            RebalanceProtocol::Cooperative => consumer.incremental_unassign(list),
            _ => consumer.unassign(),
        }
    }

    /// Lets the engine give lanes back. Whether they were this member's to the end.
    fn hand_over(&self, consumer: &Client, lanes: &[u32]) -> bool {
        let shared = &self.shared;
        let until = now() + shared.options.waits_for_handlers();
        let mut state = shared.state();
        if state.stop.is_some() {
            return true;
        }
        state.revoke(lanes, until);
        shared.flush(&mut state);
        while state.holds_any(lanes) && now() < until + SLACK && state.stop.is_none() {
            if consumer.assignment_lost() {
                return false;
            }
            shared.wait(&mut state, now() + LOOK);
        }
        true
    }

    /// Waits for the answer to a commit that is under way.
    fn commits_ended(&self) -> bool {
        let shared = &self.shared;
        let mut state = shared.state();
        let give_up: Moment = state.stop.unwrap_or_else(|| now() + shared.options.answer_limit);
        let begun = state.commits_begun;
        while state.commits_ended < begun {
            if now() >= give_up {
                return false;
            }
            shared.wait(&mut state, now() + LOOK);
        }
        true
    }
}

/// Gives the client up, and all lanes with it.
pub(crate) fn abandon(shared: &Shared) {
    let mut state = shared.state();
    let all: Vec<u32> = state.lanes.keys().copied().collect();
    let queues = state.remove(&all, Loss::Disconnected);
    state.abandoned = true;
    shared.flush(&mut state);
    drop(state);
    queues.end();
    shared.joined.store(false, Ordering::Release);
    shared.wake();
}

/// Puts lanes where they belong that are assigned and not held, and begins to read them. Whatever was fetched before is old by then to the client library, which leaves it out.
pub(crate) fn open(consumer: &Client, shared: &Shared, lanes: Vec<(u32, Found)>, limit: Duration) {
    let mut list = TopicPartitionList::with_capacity(lanes.len());
    for (lane, at) in &lanes {
        let offset = i64::try_from(at.done.watermark).unwrap_or(i64::MAX);
        list.add_partition_offset(&shared.names.channel, *lane as i32, Offset::Offset(offset)).ok();
    }
    // Whoever reads one of them yet, by a right that is gone, is waited for: what it takes after this would be missing.
    let slots: Vec<Slot> = {
        let state = shared.state();
        lanes.iter().filter_map(|(lane, _)| state.lanes.get(lane)).map(|lane| Arc::clone(&lane.queue)).collect()
    };
    let _nobody_reads: Vec<_> = slots.iter().map(|slot| slot.lock()).collect();
    let sought = match consumer.seek_partitions(list, limit) {
        Ok(sought) => sought,
        Err(why) => return tracing::debug!(error = %why, "a lane could not be opened yet"),
    };
    let is_there = |lane: u32| {
        let of = sought.find_partition(&shared.names.channel, lane as i32);
        of.is_some_and(|of| of.error().is_ok())
    };
    let mut state = shared.state();
    for (lane, at) in &lanes {
        let opening = matches!(state.lanes.get(lane), Some(Lane { phase: Phase::Opening(Some(_)), .. }));
        if opening && is_there(*lane) {
            shared.grant(&mut state, *lane, at);
        }
    }
    shared.flush(&mut state);
    drop(state);
    shared.bell.ring();
}
