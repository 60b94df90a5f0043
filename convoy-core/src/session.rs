//! The session id: what makes messages belong together.

use std::fmt;
use std::hash::{Hash, Hasher};

use bytes::Bytes;

use crate::error::{Error, ErrorKind};

/// Names a session: messages that share an id are handled in order, one at a time.
///
/// An id is 1 to [`SessionId::MAX_LEN`] bytes and is compared byte by byte: no trimming, no case
/// folding, no Unicode normalisation. Cloning is cheap: up to 30 bytes are held in place, more by a counted reference. It is shown with
/// everything but printable ASCII escaped.
///
/// ```
/// use convoy_core::SessionId;
///
/// let id = SessionId::new("order-17")?;
/// assert_eq!(id.as_bytes(), b"order-17");
/// assert_eq!(SessionId::new(vec![0xff, 0x01])?.to_string(), r"\xff\x01");
/// assert!(SessionId::new("").is_err());
/// # Ok::<(), convoy_core::Error>(())
/// ```
#[derive(Clone)]
pub struct SessionId(Held);

/// Few bytes are held in place: with many sessions, a reference that is counted elsewhere is a line of memory more to touch for each message.
#[derive(Clone)]
enum Held {
    Here { kind: Kind, len: u8, bytes: [u8; Held::ROOM] },
    Shared { kind: Kind, bytes: Bytes },
}

impl Held {
    const ROOM: usize = 30;

    fn new(kind: Kind, bytes: Bytes) -> Self {
        Self::here(kind, &bytes).unwrap_or(Self::Shared { kind, bytes })
    }

    fn here(kind: Kind, from: &[u8]) -> Option<Self> {
        let mut bytes = [0; Self::ROOM];
        bytes.get_mut(..from.len())?.copy_from_slice(from);
        Some(Self::Here { kind, len: u8::try_from(from.len()).ok()?, bytes })
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Kind {
    /// Chosen by a sender.
    Named,
    /// Made up for one message that came without a usable id.
    Lone,
}

impl SessionId {
    /// The longest id that is accepted unless a backend says less, in bytes.
    pub const MAX_LEN: usize = 128;

    /// Makes an id of these bytes.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidSession`] when there are none, or more than [`SessionId::MAX_LEN`].
    pub fn new(bytes: impl Into<Bytes>) -> Result<Self, Error> {
        let bytes = bytes.into();
        Self::measured(bytes.len())?;
        Ok(Self(Held::new(Kind::Named, bytes)))
    }

    /// As [`new`](Self::new), of bytes that stay where they are: short ids take no memory of their own.
    ///
    /// # Errors
    /// As in [`new`](Self::new).
    pub fn copied(bytes: &[u8]) -> Result<Self, Error> {
        Self::measured(bytes.len())?;
        let shared = || Held::Shared { kind: Kind::Named, bytes: Bytes::copy_from_slice(bytes) };
        Ok(Self(Held::here(Kind::Named, bytes).unwrap_or_else(shared)))
    }

    fn measured(len: usize) -> Result<(), Error> {
        let why = match len {
            1..=Self::MAX_LEN => return Ok(()),
            0 => "a session id needs at least one byte".to_owned(),
            n => format!("a session id has at most {} bytes, this one has {n}", Self::MAX_LEN),
        };
        Err(Error::new(ErrorKind::InvalidSession, "session id").because(why))
    }

    /// The one-message session of a message that came without a usable id.
    ///
    /// It is of a kind of its own, so that no sender's id can equal it.
    #[must_use]
    pub fn lone(place: u32, position: u64) -> Self {
        let mut bytes = Vec::with_capacity(12);
        bytes.extend_from_slice(&place.to_be_bytes());
        bytes.extend_from_slice(&position.to_be_bytes());
        Self(Held::new(Kind::Lone, bytes.into()))
    }

    /// Whether this id was made up for one message without a usable id.
    #[must_use]
    pub fn is_lone(&self) -> bool {
        self.kind() == Kind::Lone
    }

    /// The bytes of the id.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        match &self.0 {
            Held::Here { len, bytes, .. } => bytes.get(..usize::from(*len)).unwrap_or_default(),
            Held::Shared { bytes, .. } => bytes,
        }
    }

    fn kind(&self) -> Kind {
        match self.0 {
            Held::Here { kind, .. } | Held::Shared { kind, .. } => kind,
        }
    }

    /// The id as text, for brokers that carry nothing else.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidSession`] that names the first byte which is not part of UTF-8 text.
    pub fn as_text(&self) -> Result<&str, Error> {
        std::str::from_utf8(self.as_bytes()).map_err(|e| {
            let at = e.valid_up_to();
            let byte = self.as_bytes().get(at).copied().unwrap_or_default();
            Error::new(ErrorKind::InvalidSession, "session id").because(format!(
                "this broker carries session ids as UTF-8 text; byte {at} (0x{byte:02x}) of {self} is not"
            ))
        })
    }

    /// A copy that shares no memory with the message it came in, for keeping.
    #[must_use]
    pub fn detached(&self) -> Self {
        match &self.0 {
            Held::Here { .. } => self.clone(),
            Held::Shared { kind, bytes } => Self(Held::new(*kind, Bytes::copy_from_slice(bytes))),
        }
    }

