//! What a sentinel counts, and what it tells.

use std::fmt;
use std::ops::AddAssign;

use crate::message::ProducerId;
use crate::session::SessionId;
use crate::time::Moment;

/// What a [`Sentinel`](super::Sentinel) has counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct SentinelCounts {
    /// Starts of numbered messages.
    pub seen: u64,
    /// Messages that started although the one before them had not. It is missing; if it comes after all, that is an inversion.
    pub gaps: u64,
    /// Messages that first started behind a later one of their producer.
    pub inversions: u64,
    /// Messages that say that another one is before them than the one that was: nobody's counter does that, so they are forged, or damaged.
    pub strays: u64,
    /// Messages that started again although, as far as is known here, their last run ended well: what a right that ended badly, or a resent message, costs. Retries are none.
    pub repeats: u64,
    /// Messages that say that their sender gave up some before them, after a send that failed.
    pub skips: u64,
    /// Messages that their sender had given up, and that came after all, behind later ones.
    pub late: u64,
    /// Messages with others before them that nobody was here to see: the first of a session that is not its sender's first, and what follows where the sender
    /// did not remember.
    pub joined: u64,
    /// Messages with others before them that another consumer of the group must have handled, since the session came back under another right.
    pub moved: u64,
    /// Messages without a number, of foreign producers: not judged.
    pub unnumbered: u64,
    /// Sessions, and producers of a session, that were forgotten for want of room.
    pub forgotten: u64,
    /// Sessions that are remembered now.
    pub sessions: u64,
}

impl SentinelCounts {
    /// Whether nothing was missing and nothing out of order.
    #[must_use]
    pub fn is_in_order(&self) -> bool {
        (self.gaps, self.inversions, self.strays) == (0, 0, 0)
    }
}

impl AddAssign for SentinelCounts {
    fn add_assign(&mut self, other: Self) {
        self.seen += other.seen;
        self.gaps += other.gaps;
        self.inversions += other.inversions;
        self.strays += other.strays;
        self.repeats += other.repeats;
        self.skips += other.skips;
        self.late += other.late;
        self.joined += other.joined;
        self.moved += other.moved;
        self.unnumbered += other.unnumbered;
        self.forgotten += other.forgotten;
        self.sessions += other.sessions;
    }
}

/// Something that a [`Sentinel`](super::Sentinel) did not expect, as it happens.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Deviation<'a> {
    /// What.
    pub kind: DeviationKind,
    /// When.
    pub at: Moment,
    /// On which channel.
    pub channel: &'a str,
    /// In which consumer group.
    pub group: &'a str,
    /// In which session.
    pub session: &'a SessionId,
    /// Whose message.
    pub producer: ProducerId,
    /// Its number.
    pub number: u64,
    /// The number that its sender says is before it; 0 when it did not say.
    pub prev: u64,
    /// The greatest number that had been seen of the producer in this session.
    pub last: u64,
}

/// What a deviation is; each is counted in [`SentinelCounts`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum DeviationKind {
    /// [`SentinelCounts::gaps`].
    Gap,
    /// [`SentinelCounts::inversions`].
    Inversion,
    /// [`SentinelCounts::strays`].
    Stray,
    /// [`SentinelCounts::repeats`].
    Repeat,
    /// [`SentinelCounts::skips`].
    Skip,
    /// [`SentinelCounts::late`].
    Late,
}

impl fmt::Display for DeviationKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Gap => "started although the message before it is missing",
            Self::Inversion => "first started behind a later message",
            Self::Stray => "does not follow the message that it says it does",
            Self::Repeat => "started again after it was handled",
            Self::Skip => "its sender gave up messages before it",
            Self::Late => "came late after its sender gave it up",
        })
    }
}
