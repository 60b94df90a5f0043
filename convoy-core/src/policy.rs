//! What a user decides: retries, what follows them, bounds, and what to do with defective envelopes.

use std::time::Duration;

/// How a failed attempt is repeated. In place: the message stays the head of its session, the session waits, other sessions go on.
///
/// Attempts are unlimited until [`at_most`](Retry::at_most) or [`within`](Retry::within) says otherwise, and limiting them names the consequence.
///
/// ```
/// use std::time::Duration;
/// use convoy_core::{Exhausted, Retry};
///
/// let retry = Retry::exponential(Duration::from_millis(50)..Duration::from_secs(30)).at_most(5).then(Exhausted::DeadLetter);
/// # let _ = retry;
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub struct Retry {
    pub(crate) first: Duration,
    pub(crate) longest: Duration,
    pub(crate) attempts: Option<u32>,
    pub(crate) elapsed: Option<Duration>,
    pub(crate) then: Option<Exhausted>,
}

/// A [`Retry`] with a limit, before it is said what happens at the limit.
#[derive(Clone, Debug)]
#[must_use = "say with `.then(…)` what happens when the attempts are exhausted"]
pub struct Limited(Retry);

/// What happens when the attempts of a message are exhausted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Exhausted {
    /// The message goes to the dead-letter store, confirmed before it is settled; its session goes on behind it: a declared hole.
    DeadLetter,
    /// The processor drains and returns the error; the message stays the head of its session.
    Stop,
}

impl Retry {
    /// Waits `range.start` after the first failure and twice as long after each further one, up to `range.end`; the wait is
    /// drawn between half of it and all of it.
    pub fn exponential(range: std::ops::Range<Duration>) -> Self {
        let first = range.start.max(Duration::from_micros(1));
        Self { first, longest: range.end.max(first), attempts: None, elapsed: None, then: None }
    }

    /// Waits the same time after each failure, drawn between half of it and all of it.
    pub fn fixed(wait: Duration) -> Self {
        Self::exponential(wait..wait)
    }

    /// Limits the attempts, the first one included. Zero is taken for one.
    pub fn at_most(mut self, attempts: u32) -> Limited {
        self.attempts = Some(attempts.max(1));
        Limited(self)
    }

    /// Limits the time from the first failure to the start of the last attempt.
    pub fn within(mut self, elapsed: Duration) -> Limited {
        self.elapsed = Some(elapsed);
        Limited(self)
    }

    /// The wait after the `failures`-th failure, with `jitter` taken from a random source.
    #[must_use]
    pub(crate) fn wait(&self, failures: u32, jitter: u64) -> Duration {
        let doubled = 1_u32.checked_shl(failures.saturating_sub(1)).unwrap_or(u32::MAX);
        let full = self.first.saturating_mul(doubled).min(self.longest);
        let half = full / 2;
        let spread = u64::try_from((full - half).as_nanos()).unwrap_or(u64::MAX);
        half + Duration::from_nanos(spread.checked_add(1).map_or(jitter, |of| jitter % of))
    }
}

impl Default for Retry {
    /// From 50 ms to 30 s, without a limit.
    fn default() -> Self {
        Self::exponential(Duration::from_millis(50)..Duration::from_secs(30))
    }
}

impl Limited {
    /// Says what happens at the limit.
    pub fn then(self, exhausted: Exhausted) -> Retry {
        Retry { then: Some(exhausted), ..self.0 }
    }

    /// Limits the attempts as well, the first one included.
    pub fn at_most(self, attempts: u32) -> Self {
        self.0.at_most(attempts)
    }

    /// Limits the time as well.
    pub fn within(self, elapsed: Duration) -> Self {
        self.0.within(elapsed)
    }
}

/// How much of one session is handled before its place goes to another one, on a broker that locks sessions; on a broker of lanes sessions take turns message by message anyway.
///
/// It counts while all places of a consumer are taken ([`max_concurrent_sessions`](crate::ProcessorBuilder::max_concurrent_sessions)): others may be waiting then, which no broker tells. A turn ends between
/// two messages: what was done is settled, the session is given back and goes on from there with whoever gets it next. It never ends within a message, nor while one is tried again, whose attempts
/// would be counted anew.
///
/// ```
/// use std::time::Duration;
/// use convoy_core::Turn;
///
/// let turn = Turn::messages(100).or_time(Duration::from_secs(5));
/// # let _ = turn;
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub struct Turn {
    messages: Option<u32>,
    time: Option<Duration>,
}

impl Turn {
    /// So many messages; zero is taken for one. Dead letters count.
    pub const fn messages(most: u32) -> Self {
        Self { messages: Some(if most == 0 { 1 } else { most }), time: None }
    }

    /// So long, from the start of its first message on.
    pub const fn time(longest: Duration) -> Self {
        Self { messages: None, time: Some(longest) }
    }

    /// Or so many messages, whichever is over first.
    pub const fn or_messages(self, most: u32) -> Self {
        Self { messages: Self::messages(most).messages, time: self.time }
    }