    /// The pinned hash by which brokers of lanes place a session: murmur2 as the JVM's Kafka clients have it, without the sign bit. It never changes: another
    /// value would put a session's next message into another lane.
    ///
    /// ```
    /// # use convoy_core::SessionId;
    /// assert_eq!(SessionId::new("foobar")?.lane_hash() % 8, 6);
    /// # Ok::<(), convoy_core::Error>(())
    /// ```
    #[must_use]
    pub fn lane_hash(&self) -> u32 {
        crate::murmur::murmur2(self.as_bytes())
    }

    /// A stable 64-bit hash (FNV-1a) of the id: the same in every process and every version.
    #[must_use]
    pub fn stable_hash(&self) -> u64 {
        let seed = if self.is_lone() { 0x6c6f_6e65 } else { 0 };
        self.as_bytes()
            .iter()
            .fold(0xcbf2_9ce4_8422_2325 ^ seed, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
    }
}

impl PartialEq for SessionId {
    fn eq(&self, other: &Self) -> bool {
        self.kind() == other.kind() && self.as_bytes() == other.as_bytes()
    }
}

impl Eq for SessionId {}

impl Hash for SessionId {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write(self.as_bytes());
        state.write_u8(self.kind() as u8);
    }
}

impl PartialOrd for SessionId {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for SessionId {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.kind(), self.as_bytes()).cmp(&(other.kind(), other.as_bytes()))
    }
}

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_lone() {
            f.write_str("(no session) ")?;
        }
        write!(f, "{}", self.as_bytes().escape_ascii())
    }
}

impl fmt::Debug for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SessionId({self})")
    }
}

/// Conversions that may fail, for places that take a session id.
pub trait IntoSessionId {
    /// Converts, or says what is wrong with the id.
    ///
    /// # Errors
    /// As [`SessionId::new`].
    fn into_session_id(self) -> Result<SessionId, Error>;
}

impl IntoSessionId for SessionId {
    fn into_session_id(self) -> Result<SessionId, Error> {
        Ok(self)
    }
}

impl IntoSessionId for &SessionId {
    fn into_session_id(self) -> Result<SessionId, Error> {
        Ok(self.clone())
    }
}

impl IntoSessionId for &str {
    fn into_session_id(self) -> Result<SessionId, Error> {
        SessionId::new(Bytes::copy_from_slice(self.as_bytes()))
    }
}

impl IntoSessionId for &[u8] {
    fn into_session_id(self) -> Result<SessionId, Error> {
        SessionId::new(Bytes::copy_from_slice(self))
    }
}

macro_rules! into_session_id {
    ($($owned:ty),*) => {$(
        impl IntoSessionId for $owned {
            fn into_session_id(self) -> Result<SessionId, Error> {
                SessionId::new(self)
            }
        }
    )*};
}

into_session_id!(String, Vec<u8>, Bytes);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_are_limited_on_both_sides() {
        assert!(SessionId::new(vec![7; SessionId::MAX_LEN]).is_ok());
        let long = SessionId::new(vec![7; SessionId::MAX_LEN + 1]).unwrap_err();
        assert_eq!(long.kind(), ErrorKind::InvalidSession);
        assert!(long.to_string().contains("129"), "{long}");
    }

    #[test]
    fn ids_of_any_length_are_held_as_they_are() {
        for len in 1..=SessionId::MAX_LEN {
            let bytes: Vec<u8> = (0..len).map(|at| (at * 7) as u8).collect();
            let id = SessionId::new(bytes.clone()).unwrap();
            assert_eq!((id.as_bytes(), id.clone(), id.detached()), (&*bytes, id.clone(), id.clone()), "{len}");
            assert_ne!(id, SessionId::new(vec![0xaa; len]).unwrap());
        }
        assert_eq!(size_of::<SessionId>(), 40);
    }

    #[test]
    fn nothing_is_normalised() {
        assert_ne!("a".into_session_id().unwrap(), "A".into_session_id().unwrap());
        assert_ne!("\u{e9}".into_session_id().unwrap(), "e\u{301}".into_session_id().unwrap());
        assert_ne!("a".into_session_id().unwrap(), "a ".into_session_id().unwrap());
    }

    #[test]
    fn a_lone_session_equals_no_named_one() {
        let lone = SessionId::lone(1, 2);
        let named = SessionId::new(Bytes::copy_from_slice(lone.as_bytes())).unwrap();
        assert_ne!(lone, named);
        assert_ne!(lone.stable_hash(), named.stable_hash());
    }

    #[test]
    fn text_that_is_none_names_the_byte() {
        let id = SessionId::new(vec![b'a', 0xff]).unwrap();
        let error = id.as_text().unwrap_err().to_string();
        assert!(error.contains("byte 1 (0xff)"), "{error}");
    }

    #[test]
    fn the_stable_hash_is_pinned() {
        assert_eq!("a".into_session_id().unwrap().stable_hash(), 0xaf63_dc4c_8601_ec8c);
    }
}
