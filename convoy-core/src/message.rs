//! What is sent and what arrives.

use std::fmt;
use std::sync::Arc;
use std::time::SystemTime;

use bytes::Bytes;
use uuid::Uuid;

use crate::error::{Error, ErrorKind, Result};
use crate::session::{IntoSessionId, SessionId};

/// Names a message for its whole life: a UUIDv7, made where the message is made.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MessageId(Uuid);

impl MessageId {
    /// A new id; later ones of one process sort after earlier ones.
    #[must_use]
    pub fn random() -> Self {
        Self(Uuid::now_v7())
    }

    /// The id of these bits.
    #[must_use]
    pub const fn from_u128(bits: u128) -> Self {
        Self(Uuid::from_u128(bits))
    }

    /// The bits of the id.
    #[must_use]
    pub const fn as_u128(self) -> u128 {
        self.0.as_u128()
    }
}

/// Names one incarnation of a producer handle: its counter starts anew with it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ProducerId(Uuid);

impl ProducerId {
    /// A new id.
    #[must_use]
    pub fn random() -> Self {
        Self(Uuid::now_v7())
    }

    /// The id of these bits.
    #[must_use]
    pub const fn from_u128(bits: u128) -> Self {
        Self(Uuid::from_u128(bits))
    }

    /// The bits of the id.
    #[must_use]
    pub const fn as_u128(self) -> u128 {
        self.0.as_u128()
    }
}

macro_rules! shown_as_uuid {
    ($($name:ident),*) => {$(
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self.0)
            }
        }
    )*};
}

shown_as_uuid!(MessageId, ProducerId);

/// Which of a producer's messages this is. The sentinel, the checker and consumers'
/// deduplication rest on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Stamp {
    /// The incarnation of the producer.
    pub producer: ProducerId,
    /// The number of this message in that incarnation; the first is 1.
    pub number: u64,
    /// The number of this session's message before it; 0 when there was none or it is not known any more.
    pub prev: u64,
    /// Whether messages between `prev` and this one were given up by the sender.
    pub skipped: bool,
}

/// A kind of message by its name on the wire, said once for those who send it and for those who route it.
///
/// ```
/// use convoy_core::{Message, MessageType};
///
/// #[derive(serde::Serialize)]
/// struct Paid { cents: u64 }
///
/// impl MessageType for Paid {
///     const NAME: &str = "order.paid";
/// }
///
/// let message = Message::typed("order-17", &Paid { cents: 990 })?;
/// assert_eq!(message.content().type_name(), Some("order.paid"));
/// # Ok::<(), convoy_core::Error>(())
/// ```
pub trait MessageType {
    /// The name. It is stored with each message, so it never changes: a body that old consumers could not read is another type, with another name.
    const NAME: &'static str;
}

/// A message on its way out.
///
/// ```
/// use convoy_core::Message;
///
/// let message = Message::new("order-17", "paid")?.with_type("order.paid").with_header("tenant", "acme")?;
/// assert_eq!(message.content().header("tenant"), Some("acme"));
/// # Ok::<(), convoy_core::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Message {
    session: SessionId,
    content: Content,
}

/// What a message carries besides its session: the body and what describes it.
#[derive(Clone)]
pub struct Content {
    id: MessageId,
    body: Bytes,
    type_name: Option<Box<str>>,
    content_type: Option<Box<str>>,
    headers: Headers,
    stamp: Option<Stamp>,
    sent_at: Option<SystemTime>,
}

/// Headers of a message: names and text values in the order they were added, a name once.
///
/// At most [`Headers::MAX_COUNT`] of them, names of 1 to [`Headers::MAX_NAME`] bytes of printable
/// ASCII without spaces, values of at most [`Headers::MAX_VALUE`] bytes. Names that start with `convoy-` are
/// reserved; `traceparent` and `tracestate` carry the W3C trace context.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Headers(Vec<(Box<str>, Box<str>)>);

