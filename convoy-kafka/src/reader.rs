//! The thread that polls: it hears of changes of the group, and opens lanes. One client at a time; when one cannot be trusted any more, the next is made.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use convoy_core::backend::Loss;
use convoy_core::runtime::now;
use convoy_core::{Moment, Result};
use rdkafka::config::{ClientConfig, FromClientConfigAndContext};
use rdkafka::consumer::Consumer;
use rdkafka::error::KafkaError;
use rdkafka::message::{BorrowedMessage, Message as _};

use crate::error;
use crate::fetch::Fetch;
use crate::lanes::{About, Found, Lane, Phase, Shared, State};
use crate::rebalance::{self, Client, Context};
use crate::settle::Commits;

/// How long a poll waits for something.
const IDLE: Duration = Duration::from_millis(50);
/// And while something is to be done soon.
const BUSY: Duration = Duration::from_millis(5);
/// How long a seek may take.
const SEEK: Duration = Duration::from_secs(2);
/// How long a client that is given up has for its end.
const CLOSE: Duration = Duration::from_secs(60);
/// How much of the time for an end is kept for leaving the group.
const LEAVE: Duration = Duration::from_secs(2);
/// A client that could not be made is tried again after this.
const AGAIN: Duration = Duration::from_secs(1);

/// Makes a client of the client library.
pub(crate) fn connect(config: &ClientConfig, shared: &Arc<Shared>) -> Result<Arc<Client>> {
    let client = Client::from_config_and_context(config, Context { shared: Arc::clone(shared) });
    client.map(Arc::new).map_err(|why| error::of(why, "open consumer"))
}

/// Everything that happens on the thread.
pub(crate) fn run(config: &ClientConfig, shared: &Arc<Shared>, first: Arc<Client>) {
    let mut client = Some(first);
    loop {
        let on = match client.take().map_or_else(|| connect(config, shared), Ok) {
            Ok(on) => on,
            Err(why) => {
                tracing::warn!(error = ?why, "a consumer could not be made again yet");
                let mut state = shared.state();
                if state.stop.is_some() {
                    break;
                }
                shared.wait(&mut state, now() + AGAIN);
                continue;
            }
        };
        let life = match Life::begin(Arc::clone(shared), on) {
            Ok(life) => life,
            Err(why) => {
                shared.fail(why);
                break;
            }
        };
        if !life.run() {
            break;
        }
        tracing::warn!(
            channel = shared.names.channel,
            group = shared.names.group,
            "a client was given up, and is made again"
        );
    }
    shared.events.close();
}

/// One client, with its other threads.
struct Life {
    shared: Arc<Shared>,
    consumer: Arc<Client>,
    alive: Arc<AtomicBool>,
    others: [JoinHandle<()>; 2],
}

/// What the thread does next.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Next {
    Poll,
    Tend,
    End,
}

impl Life {
    fn begin(shared: Arc<Shared>, consumer: Arc<Client>) -> Result<Self> {
        {
            shared.is_about(About::Polling);
            let mut state = shared.state();
            state.abandoned = false;
            (state.commits_begun, state.commits_ended) = (0, 0);
            state.trouble = None;
        }
        *shared.client.lock() = Arc::downgrade(&consumer);
        shared.takes_a_turn();
        consumer.subscribe(&[&shared.names.channel]).map_err(|why| error::of(why, "open consumer"))?;
        let alive = Arc::new(AtomicBool::new(true));
        let commits =
            Commits { shared: Arc::clone(&shared), consumer: Arc::clone(&consumer), alive: Arc::clone(&alive) };
        let fetch = Fetch { shared: Arc::clone(&shared), alive: Arc::clone(&alive) };
        let others =
            [thread("convoy-kafka-commit", move || commits.run())?, thread("convoy-kafka-read", move || fetch.run())?];
        Ok(Self { shared, consumer, alive, others })
    }

    /// Until it is over. Whether another client is to be made.
    fn run(self) -> bool {
        let shared = &self.shared;
        let mut wait = IDLE;
        loop {
            let turn = self.consumer.poll(wait);
            shared.takes_a_turn();
            let mut state = shared.state();
            let mut failed = state.trouble.take();
            let next = next(&state);
            wait = if state.lanes.values().any(|lane| matches!(lane.phase, Phase::Opening(_))) { BUSY } else { IDLE };
            drop(state);
            match turn {
                Some(Ok(record)) => self.leaked(&record),
                Some(Err(why)) => failed = Some(why),
                None => {}
            }
            let over = failed.is_some_and(|why| self.failed(&why));
            match next {
                _ if over => return self.end(),
                Next::End => return self.end(),
                Next::Tend => self.tend(),
                Next::Poll => {}
            }
        }
    }

    /// A record came another way than by its lane's queue, where nobody asks for it: it would be missing there.
    fn leaked(&self, record: &BorrowedMessage<'_>) {
        let (lane, offset) = (record.partition(), record.offset());
        let state = self.shared.state();
        if state.leaving || state.stop.is_some() {
            return;
        }
        drop(state);
        tracing::error!(lane, offset, "the client library put a record where none belongs; the client is given up");
        rebalance::abandon(&self.shared);
    }

