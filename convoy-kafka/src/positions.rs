//! Where a group stands on its lanes, and where it begins that stands nowhere.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use convoy_core::runtime::now;
use convoy_core::{Error, ErrorKind, Moment, Result, Scope};
use rdkafka::consumer::Consumer;
use rdkafka::{Offset, TopicPartitionList};

use crate::config::Start;
use crate::error;
use crate::lanes::{Found, Shared};
use crate::progress::{Done, Read};
use crate::rebalance::Client;

const OPERATION: &str = "find the group's positions";

/// Finds where these lanes go on.
///
/// A position that is not in the log any more ends the consumer with an error that names what is lost, unless that is allowed; a channel whose number of partitions is not the one that its group
/// has written down likewise.
pub(crate) fn find(consumer: &Client, shared: &Shared, lanes: &[u32], until: Moment) -> Result<Vec<(u32, Found)>> {
    let mut found = Vec::with_capacity(lanes.len());
    for (lane, committed) in committed(consumer, shared, lanes, until)? {
        let left = until.since(now()).max(Duration::from_millis(10));
        let log = consumer.fetch_watermarks(&shared.names.channel, lane as i32, left);
        let (low, high) = log.map_err(|why| error::of(why, OPERATION))?;
        let (low, high) = (u64::try_from(low).unwrap_or_default(), u64::try_from(high).unwrap_or_default());
        let done = match committed {
            Some((offset, metadata)) => goes_on(shared, lane, (offset, &metadata), (low, high))?,
            None => Done::below(if shared.options.start == Start::Latest { high } else { low }),
        };
        found.push((lane, Found { done }));
    }
    Ok(found)
}

/// Offset and metadata, of a lane of which something was committed.
type Committed = Option<(u64, String)>;

/// What is committed of these lanes.
fn committed(consumer: &Client, shared: &Shared, lanes: &[u32], until: Moment) -> Result<Vec<(u32, Committed)>> {
    let mut list = TopicPartitionList::with_capacity(lanes.len());
    for lane in lanes {
        list.add_partition(&shared.names.channel, *lane as i32);
    }
    let left = until.since(now()).max(Duration::from_millis(10));
    let list = consumer.committed_offsets(list, left).map_err(|why| error::of(why, OPERATION))?;
    let mut committed = Vec::with_capacity(lanes.len());
    for of in list.elements_for_topic(&shared.names.channel) {
        of.error().map_err(|why| error::of(why, OPERATION))?;
        let Ok(lane) = u32::try_from(of.partition()) else { continue };
        let at = match of.offset() {
            // The client library panics over metadata that is no UTF-8 text.
            Offset::Offset(offset) => {
                let metadata = catch_unwind(AssertUnwindSafe(|| of.metadata().to_owned()));
                Some((u64::try_from(offset).unwrap_or_default(), metadata.unwrap_or_else(|_| "?".to_owned())))
            }
            _ => None,
        };
        committed.push((lane, at));
    }
    Ok(committed)
}

fn goes_on(shared: &Shared, lane: u32, (offset, metadata): (u64, &str), (low, high): (u64, u64)) -> Result<Done> {
    let (channel, group) = (&shared.names.channel, &shared.names.group);
    let mut done = match Done::read(offset, metadata) {
        Read::Ours(_, partitions) if partitions != shared.lanes && !shared.allows("lane-count") => {
            return Err(error::lanes_changed("consume", channel, partitions, shared.lanes));
        }
        Read::Ours(done, _) => done,
        Read::Nothing => Done::below(offset),
        Read::Foreign => {
            tracing::warn!(
                channel,
                group,
                lane,
                offset,
                "the metadata of the group's commit is somebody else's: what was done above the offset is handled again"
            );
            Done::below(offset)
        }
    };
    if (low..=high).contains(&offset) {
        return Ok(done);
    }
    let to = if offset < low { low } else { high };
    let why = error::lost_range(channel, group, lane, offset, to);
    if !shared.allows("lost-range") {
        return Err(why);
    }
    tracing::error!(error = ?why, "it is allowed, and the lane goes on");
    if offset < low && done.end > low {
        done.watermark = low;
        done.open.values_mut().for_each(|first| *first = (*first).max(low));
    } else {
        done = Done::below(to);
    }
    Ok(done)
}

/// Whether a lane whose position was not found for this will not be found later either.
pub(crate) fn ends_a_consumer(why: &Error) -> bool {
    why.scope() == Scope::Client && why.kind() != ErrorKind::Closed
}