impl Message {
    /// A message of this session with this body.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidSession`] when the id is empty or too long.
    pub fn new(session: impl IntoSessionId, body: impl Into<Bytes>) -> Result<Self> {
        Ok(Self { session: session.into_session_id()?, content: Content::new(body) })
    }

    /// A message whose body is `value` as JSON; the content type says so.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidSession`] as in [`Message::new`], [`ErrorKind::Codec`] when the value cannot be shown as JSON.
    #[cfg(feature = "json")]
    pub fn json<T: serde::Serialize + ?Sized>(session: impl IntoSessionId, value: &T) -> Result<Self> {
        let body = serde_json::to_vec(value).map_err(|e| {
            Error::new(ErrorKind::Codec, "encode").because("the value cannot be shown as JSON").caused_by(e)
        })?;
        Ok(Self::new(session, body)?.with_content_type("application/json"))
    }

    /// A message of a type that says its name, whose body is `value` as JSON.
    ///
    /// # Errors
    /// As [`Message::json`].
    #[cfg(feature = "json")]
    pub fn typed<T: serde::Serialize + MessageType>(session: impl IntoSessionId, value: &T) -> Result<Self> {
        Ok(Self::json(session, value)?.with_type(T::NAME))
    }

    /// Takes another id than the one made for it, for instance to send a message again under its old id.
    #[must_use]
    pub fn with_id(mut self, id: MessageId) -> Self {
        self.content.id = id;
        self
    }

    /// Names the type of the message, by which consumers route; [`MessageType`] says it once for both sides.
    #[must_use]
    pub fn with_type(mut self, name: impl Into<Box<str>>) -> Self {
        self.content.type_name = Some(name.into());
        self
    }

    /// Names the format of the body, as a media type.
    #[must_use]
    pub fn with_content_type(mut self, content_type: impl Into<Box<str>>) -> Self {
        self.content.content_type = Some(content_type.into());
        self
    }

    /// Adds a header, or replaces the one of that name.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidMessage`] when a limit of [`Headers`] is broken or the name is reserved.
    pub fn with_header(mut self, name: &str, value: &str) -> Result<Self> {
        self.content.headers.insert(name, value)?;
        Ok(self)
    }

    /// The session.
    #[must_use]
    pub fn session(&self) -> &SessionId {
        &self.session
    }

    /// The message's id.
    #[must_use]
    pub fn id(&self) -> MessageId {
        self.content.id
    }

    /// What the message carries.
    #[must_use]
    pub fn content(&self) -> &Content {
        &self.content
    }

    /// Takes the message apart.
    #[must_use]
    pub fn into_parts(self) -> (SessionId, Content) {
        (self.session, self.content)
    }

    /// Puts a message together again, as for sending back a dead letter.
    #[must_use]
    pub fn from_parts(session: SessionId, content: Content) -> Self {
        Self { session, content }
    }
}

impl Content {
    /// Content with this body, a new id and nothing else.
    #[must_use]
    pub fn new(body: impl Into<Bytes>) -> Self {
        Self {
            id: MessageId::random(),
            body: body.into(),
            type_name: None,
            content_type: None,
            headers: Headers::default(),
            stamp: None,
            sent_at: None,
        }
    }

    /// Content as a backend read it from its broker.
    #[must_use]
    pub fn received(id: MessageId, body: Bytes, headers: Headers) -> Self {
        Self { id, body, type_name: None, content_type: None, headers, stamp: None, sent_at: None }
    }

    /// The message's id.
    #[must_use]
    pub fn id(&self) -> MessageId {
        self.id
    }

    /// The body.
    #[must_use]
    pub fn body(&self) -> &Bytes {
        &self.body
    }

    /// The name of the message's type.
    #[must_use]
    pub fn type_name(&self) -> Option<&str> {
        self.type_name.as_deref()
    }

    /// The media type of the body.
    #[must_use]
    pub fn content_type(&self) -> Option<&str> {
        self.content_type.as_deref()
    }

