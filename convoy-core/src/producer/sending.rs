//! The futures that sends return.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::sync::oneshot;

use crate::message::Message;

use super::{Receipt, SendError};

pub(super) type Told = Result<Receipt, SendError>;

/// One send, on its way: resolves when the broker confirmed it, or when it failed. At the latest when the send time-out is over.
///
/// # Cancel safety
/// Dropping it does not cancel the send, only the news of it. A failure still halts the session and shows in
/// [`Producer::halted`](super::Producer::halted).
pub struct Sending(State);

enum State {
    Out(oneshot::Receiver<Told>),
    Told(Option<Box<Told>>),
}

impl Sending {
    pub(super) fn out(receiver: oneshot::Receiver<Told>) -> Self {
        Self(State::Out(receiver))
    }

    pub(super) fn refused(error: SendError) -> Self {
        Self(State::Told(Some(Box::new(Err(error)))))
    }
}

impl Future for Sending {
    type Output = Told;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Told> {
        let outcome = match &mut self.0 {
            State::Out(receiver) => match ready!(Pin::new(receiver).poll(cx)) {
                Ok(outcome) => outcome,
                // Every send is answered before its producer's state is dropped; should that ever not hold, it is an error and no hang.
                Err(_) => Err(SendError::lost()),
            },
            State::Told(outcome) => match outcome.take() {
                Some(outcome) => *outcome,
                None => return Poll::Pending,
            },
        };
        self.0 = State::Told(None);
        Poll::Ready(outcome)
    }
}

impl fmt::Debug for Sending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sending").field("on_its_way", &matches!(self.0, State::Out(_))).finish()
    }
}

/// Several sends, on their way: resolves when all have an outcome. With all receipts in the order of the messages, or with
/// [`SendAllError`] when at least one failed.
///
/// # Cancel safety
/// As [`Sending`]: dropping it cancels nothing.
#[derive(Debug)]
pub struct SendingAll {
    out: Vec<Sending>,
    told: Vec<Told>,
}

impl SendingAll {
    pub(super) fn new(out: Vec<Sending>) -> Self {
        let told = Vec::with_capacity(out.len());
        Self { out, told }
    }

    /// How many messages these are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.out.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.out.is_empty()
    }

    /// The single sends, in the order of the messages, for waiting for each by itself.
    #[must_use]
    pub fn into_each(self) -> Vec<Sending> {
        let told = self.told.into_iter().map(|outcome| Sending(State::Told(Some(Box::new(outcome)))));
        let mut each = told.collect::<Vec<_>>();
        let waiting = self.out.into_iter().skip(each.len());
        each.extend(waiting);
        each
    }
}

impl Future for SendingAll {
    type Output = Result<Vec<Receipt>, SendAllError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        while let Some(next) = this.out.get_mut(this.told.len()) {
            this.told.push(ready!(Pin::new(next).poll(cx)));
        }
        this.out.clear();
        Poll::Ready(SendAllError::unless_all_ok(std::mem::take(&mut this.told)))
    }
}

/// At least one of several sends failed: the outcome of each, in the order of the messages.
#[derive(Debug)]
pub struct SendAllError {
    results: Vec<Told>,
    first: usize,
}

impl SendAllError {
    fn unless_all_ok(results: Vec<Told>) -> Result<Vec<Receipt>, Self> {
        match results.iter().position(Result::is_err) {
            Some(first) => Err(Self { results, first }),
            None => Ok(results.into_iter().flatten().collect()),
        }
    }

    /// The first failure, and which message it was of.
    #[must_use]
    pub fn first(&self) -> Option<(usize, &SendError)> {
        let error = self.results.get(self.first)?.as_ref().err()?;
        Some((self.first, error))
    }

    /// The outcome of each message, in order.
    pub fn results(&self) -> &[Result<Receipt, SendError>] {
        &self.results
    }

    /// The outcome of each message, in order.
    pub fn into_results(self) -> Vec<Result<Receipt, SendError>> {
        self.results
    }

    /// Gives the messages back that were not confirmed, in order.
    #[must_use]
    pub fn into_messages(self) -> Vec<Message> {
        self.results.into_iter().filter_map(Result::err).map(SendError::into_message).collect()
    }
}

impl fmt::Display for SendAllError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let failed = self.results.iter().filter(|r| r.is_err()).count();
        write!(f, "send: {failed} of {} messages were not confirmed", self.results.len())
    }
}

impl std::error::Error for SendAllError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.first().map(|(_, error)| error as &(dyn std::error::Error + 'static))
    }
}
