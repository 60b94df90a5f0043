//! Sending: each session one message at a time (which is the pipeline's business), all sessions by one client, every one confirmed by all replicas in sync.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use convoy_core::backend::{Fate, Run, Sent, Sink, Ticket};
use convoy_core::runtime::{instant, now};
use convoy_core::{Error, ErrorKind, Moment, Outcome, Position, Result};
use hashbrown::HashMap;
use parking_lot::Mutex;
use rdkafka::error::KafkaError;
use tokio::sync::Notify;
use tokio::time::{sleep_until, timeout_at};

use crate::config::Options;
use crate::outbox::Outbox;
use crate::publisher::{Outcomes, Publisher, Record, Refusal};
use crate::{client, envelope, error, hashing};

/// When the oldest record of a lane has no answer for so long, no more of that lane are handed to the client library: what waits here can still be told that it never left.
const STALLED: Duration = Duration::from_secs(1);
/// What waits for room is tried again after this.
const AGAIN: Duration = Duration::from_millis(20);
/// How long a look at the number of partitions may take.
const LOOK: Duration = Duration::from_secs(2);

type Map<K, V> = HashMap<K, V, foldhash::fast::RandomState>;

/// A producer of one channel.
#[derive(Debug)]
pub(crate) struct KafkaSink {
    options: Options,
    shared: Arc<Shared>,
    publisher: Arc<Publisher<Shared>>,
}

#[derive(Debug)]
struct Shared {
    channel: String,
    /// The number of partitions that the channel was opened with: a session's place rests on it.
    lanes: u32,
    state: Mutex<State>,
    sent: Outbox<Sent>,
    moved: Notify,
}

#[derive(Debug, Default)]
struct State {
    /// What was not handed to the client library, in order.
    waiting: VecDeque<Run>,
    /// What was, and has no outcome, with the time until which its sender waits.
    out: Map<Ticket, Moment>,
    by_time: BTreeSet<(Moment, Ticket)>,
    /// By lane, when what is out left, oldest first; some of it may have its outcome.
    left: Map<u32, VecDeque<(Moment, Ticket)>>,
    /// What became of what was told as unknown.
    fates: Map<Ticket, Option<Fate>>,
    closed: bool,
    /// The channel changed: nothing is sent any more.
    failed: Option<(ErrorKind, String)>,
    look_at: Moment,
}

impl KafkaSink {
    /// Opens it on a channel that has so many partitions.
    pub(crate) fn start(options: &Options, channel: &str, lanes: u32) -> Result<Self> {
        let state = State { look_at: now() + options.lane_check, ..State::default() };
        let shared = Arc::new(Shared {
            channel: channel.to_owned(),
            lanes,
            state: Mutex::new(state),
            sent: Outbox::new(),
            moved: Notify::new(),
        });
        let config = client::producer(options, "producer", None);
        let publisher = Arc::new(Publisher::new(config, Arc::clone(&shared)));
        publisher.open()?;
        Ok(Self { options: options.clone(), shared, publisher })
    }

    /// Hands out what may leave, in order. What is to go to a lane that does not answer waits.
    fn publish(&self, state: &mut State) {
        let mut waits = VecDeque::new();
        while let Some(run) = state.waiting.pop_front() {
            let lane = hashing::lane(&run.session, self.shared.lanes);
            if state.is_stalled(lane) {
                waits.push_back(run);
                continue;
            }
            if let Err(run) = self.send(state, lane, run) {
                waits.push_back(run);
                break;
            }
        }
        waits.append(&mut state.waiting);
        state.waiting = waits;
    }

    /// Hands one over. It comes back when there is no room.
    fn send(&self, state: &mut State, lane: u32, run: Run) -> std::result::Result<(), Run> {
        let ticket = run.ticket;
        let fails = |why: Error| self.shared.sent.push(Sent { ticket, outcome: Err(why) });
        if let Some((kind, why)) = &state.failed {
            fails(Error::new(*kind, "send").because(why.clone()).with_outcome(Outcome::NotApplied));
            return Ok(());
        }
        let Some(content) = run.messages.first() else {
            fails(Error::new(ErrorKind::InvalidMessage, "send").because("a run has one message here"));
            return Ok(());
        };
        let record = Record {
            topic: &self.shared.channel,
            partition: lane,
            key: envelope::key(&run.session),
            body: content.body(),
            headers: envelope::outgoing(content),
        };
        match self.publisher.send(record, ticket) {
            Ok(()) => {
                state.out.insert(ticket, run.until);
                state.by_time.insert((run.until, ticket));
                state.left.entry(lane).or_default().push_back((now(), ticket));
            }
            Err((Refusal::Full, _)) => return Err(run),
            Err((Refusal::Failed(why), _)) => fails(why),
        }
        Ok(())
    }

    /// Tells those whose time is over, sends what may leave, and says when there is something to do again.
    fn tend(&self) -> Moment {
        let mut state = self.shared.state.lock();
        let now = now();
        while let Some((until, ticket)) = state.by_time.first().copied().filter(|(until, _)| *until <= now) {
            state.by_time.remove(&(until, ticket));
            state.out.remove(&ticket);
            state.fates.insert(ticket, None);
            let outcome = Err(error::unknown("the broker did not confirm it in time"));
            self.shared.sent.push(Sent { ticket, outcome });
        }
        state.waiting.retain(|run| {
            let late = run.until <= now;
            if late {
                self.shared.sent.push(Sent { ticket: run.ticket, outcome: Err(error::too_late()) });
            }
            !late
        });
        self.publish(&mut state);
        let first = state.by_time.first().map_or(Moment::NEVER, |(until, _)| *until).min(state.look_at);
        if state.waiting.is_empty() { first } else { first.min(now + AGAIN) }
    }

