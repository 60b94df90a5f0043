//! What programs hold.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout_at;

use crate::backend::Sink;
use crate::error::{Error, ErrorKind, Outcome, Result};
use crate::message::{Message, ProducerId};
use crate::runtime::{instant, now};
use crate::session::SessionId;

use super::driver::{GRACE, drive};
use super::sending::{Sending, SendingAll};
use super::settings::ProducerOptions;
use super::shared::{Cut, End, Shared};
use super::{HaltedMessage, HaltedSession, Pipeline, Resume};

/// Sends messages, in order: the order of the calls is the order in the session, whatever fails.
///
/// A clone is the same producer, with the same order. Sessions do not wait for each other; within a session one message (or, where the broker
/// takes several as one, one run) is on its way at a time, which makes its rate one a round trip.
///
/// After a failed send, whatever the reason, its session is *halted*: nothing later of it is sent until [`resume`](Self::resume) says what
/// becomes of the messages that are not sent. A program that looks at no outcome sees it in [`halted`](Self::halted) and [`flush`](Self::flush).
///
/// When the last handle is dropped, what is queued is still sent in the background, for up to the send time-out.
///
/// ```
/// # use std::sync::Arc;
/// # use convoy_core::{Message, Result, backend::{Run, Sent, Sink}, Moment};
/// use convoy_core::producer::{Producer, ProducerOptions};
/// # #[derive(Debug, Default)]
/// # struct Taken(tokio::sync::Notify, std::sync::Mutex<Vec<Sent>>);
/// # #[async_trait::async_trait]
/// # impl Sink for Taken {
/// #     fn max_message(&self) -> usize { 1 << 20 }
/// #     fn submit(&self, runs: &mut Vec<Run>) {
/// #         self.1.lock().unwrap().extend(runs.drain(..).map(|run| Sent { ticket: run.ticket, outcome: Ok(None) }));
/// #         self.0.notify_one();
/// #     }
/// #     async fn next(&self, into: &mut Vec<Sent>) -> Result<()> {
/// #         self.0.notified().await;
/// #         into.append(&mut self.1.lock().unwrap());
/// #         Ok(())
/// #     }
/// #     async fn close(&self, _: Moment) -> Result<()> { Ok(()) }
/// # }
/// # #[tokio::main]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let sink = Arc::new(Taken::default());
/// let producer = Producer::open(sink, ProducerOptions::default())?;
/// let placed = producer.send(Message::new("order-17", "placed")?);
/// let paid = producer.send(Message::new("order-17", "paid")?);
/// assert_eq!(placed.await?.number, 1);
/// assert_eq!(paid.await?.number, 2);
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Producer(Arc<Handle>);

struct Handle {
    shared: Arc<Shared>,
    id: ProducerId,
}

impl Producer {
    /// Opens a producer over a backend's sink. Called within a tokio runtime, on which its one task runs.
    ///
    /// # Errors
    /// [`InvalidOption`](ErrorKind::InvalidOption); [`Unsupported`](ErrorKind::Unsupported) when there is no tokio runtime.
    pub fn open(sink: Arc<dyn Sink>, options: ProducerOptions) -> Result<Self> {
        let bounds = options.pipeline(sink.max_message(), sink.max_run())?;
        let runtime = tokio::runtime::Handle::try_current().map_err(|error| {
            Error::new(ErrorKind::Unsupported, "producer")
                .because("a producer is opened within a tokio runtime")
                .caused_by(error)
        })?;
        let id = ProducerId::random();
        let shared = Arc::new(Shared::new(Pipeline::new(bounds, id), sink, options.send_timeout, options.watch));
        runtime.spawn(drive(Arc::clone(&shared)));
        Ok(Self(Arc::new(Handle { shared, id })))
    }

    /// The id of this incarnation, as its messages are stamped with it.
    #[must_use]
    pub fn id(&self) -> ProducerId {
        self.0.id
    }

