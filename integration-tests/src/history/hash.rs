//! Stable 64-bit hashes: the same in every process, build and version.

const OFFSET: u64 = 0xcbf2_9ce4_8422_2325;
const PRIME: u64 = 0x0000_0100_0000_01b3;

/// The number by which the history names a session: a stable hash of the id's bytes.
pub fn session_hash(id: &[u8]) -> u64 {
    finish(feed(OFFSET, id))
}

/// The hash of a body and its headers, in any order of the headers.
pub fn body_hash<'a>(body: &[u8], headers: impl IntoIterator<Item = (&'a [u8], &'a [u8])>) -> u64 {
    // A sum, since brokers keep headers in a map and give them back in another order.
    headers.into_iter().fold(finish(feed(OFFSET, body)), |sum, (name, value)| {
        let name = feed(feed(OFFSET, &(name.len() as u64).to_le_bytes()), name);
        sum.wrapping_add(finish(feed(name, value)))
    })
}

fn feed(state: u64, bytes: &[u8]) -> u64 {
    bytes.iter().fold(state, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(PRIME))
}

/// FNV-1a leaves its high bits poor; murmur's finalizer spreads them.
fn finish(mut hash: u64) -> u64 {
    hash = (hash ^ (hash >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    hash = (hash ^ (hash >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    hash ^ (hash >> 33)
}
