//! Reading one by one.

use std::sync::Arc;
use std::time::Duration;

use rdkafka::consumer::base_consumer::PartitionQueue;
use rdkafka::error::KafkaError;

use super::{BATCH, Bell};
use crate::envelope::Record;
use crate::rebalance::{Client, Context};

/// The queue of one lane.
pub(crate) struct Queue(PartitionQueue<Context>);

impl Queue {
    /// Splits a lane's queue off. Before the lane is assigned: what was fetched until then would go another way.
    pub(crate) fn split(client: &Arc<Client>, channel: &str, lane: u32, bell: &Arc<Bell>) -> Option<Self> {
        let mut queue = client.split_partition_queue(channel, i32::try_from(lane).ok()?)?;
        let bell = Arc::clone(bell);
        queue.set_nonempty_callback(move || bell.ring());
        Some(Self(queue))
    }

    /// Reads what is there, one batch at most, without waiting. Gives how many came.
    pub(crate) fn read(&mut self, mut each: impl FnMut(Result<&dyn Record, KafkaError>)) -> usize {
        for got in 0..BATCH {
            match self.0.poll(Duration::ZERO) {
                Some(Ok(record)) => each(Ok(&record)),
                Some(Err(why)) => each(Err(why)),
                None => return got,
            }
        }
        BATCH
    }
}
