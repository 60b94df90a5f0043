//! Where a message stands in its session, and the fence made of it.

use std::cmp::Ordering;
use std::fmt;

use crate::message::ProducerId;
use crate::session::SessionId;

/// The place of a message in its session: opaque, strictly growing within the session.
///
/// Positions of two channels are not comparable in any useful way. The generation grows when a
/// channel is rebuilt (a lane count changed, a topic made anew), so that later is always greater.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Position {
    /// The generation of the channel, compared first.
    pub generation: u32,
    /// The broker's own number within the generation.
    pub value: u64,
}

impl Position {
    /// A position of generation 0.
    #[must_use]
    pub const fn new(value: u64) -> Self {
        Self { generation: 0, value }
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.generation {
            0 => write!(f, "{}", self.value),
            generation => write!(f, "{generation}.{}", self.value),
        }
    }
}

impl fmt::Debug for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// What to hand to a sink, so that it can refuse what is stale.
///
/// A sink that stores the last fence a session wrote, takes a write only when its fence is greater,
/// and treats an equal one as applied already, sees each session's effects once and in order,
/// whatever pauses or partitions happen. Where the broker has no position (RabbitMQ) fences of two
/// producers do not compare (`partial_cmp` is `None`): such a sink keeps one row a session and
/// producer, keyed by [`Fence::row`].
///
/// ```
/// use convoy_core::{Fence, Position, SessionId};
///
/// let id = SessionId::new("order-17")?;
/// let first = Fence::at(id.clone(), Position::new(4));
/// let second = Fence::at(id, Position::new(9));
/// assert!(first < second);
/// # Ok::<(), convoy_core::Error>(())
/// ```
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Fence {
    session: SessionId,
    mark: Mark,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum Mark {
    Position(Position),
    Producer(ProducerId, u64),
}

impl Fence {
    /// A fence by the broker's position.
    #[must_use]
    pub fn at(session: SessionId, position: Position) -> Self {
        Self { session, mark: Mark::Position(position) }
    }

    /// A fence by the sequence of one producer, where the broker has no position.
    #[must_use]
    pub fn by_producer(session: SessionId, producer: ProducerId, sequence: u64) -> Self {
        Self { session, mark: Mark::Producer(producer, sequence) }
    }

    /// The session that this fence orders.
    #[must_use]
    pub fn session(&self) -> &SessionId {
        &self.session
    }

    /// The broker's position, where the broker has one.
    #[must_use]
    pub fn position(&self) -> Option<Position> {
        match self.mark {
            Mark::Position(position) => Some(position),
            Mark::Producer(..) => None,
        }
    }

    /// The producer whose sequence orders this fence, where the broker has no position. A sink
    /// keeps one row for each `(session, row)`.
    #[must_use]
    pub fn row(&self) -> Option<ProducerId> {
        match self.mark {
            Mark::Position(_) => None,
            Mark::Producer(producer, _) => Some(producer),
        }
    }

    /// The number to store and compare within a row: the position's value, or the producer's
    /// sequence. Grows strictly within a session and row of one generation.
    #[must_use]
    pub fn number(&self) -> u64 {
        match self.mark {
            Mark::Position(position) => position.value,
            Mark::Producer(_, sequence) => sequence,
        }
    }
}

impl PartialOrd for Fence {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        if self.session != other.session {
            return None;
        }
        match (self.mark, other.mark) {
            (Mark::Position(a), Mark::Position(b)) => Some(a.cmp(&b)),
            (Mark::Producer(p, a), Mark::Producer(q, b)) if p == q => Some(a.cmp(&b)),
            _ => None,
        }
    }
}

impl fmt::Debug for Fence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fence").field("session", &self.session).field("mark", &self.mark).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(name: &'static str) -> SessionId {
        SessionId::new(name).unwrap()
    }

    #[test]
    fn the_generation_is_compared_first() {
        assert!(Position { generation: 1, value: 0 } > Position { generation: 0, value: 99 });
        assert_eq!(Position { generation: 2, value: 7 }.to_string(), "2.7");
    }

    #[test]
    fn fences_of_two_sessions_or_two_producers_do_not_compare() {
        let a = Fence::at(id("a"), Position::new(1));
        assert_eq!(a.partial_cmp(&Fence::at(id("b"), Position::new(2))), None);
        let (p, q) = (ProducerId::from_u128(1), ProducerId::from_u128(2));
        let first = Fence::by_producer(id("a"), p, 1);
        assert!(first < Fence::by_producer(id("a"), p, 2));
        assert_eq!(first.partial_cmp(&Fence::by_producer(id("a"), q, 2)), None);
        assert_eq!(first.partial_cmp(&a), None);
    }

    #[test]
    fn a_row_names_the_producer_only_without_a_position() {
        let p = ProducerId::from_u128(1);
        assert_eq!(Fence::by_producer(id("a"), p, 5).row(), Some(p));
        assert_eq!(Fence::at(id("a"), Position::new(5)).row(), None);
        assert_eq!(Fence::at(id("a"), Position::new(5)).number(), 5);
    }
}