    /// Sends a message: it is queued behind the others of its session *at the call*, not at the first poll, so that the order of the calls is the
    /// order in the session. The future resolves when the broker confirmed it, or when it failed; it need not be awaited.
    ///
    /// # Errors
    /// The future's error gives the message back and says whether it may have landed:
    /// - [`Halted`](ErrorKind::Halted): an earlier message of the session failed; certainly not applied.
    /// - [`Timeout`](ErrorKind::Timeout): it was still queued here when the send time-out was over; certainly not applied.
    /// - [`OutcomeUnknown`](ErrorKind::OutcomeUnknown): the broker did not answer in time; it may have landed, and may still.
    /// - [`Backpressure`](ErrorKind::Backpressure): too much is queued; told at once, certainly not applied. See [`ready`](Self::ready).
    /// - [`TooLarge`](ErrorKind::TooLarge), [`InvalidSession`](ErrorKind::InvalidSession), [`Closed`](ErrorKind::Closed): told at once.
    /// - What the broker says.
    ///
    /// # Cancel safety
    /// Dropping the future does not cancel the send.
    pub fn send(&self, message: Message) -> Sending {
        self.0.shared.send(message)
    }

    /// Sends messages in one go: all are queued at the call, behind each other, and nothing of another call comes in between.
    ///
    /// The whole iterator is taken at once, and taken whole when there is room for its first message. For a stream that does not fit in
    /// memory, send parts and wait for [`ready`](Self::ready) before each.
    ///
    /// # Errors
    /// The future's error has the outcome of each message; failures are those of [`send`](Self::send).
    ///
    /// # Cancel safety
    /// Dropping the future does not cancel the sends.
    pub fn send_all(&self, messages: impl IntoIterator<Item = Message>) -> SendingAll {
        // Taken before anything is locked: an iterator may call this producer.
        let messages = messages.into_iter().collect();
        SendingAll::new(self.0.shared.send_all(messages))
    }

    /// Waits until no more than half of the bounds is used.
    ///
    /// # Errors
    /// [`Backpressure`](ErrorKind::Backpressure) when that is not so within `limit`, as when halted sessions keep so much;
    /// [`Closed`](ErrorKind::Closed).
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub async fn ready(&self, limit: Duration) -> Result<()> {
        let is_ready = |state: &super::shared::State| state.pipeline.is_closed() || state.pipeline.is_roomy();
        if !self.0.shared.wait(now() + limit, is_ready).await {
            return Err(Error::new(ErrorKind::Backpressure, "ready").because("too much is queued"));
        }
        if self.0.shared.state.lock().pipeline.is_closed() {
            return Err(Error::new(ErrorKind::Closed, "ready"));
        }
        Ok(())
    }

    /// The sessions that stand still after a failure.
    #[must_use]
    pub fn halted(&self) -> Vec<HaltedSession> {
        self.0.shared.state.lock().pipeline.halted()
    }

    /// The messages that a halted session keeps, in order, with what is known of each; none when it is not halted.
    #[must_use]
    pub fn halted_messages(&self, session: &SessionId) -> Vec<HaltedMessage> {
        self.0.shared.state.lock().pipeline.halted_messages(session)
    }

    /// Lets a halted session go on, and returns the sends that this starts, in order; none for a session that is not halted.
    ///
    /// When an outcome is unknown, the broker is first asked for it, and made sure, where that can be, that the message cannot land late any more.
    /// What is found to have landed is not sent again and not given up, whatever `how` says. Where the broker cannot tell, a message
    /// that is sent again may arrive twice, and one that is given up may arrive late.
    ///
    /// # Errors
    /// The session stays halted: [`Closed`](ErrorKind::Closed), [`Timeout`](ErrorKind::Timeout) when the broker did not answer within the send
    /// time-out, or what it says.
    ///
    /// # Cancel safety
    /// Dropped before it resolves, it has changed nothing but what is known of the unknown one. Once it resolved, the sends go on by themselves.
    pub async fn resume(&self, session: &SessionId, how: Resume) -> Result<SendingAll> {
        let shared = &*self.0.shared;
        let until = now() + shared.timeout;
        let mut settled = None;
        loop {
            let unsettled = {
                let state = shared.state.lock();
                let Some(unsettled) = state.pipeline.unsettled(session) else { return Ok(SendingAll::new(Vec::new())) };
                if state.pipeline.is_closed() {
                    return Err(Error::new(ErrorKind::Closed, "resume"));
                }
                if unsettled.ticket.is_none() || settled == Some(unsettled.halt) {
                    return Ok(SendingAll::new(shared.resume(state, session, how)));
                }
                unsettled
            };
            // While it is asked for, the session may fail anew: a message that was out while a later one had failed. Then that one is asked for.
            if let Some(ticket) = unsettled.ticket {
                let fate = timeout_at(instant(until), shared.sink.fate(ticket, until)).await;
                let late = |_| Error::new(ErrorKind::Timeout, "resume").with_outcome(Outcome::NotApplied);
                let fate = fate.map_err(late)??;
                shared.state.lock().pipeline.learn(ticket, fate);
            }
            settled = Some(unsettled.halt);
        }
    }