    /// Or so long, whichever is over first.
    pub const fn or_time(self, longest: Duration) -> Self {
        Self { messages: self.messages, time: Some(longest) }
    }

    pub(crate) fn is_over(self, messages: u32, time: Duration) -> bool {
        self.messages.is_some_and(|most| messages >= most) || self.time.is_some_and(|longest| time >= longest)
    }
}

/// A limit of buffered messages, in number and in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bound {
    /// Messages.
    pub messages: usize,
    /// Bytes, as [`Content::size`](crate::Content::size) counts.
    pub bytes: usize,
}

impl Bound {
    /// A bound; zero of either is taken for one.
    #[must_use]
    pub const fn new(messages: usize, bytes: usize) -> Self {
        Self { messages: if messages == 0 { 1 } else { messages }, bytes: if bytes == 0 { 1 } else { bytes } }
    }

    pub(crate) fn is_met(self, messages: usize, bytes: usize) -> bool {
        messages >= self.messages || bytes >= self.bytes
    }

    /// Whether it is low enough to go on reading: a quarter below the bound, so that reading does not flutter.
    pub(crate) fn has_room(self, messages: usize, bytes: usize) -> bool {
        messages <= self.messages - self.messages.div_ceil(4) && bytes <= self.bytes - self.bytes.div_ceil(4)
    }
}

/// How much is buffered ahead of handling. What meets a bound stops being read; nothing is reordered or dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Bounds {
    /// Of one session. On a broker of lanes a session that meets it stops its lane: set it lower than the lane's only to bound memory.
    pub session: Bound,
    /// Of one lane. A session that stands still fills it in the end; then that lane waits, the others go on.
    pub lane: Bound,
    /// Of the whole consumer. When it is met nothing is read until handlers make room.
    pub total: Bound,
}

impl Default for Bounds {
    /// 4 096 messages or 16 MiB a session and lane, 65 536 messages or 256 MiB in all.
    fn default() -> Self {
        let lane = Bound::new(4_096, 16 << 20);
        Self { session: lane, lane, total: Bound::new(65_536, 256 << 20) }
    }
}

/// What happens to a message that came without a session id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum Foreign {
    /// It goes to the dead-letter store.
    #[default]
    DeadLetter,
    /// It is handled, in a session of its own that no sender's id can equal.
    Allow,
    /// The processor drains and returns the error.
    Stop,
}

/// What happens to a message whose envelope cannot be read, or that stands in the wrong lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Defective {
    /// It goes to the dead-letter store, in its session's order.
    DeadLetter,
    /// The processor drains and returns the error.
    Stop,
    /// It is handled as if nothing were wrong.
    Allow,
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn waits_double_up_to_the_longest_and_stay_between_half_and_all() {
        let retry = Retry::exponential(10 * MS..100 * MS);
        for (failures, full) in [(1, 10), (2, 20), (3, 40), (4, 80), (5, 100), (40, 100), (u32::MAX, 100)] {
            assert_eq!(retry.wait(failures, 0), full * MS / 2);
            let most = (0..2_000_000).step_by(9_973).map(|j| retry.wait(failures, j * 1_000)).max().unwrap();
            assert!(most <= full * MS && most > full * MS * 9 / 10, "{failures}: {most:?}");
        }
    }

    #[test]
    fn a_wait_beyond_all_time_does_not_overflow() {
        for jitter in [0, 1, u64::MAX] {
            assert!(Retry::fixed(Duration::MAX).wait(1, jitter) >= Duration::MAX / 2);
            assert!(Retry::exponential(Duration::MAX..Duration::MAX).wait(u32::MAX, jitter) >= Duration::MAX / 2);
        }
    }

    #[test]
    fn a_wait_of_nothing_does_not_divide_by_zero() {
        assert!(Retry::fixed(Duration::ZERO).wait(1, 7) <= Duration::from_micros(1));
    }

    #[test]
    fn a_turn_is_over_by_whichever_limit_is_met_first() {
        let turn = Turn::messages(10).or_time(50 * MS);
        assert_eq!(turn, Turn::time(50 * MS).or_messages(10));
        assert!(turn.is_over(10, MS) && turn.is_over(1, 50 * MS) && !turn.is_over(9, 49 * MS));
        assert!(!Turn::messages(10).is_over(9, Duration::MAX) && !Turn::time(MS).is_over(u32::MAX, Duration::ZERO));
        assert_eq!(Turn::messages(0), Turn::messages(1));
    }

    #[test]
    fn reading_goes_on_a_quarter_below_the_bound() {
        let bound = Bound::new(8, 100);
        assert!(bound.is_met(8, 0) && bound.is_met(0, 100) && !bound.is_met(7, 99));
        assert!(bound.has_room(6, 75) && !bound.has_room(7, 0) && !bound.has_room(0, 76));
        assert!(Bound::new(0, 0).is_met(1, 0) && Bound::new(0, 0).has_room(0, 0));
    }
}
