//! The pinned hash of session ids on brokers of lanes: murmur2 as the Kafka clients of the JVM have it, so that their producers agree with it.

const SEED: u32 = 0x9747_b28c;
const M: u32 = 0x5bd1_e995;

/// 32-bit murmur2 of these bytes, without the sign bit: what JVM producers take modulo the number of partitions.
pub(crate) fn murmur2(bytes: &[u8]) -> u32 {
    let mut hash = SEED ^ (bytes.len() as u32);
    let mut chunks = bytes.chunks_exact(4);
    for chunk in &mut chunks {
        let mut k = chunk.iter().rev().fold(0u32, |k, byte| (k << 8) | u32::from(*byte));
        k = k.wrapping_mul(M);
        k ^= k >> 24;
        hash = hash.wrapping_mul(M) ^ k.wrapping_mul(M);
    }
    let rest = chunks.remainder();
    if !rest.is_empty() {
        hash ^= rest.iter().rev().fold(0u32, |k, byte| (k << 8) | u32::from(*byte));
        hash = hash.wrapping_mul(M);
    }
    hash ^= hash >> 13;
    hash = hash.wrapping_mul(M);
    (hash ^ (hash >> 15)) & 0x7fff_ffff
}

#[cfg(test)]
mod tests {
    use super::murmur2;

    /// Vectors of Apache Kafka's own unit test of its default partitioner, as signed numbers there.
    #[test]
    fn it_is_what_the_jvm_clients_have() {
        for (bytes, hash) in [
            ("21", -973_932_308_i32),
            ("foobar", -790_332_482),
            ("a-little-bit-long-string", -985_981_536),
            ("a-little-bit-longer-string", -1_486_304_829),
            ("lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58_897_971),
            ("abc", 479_470_107),
        ] {
            assert_eq!(murmur2(bytes.as_bytes()), hash as u32 & 0x7fff_ffff, "{bytes}");
        }
    }

    /// Partitions of eight that a broker's own client put them into.
    #[test]
    fn partitions_of_eight() {
        for (bytes, partition) in
            [("foobar", 6), ("21", 4), ("a-little-bit-long-string", 0), ("a-little-bit-longer-string", 3)]
        {
            assert_eq!(murmur2(bytes.as_bytes()) % 8, partition, "{bytes}");
        }
    }
}
