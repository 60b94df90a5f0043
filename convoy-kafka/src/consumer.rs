//! A consumer, as the engine sees it.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use async_trait::async_trait;
use convoy_core::backend::{Command, Event, Limits, Place, Source};
use convoy_core::runtime::{instant, now};
use convoy_core::{Moment, Result, SessionId};
use tokio::sync::watch;
use tokio::time::timeout_at;

use crate::config::Options;
use crate::dead::Copies;
use crate::lanes::{Phase, Shared};
use crate::names::Names;
use crate::{client, error, hashing, reader};

/// A consumer of one group: a thread that polls, and one that commits.
#[derive(Debug)]
pub(crate) struct KafkaSource {
    shared: Arc<Shared>,
    ended: watch::Receiver<bool>,
}

/// What is known of a channel when a consumer of it is opened.
#[derive(Debug)]
pub(crate) struct Opened {
    pub(crate) names: Names,
    /// How many partitions it has.
    pub(crate) lanes: u32,
    /// Findings that are allowed.
    pub(crate) allowed: Vec<String>,
    /// The number of this consumer, for its name at the broker.
    pub(crate) number: usize,
}

impl KafkaSource {
    pub(crate) fn start(options: &Options, opened: Opened, copies: Arc<Copies>) -> Result<Self> {
        let Opened { names, lanes, allowed, number } = opened;
        copies.open()?;
        let config = client::consumer(options, &format!("consumer-{number}"), &names.group);
        let shared = Arc::new(Shared::new(options.clone(), names, lanes, allowed, copies));
        let first = reader::connect(&config, &shared)?;
        let (tell_end, ended) = watch::channel(false);
        let on = Arc::clone(&shared);
        let poll = move || {
            // Whatever ends the thread, nobody waits for it.
            let _end = End(tell_end, Arc::clone(&on));
            reader::run(&config, &on, first);
        };
        std::thread::Builder::new()
            .name("convoy-kafka-poll".to_owned())
            .spawn(poll)
            .map_err(|why| error::no_thread("open consumer", why))?;
        Ok(Self { shared, ended })
    }

    fn stop(&self, until: Moment) {
        let mut state = self.shared.state();
        state.stop.get_or_insert(until);
        drop(state);
        self.shared.wake();
    }
}

/// Tells the end of the polling thread.
struct End(watch::Sender<bool>, Arc<Shared>);

impl Drop for End {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.1.events.fail(error::closed("consume").because("the polling thread panicked"));
        }
        self.1.events.close();
        self.0.send_replace(true);
    }
}

#[async_trait]
impl Source for KafkaSource {
    fn limits(&self) -> Limits {
        self.shared.options.limits()
    }

    async fn next(&self, into: &mut Vec<Event>) -> Result<()> {
        self.shared.events.take(into, || error::closed("consume")).await
    }

    fn submit(&self, commands: &mut Vec<Command>) {
        self.shared.submit(commands);
    }

    fn place(&self, session: &SessionId) -> Place {
        Place::Lane(hashing::lane(session, self.shared.lanes))
    }

    fn awaits(&self, place: &Place) -> bool {
        let Place::Lane(lane) = place else { return false };
        let state = self.shared.state();
        match state.lanes.get(lane) {
            Some(of) => matches!(of.phase, Phase::Opening(_)),
            None => !self.shared.joined.load(Ordering::Acquire),
        }
    }

    fn is_ready(&self) -> bool {
        let state = self.shared.state();
        let opened = !state.lanes.values().any(|of| matches!(of.phase, Phase::Opening(_)));
        opened && self.shared.joined.load(Ordering::Acquire) && !self.shared.down.load(Ordering::Acquire)
    }

    async fn close(&self, until: Moment) -> Result<()> {
        self.stop(until);
        let mut ended = self.ended.clone();
        let waited = timeout_at(instant(until), ended.wait_for(|ended| *ended)).await;
        self.shared.events.close();
        match waited {
            Ok(_) => Ok(()),
            Err(_) => Err(error::no_answer("close")
                .with("group", &self.shared.names.group)
                .with("meanwhile", self.shared.now_about())),
        }
    }
}

impl Drop for KafkaSource {
    fn drop(&mut self) {
        self.stop(now() + self.shared.options.answer_limit);
    }
}
