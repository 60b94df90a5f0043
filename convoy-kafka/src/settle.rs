//! The thread that commits, one request at a time, and asks what has to wait for an answer.
//!
//! A commit of the client library has no limit of its own; so it is never waited for on the polling thread, and the engine's own clock says what a missing answer means. Only lanes that are held
//! are in it, by the lock that a revoke takes as well: a broker takes a commit from every member of the group, be the lane its own or not.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use convoy_core::backend::{Answer, Event, Grant, Loss};
use convoy_core::runtime::now;
use convoy_core::{Moment, Result};
use rdkafka::consumer::{CommitMode, Consumer};
use rdkafka::error::KafkaResult;
use rdkafka::{Offset, TopicPartitionList};

use crate::error;
use crate::lanes::{Lane, Phase, Shared, State, Told};
use crate::positions;
use crate::rebalance::Client;

/// A position that could not be found is asked for again after this.
const AGAIN: Duration = Duration::from_millis(250);
/// How long a question for positions may take, which holds up commits, and the end of a consumer.
const FIND: Duration = Duration::from_secs(2);
/// How long a look at the number of partitions may take, which holds up commits.
const LOOK: Duration = Duration::from_secs(1);
/// So many looks in a row must say that the channel is gone.
const MISSING: u32 = 5;

/// What runs on the thread.
pub(crate) struct Commits {
    pub(crate) shared: Arc<Shared>,
    pub(crate) consumer: Arc<Client>,
    /// Until this says no.
    pub(crate) alive: Arc<AtomicBool>,
}

impl Commits {
    pub(crate) fn run(self) {
        let shared = &self.shared;
        let (mut look_at, mut open_at, mut missing) = (now() + shared.options.lane_check, Moment::ORIGIN, 0);
        while self.alive.load(Ordering::Acquire) {
            let mut state = shared.state();
            let told = state.take_commit(shared.lanes);
            shared.flush(&mut state);
            if !told.is_empty() {
                state.commits_begun += 1;
                let held = state.grants();
                drop(state);
                self.commit(told, &held);
                continue;
            }
            let opening = opening(&state);
            if !opening.is_empty() && now() >= open_at {
                drop(state);
                self.find(&opening);
                open_at = now() + AGAIN;
            } else if now() >= look_at {
                drop(state);
                let gone = self.look(&mut missing);
                look_at = now() + if gone { LOOK } else { shared.options.lane_check };
            } else {
                let until = if opening.is_empty() { look_at } else { look_at.min(open_at) };
                shared.wait(&mut state, until.min(now() + LOOK));
            }
        }
    }

    fn commit(&self, told: Vec<Told>, held: &[Grant]) {
        let shared = &self.shared;
        let asked_at = now();
        let result = self.ask(&told);
        // A membership that ended meanwhile proves nothing: without one, a group that is empty takes everybody's commits.
        let lost = self.consumer.assignment_lost();
        let mut state = shared.state();
        state.commits_ended += 1;
        let answer = match &result {
            Ok(()) => Answer::Ok,
            Err(why) => {
                let answer = error::answer_of_commit(why);
                tracing::debug!(channel = shared.names.channel, group = shared.names.group, error = %why, ?answer, "a commit failed");
                answer
            }
        };
        for told in &told {
            settled(&mut state, told, answer);
        }
        if answer == Answer::Ok {
            shared.down.store(false, Ordering::Release);
            let valid_for = self.valid_for(asked_at);
            for grant in held.iter().filter(|_| !lost) {
                if state.held(*grant).is_some_and(|(_, held)| held.committed) {
                    state.tell(Event::Proved { grant: *grant, asked_at, valid_for });
                }
            }
        }
        shared.flush(&mut state);
        drop(state);
        shared.wake();
    }

    /// The session's timeout; and no longer than the polling thread may be stuck, which would make this member leave.
    fn valid_for(&self, asked_at: Moment) -> Duration {
        let options = &self.shared.options;
        let leaves_at = self.shared.last_turn() + options.max_poll_interval;
        options.session_timeout.min(leaves_at.since(asked_at))
    }

