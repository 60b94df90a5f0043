//! How a message finds its lane: by the publisher's hash of its session, or by the broker's.

use convoy_core::option::invalid;
use convoy_core::{Error, ErrorKind, Result, SessionId};
use lapin::types::ShortString;

use crate::names;

/// Who hashes the sessions of a channel. Pinned with its groups, and one for all of them: where two hashes are at work, a session is in two lanes and has no order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Entry {
    /// Each publisher, to 1 024 slots, as [the crate](crate) says: `slots`.
    #[default]
    Slots,
    /// The broker, by exchanges of the type `x-modulus-hash`: `modulus-hash`. Built into RabbitMQ 4.3.
    ModulusHash,
}

impl Entry {
    /// What an option says.
    pub(crate) fn read(name: &str, value: &str) -> Result<Self> {
        match value {
            "slots" => Ok(Self::Slots),
            "modulus-hash" => Ok(Self::ModulusHash),
            _ => Err(invalid(name, format!("`{name}` is `slots` or `modulus-hash`, and not `{value}`"))),
        }
    }

    /// What else a channel may have.
    pub(crate) fn other(self) -> Self {
        if self == Self::Slots { Self::ModulusHash } else { Self::Slots }
    }

    /// As an option says it.
    pub(crate) fn word(self) -> &'static str {
        if self == Self::Slots { "slots" } else { "modulus-hash" }
    }

    /// A part of the names of lanes: members that differ find no queue.
    pub(crate) fn mark(self) -> &'static str {
        if self == Self::Slots { "" } else { ".mh" }
    }

    /// A part of the pin.
    pub(crate) fn number(self) -> i64 {
        i64::from(self != Self::Slots)
    }

    /// The routing key of a session. One that the broker hashes is the session's id, and a routing key is text.
    pub(crate) fn key(self, session: &SessionId) -> Result<ShortString> {
        if self == Self::Slots {
            return Ok(names::short(names::slot(session).to_string()));
        }
        let text = std::str::from_utf8(session.as_bytes()).map_err(|e| {
            Error::new(ErrorKind::InvalidMessage, "send")
                .because("where the broker hashes, a session id is its routing key, and that is UTF-8 text")
                .caused_by(e)
        })?;
        Ok(names::short(text.to_owned()))
    }

    /// Whether a message of this session belongs into a lane, by what of it the hash was taken. `copied` is one that was sent to further keys: the broker hashes them all together.
    pub(crate) fn leads(self, session: &SessionId, key: &str, copied: bool, (lane, lanes): (u32, u32)) -> bool {
        match self {
            Self::Slots => names::lane(session, lanes) == lane,
            // The broker's own hash is not repeated here: it is not promised to stay what it is.
            Self::ModulusHash => key.as_bytes() == session.as_bytes() && !copied,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_the_slot_or_the_session() {
        let session = SessionId::new("foobar").unwrap();
        assert_eq!(Entry::Slots.key(&session).unwrap().as_str(), "958");
        assert_eq!(Entry::ModulusHash.key(&session).unwrap().as_str(), "foobar");
        let bytes = SessionId::new(vec![0xff]).unwrap();
        assert!(Entry::Slots.key(&bytes).is_ok());
        assert_eq!(Entry::ModulusHash.key(&bytes).unwrap_err().kind(), ErrorKind::InvalidMessage);
    }

    #[test]
    fn a_message_is_misrouted_when_another_thing_than_its_session_was_hashed() {
        let session = SessionId::new("foobar").unwrap();
        let lane = names::lane(&session, 8);
        for at in 0..8 {
            assert_eq!(Entry::Slots.leads(&session, "anything", true, (at, 8)), at == lane);
            assert!(Entry::ModulusHash.leads(&session, "foobar", false, (at, 8)));
            assert!(!Entry::ModulusHash.leads(&session, "foobar", true, (at, 8)));
            assert!(!Entry::ModulusHash.leads(&session, "958", false, (at, 8)));
        }
    }
}
