//! Which partition a key belongs to, and by which hash foreign producers place theirs.

use convoy_core::option::invalid;
use convoy_core::{Result, SessionId};

/// By which hash the records of a channel are placed.
///
/// convoy's own producers always use murmur2, as the clients of the JVM do. Those built on librdkafka (C, Python, Go, .NET, and this one) use CRC-32 unless their
/// `partitioner` is set to `murmur2_random`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Hashing {
    /// The first keyed records of a lane tell which of the two it is; what contradicts them afterwards is misrouted.
    #[default]
    Auto,
    /// murmur2, as the clients of the JVM have it.
    Murmur2,
    /// CRC-32, as clients built on librdkafka have it by default. Nothing of convoy's may write to such a channel.
    Crc32,
    /// It is not looked at. A session that two hashes put into two lanes loses its order, unseen.
    Unchecked,
}

impl Hashing {
    pub(crate) fn read(name: &str, value: &str) -> Result<Self> {
        Ok(match value {
            "auto" => Self::Auto,
            "murmur2" => Self::Murmur2,
            "crc32" => Self::Crc32,
            "unchecked" => Self::Unchecked,
            _ => return Err(invalid(name, format!("`{name}` is `auto`, `murmur2`, `crc32` or `unchecked`"))),
        })
    }
}

/// What is known of the hash of one lane's records.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Placement {
    lane: u32,
    lanes: u32,
    murmur2: bool,
    crc32: bool,
    checked: bool,
}

impl Placement {
    pub(crate) fn new(hashing: Hashing, lane: u32, lanes: u32) -> Self {
        let (murmur2, crc32) = (hashing != Hashing::Crc32, hashing != Hashing::Murmur2);
        Self { lane, lanes: lanes.max(1), murmur2, crc32, checked: hashing != Hashing::Unchecked }
    }

    /// Whether a record of this session may stand here.
    pub(crate) fn fits(&mut self, session: &SessionId) -> bool {
        if !self.checked {
            return true;
        }
        let murmur2 = self.murmur2 && lane(session, self.lanes) == self.lane;
        // As long as everything is where murmur2 puts it, the other one is computed only to be ruled out.
        let crc32 = self.crc32 && crc32(session.as_bytes()) % self.lanes == self.lane;
        if !murmur2 && !crc32 {
            return false;
        }
        (self.murmur2, self.crc32) = (murmur2, crc32);
        true
    }
}

/// The lane of a session, where convoy's producers put it.
pub(crate) fn lane(session: &SessionId, lanes: u32) -> u32 {
    session.lane_hash() % lanes.max(1)
}

/// CRC-32 as zlib has it.
pub(crate) fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0u32, |crc, byte| {
        let at = usize::from((crc as u8) ^ byte);
        TABLE.get(at).copied().unwrap_or_default() ^ (crc >> 8)
    })
}

const TABLE: [u32; 256] = table();

const fn table() -> [u32; 256] {
    let mut table = [0u32; 256];
    let mut at = 0;
    while at < 256 {
        let (mut crc, mut bit) = (at as u32, 0);
        while bit < 8 {
            crc = if crc & 1 == 1 { 0xedb8_8320 ^ (crc >> 1) } else { crc >> 1 };
            bit += 1;
        }
        table[at] = crc;
        at += 1;
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(text: &str) -> SessionId {
        SessionId::new(text.to_owned()).unwrap()
    }

    #[test]
    fn crc32_is_that_of_zlib() {
        for (text, crc) in
            [("", 0), ("123456789", 0xcbf4_3926), ("The quick brown fox jumps over the lazy dog", 0x414f_a339)]
        {
            assert_eq!(crc32(text.as_bytes()), crc, "{text}");
        }
    }

    #[test]
    fn lanes_are_those_of_the_jvm_clients() {
        for (text, of_eight) in
            [("foobar", 6), ("21", 4), ("a-little-bit-long-string", 0), ("a-little-bit-longer-string", 3)]
        {
            assert_eq!(lane(&id(text), 8), of_eight, "{text}");
        }
    }

    #[test]
    fn the_first_records_tell_the_hash_and_others_contradict_it() {
        let session = |wanted: fn(u32, u32) -> bool| {
            (0..10_000).map(|n| id(&format!("s{n}"))).find(|s| wanted(lane(s, 8), crc32(s.as_bytes()) % 8)).unwrap()
        };
        let both = session(|murmur2, crc32| murmur2 == 3 && crc32 == 3);
        let murmur2 = session(|murmur2, crc32| murmur2 == 3 && crc32 != 3);
        let crc32 = session(|murmur2, crc32| murmur2 != 3 && crc32 == 3);
        let neither = session(|murmur2, crc32| murmur2 != 3 && crc32 != 3);
        for (hashing, fit) in [
            (Hashing::Auto, [true, true, false, false]),
            (Hashing::Murmur2, [true, true, false, false]),
            (Hashing::Crc32, [true, false, true, false]),
            (Hashing::Unchecked, [true, true, true, true]),
        ] {
            let mut placement = Placement::new(hashing, 3, 8);
            let fits = [&both, &murmur2, &crc32, &neither].map(|session| placement.fits(session));
            assert_eq!(fits, fit, "{hashing:?}");
        }
        let mut placement = Placement::new(Hashing::Auto, 3, 8);
        assert!(placement.fits(&both) && placement.fits(&crc32) && !placement.fits(&murmur2) && placement.fits(&crc32));
        let mut placement = Placement::new(Hashing::Auto, 3, 8);
        assert!(!placement.fits(&neither) && placement.fits(&murmur2), "what fits neither tells nothing");
    }
}
