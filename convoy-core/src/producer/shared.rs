//! What the handles and the driver of one producer share: the pipeline under a lock, and who waits for its outcomes.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use std::time::SystemTime;

use parking_lot::{Mutex, MutexGuard};
use tokio::sync::{Notify, oneshot};
use tokio::time::timeout_at;

use crate::backend::{Run, Sent, Sink};
use crate::error::{Error, Outcome};
use crate::message::{Content, Message};
use crate::runtime::{instant, now};
use crate::session::SessionId;
use crate::time::Moment;

use super::sending::{Sending, Told};
use super::watch::{SendEvent, Watch};
use super::{Pipeline, Resume, SendError, SendId};

#[derive(Debug)]
pub(super) struct Shared {
    pub(super) state: Mutex<State>,
    pub(super) sink: Arc<dyn Sink>,
    pub(super) timeout: Duration,
    /// Wakes the driver.
    pub(super) wake: Notify,
    /// Wakes those who wait for room, for outcomes or for the end.
    moved: Notify,
}

#[derive(Debug)]
pub(super) struct State {
    pub(super) pipeline: Pipeline,
    /// By the slot of the send.
    replies: Vec<Option<Reply>>,
    /// Whether the driver was woken and did not look yet.
    woken: bool,
    /// When the producer ends even if sends have no outcome yet.
    pub(super) until: Option<Moment>,
    /// How it ended.
    pub(super) end: Option<End>,
    cut: Cut,
    watch: Option<Arc<dyn Watch>>,
}

/// How a producer ended.
#[derive(Clone, Debug)]
pub(super) struct End {
    pub(super) cut: Cut,
    /// Why the sink failed.
    pub(super) failure: Option<Arc<Error>>,
}

/// How many sends the end cut off: in the queue, and at the broker.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Cut {
    pub(super) not_applied: usize,
    pub(super) unknown: usize,
}

#[derive(Debug)]
struct Reply {
    to: oneshot::Sender<Told>,
    /// Only for whoever watches.
    session: Option<SessionId>,
}

/// Buffers of the driver, kept for their memory.
#[derive(Debug, Default)]
pub(super) struct Buffers {
    runs: Vec<Run>,
    replies: Vec<(oneshot::Sender<Told>, Told)>,
}

/// What a step left to do.
#[derive(Debug)]
pub(super) struct Step {
    /// Nothing: the producer is closed, and every send has its outcome.
    pub(super) done: bool,
    /// When to come again at the latest.
    pub(super) at: Moment,
}

impl Shared {
    pub(super) fn new(
        pipeline: Pipeline,
        sink: Arc<dyn Sink>,
        timeout: Duration,
        watch: Option<Arc<dyn Watch>>,
    ) -> Self {
        let cut = Cut::default();
        let state = State { pipeline, replies: Vec::new(), woken: false, until: None, end: None, cut, watch };
        Self { state: Mutex::new(state), sink, timeout, wake: Notify::new(), moved: Notify::new() }
    }

    pub(super) fn send(&self, message: Message) -> Sending {
        let (session, content) = message.into_parts();
        let verdict = self.sink.check_session(&session);
        let mut state = self.state.lock();
        let now = now();
        let sending = match verdict {
            Ok(()) => state.send(now, now + self.timeout, session, content, false),
            Err(error) => state.refuse(SendError::refused(session, Arc::new(content), error)),
        };
        self.wake(state);
        sending
    }

    /// All of them or none are let in, behind each other.
    pub(super) fn send_all(&self, messages: Vec<Message>) -> Vec<Sending> {
        let check = |message: Message| {
            let (session, content) = message.into_parts();
            let verdict = self.sink.check_session(&session);
            (session, content, verdict)
        };
        let checked = messages.into_iter().map(check).collect::<Vec<_>>();
        let mut state = self.state.lock();
        let now = now();
        let room = checked.first().is_some_and(|(_, content, _)| state.pipeline.has_room_for(content.size()));
        let each = checked.into_iter().map(|(session, content, verdict)| match verdict {
            Ok(()) => state.send(now, now + self.timeout, session, content, room),
            Err(error) => state.refuse(SendError::refused(session, Arc::new(content), error)),
        });
        let sendings = each.collect();
        self.wake(state);
        sendings
    }

    /// Lets a session go on. With the lock held, so that it is the same halt that was looked at.
    pub(super) fn resume(&self, mut state: MutexGuard<'_, State>, session: &SessionId, how: Resume) -> Vec<Sending> {
        let now = now();
        let sends = state.pipeline.resume(now, session, how, now + self.timeout);
        if let Some(watch) = &state.watch {
            watch.on(&SendEvent::Resumed { session, how });
        }
        let sendings = sends.into_iter().map(|send| state.expect(send, session, true)).collect();
        // One that is too large has failed again by now.
        let mut replies = Vec::new();
        state.collect(&mut replies);
        self.wake(state);
        self.answer(&mut replies);
        self.moved.notify_waiters();
        sendings
    }