    /// The headers.
    #[must_use]
    pub fn headers(&self) -> &Headers {
        &self.headers
    }

    /// The value of one header.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)
    }

    /// Which of its producer's messages this is; `None` from a foreign producer.
    #[must_use]
    pub fn stamp(&self) -> Option<Stamp> {
        self.stamp
    }

    /// When it was sent, by the sender's wall clock.
    #[must_use]
    pub fn sent_at(&self) -> Option<SystemTime> {
        self.sent_at
    }

    /// Sets what a backend read beside body and headers.
    pub fn set_meta(
        &mut self,
        type_name: Option<&str>,
        content_type: Option<&str>,
        stamp: Option<Stamp>,
        sent_at: Option<SystemTime>,
    ) {
        self.type_name = type_name.map(Into::into);
        self.content_type = content_type.map(Into::into);
        self.stamp = stamp;
        self.sent_at = sent_at;
    }

    /// Sets when it was sent, by the sender's wall clock.
    pub fn set_sent_at(&mut self, at: SystemTime) {
        self.sent_at = Some(at);
    }

    /// Sets which of its producer's messages this is.
    pub fn set_stamp(&mut self, stamp: Stamp) {
        self.stamp = Some(stamp);
    }

    /// What the message counts in the bounds, in bytes: body, headers and names.
    #[must_use]
    pub fn size(&self) -> usize {
        let named = |s: &Option<Box<str>>| s.as_ref().map_or(0, |s| s.len());
        self.body.len() + self.headers.size() + named(&self.type_name) + named(&self.content_type)
    }
}

impl fmt::Debug for Content {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Never the body or a header's value: either may be a secret.
        f.debug_struct("Content")
            .field("id", &self.id)
            .field("type", &self.type_name)
            .field("bytes", &self.body.len())
            .field("headers", &self.headers)
            .field("stamp", &self.stamp)
            .finish_non_exhaustive()
    }
}

impl Headers {
    /// The most headers a message may have.
    pub const MAX_COUNT: usize = 64;
    /// The longest name, in bytes.
    pub const MAX_NAME: usize = 128;
    /// The longest value, in bytes.
    pub const MAX_VALUE: usize = 8 * 1024;

    /// Adds a header, or replaces the one of that name.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidMessage`] when a limit is broken or the name is reserved.
    pub fn insert(&mut self, name: &str, value: &str) -> Result<()> {
        if name.starts_with("convoy-") {
            return Err(invalid(format!("header names that start with `convoy-` are reserved: {name}")));
        }
        self.insert_reserved(name, value)
    }

    /// Adds a header of any name, for backends. The limits hold here too.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidMessage`] when a limit is broken.
    pub fn insert_reserved(&mut self, name: &str, value: &str) -> Result<()> {
        let printable = name.bytes().all(|b| b.is_ascii_graphic());
        if name.is_empty() || name.len() > Self::MAX_NAME || !printable {
            let shown = name.escape_debug().take(Self::MAX_NAME).collect::<String>();
            return Err(invalid(format!(
                "a header name is 1 to {} printable ASCII characters: {shown:?}",
                Self::MAX_NAME
            )));
        }
        if value.len() > Self::MAX_VALUE {
            return Err(invalid(format!(
                "header {name} has {} bytes, at most {} are allowed",
                value.len(),
                Self::MAX_VALUE
            )));
        }
        if let Some((_, old)) = self.0.iter_mut().find(|(n, _)| &**n == name) {
            *old = value.into();
            return Ok(());
        }
        if self.0.len() >= Self::MAX_COUNT {
            return Err(invalid(format!("a message has at most {} headers; {name} is one too many", Self::MAX_COUNT)));
        }
        self.0.push((name.into(), value.into()));
        Ok(())
    }

