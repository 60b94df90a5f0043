//! What is complete above a watermark, and how often what is not was handed over.

use std::collections::VecDeque;

/// The positions that are complete at or above a watermark: a bitmap of the window.
#[derive(Clone, Debug, Default)]
pub(crate) struct Done {
    /// Number of the first word: it holds the positions from `first * 64` on.
    first: u64,
    words: VecDeque<u64>,
    count: u64,
}

impl Done {
    pub(crate) fn is_empty(&self) -> bool {
        self.count == 0
    }

    pub(crate) fn contains(&self, position: u64) -> bool {
        let Some(at) = (position / 64).checked_sub(self.first) else { return false };
        usize::try_from(at).ok().and_then(|at| self.words.get(at)).is_some_and(|word| word & bit(position) != 0)
    }

    /// Adds a position; `false` when it was there. The caller bounds how far above the rest it lies.
    pub(crate) fn insert(&mut self, position: u64) -> bool {
        let word = position / 64;
        if self.words.is_empty() {
            self.first = word;
        }
        while word < self.first {
            self.words.push_front(0);
            self.first -= 1;
        }
        let at = (word - self.first) as usize;
        if at >= self.words.len() {
            self.words.resize(at + 1, 0);
        }
        let new = self.words[at] & bit(position) == 0;
        self.words[at] |= bit(position);
        self.count += u64::from(new);
        new
    }

    /// Forgets everything below `watermark` and says how many that were.
    pub(crate) fn forget_below(&mut self, watermark: u64) -> u64 {
        let mut gone = 0;
        while self.first < watermark / 64 {
            let Some(word) = self.words.pop_front() else { break };
            gone += u64::from(word.count_ones());
            self.first += 1;
        }
        if self.first == watermark / 64
            && let Some(word) = self.words.front_mut()
        {
            let below = bit(watermark) - 1;
            gone += u64::from((*word & below).count_ones());
            *word &= !below;
        }
        self.count -= gone;
        if self.count == 0 {
            self.words = VecDeque::new();
        }
        gone
    }

    /// The first position at or above `from` that is not complete.
    pub(crate) fn first_open(&self, from: u64) -> u64 {
        let mut at = from;
        while self.contains(at) {
            at += 1;
        }
        at
    }
}

fn bit(position: u64) -> u64 {
    1 << (position % 64)
}

/// How often unsettled messages were handed over before: for each earlier grant, how far it got. Every grant delivers from the first
/// unsettled message on without a gap, so that its end says it all.
#[allow(clippy::box_collection, reason = "almost always none, and one a session: a word, not three")]
#[derive(Clone, Debug, Default)]
pub(crate) struct HandOvers(Option<Box<Vec<(u64, u32)>>>);

impl HandOvers {
    /// A grant ended that had delivered everything unsettled below `end`; everything below `settled` is settled.
    pub(crate) fn record(&mut self, end: u64, settled: u64) {
        if end <= settled {
            return;
        }
        let ends = self.0.get_or_insert_default();
        match ends.iter_mut().find(|(e, _)| *e == end) {
            Some((_, times)) => *times = times.saturating_add(1),
            None => ends.push((end, 1)),
        }
    }

    /// Everything below `settled` is settled.
    pub(crate) fn forget_below(&mut self, settled: u64) {
        let Some(ends) = &mut self.0 else { return };
        ends.retain(|(end, _)| *end > settled);
        if ends.is_empty() {
            self.0 = None;
        }
    }

    /// The number of the hand-over that comes now; the first is 1.
    pub(crate) fn next(&self, position: u64) -> u32 {
        let Some(ends) = &self.0 else { return 1 };
        ends.iter().filter(|(end, _)| *end > position).fold(1, |sum, (_, times)| sum.saturating_add(*times))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_moves_and_counts() {
        let mut done = Done::default();
        for p in [70, 5, 64, 63, 200] {
            assert!(done.insert(p));
        }
        assert!(!done.insert(64));
        assert!(
            done.contains(5) && done.contains(200) && !done.contains(6) && !done.contains(0) && !done.contains(9999)
        );
        assert_eq!(done.first_open(63), 65);
        assert_eq!(done.forget_below(64), 2);
        assert_eq!(done.forget_below(65), 1);
        assert!(!done.contains(63) && done.contains(70));
        assert_eq!(done.forget_below(1_000_000), 2);
        assert!(done.is_empty());
        assert!(done.insert(3) && done.contains(3));
    }

    #[test]
    fn hand_overs_are_counted_for_each_message() {
        let mut counts = HandOvers::default();
        assert_eq!(counts.next(7), 1);
        counts.record(10, 5);
        counts.record(8, 5);
        counts.record(10, 5);
        assert_eq!((counts.next(7), counts.next(8), counts.next(9), counts.next(10)), (4, 3, 3, 1));
        counts.forget_below(8);
        assert_eq!(counts.next(8), 3);
        counts.forget_below(10);
        assert!(counts.0.is_none());
        counts.record(10, 10);
        assert!(counts.0.is_none(), "nothing of it was left unsettled");
    }
}