    /// Applies answers and time, hands out runs and tells outcomes.
    pub(super) fn step(&self, answers: &mut Vec<Sent>, buffers: &mut Buffers) -> Step {
        let mut state = self.state.lock();
        state.woken = false;
        let now = now();
        for sent in answers.drain(..) {
            state.pipeline.on_sent(now, sent);
        }
        state.pipeline.tick(now);
        if state.until.is_some_and(|until| until <= now) {
            state.collect(&mut buffers.replies);
            state.stop("the producer was closed before the send was over", &mut buffers.replies);
        }
        state.pipeline.take_runs(&mut buffers.runs);
        state.collect(&mut buffers.replies);
        let done = state.pipeline.is_closed() && state.pipeline.pending() == 0;
        let at = state.pipeline.next_deadline().min(state.until.unwrap_or(Moment::NEVER));
        drop(state);

        if !buffers.runs.is_empty() {
            self.sink.submit(&mut buffers.runs);
            buffers.runs.clear();
        }
        self.answer(&mut buffers.replies);
        Step { done, at }
    }

    /// Ends what is left.
    pub(super) fn stop(&self, why: &str) {
        let mut replies = Vec::new();
        self.state.lock().stop(why, &mut replies);
        self.answer(&mut replies);
        self.moved.notify_waiters();
    }

    /// The producer has ended; the first reason stands.
    pub(super) fn end(&self, failure: Option<Arc<Error>>) {
        let mut state = self.state.lock();
        let cut = state.cut;
        state.end.get_or_insert(End { cut, failure });
        drop(state);
        self.moved.notify_waiters();
    }

    /// Waits until `is_so`, and says whether it was by `until`. Cancel safe.
    pub(super) async fn wait(&self, until: Moment, is_so: impl Fn(&State) -> bool) -> bool {
        loop {
            let mut moved = pin!(self.moved.notified());
            moved.as_mut().enable();
            if is_so(&self.state.lock()) {
                return true;
            }
            if timeout_at(instant(until), moved).await.is_err() {
                return is_so(&self.state.lock());
            }
        }
    }

    pub(super) fn wake(&self, mut state: MutexGuard<'_, State>) {
        if !std::mem::replace(&mut state.woken, true) {
            drop(state);
            self.wake.notify_one();
        }
    }

    /// Outside of the lock: it wakes tasks.
    fn answer(&self, replies: &mut Vec<(oneshot::Sender<Told>, Told)>) {
        if replies.is_empty() {
            return;
        }
        for (to, told) in replies.drain(..) {
            // Nobody needs to be interested.
            let _ = to.send(told);
        }
        self.moved.notify_waiters();
    }
}

impl State {
    fn send(&mut self, now: Moment, by: Moment, session: SessionId, mut content: Content, over: bool) -> Sending {
        content.set_sent_at(SystemTime::now());
        let watched = self.watch.as_ref().map(|_| session.clone());
        let sent = match over {
            true => self.pipeline.enqueue_over(now, session, content, by),
            false => self.pipeline.enqueue(now, session, content, by),
        };
        match sent {
            Ok(send) => self.await_outcome(send, watched, false),
            Err(error) => self.refuse(error),
        }
    }

    fn refuse(&mut self, error: SendError) -> Sending {
        if let Some(watch) = &self.watch {
            watch.on(&SendEvent::Failed { error: &error });
        }
        Sending::refused(error)
    }

    fn expect(&mut self, send: SendId, session: &SessionId, again: bool) -> Sending {
        let watched = self.watch.as_ref().map(|_| session.clone());
        self.await_outcome(send, watched, again)
    }

    fn await_outcome(&mut self, send: SendId, session: Option<SessionId>, again: bool) -> Sending {
        if let (Some(watch), Some(session), Some(content)) = (&self.watch, &session, self.pipeline.content(send)) {
            watch.on(&SendEvent::Queued { session, content, again });
        }
        let (to, from) = oneshot::channel();
        let slot = send.slot as usize;
        if self.replies.len() <= slot {
            self.replies.resize_with(slot + 1, || None);
        }
        self.replies[slot] = Some(Reply { to, session });
        Sending::out(from)
    }

    /// Takes the outcomes out of the pipeline, before a slot can be used again.
    fn collect(&mut self, into: &mut Vec<(oneshot::Sender<Told>, Told)>) {
        for (send, told) in self.pipeline.take_outcomes() {
            let Some(reply) = self.replies.get_mut(send.slot as usize).and_then(Option::take) else { continue };
            if let (Some(watch), Some(session)) = (&self.watch, &reply.session) {
                watch.on(&match &told {
                    Ok(receipt) => SendEvent::Confirmed { session, receipt },
                    Err(error) => SendEvent::Failed { error },
                });
            }
            into.push((reply.to, told));
        }
    }

    fn stop(&mut self, why: &str, into: &mut Vec<(oneshot::Sender<Told>, Told)>) {
        let before = into.len();
        self.pipeline.stop(now(), why);
        self.collect(into);
        for (_, told) in &into[before..] {
            match told.as_ref().map_err(SendError::outcome) {
                Err(Outcome::Unknown) => self.cut.unknown += 1,
                Err(Outcome::NotApplied) => self.cut.not_applied += 1,
                Ok(_) => {}
            }
        }
    }
}