    /// The value of a header.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(n, _)| &**n == name).map(|(_, value)| &**value)
    }

    /// Takes a header away and gives its value.
    pub fn remove(&mut self, name: &str) -> Option<Box<str>> {
        let at = self.0.iter().position(|(n, _)| &**n == name)?;
        Some(self.0.remove(at).1)
    }

    /// The headers in the order they were added.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(n, v)| (&**n, &**v))
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The bytes of all names and values.
    #[must_use]
    pub fn size(&self) -> usize {
        self.0.iter().map(|(n, v)| n.len() + v.len()).sum()
    }
}

impl fmt::Debug for Headers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Names only: a value may be a secret.
        f.debug_list().entries(self.0.iter().map(|(name, _)| name)).finish()
    }
}

fn invalid(why: String) -> Error {
    Error::new(ErrorKind::InvalidMessage, "message").because(why)
}

/// A message as the broker handed it to a consumer.
#[derive(Clone, Debug)]
pub struct Inbound {
    /// Its place, strictly growing within a grant; the broker's own within the session where it has one.
    pub position: Position,
    /// The session it belongs to.
    pub session: SessionId,
    /// What the broker knows of earlier hand-overs.
    pub redelivered: Redelivered,
    /// What is wrong with the envelope, if anything.
    pub defect: Option<Defect>,
    /// What it carries.
    pub content: Arc<Content>,
}

use crate::position::Position;

/// What a broker says of earlier hand-overs of a message. Shown to handlers, never added to attempts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Redelivered {
    /// It was never handed over before.
    #[default]
    No,
    /// It may have been.
    Maybe,
    /// The broker's own count of hand-overs, this one included; the first is 1.
    Count(u32),
}

/// What is wrong with the envelope of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Defect {
    /// It has no session id.
    NoSession,
    /// Its session id is longer than is allowed.
    SessionTooLong,
    /// Its headers cannot be read or break a limit.
    Headers,
    /// It stands in a lane where the pinned hash would not put its session.
    Misrouted,
}

impl Defect {
    /// A short stable code, used as the reason of a dead letter.
    #[must_use]
    pub fn code(self) -> &'static str {
        match self {
            Self::NoSession => "no-session",
            Self::SessionTooLong => "session-too-long",
            Self::Headers => "invalid-headers",
            Self::Misrouted => "misrouted",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn header_limits_name_what_is_wrong() {
        let mut headers = Headers::default();
        for i in 0..Headers::MAX_COUNT {
            headers.insert(&format!("h{i}"), "v").unwrap();
        }
        assert!(headers.insert("h3", "again").is_ok(), "replacing is not adding");
        assert_eq!(headers.get("h3"), Some("again"));
        assert!(headers.insert("more", "v").unwrap_err().to_string().contains("more"));
        let mut headers = Headers::default();
        assert!(headers.insert("convoy-x", "v").is_err());
        assert!(headers.insert_reserved("convoy-x", "v").is_ok());
        assert!(headers.insert("", "v").is_err());
        assert!(headers.insert("a b", "v").is_err());
        assert!(headers.insert("a\n", "v").is_err());
        assert!(headers.insert("a", &"v".repeat(Headers::MAX_VALUE)).is_ok());
        assert!(headers.insert("a", &"v".repeat(Headers::MAX_VALUE + 1)).is_err());
        assert!(headers.insert(&"n".repeat(Headers::MAX_NAME + 1), "v").is_err());
    }

    #[test]
    fn debug_shows_no_body_and_no_header_value() {
        let message = Message::new("s", "secret-body").unwrap().with_header("authorization", "secret-value").unwrap();
        let shown = format!("{message:?}");
        assert!(shown.contains("authorization") && !shown.contains("secret"), "{shown}");
    }

    #[test]
    fn size_counts_body_headers_and_names() {
        let message = Message::new("s", "12345")
            .unwrap()
            .with_type("ab")
            .with_content_type("cde")
            .with_header("k", "vv")
            .unwrap();
        assert_eq!(message.content().size(), 5 + 2 + 3 + 3);
    }
}
