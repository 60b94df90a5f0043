//! What a handler is given: the body as a type, what describes it, and the lease it runs under.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::failure::Failure;
use super::payload::Payload;
use super::run_token::RunToken;
use crate::backend::{FenceKind, LeaseCell};
use crate::engine::{Start, Then};
use crate::error::Result;
use crate::message::{Content, Headers, Inbound, MessageId, Redelivered};
use crate::position::{Fence, Position};
use crate::runtime;
use crate::session::SessionId;

/// One delivery, read only. The body is a field; it dereferences to nothing else.
pub struct Received<T> {
    /// The body.
    pub body: T,
    context: Context,
}

/// What describes a delivery beside its body.
#[derive(Clone)]
pub(crate) struct Context {
    pub(crate) message: Inbound,
    pub(crate) attempt: u32,
    pub(crate) lease: Lease,
    pub(crate) fence: FenceKind,
    /// What follows when the body cannot be read.
    pub(crate) undecodable: Then,
}

/// The exclusive right that a handler runs under.
///
/// The right can end while the handler runs: it is revoked, the connection dies, or it runs out. Then the token fires at once, and
/// after the grace time the handler's future is dropped. Work that must not outlive the right watches the token, or passes
/// the [fence](Received::fence) to its sink.
#[derive(Clone)]
pub struct Lease {
    cell: Arc<LeaseCell>,
    run: Arc<RunToken>,
}

impl Context {
    pub(crate) fn new(start: Start, run: Arc<RunToken>, fence: FenceKind, undecodable: Then) -> Self {
        let lease = Lease { cell: start.lease, run };
        Self { message: start.message, attempt: start.attempt, lease, fence, undecodable }
    }

    pub(crate) fn decode<T: Payload>(self) -> Result<Received<T>> {
        Ok(Received { body: T::decode(&self.message.content)?, context: self })
    }
}

impl<T> Received<T> {
    /// The session.
    #[must_use]
    pub fn session(&self) -> &SessionId {
        &self.context.message.session
    }

    /// The message's id.
    #[must_use]
    pub fn id(&self) -> MessageId {
        self.content().id()
    }

    /// The message's place in its session, where the broker has one that outlives a hand-over.
    #[must_use]
    pub fn position(&self) -> Position {
        self.context.message.position
    }

    /// Everything the message carries.
    #[must_use]
    pub fn content(&self) -> &Content {
        &self.context.message.content
    }

    /// The headers.
    #[must_use]
    pub fn headers(&self) -> &Headers {
        self.content().headers()
    }

    /// The value of one header.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.content().header(name)
    }

    /// The name of the message's type.
    #[must_use]
    pub fn type_name(&self) -> Option<&str> {
        self.content().type_name()
    }

    /// Which attempt this is, counted by convoy in this holding of the session; the first is 1.
    #[must_use]
    pub fn attempt(&self) -> u32 {
        self.context.attempt
    }

    /// What the broker says of earlier hand-overs. It is no count of attempts: brokers count hand-overs of messages that never started.
    #[must_use]
    pub fn redelivered(&self) -> Redelivered {
        self.context.message.redelivered
    }

    /// The right that this runs under.
    #[must_use]
    pub fn lease(&self) -> &Lease {
        &self.context.lease
    }

    /// What to hand to a sink, so that it can refuse what is stale; see [`Fence`].
    ///
    /// A message of a foreign producer that carries no stamp has, on a broker without positions, only its place in this holding.
    #[must_use]
    pub fn fence(&self) -> Fence {
        let message = &self.context.message;
        match (self.context.fence, message.content.stamp()) {
            (FenceKind::Producer, Some(stamp)) => {
                Fence::by_producer(message.session.clone(), stamp.producer, stamp.number)
            }
            _ => Fence::at(message.session.clone(), message.position),
        }
    }

    /// The same delivery with its body read as another type, for a handler that looks at a message before it knows what it is. A [`Router`](crate::Router)
    /// does that by the message's type.
    ///
    /// ```
    /// use std::sync::Arc;
    /// use convoy_core::{Bytes, Content, Failure, Received};
    ///
    /// async fn by_format(message: Received<Arc<Content>>) -> Result<(), Failure> {
    ///     match message.content().content_type() {
    ///         Some("text/plain") => note(message.decode()?).await,
    ///         _ => store(message.decode()?).await,
    ///     }
    /// }
    /// # async fn note(_: Received<String>) -> Result<(), Failure> { Ok(()) }
    /// # async fn store(_: Received<Bytes>) -> Result<(), Failure> { Ok(()) }
    /// ```
    ///
    /// # Errors
    /// A body that cannot be read so: the failure takes the path of exhausted attempts at once, where one is named, as it does when the
    /// processor cannot read a body.
    pub fn decode<U: Payload>(self) -> Result<Received<U>, Failure> {
        self.decode_by(U::decode)
    }

    pub(crate) fn decode_by<U>(self, read: impl FnOnce(&Arc<Content>) -> Result<U>) -> Result<Received<U>, Failure> {
        match read(&self.context.message.content) {
            Ok(body) => Ok(Received { body, context: self.context }),
            Err(error) => Err(Failure::undecodable(error, self.context.undecodable)),
        }
    }

    /// The same delivery with another body, as after a conversion of one's own.
    #[must_use]
    pub fn map<U>(self, convert: impl FnOnce(T) -> U) -> Received<U> {
        Received { body: convert(self.body), context: self.context }
    }
}

impl<T: fmt::Debug> fmt::Debug for Received<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Received")
            .field("session", self.session())
            .field("position", &self.position())
            .field("attempt", &self.attempt())
            .field("body", &self.body)
            .finish_non_exhaustive()
    }
}

impl Lease {
    /// Whether the right holds now.
    #[must_use]
    pub fn is_live(&self) -> bool {
        self.cell.holds(runtime::now()) && !self.run.has_fired()
    }

    /// How long the right holds at least, unless it is renewed (which goes on by itself) or lost.
    #[must_use]
    pub fn remaining(&self) -> Duration {
        self.cell.deadline().since(runtime::now())
    }

    /// Waits until this run is told to end.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub async fn ended(&self) {
        self.token().cancelled().await;
    }

    /// The token that fires when this run is told to end: its right is gone, its time is over, or the consumer is leaving.
    #[must_use]
    pub fn token(&self) -> CancellationToken {
        self.run.token().clone()
    }
}

impl fmt::Debug for Lease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lease").field("remaining", &self.remaining()).finish_non_exhaustive()
    }
}
