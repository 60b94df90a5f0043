//! When a byte may go on, and with how many others.

use std::time::Duration;

use tokio::time::Instant;

use super::settings::OneWay;

/// The timers are coarse (1 ms): so much of what a late one missed is made up for.
const BURST: Duration = Duration::from_millis(20);
/// A second has so many pieces at a limited rate.
const PIECES: u64 = 100;

/// When what was read is due at the other end.
#[derive(Debug)]
pub(super) struct Delay {
    chance: fastrand::Rng,
    last: Instant,
}

impl Delay {
    pub(super) fn new(chance: fastrand::Rng, now: Instant) -> Self {
        Self { chance, last: now }
    }

    /// For what was read now: never before what was read earlier.
    pub(super) fn due(&mut self, now: Instant, way: &OneWay) -> Instant {
        let spread = u64::try_from(way.jitter.as_nanos()).unwrap_or(u64::MAX / 2).min(u64::MAX / 2);
        let drawn = if spread == 0 { 0 } else { self.chance.u64(0..=2 * spread) };
        let delay = way.delay.saturating_add(Duration::from_nanos(drawn)).saturating_sub(way.jitter);
        let due = now.checked_add(delay).unwrap_or(now);
        self.last = self.last.max(due);
        self.last
    }
}

/// When the next piece may go at a limited rate.
#[derive(Debug)]
pub(super) struct Rate {
    free: Instant,
}

impl Rate {
    pub(super) const fn new(now: Instant) -> Self {
        Self { free: now }
    }

    /// The next may go then; `None` for no limit.
    pub(super) fn next(&self, rate: u64) -> Option<Instant> {
        (rate > 0).then_some(self.free)
    }

    pub(super) fn spend(&mut self, bytes: usize, rate: u64, now: Instant) {
        if rate > 0 {
            let begun = self.free.max(now.checked_sub(BURST).unwrap_or(now));
            let takes = Duration::try_from_secs_f64(bytes as f64 / rate as f64).unwrap_or(Duration::MAX);
            self.free = begun.checked_add(takes).unwrap_or(begun);
        }
    }

    /// The largest piece, so that a rate is even and not one gulp a second.
    pub(super) fn most(rate: u64) -> usize {
        match rate {
            0 => usize::MAX,
            _ => usize::try_from(rate / PIECES).unwrap_or(usize::MAX).max(1),
        }
    }
}

/// Where the stream is cut into pieces: places in the stream, whatever the reads were.
#[derive(Debug)]
pub(super) struct Slices {
    chance: fastrand::Rng,
    left: usize,
}

impl Slices {
    pub(super) const fn new(chance: fastrand::Rng) -> Self {
        Self { chance, left: 0 }
    }

    /// How much is left of the piece.
    pub(super) fn most(&mut self, max: usize) -> usize {
        if max == 0 {
            return usize::MAX;
        }
        if self.left == 0 || self.left > max {
            self.left = self.chance.usize(1..=max);
        }
        self.left
    }

    pub(super) fn spend(&mut self, bytes: usize) {
        self.left = self.left.saturating_sub(bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The places of the cuts in a stream that is read in chunks of this size.
    fn cuts(seed: u64, chunk: usize) -> Vec<usize> {
        let mut slices = Slices::new(fastrand::Rng::with_seed(seed));
        let (mut at, mut cuts) = (0, Vec::new());
        while at < 4096 {
            let most = slices.most(100);
            assert!((1..=100).contains(&most));
            let wrote = most.min(chunk - at % chunk);
            slices.spend(wrote);
            at += wrote;
            if wrote == most {
                cuts.push(at);
            }
        }
        cuts
    }

    #[test]
    fn the_same_seed_cuts_at_the_same_places_whatever_the_reads_were() {
        assert_eq!(cuts(7, 4096), cuts(7, 4096));
        assert_eq!(cuts(7, 4096), cuts(7, 64));
        assert_ne!(cuts(7, 4096), cuts(8, 4096));
    }

    #[test]
    fn jitter_does_not_reorder_and_keeps_its_bounds() {
        let start = Instant::now();
        let way = OneWay { delay: Duration::from_millis(50), jitter: Duration::from_millis(40), ..OneWay::default() };
        let mut delay = Delay::new(fastrand::Rng::with_seed(1), start);
        let mut last = start;
        for step in 0..1000 {
            let now = start + Duration::from_millis(step);
            let due = delay.due(now, &way);
            assert!(due >= last && due >= now + Duration::from_millis(10));
            assert!(due <= now + Duration::from_millis(90));
            last = due;
        }
    }

    #[test]
    fn extremes_do_not_panic() {
        let now = Instant::now();
        let way = OneWay { delay: Duration::MAX, jitter: Duration::MAX, ..OneWay::default() };
        Delay::new(fastrand::Rng::with_seed(1), now).due(now, &way);
        let mut rate = Rate::new(now);
        rate.spend(usize::MAX, 1, now);
        rate.spend(usize::MAX, 1, now);
        assert_eq!(Rate::most(u64::MAX).max(1), Rate::most(u64::MAX));
        assert_eq!((Rate::most(0), Rate::most(1)), (usize::MAX, 1));
    }
}
