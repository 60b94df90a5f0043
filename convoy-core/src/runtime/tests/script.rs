//! A broker that does what a test tells it, and answers everything else at once.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::SessionId;
use crate::backend::{
    Answer, Backend, Command, ConsumerSpec, DeadLetterStore, Event, Grant, LeaseCell, Limits, Loss, Place, Recovered,
    Sink, Source,
};
use crate::consumer::ConsumerBuilder;
use crate::error::{Error, ErrorKind, Result};
use crate::guarantee::Guarantees;
use crate::message::{Content, Inbound, Redelivered};
use crate::position::Position;
use crate::runtime::now;
use crate::time::Moment;
use crate::topology::{Finding, Topology};

/// The script is its own backend and its one source.
#[derive(Clone, Debug)]
pub(super) struct Script(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    limits: Limits,
    events: Mutex<Vec<Event>>,
    notify: Notify,
    said: Mutex<Said>,
}

/// What the engine asked for.
#[derive(Debug, Default)]
pub(super) struct Said {
    pub(super) settled_below: u64,
    pub(super) dead: Vec<(u64, &'static str)>,
    pub(super) renewals: usize,
    pub(super) released: usize,
    pub(super) surrendered: usize,
    pub(super) left: bool,
    epoch: u64,
    mute: bool,
    closed: bool,
}

pub(super) const LOCK: Duration = Duration::from_secs(10);

impl Script {
    pub(super) fn new(limits: Limits) -> Self {
        let inner = Inner { limits, events: Mutex::default(), notify: Notify::new(), said: Mutex::default() };
        Self(Arc::new(inner))
    }

    pub(super) fn consumer(&self) -> ConsumerBuilder {
        ConsumerBuilder::new(Arc::new(self.clone()), "orders".into()).shards(1)
    }

    pub(super) fn said<R>(&self, look: impl FnOnce(&Said) -> R) -> R {
        look(&self.0.said.lock())
    }

    /// Answers nothing any more.
    pub(super) fn mute(&self) {
        self.0.said.lock().mute = true;
    }

    pub(super) fn say(&self, event: Event) {
        self.0.events.lock().push(event);
        self.0.notify.notify_one();
    }

    pub(super) fn grant(&self, place: Place) -> Grant {
        let mut said = self.0.said.lock();
        said.epoch += 1;
        let grant = Grant::new(said.epoch, &place);
        drop(said);
        let (start, recovered, lease) = (Position::new(0), Recovered::default(), Arc::<LeaseCell>::default());
        self.say(Event::Granted { grant, place, start, recovered, lease });
        grant
    }

    pub(super) fn lane(&self) -> Grant {
        self.grant(Place::Lane(0))
    }

    pub(super) fn deliver(&self, grant: Grant, position: u64, session: &str, body: &str) {
        self.deliver_content(grant, position, session, Content::new(body.to_owned()));
    }

    pub(super) fn deliver_content(&self, grant: Grant, position: u64, session: &str, content: Content) {
        let message = Inbound {
            position: Position::new(position),
            session: SessionId::new(session.to_owned()).unwrap(),
            redelivered: Redelivered::No,
            defect: None,
            content: Arc::new(content),
        };
        self.say(Event::Delivered { grant, message });
    }

    pub(super) fn lose(&self, grant: Grant) {
        self.say(Event::Lost { grant, why: Loss::Revoked });
    }
}

#[async_trait]
impl Source for Script {
    fn limits(&self) -> Limits {
        self.0.limits.clone()
    }

    async fn next(&self, into: &mut Vec<Event>) -> Result<()> {
        loop {
            into.append(&mut self.0.events.lock());
            if !into.is_empty() {
                return Ok(());
            }
            if self.0.said.lock().closed {
                return Err(Error::new(ErrorKind::Closed, "next"));
            }
            self.0.notify.notified().await;
        }
    }

    fn submit(&self, commands: &mut Vec<Command>) {
        let mut said = self.0.said.lock();
        for command in commands.drain(..) {
            let answer = match command {
                Command::Settle { grant, ticket, progress } => {
                    said.settled_below = progress.watermark;
                    Event::Settled { grant, ticket, answer: Answer::Ok }
                }
                Command::SetAside { grant, message, reason } => {
                    let position = message.position.value;
                    said.dead.push((position, reason.code));
                    Event::SetAside { grant, position, answer: Answer::Ok }
                }
                Command::Renew { grant } => {
                    said.renewals += 1;
                    Event::Proved { grant, asked_at: now(), valid_for: LOCK }
                }
                Command::Release { .. } => {
                    said.released += 1;
                    continue;
                }
                Command::Surrender { .. } => {
                    said.surrendered += 1;
                    continue;
                }
                Command::Leave => {
                    said.left = true;
                    continue;
                }
                _ => continue,
            };
            if !said.mute {
                self.0.events.lock().push(answer);
                self.0.notify.notify_one();
            }
        }
    }

    fn place(&self, session: &SessionId) -> Place {
        match self.0.limits.shape {
            crate::backend::Shape::Lanes => Place::Lane(0),
            crate::backend::Shape::Sessions { .. } => Place::Session(session.clone()),
        }
    }

    async fn close(&self, _: Moment) -> Result<()> {
        self.0.said.lock().closed = true;
        self.0.notify.notify_one();
        Ok(())
    }
}

#[async_trait]
impl Backend for Script {
    fn name(&self) -> &'static str {
        "script"
    }

    fn guarantees(&self) -> Guarantees {
        Guarantees::none()
    }

    async fn provision(&self, _: &Topology) -> Result<()> {
        Ok(())
    }

    async fn check(&self, _: &Topology) -> Result<Vec<Finding>> {
        Ok(Vec::new())
    }

    async fn consumer(&self, _: &ConsumerSpec) -> Result<Arc<dyn Source>> {
        Ok(Arc::new(self.clone()))
    }

    async fn producer(&self, _: &str) -> Result<Arc<dyn Sink>> {
        Err(Error::new(ErrorKind::Unsupported, "producer"))
    }

    async fn dead_letters(&self, _: &str, _: &str) -> Result<Arc<dyn DeadLetterStore>> {
        Err(Error::new(ErrorKind::Unsupported, "dead letters"))
    }

    async fn close(&self, _: Moment) -> Result<()> {
        Ok(())
    }
}