    /// Opens what is to be.
    fn tend(&self) {
        let mut open = Vec::new();
        let mut state = self.shared.state();
        state.upkeep = false;
        for (lane, of) in &state.lanes {
            if let Phase::Opening(Some(found)) = &of.phase {
                open.push((*lane, found.clone()));
            }
        }
        drop(state);
        if !open.is_empty() {
            self.open(open);
        }
    }

    fn open(&self, lanes: Vec<(u32, Found)>) {
        rebalance::open(&self.consumer, &self.shared, lanes, SEEK);
        // What could not be opened is tried again.
        let mut state = self.shared.state();
        state.upkeep = state.lanes.values().any(|lane| matches!(lane.phase, Phase::Opening(Some(_))));
    }

    /// Something else than a record came. Whether that is the end.
    fn failed(&self, why: &KafkaError) -> bool {
        let shared = &self.shared;
        if error::is_down(why) {
            shared.down.store(true, Ordering::Release);
        }
        if error::is_out_of_range(why) {
            return self.out_of_range();
        }
        if !error::ends_a_consumer(why) {
            tracing::debug!(error = %why, "the client library has something to tell");
            return false;
        }
        // Of a fatal one no revoke is told: everything is lost.
        shared.fail(error::of(why.clone(), "consume"));
        true
    }

    /// A position is not in the log any more. Which one, the client library does not say: whatever lies outside is looked for.
    fn out_of_range(&self) -> bool {
        let shared = &self.shared;
        let at: Vec<(u32, u64)> = {
            let state = shared.state();
            let next = |(lane, of): (&u32, &Lane)| match &of.phase {
                Phase::Held(held) => Some((*lane, held.next())),
                _ => None,
            };
            state.lanes.iter().filter_map(next).collect()
        };
        for (lane, next) in at {
            let Ok((low, high)) = self.consumer.fetch_watermarks(&shared.names.channel, lane as i32, SEEK) else {
                continue;
            };
            let (low, high) = (u64::try_from(low).unwrap_or_default(), u64::try_from(high).unwrap_or_default());
            if (low..=high).contains(&next) {
                continue;
            }
            let to = if next < low { low } else { high };
            let why = error::lost_range(&shared.names.channel, &shared.names.group, lane, next, to);
            if !shared.allows("lost-range") {
                shared.fail(why);
                return true;
            }
            tracing::error!(error = ?why, "it is allowed, and the lane goes on");
            // It begins anew, where its position is found not to be there.
            let mut state = shared.state();
            for grant in state.grants().into_iter().filter(|grant| grant.shard() == lane) {
                state.lose(grant, Loss::Gone);
            }
            shared.flush(&mut state);
            drop(state);
            shared.wake();
        }
        false
    }

    /// Gives the client up: closes it, and waits for its other thread. Whether another one is to be made.
    fn end(self) -> bool {
        let Self { shared, consumer, alive, others } = self;
        shared.is_about(About::Commits);
        let (until, asked_until, again, queues) = {
            let mut state = shared.state();
            let again = state.stop.is_none() && state.abandoned;
            let until = state.stop.unwrap_or_else(|| now() + if again { CLOSE } else { shared.options.answer_limit });
            // What is under way is waited for: closing ends the heartbeats at once.
            let asked_until = now() + until.since(now()).saturating_sub(LEAVE);
            while state.commits_ended < state.commits_begun && now() < asked_until && !again {
                shared.wait(&mut state, now() + BUSY);
            }
            let all: Vec<u32> = state.lanes.keys().copied().collect();
            let queues = state.remove(&all, Loss::Disconnected);
            shared.flush(&mut state);
            (until, asked_until, again, queues)
        };
        queues.end();
        alive.store(false, Ordering::Release);
        shared.wake();
        shared.bell.ring();
        let ended = || others.iter().all(JoinHandle::is_finished);
        // So are other questions: to a client that is closing, the one for the group's positions has no answer, and no end but its limit.
        while !again && !ended() && now() < asked_until {
            std::thread::sleep(BUSY);
        }
        shared.is_about(About::Leaving);
        close(&consumer, until, again, ended);
        if ended() {
            for thread in others {
                thread.join().ok();
            }
            return again;
        }
        // It holds the client, which ends with it.
        tracing::warn!(
            channel = shared.names.channel,
            group = shared.names.group,
            "a commit has no end; its client is left behind"
        );
        false
    }
}

/// Leaves the group.
fn close(consumer: &Client, until: Moment, abandoned: bool, ended: impl Fn() -> bool) {
    if let Err(why) = consumer.close_queue() {
        tracing::debug!(error = %why, "a consumer could not be closed");
        return;
    }
    // A revoke that was not followed is, now that nothing follows from it any more. Only then: what follows a revoke that is still to come would find the group's part of the client gone, and a
    // question that it throws away is waited for without end.
    if abandoned {
        consumer.unassign().ok();
    }
    while !(consumer.closed() && ended()) && now() < until {
        consumer.poll(BUSY);
    }
}

fn next(state: &State) -> Next {
    match state {
        _ if state.stop.is_some() || state.abandoned => Next::End,
        _ if state.upkeep => Next::Tend,
        _ => Next::Poll,
    }
}

fn thread(name: &str, run: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>> {
    let thread = std::thread::Builder::new().name(name.to_owned()).spawn(run);
    thread.map_err(|why| error::no_thread("open consumer", why))
}
