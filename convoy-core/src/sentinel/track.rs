//! One producer's messages in one session: what each says of the one before it, compared with what was seen.

use super::counts::{DeviationKind, SentinelCounts};
use super::rights::Right;
use crate::message::Stamp;

/// What was seen of a producer in a session.
#[derive(Debug)]
pub(super) struct Track {
    pub(super) producer: u128,
    /// The greatest number.
    top: u64,
    /// The number that started last.
    now: u64,
    /// The right under which that was.
    right: Right,
    /// Whether the last run of `top` was no good end, and that of `now` where it is another one.
    top_failed: bool,
    now_failed: bool,
    /// Numbers below `top` that were not seen. In order there are none.
    #[allow(clippy::box_collection, reason = "a word where there is nothing")]
    holes: Option<Box<Vec<Hole>>>,
}

/// Some numbers, of which those of this session were not seen.
#[derive(Debug, PartialEq, Eq)]
struct Hole {
    from: u64,
    to: u64,
    /// Whether their sender gave them up.
    given_up: bool,
}

/// Of more than so many the oldest are forgotten.
const HOLES: usize = 16;

/// What a start was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Seen {
    pub(super) what: What,
    /// Whether it says that messages before it were given up.
    pub(super) skip: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum What {
    InOrder,
    /// The same again, after a run that failed or was cut off.
    Again,
    Joined,
    Moved,
    Gap,
    Inversion,
    Late,
    Stray,
    Repeat,
}

impl Seen {
    /// What is told to nobody.
    pub(super) const AS_EXPECTED: Self = Self::new(What::InOrder);

    const fn new(what: What) -> Self {
        Self { what, skip: false }
    }

    pub(super) fn deviations(self) -> impl Iterator<Item = DeviationKind> {
        let what = match self.what {
            What::Gap => Some(DeviationKind::Gap),
            What::Inversion => Some(DeviationKind::Inversion),
            What::Stray => Some(DeviationKind::Stray),
            What::Repeat => Some(DeviationKind::Repeat),
            What::Late => Some(DeviationKind::Late),
            What::InOrder | What::Again | What::Joined | What::Moved => None,
        };
        what.into_iter().chain(self.skip.then_some(DeviationKind::Skip))
    }

    pub(super) fn count(self, counts: &mut SentinelCounts) {
        counts.skips += u64::from(self.skip);
        match self.what {
            What::InOrder | What::Again => {}
            What::Joined => counts.joined += 1,
            What::Moved => counts.moved += 1,
            What::Gap => counts.gaps += 1,
            What::Inversion => counts.inversions += 1,
            What::Late => counts.late += 1,
            What::Stray => counts.strays += 1,
            What::Repeat => counts.repeats += 1,
        }
    }
}

impl Track {
    /// The first message that is seen of a producer. When it `saw_all`, what is before it and comes behind it comes out of order.
    pub(super) fn begin(stamp: Stamp, right: Right, saw_all: bool) -> (Self, Seen) {
        let mut track = Self {
            producer: stamp.producer.as_u128(),
            top: stamp.number,
            now: stamp.number,
            right,
            top_failed: false,
            now_failed: false,
            holes: None,
        };
        let what = if stamp.prev == 0 { What::InOrder } else { What::Joined };
        if saw_all && stamp.prev > 0 {
            track.miss(1, stamp.prev, false);
        }
        if stamp.skipped {
            track.miss(stamp.prev.saturating_add(1), stamp.number.saturating_sub(1), true);
        }
        (track, Seen { what, skip: stamp.skipped })
    }

    pub(super) fn top(&self) -> u64 {
        self.top
    }

    /// A message starts. Under another right than before, others may have handled what is between, unless this `sees_all`.
    #[inline]
    pub(super) fn start(&mut self, stamp: Stamp, right: Right, sees_all: bool) -> Seen {
        let number = stamp.number;
        // Nearly always.
        if number > self.top && stamp.prev == self.top && !stamp.skipped {
            (self.top, self.now, self.right) = (number, number, right);
            (self.top_failed, self.now_failed) = (false, false);
            return Seen::AS_EXPECTED;
        }
        self.start_otherwise(stamp, right, sees_all)
    }

    #[cold]
    fn start_otherwise(&mut self, stamp: Stamp, right: Right, sees_all: bool) -> Seen {
        let number = stamp.number;
        let contiguous = sees_all || self.right == right;
        self.right = right;
        if number > self.top {
            return self.advance(stamp, contiguous);
        }
        if number == self.top {
            self.now = number;
            return Seen::new(if std::mem::take(&mut self.top_failed) { What::Again } else { What::Repeat });
        }
        let failed = std::mem::take(&mut self.now_failed) && number == self.now;
        self.now = number;
        if failed {
            return Seen::new(What::Again);
        }
        Seen::new(match self.fill(number, stamp.prev) {
            Some(false) => What::Inversion,
            Some(true) => What::Late,
            None => What::Repeat,
        })
    }

    fn advance(&mut self, stamp: Stamp, contiguous: bool) -> Seen {
        let Stamp { number, prev, skipped, .. } = stamp;
        let top = self.top;
        if prev < top && prev > 0 && !skipped {
            let failed = std::mem::take(&mut self.now_failed) && number == self.now;
            self.now = number;
            return Seen::new(if failed { What::Again } else { What::Stray });
        }
        let what = match prev {
            // What it follows was given up, and came all the same.
            prev if prev <= top && (prev > 0 || skipped) => What::InOrder,
            0 => What::Joined,
            _ if contiguous => {
                self.miss(top.saturating_add(1), prev.min(number - 1), false);
                What::Gap
            }
            _ => What::Moved,
        };
        (self.top, self.now, self.top_failed, self.now_failed) = (number, number, false, false);
        if skipped {
            self.miss(prev.max(top).saturating_add(1), number.saturating_sub(1), true);
        }
        Seen { what, skip: skipped }
    }

    /// A message is out of the way without a start. What it says of the messages before it counts; of its own there is nothing to say.
    pub(super) fn pass(&mut self, stamp: Stamp, right: Right, sees_all: bool) -> Seen {
        if stamp.number > self.top {
            return self.start(stamp, right, sees_all);
        }
        self.fill(stamp.number, stamp.prev);
        Seen::AS_EXPECTED
    }

    /// The run that started last did not end well: the same message may start again.
    pub(super) fn not_done(&mut self, right: Right) {
        if self.right != right {
            return;
        }
        if self.now == self.top {
            self.top_failed = true;
        } else {
            self.now_failed = true;
        }
    }

    fn miss(&mut self, from: u64, to: u64, given_up: bool) {
        if from > to {
            return;
        }
        let holes = self.holes.get_or_insert_default();
        if holes.len() >= HOLES {
            holes.remove(0);
        }
        holes.push(Hole { from, to, given_up });
    }

    /// Takes a number out of the hole that it is in; whether it was given up. What it says of the one before it makes the hole smaller still.
    fn fill(&mut self, number: u64, prev: u64) -> Option<bool> {
        let holes = self.holes.as_mut()?;
        let at = holes.iter().position(|hole| (hole.from..=hole.to).contains(&number))?;
        let Hole { from, to, given_up } = holes.remove(at);
        if number < to {
            holes.insert(at, Hole { from: number + 1, to, given_up });
        }
        if prev >= from && prev < number {
            holes.insert(at, Hole { from, to: prev, given_up });
        }
        if holes.is_empty() {
            self.holes = None;
        }
        Some(given_up)
    }
}
