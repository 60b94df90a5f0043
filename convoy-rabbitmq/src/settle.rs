//! Which acknowledgements say what is done.

use std::collections::BTreeSet;

use convoy_core::backend::{Above, Progress};

/// One acknowledgement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ack {
    /// The delivery tag.
    pub(crate) tag: u64,
    /// Whether everything before it on its AMQP channel is meant too.
    pub(crate) multiple: bool,
}

/// What was acknowledged on one AMQP channel. A lane has a channel of its own, which is what makes "everything before it" mean this lane.
#[derive(Debug, Default)]
pub(crate) struct Acks {
    /// Everything below is acknowledged.
    below: u64,
    /// What is acknowledged at or above, one by one.
    single: BTreeSet<u64>,
}

impl Acks {
    /// Acknowledges one that is no message for anybody.
    pub(crate) fn alone(&mut self, tag: u64, into: &mut Vec<Ack>) {
        if tag >= self.below && self.single.insert(tag) {
            into.push(Ack { tag, multiple: false });
        }
    }

    /// What to acknowledge for this progress. The broker closes the channel on a tag that it does not know any more, so none is named twice.
    pub(crate) fn plan(&mut self, progress: &Progress, into: &mut Vec<Ack>) {
        if progress.watermark > self.below {
            let last = (self.below..progress.watermark).rev().find(|tag| *tag > 0 && !self.single.contains(tag));
            into.extend(last.map(|tag| Ack { tag, multiple: true }));
            self.below = progress.watermark;
            self.single = self.single.split_off(&self.below);
        }
        if let Above::Done(done) = &progress.above {
            for tag in done.iter().copied().filter(|tag| *tag >= self.below) {
                if self.single.insert(tag) {
                    into.push(Ack { tag, multiple: false });
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn planned(acks: &mut Acks, watermark: u64, done: &[u64]) -> Vec<(u64, bool)> {
        let mut into = Vec::new();
        let progress = Progress { watermark, end: 1_000, above: Above::Done(done.to_vec()) };
        acks.plan(&progress, &mut into);
        into.iter().map(|ack| (ack.tag, ack.multiple)).collect()
    }

    #[test]
    fn up_to_the_watermark_at_once_and_above_it_one_by_one() {
        let mut acks = Acks::default();
        assert_eq!(planned(&mut acks, 4, &[6, 7]), [(3, true), (6, false), (7, false)]);
        assert_eq!(planned(&mut acks, 4, &[9]), [(9, false)]);
        assert_eq!(planned(&mut acks, 6, &[]), [(5, true)]);
    }

    #[test]
    fn no_tag_is_named_twice() {
        let mut acks = Acks::default();
        assert_eq!(planned(&mut acks, 1, &[2, 3]), [(2, false), (3, false)]);
        assert_eq!(planned(&mut acks, 4, &[]), [(1, true)], "2 and 3 are known no more");
        assert_eq!(planned(&mut acks, 4, &[5]), [(5, false)]);
        assert_eq!(planned(&mut acks, 5, &[]), [(4, true)]);
        assert_eq!(planned(&mut acks, 6, &[]), [], "5 is acknowledged");
        assert_eq!(planned(&mut acks, 6, &[3]), [], "it was");
    }

    /// As the broker keeps its books: a tag must be outstanding when it is named.
    #[test]
    fn the_broker_knows_every_tag() {
        for seed in 0..200 {
            let mut random = fastrand::Rng::with_seed(seed);
            let (mut acks, mut outstanding): (Acks, BTreeSet<u64>) = (Acks::default(), (1..=300).collect());
            let (mut done, mut told): (BTreeSet<u64>, BTreeSet<u64>) = Default::default();
            for _ in 0..60 {
                for _ in 0..random.u64(1..8) {
                    done.insert(random.u64(1..=300));
                }
                let watermark = (1..=301).find(|tag| !done.contains(tag)).unwrap();
                let new: Vec<u64> =
                    done.iter().copied().filter(|tag| *tag >= watermark && !told.contains(tag)).collect();
                told.extend(&done);
                let mut into = Vec::new();
                acks.plan(&Progress { watermark, end: 301, above: Above::Done(new) }, &mut into);
                for ack in into {
                    assert!(outstanding.contains(&ack.tag), "seed {seed}: {ack:?}");
                    outstanding.retain(|tag| if ack.multiple { *tag > ack.tag } else { *tag != ack.tag });
                }
                assert_eq!(outstanding, (1..=300).filter(|tag| !done.contains(tag)).collect(), "seed {seed}");
            }
        }
    }
}
