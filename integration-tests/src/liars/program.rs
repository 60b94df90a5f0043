//! What only a program can lie about: what its handler did, and what its sink took. And a witness who puts right what the engine was told.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use convoy_core::engine::{EndKind, Note};
use convoy_core::{
    Content, Failure, Fence, Handler, Observed, Observer, Position, ProducerId, Received, Sentinel, SessionId,
};

use super::lock;
use crate::history::{Message, Recorder, What};
use crate::watch;

/// The runs that failed, as their handler knows.
#[derive(Debug, Default)]
pub struct Failures(Mutex<HashSet<(SessionId, Position)>>);

/// A handler whose errors are swallowed: the message counts as handled.
#[derive(Debug)]
pub struct Swallows<H> {
    handler: H,
    failures: Arc<Failures>,
    lies: bool,
}

impl<H> Swallows<H> {
    /// Tells the failures of `handler` to `failures`, and when it `lies` not to the engine.
    pub fn new(handler: H, failures: Arc<Failures>, lies: bool) -> Self {
        Self { handler, failures, lies }
    }
}

impl<T: Send + 'static, H: Handler<T>> Handler<T> for Swallows<H> {
    async fn handle(&self, message: Received<T>) -> Result<(), Failure> {
        let run = (message.session().clone(), message.position());
        let handled = self.handler.handle(message).await;
        if handled.is_err() {
            lock(&self.failures.0).insert(run);
        }
        if self.lies { Ok(()) } else { handled }
    }
}

/// An observer who knows what the engine was not told: how long the broker keeps a lock, and which runs failed. The history is written by what is
/// so, not by what a liar said.
#[derive(Debug)]
pub struct Witness<O> {
    observer: O,
    lock: Duration,
    failures: Arc<Failures>,
}

impl<O> Witness<O> {
    /// Passes everything on to `observer`. The broker keeps a lock for `lock`.
    pub fn new(observer: O, lock: Duration, failures: Arc<Failures>) -> Self {
        Self { observer, lock, failures }
    }

    fn is_failed(&self, session: &SessionId, position: Position) -> bool {
        lock(&self.failures.0).remove(&(session.clone(), position))
    }
}

impl<O: Observer> Observer for Witness<O> {
    fn on(&self, event: &Observed<'_>) {
        let put_right = match event.note {
            Note::Proved { grant, asked_at, deadline } => {
                let deadline = (*deadline).min(*asked_at + self.lock);
                Note::Proved { grant: *grant, asked_at: *asked_at, deadline }
            }
            Note::Ended { grant, session, position, attempt, how: EndKind::Done, counted }
                if self.is_failed(session, *position) =>
            {
                let (session, how) = (session.clone(), EndKind::Failed);
                let (grant, position, attempt, counted) = (*grant, *position, *attempt, *counted);
                Note::Ended { grant, session, position, attempt, how, counted }
            }
            Note::Ended { session, position, .. } => {
                self.is_failed(session, *position);
                return self.observer.on(event);
            }
            _ => return self.observer.on(event),
        };
        self.observer.on(&Observed::new(event.at, event.channel, event.group, &put_right));
    }
}

/// Tells a sentinel of each message that it follows the one before it, when it lies: so that it misses what is missing.
#[derive(Debug)]
pub struct MissesGaps {
    sentinel: Sentinel,
    /// The greatest number that was told of each producer in each session.
    last: Mutex<HashMap<(SessionId, ProducerId), u64>>,
    lies: bool,
}

impl MissesGaps {
    /// What `sentinel` is told passes through here.
    pub fn new(sentinel: Sentinel, lies: bool) -> Self {
        Self { sentinel, last: Mutex::default(), lies }
    }
}

impl Observer for MissesGaps {
    fn on(&self, event: &Observed<'_>) {
        let Note::Started { grant, session, position, content, attempt, checked_at, deadline } = event.note else {
            return self.sentinel.on(event);
        };
        let Some(mut stamp) = content.stamp().filter(|_| self.lies) else { return self.sentinel.on(event) };
        let mut last = lock(&self.last);
        let last = last.entry((session.clone(), stamp.producer)).or_default();
        stamp.prev = stamp.prev.min(*last);
        *last = stamp.number.max(*last);
        let mut content = Content::clone(content);
        content.set_stamp(stamp);
        let (session, content) = (session.clone(), Arc::new(content));
        let (grant, position, attempt, checked_at, deadline) = (*grant, *position, *attempt, *checked_at, *deadline);
        let told = Note::Started { grant, session, position, content, attempt, checked_at, deadline };
        self.sentinel.on(&Observed::new(event.at, event.channel, event.group, &told));
    }
}

/// A sink that keeps the last position of each session and takes only a later one; or takes everything, when it lies.
#[derive(Debug)]
pub struct FencedSink<R> {
    recorder: Arc<R>,
    last: Mutex<HashMap<SessionId, Fence>>,
    lies: bool,
}

impl<R: Recorder> FencedSink<R> {
    /// A sink that writes down what it is asked to take.
    pub fn new(recorder: Arc<R>, lies: bool) -> Self {
        Self { recorder, last: Mutex::default(), lies }
    }

    /// Takes the effect of a message, unless it is stale.
    pub fn take<T>(&self, group: u32, of: &Received<T>) -> bool {
        let fence = of.fence();
        let mut last = lock(&self.last);
        let later = last.get(of.session()).is_none_or(|last| *last < fence);
        let accepted = later || self.lies;
        if later {
            last.insert(of.session().clone(), fence.clone());
        }
        let position =
            fence.position().map(|at| crate::history::Position { generation: at.generation.into(), value: at.value });
        let message: Message = watch::stamped(of.content());
        let time = convoy_core::runtime::now().as_nanos();
        self.recorder.record(
            time,
            group,
            What::Effect { session: watch::key(of.session()), message, position, accepted },
        );
        accepted
    }
}