    fn ask(&self, told: &[Told]) -> KafkaResult<()> {
        let channel = &self.shared.names.channel;
        let mut list = TopicPartitionList::with_capacity(told.len());
        for told in told {
            let mut of = list.add_partition(channel, told.lane as i32);
            of.set_offset(Offset::Offset(i64::try_from(told.offset).unwrap_or(i64::MAX)))?;
            of.set_metadata(&told.metadata);
        }
        self.consumer.commit(&list, CommitMode::Sync)
    }

    fn find(&self, opening: &[(u32, u64)]) {
        let shared = &self.shared;
        let lanes: Vec<u32> = opening.iter().map(|(lane, _)| *lane).collect();
        match positions::find(&self.consumer, shared, &lanes, now() + shared.options.answer_limit.min(FIND)) {
            Ok(found) => {
                let mut state = shared.state();
                for (lane, at) in found {
                    if let Some(Lane { phase: Phase::Opening(found), serial, .. }) = state.lanes.get_mut(&lane)
                        && opening.contains(&(lane, *serial))
                    {
                        *found = Some(at);
                        state.upkeep = true;
                    }
                }
            }
            Err(why) if positions::ends_a_consumer(&why) => shared.fail(why),
            Err(why) => tracing::info!(error = ?why, "the positions of a group are not known yet"),
        }
    }

    /// Looks whether the channel still has its partitions. Gives whether it is missing.
    fn look(&self, missing: &mut u32) -> bool {
        let shared = &self.shared;
        let channel = &shared.names.channel;
        let now_has = match partitions(&self.consumer, channel, LOOK) {
            Ok(now_has) => now_has,
            Err(why) => {
                tracing::debug!(error = ?why, "the partitions of a channel could not be counted");
                return false;
            }
        };
        match now_has {
            0 => {
                *missing += 1;
                if *missing >= MISSING {
                    shared.fail(error::not_there(
                        "consume",
                        "the channel's topic is gone: what was in it is lost",
                        channel,
                    ));
                }
                return true;
            }
            n if n != shared.lanes && !shared.allows("lane-count") => {
                shared.fail(error::lanes_changed("consume", channel, shared.lanes, n));
            }
            _ => {}
        }
        *missing = 0;
        false
    }
}

/// How many partitions a topic has; none when there is no such topic.
pub(crate) fn partitions(consumer: &Client, channel: &str, limit: Duration) -> Result<u32> {
    let metadata =
        consumer.fetch_metadata(Some(channel), limit).map_err(|why| error::of(why, "look at the channel"))?;
    let of = metadata.topics().iter().find(|topic| topic.name() == channel);
    Ok(of.map_or(0, |topic| u32::try_from(topic.partitions().len()).unwrap_or_default()))
}

/// Lanes of which nobody has asked yet where they stand, each with its serial.
fn opening(state: &State) -> Vec<(u32, u64)> {
    if state.leaving || state.stop.is_some() || state.abandoned {
        return Vec::new();
    }
    let asked_for = |(lane, of): (&u32, &Lane)| matches!(of.phase, Phase::Opening(None)).then_some((*lane, of.serial));
    state.lanes.iter().filter_map(asked_for).collect()
}

/// Tells how the settlement of one lane ended.
fn settled(state: &mut State, told: &Told, answer: Answer) {
    let grant = told.grant;
    let Some((_, held)) = state.held(grant) else { return };
    held.committed |= answer == Answer::Ok;
    if let Some(ticket) = told.ticket {
        held.settled(answer);
        state.tell(Event::Settled { grant, ticket, answer });
    }
    if answer == Answer::Refused {
        match told.ticket {
            // The engine ends the right with that.
            Some(_) => state.forget(grant),
            None => state.lose(grant, Loss::Refused),
        }
    }
}
