//! One error type, and the questions that every caller has of it.

use std::error::Error as StdError;
use std::fmt;

/// The result of everything in convoy that can fail.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What went wrong. Match with a wildcard arm: kinds are added.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// An option has a wrong value or an unknown name; the message says which.
    InvalidOption,
    /// A message breaks a limit: too many headers, a reserved name, a name too long.
    InvalidMessage,
    /// A session id is empty, too long, or cannot be carried by this broker.
    InvalidSession,
    /// A message is larger than the broker or a store takes.
    TooLarge,
    /// A payload could not be encoded or decoded.
    Codec,
    /// The channel, group, session or message does not exist.
    NotFound,
    /// The broker did not accept the credentials, or they do not allow this.
    Unauthorized,
    /// The broker is set up in a way that breaks a guarantee; the findings are in the message.
    Topology,
    /// The exclusive right to the session ended before or during the call.
    LockLost,
    /// The session belongs to another consumer, or its lane to another process.
    NotOwner,
    /// The lane's buffer is full of other sessions and nobody takes them.
    LaneBlocked,
    /// The limit of time was over.
    Timeout,
    /// The broker takes nothing at the moment (full, or an alarm); nothing of this call was applied.
    Backpressure,
    /// The request may have been applied, and no answer will come.
    OutcomeUnknown,
    /// The broker answered no.
    Refused,
    /// An earlier send of this session failed; the session is halted until it is resumed.
    Halted,
    /// The connection is down.
    Disconnected,
    /// The broker, consumer or producer was closed here.
    Closed,
    /// This backend cannot do that; its guarantees say so.
    Unsupported,
    /// A message stands in a lane where the pinned hash would not put its session.
    Misrouted,
    /// A handler asked to stop, or ran out of attempts with `Exhausted::Stop`.
    HandlerStopped,
    /// An error of the client library that convoy does not know.
    Unknown,
}

/// Whether the effect of a failed call may have happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// Certainly not.
    NotApplied,
    /// It may have.
    Unknown,
}

/// What a failure ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Scope {
    /// This call or delivery only.
    Delivery,
    /// The session: its right is gone, or its sends are halted.
    Session,
    /// The connection; it will be made again.
    Connection,
    /// The client: nothing works until somebody acts.
    Client,
}

/// A failure: its kind, the operation, what it was about, and the cause.
///
/// `Display` prints this layer only; walk [`source`](StdError::source) for the rest. No secret is
/// ever part of it.
///
/// ```
/// use convoy_core::{Error, ErrorKind, Outcome};
///
/// let error = Error::new(ErrorKind::Timeout, "send").with("channel", "orders");
/// assert_eq!(error.to_string(), "send: the limit of time was over (channel=orders)");
/// assert_eq!(error.outcome(), Outcome::Unknown);
/// assert!(!error.is_retryable());
/// ```
pub struct Error(Box<Inner>);

struct Inner {
    kind: ErrorKind,
    operation: &'static str,
    because: Option<String>,
    context: Vec<(&'static str, String)>,
    outcome: Option<Outcome>,
    scope: Option<Scope>,
    source: Option<Box<dyn StdError + Send + Sync>>,
}

impl Error {
    /// A failure of this kind in this operation.
    #[must_use]
    pub fn new(kind: ErrorKind, operation: &'static str) -> Self {
        Self(Box::new(Inner {
            kind,
            operation,
            because: None,
            context: Vec::new(),
            outcome: None,
            scope: None,
            source: None,
        }))
    }

    /// Says in a sentence what was wrong, in place of the kind's own words.
    #[must_use]
    pub fn because(mut self, why: impl Into<String>) -> Self {
        self.0.because = Some(why.into());
        self
    }

    /// Adds what the failure was about. Never a secret.
    #[must_use]
    pub fn with(mut self, name: &'static str, value: impl fmt::Display) -> Self {
        self.0.context.push((name, value.to_string()));
        self
    }

    /// Adds the cause.
    #[must_use]
    pub fn caused_by(mut self, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        self.0.source = Some(source.into());
        self
    }

    /// Says whether the effect may have happened, where it differs from the kind's own answer.
    #[must_use]
    pub fn with_outcome(mut self, outcome: Outcome) -> Self {
        self.0.outcome = Some(outcome);
        self
    }

    /// Says what the failure ended, where it differs from the kind's own answer.
    #[must_use]
    pub fn with_scope(mut self, scope: Scope) -> Self {
        self.0.scope = Some(scope);
        self
    }

    /// What went wrong.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// The operation that failed.
    #[must_use]
    pub fn operation(&self) -> &'static str {
        self.0.operation
    }