    /// Waits until every message sent before the call has its outcome, and says whether all is well: no session is halted.
    ///
    /// # Errors
    /// [`Halted`](ErrorKind::Halted) when sessions are halted, by these or earlier sends; [`Timeout`](ErrorKind::Timeout) when `limit` is over.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub async fn flush(&self, limit: Duration) -> Result<()> {
        let shared = &*self.0.shared;
        let mark = shared.state.lock().pipeline.mark();
        let answered = shared.wait(now() + limit, |state| state.pipeline.answered_to(mark)).await;
        let state = shared.state.lock();
        if !answered {
            let pending = state.pipeline.pending();
            return Err(Error::new(ErrorKind::Timeout, "flush").because(format!("{pending} sends have no outcome yet")));
        }
        match state.pipeline.halted_count() {
            0 => Ok(()),
            sessions => {
                let why = format!("{sessions} sessions are halted after a failed send");
                Err(Error::new(ErrorKind::Halted, "flush").because(why).with_outcome(Outcome::Unknown))
            }
        }
    }

    /// Ends the producer: sends from now on are refused, and what is queued is sent for up to `limit`. What is still queued then fails as not
    /// applied; what is at the broker without an answer is unknown. `Ok` means that every send had its own outcome.
    ///
    /// It may be called more than once; every call waits for the same end.
    ///
    /// # Errors
    /// [`Timeout`](ErrorKind::Timeout) when sends were cut off, saying how many; what the broker says while it is closed.
    ///
    /// # Cancel safety
    /// Dropped before it resolves, the producer still ends in the background.
    pub async fn close(&self, limit: Duration) -> Result<()> {
        let shared = &*self.0.shared;
        let by = now() + limit;
        {
            let mut state = shared.state.lock();
            state.pipeline.close();
            let until = state.until.map_or(by, |until| until.min(by));
            state.until = Some(until);
            shared.wake(state);
        }
        shared.wait(by + GRACE * 2, |state| state.end.is_some()).await;
        let end = shared.state.lock().end.clone();
        let Some(End { cut: Cut { not_applied, unknown }, failure }) = end else {
            return Err(Error::new(ErrorKind::Timeout, "close"));
        };
        if let Some(error) = failure {
            return Err(Error::new(error.kind(), "close").with_outcome(error.outcome()).caused_by(error));
        }
        if not_applied + unknown > 0 {
            let why = format!("{not_applied} messages were not sent, and of {unknown} the outcome is unknown");
            let outcome = if unknown > 0 { Outcome::Unknown } else { Outcome::NotApplied };
            return Err(Error::new(ErrorKind::Timeout, "close").because(why).with_outcome(outcome));
        }
        Ok(())
    }
}

impl fmt::Debug for Producer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let pending = self.0.shared.state.try_lock().map(|state| state.pipeline.pending());
        f.debug_struct("Producer").field("id", &self.0.id).field("pending", &pending).finish_non_exhaustive()
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        // Every send ends by its own time-out, and the driver with the last of them.
        let mut state = self.shared.state.lock();
        state.pipeline.close();
        self.shared.wake(state);
    }
}
