//! Percentiles in constant memory, exact to about 6 %.

const SUB: u32 = 4; // 16 buckets a power of two
const BUCKETS: usize = 64 << SUB;

#[derive(Clone, Debug)]
pub(super) struct Histogram {
    counts: Vec<u32>,
    total: u64,
    max: u64,
}

impl Histogram {
    pub(super) const fn new() -> Self {
        Self { counts: Vec::new(), total: 0, max: 0 }
    }

    pub(super) fn clear(&mut self) {
        if self.total > 0 {
            self.counts.fill(0);
            (self.total, self.max) = (0, 0);
        }
    }

    pub(super) fn add(&mut self, value: u64) {
        if self.counts.is_empty() {
            self.counts.resize(BUCKETS, 0);
        }
        if let Some(count) = self.counts.get_mut(bucket(value)) {
            *count = count.saturating_add(1);
        }
        self.total += 1;
        self.max = self.max.max(value);
    }

    /// The value that `share` of the samples do not exceed; never more than the greatest.
    pub(super) fn percentile(&self, share: f64) -> Option<u64> {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss)]
        let rank = (self.total as f64 * share).ceil().max(1.0) as u64;
        let mut seen = 0;
        let at = self.counts.iter().position(|count| {
            seen += u64::from(*count);
            seen >= rank
        })?;
        Some(upper(at).min(self.max))
    }

    pub(super) const fn max(&self) -> u64 {
        self.max
    }
}

const fn bucket(value: u64) -> usize {
    let log = (value | 1).ilog2();
    if log <= SUB { value as usize } else { (((log - SUB) << SUB) as u64 + (value >> (log - SUB))) as usize }
}

const fn upper(bucket: usize) -> u64 {
    let (shift, sub) = ((bucket >> SUB) as u32, (bucket & ((1 << SUB) - 1)) as u64);
    if shift <= 1 {
        return bucket as u64;
    }
    // The largest value of the bucket; the topmost would leave 64 bits.
    let low = (sub | 1 << SUB) << (shift - 1);
    low.saturating_add((1 << (shift - 1)) - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_value_lies_in_its_bucket() {
        for value in (0..5000).chain((0..64).map(|bit| 1 << bit)).chain([u64::MAX]) {
            let at = bucket(value);
            assert!(upper(at) >= value, "{value} above bucket {at}");
            assert!(at == 0 || upper(at - 1) < value, "{value} below bucket {at}");
        }
    }
}
