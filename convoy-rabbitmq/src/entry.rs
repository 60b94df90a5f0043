//! How a message finds its lane: by the publisher's hash of its session, or by the broker's.

use convoy_core::option::invalid;
use convoy_core::{Error, ErrorKind, Result, SessionId};
use lapin::types::ShortString;

use crate::names;

/// Who hashes the sessions of a channel. Pinned with its groups: where two hashes are at work, a session is in two lanes and has no order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Entry {
    /// Each publisher, to 1 024 slots, as [the crate](crate) says: `slots`.
    #[default]
    Slots,
    /// The broker, by an exchange of the type `x-consistent-hash`: `consistent-hash`. It needs the plugin `rabbitmq_consistent_hash_exchange`.
    ConsistentHash,
    /// The broker, by an exchange of the type `x-modulus-hash`: `modulus-hash`. Built into RabbitMQ 4.3.
    ModulusHash,
}

impl Entry {
    /// What an option says.
    pub(crate) fn read(name: &str, value: &str) -> Result<Self> {
        match value {
            "slots" => Ok(Self::Slots),
            "consistent-hash" => Ok(Self::ConsistentHash),
            "modulus-hash" => Ok(Self::ModulusHash),
            _ => Err(invalid(
                name,
                format!("`{name}` is `slots`, `consistent-hash` or `modulus-hash`, and not `{value}`"),
            )),
        }
    }

    /// The type of the exchange that hashes, where one does.
    pub(crate) fn hashing(self) -> Option<&'static str> {
        match self {
            Self::Slots => None,
            Self::ConsistentHash => Some("x-consistent-hash"),
            Self::ModulusHash => Some("x-modulus-hash"),
        }
    }

    /// What to do where the broker does not know the type.
    pub(crate) fn remedy(self) -> &'static str {
        match self {
            Self::ModulusHash => "it is built into RabbitMQ 4.3; before that, take `entry=consistent-hash`",
            _ => "turn on its plugin `rabbitmq_consistent_hash_exchange`",
        }
    }

    /// A part of the names of lanes: members that differ find no queue.
    pub(crate) fn mark(self) -> &'static str {
        match self {
            Self::Slots => "",
            Self::ConsistentHash => ".ch",
            Self::ModulusHash => ".mh",
        }
    }

    /// A part of the pin.
    pub(crate) fn number(self) -> i64 {
        match self {
            Self::Slots => 0,
            Self::ConsistentHash => 1,
            Self::ModulusHash => 2,
        }
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

    /// Whether a message of this session belongs into a lane, by what of it the hash was taken.
    pub(crate) fn leads(self, session: &SessionId, key: &str, lane: u32, lanes: u32) -> bool {
        match self {
            Self::Slots => names::lane(session, lanes) == lane,
            // The broker's own hash is not repeated here: it is not promised to stay what it is.
            _ => key.as_bytes() == session.as_bytes(),
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
        assert_eq!(Entry::ConsistentHash.key(&bytes).unwrap_err().kind(), ErrorKind::InvalidMessage);
    }

    #[test]
    fn a_message_is_misrouted_when_another_thing_than_its_session_was_hashed() {
        let session = SessionId::new("foobar").unwrap();
        let lane = names::lane(&session, 8);
        for at in 0..8 {
            assert_eq!(Entry::Slots.leads(&session, "anything", at, 8), at == lane);
            assert!(Entry::ConsistentHash.leads(&session, "foobar", at, 8));
            assert!(!Entry::ConsistentHash.leads(&session, "958", at, 8));
        }
    }
}
