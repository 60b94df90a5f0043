//! What a failed send says, and gives back.

use std::error::Error as StdError;
use std::fmt;
use std::sync::Arc;

use crate::error::{Error, ErrorKind, Outcome, Scope};
use crate::message::{Content, Message, MessageId};
use crate::session::SessionId;

/// A send failed: why, whether the message may have landed, and the message.
///
/// Its session is halted: nothing later of it is sent until it is resumed. Only when the kind is
/// [`Closed`](ErrorKind::Closed) or [`InvalidSession`](ErrorKind::InvalidSession) there is nothing to resume.
pub struct SendError(Box<Inner>);

struct Inner {
    kind: ErrorKind,
    outcome: Outcome,
    session: SessionId,
    content: Arc<Content>,
    place: Option<usize>,
    cause: Arc<Error>,
}

impl SendError {
    pub(super) fn new(
        kind: ErrorKind,
        outcome: Outcome,
        session: SessionId,
        content: Arc<Content>,
        place: Option<usize>,
        cause: Arc<Error>,
    ) -> Self {
        Self(Box::new(Inner { kind, outcome, session, content, place, cause }))
    }

    /// A send that was refused at the call for a reason of its own, and is not kept.
    pub(super) fn refused(session: SessionId, content: Arc<Content>, cause: Error) -> Self {
        Self::new(cause.kind(), Outcome::NotApplied, session, content, None, Arc::new(cause))
    }

    /// The outcome of a send whose producer vanished without telling it.
    #[cfg(feature = "runtime")]
    pub(super) fn lost() -> Self {
        let cause =
            Error::new(ErrorKind::OutcomeUnknown, "send").because("the producer ended without telling the outcome");
        let (session, content) = (SessionId::lone(0, 0), Arc::new(Content::new("")));
        Self::new(cause.kind(), Outcome::Unknown, session, content, None, Arc::new(cause))
    }

    /// What went wrong; [`Halted`](ErrorKind::Halted) when it was an earlier message that failed.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// Whether the message may have landed.
    #[must_use]
    pub fn outcome(&self) -> Outcome {
        self.0.outcome
    }

    /// The session, as for resuming it.
    #[must_use]
    pub fn session(&self) -> &SessionId {
        &self.0.session
    }

    /// The message's id.
    #[must_use]
    pub fn id(&self) -> MessageId {
        self.0.content.id()
    }

    /// What the message carries, with the stamp it was given, if it was.
    #[must_use]
    pub fn content(&self) -> &Content {
        &self.0.content
    }

    /// How many messages of the halted session stood before it at that moment; `None` when it was refused and is not kept.
    #[must_use]
    pub fn place(&self) -> Option<usize> {
        self.0.place
    }

    /// The failure that halted the session: this message's own, or that of the first one.
    #[must_use]
    pub fn cause(&self) -> &Error {
        &self.0.cause
    }

    /// Gives the message back.
    ///
    /// Sent again with `send`, it keeps its id and gets a new number, behind whatever was sent since; to send it in its old place, resume its session.
    #[must_use]
    pub fn into_message(self) -> Message {
        let Inner { session, content, .. } = *self.0;
        Message::from_parts(session, Arc::unwrap_or_clone(content))
    }
}

impl fmt::Display for SendError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.kind == ErrorKind::Halted {
            f.write_str("send: the session is halted after an earlier failure")?;
        } else {
            write!(f, "{}", self.0.cause)?;
        }
        write!(f, " (session={}, message={})", self.0.session, self.0.content.id())
    }
}

impl fmt::Debug for SendError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SendError")
            .field("kind", &self.0.kind)
            .field("outcome", &self.0.outcome)
            .field("session", &self.0.session)
            .field("content", &self.0.content)
            .field("place", &self.0.place)
            .field("cause", &self.0.cause)
            .finish()
    }
}

impl StdError for SendError {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        // One layer each: a message's own failure is this layer already.
        match self.0.kind {
            ErrorKind::Halted => Some(&*self.0.cause),
            _ => self.0.cause.source(),
        }
    }
}

impl From<SendError> for Error {
    fn from(error: SendError) -> Self {
        let Inner { kind, outcome, session, content, cause, .. } = *error.0;
        let error = Error::new(kind, "send").with("session", session).with("message", content.id());
        error.with_outcome(outcome).with_scope(Scope::Session).caused_by(cause)
    }
}