    /// Whether it is time to count the channel's partitions.
    fn looks(&self) -> bool {
        let mut state = self.shared.state.lock();
        let due = now() >= state.look_at && !state.closed;
        if due {
            state.look_at = now() + self.options.lane_check;
        }
        due
    }

    /// Counts them on a thread that may wait. Another number would put sessions into other lanes.
    fn look(&self) {
        let (shared, publisher) = (Arc::clone(&self.shared), Arc::clone(&self.publisher));
        tokio::task::spawn_blocking(move || match publisher.partitions(&shared.channel, LOOK) {
            Ok(lanes) if lanes != shared.lanes => {
                let why = match lanes {
                    0 => error::not_there("send", "the channel's topic is gone", &shared.channel),
                    n => error::lanes_changed("send", &shared.channel, shared.lanes, n),
                };
                let before = shared.state.lock().failed.replace((why.kind(), why.to_string()));
                if before.is_none() {
                    tracing::error!(error = ?why, "the producer cannot go on");
                }
            }
            Ok(_) => {}
            Err(why) => tracing::debug!(error = ?why, "the partitions of a channel could not be counted"),
        });
    }
}

impl State {
    fn is_stalled(&mut self, lane: u32) -> bool {
        let Self { out, fates, left, .. } = self;
        let Some(left) = left.get_mut(&lane) else { return false };
        while left.front().is_some_and(|(_, ticket)| !is_unanswered(out, fates, *ticket)) {
            left.pop_front();
        }
        left.front().is_some_and(|(at, _)| now().since(*at) >= STALLED)
    }
}

/// Whether the client library has not said yet what became of it.
fn is_unanswered(out: &Map<Ticket, Moment>, fates: &Map<Ticket, Option<Fate>>, ticket: Ticket) -> bool {
    out.contains_key(&ticket) || fates.get(&ticket) == Some(&None)
}

impl Outcomes for Shared {
    type Mark = Ticket;

    fn delivered(&self, ticket: Ticket, outcome: std::result::Result<u64, KafkaError>) {
        let outcome = match outcome {
            Ok(offset) => Ok(Some(Position::new(offset))),
            Err(why) => Err(error::of(why, "send")),
        };
        let fate = match &outcome {
            Ok(_) => Fate::Landed,
            Err(why) if why.outcome() == Outcome::NotApplied => Fate::Never,
            Err(_) => Fate::Unknown,
        };
        let mut state = self.state.lock();
        match state.out.remove(&ticket) {
            Some(until) => {
                state.by_time.remove(&(until, ticket));
                if fate == Fate::Unknown {
                    state.fates.insert(ticket, Some(fate));
                }
                self.sent.push(Sent { ticket, outcome });
            }
            // It was told as unknown; this is its fate.
            None => _ = state.fates.insert(ticket, Some(fate)),
        }
        drop(state);
        self.moved.notify_waiters();
    }
}

#[async_trait]
impl Sink for KafkaSink {
    fn max_message(&self) -> usize {
        self.options.max_message
    }

    fn submit(&self, runs: &mut Vec<Run>) {
        let mut state = self.shared.state.lock();
        if state.closed {
            for run in runs.drain(..) {
                self.shared.sent.push(Sent { ticket: run.ticket, outcome: Err(error::closed("send")) });
            }
            return;
        }
        state.waiting.extend(runs.drain(..));
        self.publish(&mut state);
    }

    async fn next(&self, into: &mut Vec<Sent>) -> Result<()> {
        loop {
            let wake = self.tend();
            if self.looks() {
                self.look();
            }
            tokio::select! {
                biased;
                told = self.shared.sent.take(into, || error::closed("send")) => return told,
                () = sleep_until(instant(wake)) => {}
            }
        }
    }

    async fn fate(&self, ticket: Ticket, until: Moment) -> Result<Fate> {
        loop {
            let moved = self.shared.moved.notified();
            tokio::pin!(moved);
            moved.as_mut().enable();
            {
                let mut state = self.shared.state.lock();
                match state.fates.get(&ticket).copied() {
                    Some(Some(fate)) => {
                        state.fates.remove(&ticket);
                        return Ok(fate);
                    }
                    None => return Ok(Fate::Unknown),
                    // The client library still has it, and may send it: nothing may follow it before that is over.
                    Some(None) => {}
                }
            }
            if timeout_at(instant(until), moved).await.is_err() {
                return Err(error::no_answer("ask for the fate of a send"));
            }
        }
    }

    async fn close(&self, until: Moment) -> Result<()> {
        self.shared.state.lock().closed = true;
        loop {
            let moved = self.shared.moved.notified();
            tokio::pin!(moved);
            moved.as_mut().enable();
            {
                let state = self.shared.state.lock();
                if state.out.is_empty() && state.waiting.is_empty() {
                    break;
                }
            }
            if timeout_at(instant(until), moved).await.is_err() {
                self.publisher.close();
                self.shared.sent.close();
                return Err(error::no_answer("close"));
            }
        }
        self.publisher.close();
        self.shared.sent.close();
        Ok(())
    }
}