    /// What the failure was about, by name.
    #[must_use]
    pub fn context(&self, name: &str) -> Option<&str> {
        self.0.context.iter().find(|(n, _)| *n == name).map(|(_, value)| value.as_str())
    }

    /// Whether the same call may succeed later, and repeating it does no harm.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        let passing = matches!(self.0.kind, ErrorKind::Backpressure | ErrorKind::Disconnected | ErrorKind::LaneBlocked);
        passing && self.outcome() == Outcome::NotApplied
    }

    /// Whether the effect may have happened.
    #[must_use]
    pub fn outcome(&self) -> Outcome {
        self.0.outcome.unwrap_or(match self.0.kind {
            ErrorKind::OutcomeUnknown | ErrorKind::Timeout | ErrorKind::Unknown => Outcome::Unknown,
            _ => Outcome::NotApplied,
        })
    }

    /// What the failure ended.
    #[must_use]
    pub fn scope(&self) -> Scope {
        self.0.scope.unwrap_or(match self.0.kind {
            ErrorKind::LockLost | ErrorKind::NotOwner | ErrorKind::Halted => Scope::Session,
            ErrorKind::OutcomeUnknown => Scope::Session,
            ErrorKind::Disconnected | ErrorKind::Unknown => Scope::Connection,
            ErrorKind::Closed
            | ErrorKind::Unauthorized
            | ErrorKind::Topology
            | ErrorKind::InvalidOption
            | ErrorKind::Misrouted
            | ErrorKind::HandlerStopped => Scope::Client,
            _ => Scope::Delivery,
        })
    }
}

impl ErrorKind {
    fn words(self) -> &'static str {
        match self {
            Self::InvalidOption => "an option is not valid",
            Self::InvalidMessage => "the message is not valid",
            Self::InvalidSession => "the session id is not valid",
            Self::TooLarge => "the message is too large",
            Self::Codec => "the payload could not be converted",
            Self::NotFound => "it does not exist",
            Self::Unauthorized => "the credentials do not allow it",
            Self::Topology => "the broker's set-up breaks a guarantee",
            Self::LockLost => "the right to the session is gone",
            Self::NotOwner => "somebody else holds the session",
            Self::LaneBlocked => "the lane is full of sessions that nobody takes",
            Self::Timeout => "the limit of time was over",
            Self::Backpressure => "the broker takes nothing at the moment",
            Self::OutcomeUnknown => "no answer came; it may have happened",
            Self::Refused => "the broker refused",
            Self::Halted => "the session is halted after an earlier failure",
            Self::Disconnected => "the connection is down",
            Self::Closed => "it was closed",
            Self::Unsupported => "this backend cannot do it",
            Self::Misrouted => "a message stands in the wrong lane",
            Self::HandlerStopped => "the handler asked to stop",
            Self::Unknown => "the client library failed in an unknown way",
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Inner { kind, operation, because, context, .. } = &*self.0;
        write!(f, "{operation}: {}", because.as_deref().unwrap_or(kind.words()))?;
        for (i, (name, value)) in context.iter().enumerate() {
            write!(f, "{}{name}={value}", if i == 0 { " (" } else { ", " })?;
        }
        if !context.is_empty() {
            f.write_str(")")?;
        }
        Ok(())
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {self}", self.0.kind)?;
        let mut cause = self.source();
        while let Some(e) = cause {
            write!(f, ": {e}")?;
            cause = e.source();
        }
        Ok(())
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.0.source.as_deref().map(|e| e as &(dyn StdError + 'static))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_client_error_is_not_retryable_and_its_outcome_unknown() {
        let error = Error::new(ErrorKind::Unknown, "settle");
        assert!(!error.is_retryable());
        assert_eq!(error.outcome(), Outcome::Unknown);
    }

    #[test]
    fn retryable_means_not_applied() {
        let down = Error::new(ErrorKind::Disconnected, "send");
        assert!(down.is_retryable());
        assert!(!down.with_outcome(Outcome::Unknown).is_retryable());
    }

    #[test]
    fn display_is_one_layer_and_debug_all() {
        let io = std::io::Error::other("reset by peer");
        let error = Error::new(ErrorKind::Disconnected, "connect").with("host", "h").caused_by(io);
        assert_eq!(error.to_string(), "connect: the connection is down (host=h)");
        assert_eq!(format!("{error:?}"), "Disconnected: connect: the connection is down (host=h): reset by peer");
        assert_eq!(error.source().unwrap().to_string(), "reset by peer");
        assert_eq!(error.context("host"), Some("h"));
    }
}
