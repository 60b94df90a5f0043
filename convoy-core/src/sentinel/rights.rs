//! Rights told apart over consumers that come one after the other: each of them numbers its own from the beginning.

use crate::backend::Grant;

/// A right of one consumer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Right {
    pub(super) grant: Grant,
    /// Of the how manieth consumer it is.
    pub(super) consumer: u64,
}

/// Which numbers were given lately, so that one that comes again is known to be of another consumer. A consumer gives each once, and its shards tell of them nearly in order.
#[derive(Debug, Default)]
pub(super) struct Rights {
    highest: u64,
    /// The one this far below the highest was given.
    given: u64,
    consumer: u64,
}

impl Rights {
    /// A right was given. Of the how manieth consumer it is.
    pub(super) fn granted(&mut self, grant: Grant) -> u64 {
        let epoch = grant.epoch();
        if epoch > self.highest {
            let by = u32::try_from(epoch - self.highest).unwrap_or(u32::MAX);
            self.given = self.given.checked_shl(by).unwrap_or(0) | 1;
            self.highest = epoch;
            return self.consumer;
        }
        let bit = u32::try_from(self.highest - epoch).ok().and_then(|behind| 1_u64.checked_shl(behind));
        match bit.filter(|bit| self.given & bit == 0) {
            Some(bit) => self.given |= bit,
            None => *self = Self { highest: epoch, given: 1, consumer: self.consumer.wrapping_add(1) },
        }
        self.consumer
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::Place;

    fn consumers(epochs: &[u64]) -> Vec<u64> {
        let mut rights = Rights::default();
        epochs.iter().map(|epoch| rights.granted(Grant::new(*epoch, &Place::Lane(0)))).collect()
    }

    #[test]
    fn numbers_that_begin_again_are_of_another_consumer() {
        assert_eq!(consumers(&[1, 2, 3, 1, 2, 3, 4, 1]), [0, 0, 0, 1, 1, 1, 1, 2]);
        assert_eq!(consumers(&[1, 1]), [0, 1]);
        assert_eq!(consumers(&[1_000, 1]), [0, 1], "far behind what it gives now");
        assert_eq!(consumers(&[u64::MAX, 0, 1]), [0, 1, 1]);
    }

    #[test]
    fn shards_that_tell_in_another_order_are_of_one() {
        assert_eq!(consumers(&[2, 1, 4, 3, 9, 5, 8, 7, 6, 73, 10]), [0; 11]);
        assert_eq!(consumers(&[2, 1, 2]), [0, 0, 1]);
    }
}
