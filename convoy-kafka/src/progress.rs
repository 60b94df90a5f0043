//! What a commit holds: the watermark as its offset, and what is done above it as its metadata.
//!
//! What is done of a session is a prefix of it. So what is done above the watermark is told by an end and by the sessions that have something open below it, each with its first open
//! offset: everything below the end is done unless its session is listed with an offset at or below it. That takes room for what is stuck, and none for what is done, however far one stuck
//! session lags behind.
//!
//! A broker takes metadata of 4096 UTF-16 units by default. They are used: the text is `cv1` and then 15 bits a character, from U+0800 on, where each character is one such unit. The bits are
//!
//! | part | what |
//! |---|---|
//! | 2 bytes | the length of the body |
//! | body | the number of partitions, the end less the watermark, how many sessions are listed, and of each its 64-bit hash and its first open offset less the watermark; numbers as LEB128 |
//! | 4 bytes | CRC-32 of the body |
//!
//! Two sessions of one hash are one to it, with the lower of their offsets. Metadata of somebody else is no error: nothing above the watermark is known to be done then.

use std::collections::BTreeMap;

use convoy_core::SessionId;
use convoy_core::backend::{Above, Progress};

use crate::hashing::crc32;

/// What a broker takes by default, in UTF-16 units.
pub(crate) const METADATA_UNITS: usize = 4096;

/// So many sessions can be listed, however large their offsets: 8 bytes of hash, and 5 of an offset that is less than 2^35 above the watermark.
pub(crate) const MOST_SESSIONS: u32 = 580;

const MAGIC: &str = "cv1";
const BITS: u32 = 15;
const FIRST: u32 = 0x800;

/// What is done of a lane.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Done {
    /// Everything below is done.
    pub(crate) watermark: u64,
    /// Nothing from here on is known to be done.
    pub(crate) end: u64,
    /// By the hash of a session, its first offset below the end that is not done.
    pub(crate) open: BTreeMap<u64, u64>,
}

/// What metadata says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Read {
    /// It was written here, when the channel had so many partitions.
    Ours(Done, u32),
    /// There is none.
    Nothing,
    /// Somebody else's, or damaged.
    Foreign,
}

/// It does not fit into what the broker takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TooLarge {
    /// What it takes, in UTF-16 units.
    pub(crate) units: usize,
}

impl Done {
    /// Everything below, and nothing else.
    pub(crate) fn below(watermark: u64) -> Self {
        Self { watermark, end: watermark, open: BTreeMap::new() }
    }

    /// What the engine says is done.
    pub(crate) fn of(progress: &Progress) -> Self {
        let Progress { watermark, end, above } = progress;
        match above {
            Above::Open(sessions) => {
                let mut it = Self { watermark: *watermark, end: (*end).max(*watermark), open: BTreeMap::new() };
                sessions.iter().for_each(|(session, first)| it.opens(session.stable_hash(), *first));
                it
            }
            _ => Self::below(*watermark),
        }
    }

    fn opens(&mut self, session: u64, first: u64) {
        let at = self.open.entry(session).or_insert(first);
        *at = first.min(*at);
    }

    /// Whether this message is known to be done.
    pub(crate) fn has(&self, session: &SessionId, position: u64) -> bool {
        position < self.watermark
            || (position < self.end && self.open.get(&session.stable_hash()).is_none_or(|first| position < *first))
    }

    /// What is done when this is known of what came so far, and the one before it of what comes behind that: its holder has not seen it yet.
    pub(crate) fn with_what_was_known(mut self, before: &Self) -> Self {
        if before.end <= self.end {
            return self;
        }
        for (session, first) in &before.open {
            // It had something open, and what of that came so far is done: from here on nothing is known to be.
            self.open.entry(*session).or_insert((*first).max(self.end));
        }
        self.end = before.end;
        self
    }

    /// As metadata that is not longer than so many UTF-16 units.
    pub(crate) fn write(&self, partitions: u32, most: usize) -> Result<String, TooLarge> {
        let mut body = Vec::with_capacity(16 + self.open.len() * 13);
        number(&mut body, u64::from(partitions));
        number(&mut body, self.end.saturating_sub(self.watermark));
        number(&mut body, self.open.len() as u64);
        for (session, first) in &self.open {
            body.extend_from_slice(&session.to_le_bytes());
            number(&mut body, first.saturating_sub(self.watermark));
        }
        let units = MAGIC.len() + ((body.len() + 6) * 8).div_ceil(BITS as usize);
        let length = u16::try_from(body.len()).map_err(|_| TooLarge { units })?;
        if units > most {
            return Err(TooLarge { units });
        }
        let mut bytes = Vec::with_capacity(body.len() + 6);
        bytes.extend_from_slice(&length.to_le_bytes());
        bytes.extend_from_slice(&body);
        bytes.extend_from_slice(&crc32(&body).to_le_bytes());
        Ok(text(&bytes))
    }

    /// What the metadata of a commit of this offset says.
    pub(crate) fn read(watermark: u64, metadata: &str) -> Read {
        if metadata.is_empty() {
            return Read::Nothing;
        }
        let read = bytes(metadata).and_then(|bytes| Self::read_bytes(watermark, &bytes));
        read.map_or(Read::Foreign, |(done, partitions)| Read::Ours(done, partitions))
    }

    fn read_bytes(watermark: u64, bytes: &[u8]) -> Option<(Self, u32)> {
        let (length, rest) = bytes.split_first_chunk::<2>()?;
        let length = usize::from(u16::from_le_bytes(*length));
        let (mut body, rest) = rest.split_at_checked(length)?;
        let (sum, padding) = rest.split_first_chunk::<4>()?;
        // The last character may bring a byte more than there was.
        if crc32(body) != u32::from_le_bytes(*sum) || padding.len() > 1 || padding.iter().any(|byte| *byte != 0) {
            return None;
        }
        let partitions = u32::try_from(take(&mut body)?).ok()?;
        let end = watermark.checked_add(take(&mut body)?)?;
        let sessions = take(&mut body)?;
        let mut it = Self { watermark, end, open: BTreeMap::new() };
        for _ in 0..sessions {
            let (session, rest) = body.split_first_chunk::<8>()?;
            body = rest;
            let first = watermark.checked_add(take(&mut body)?)?;
            let is_new = it.open.insert(u64::from_le_bytes(*session), first).is_none();
            if first >= end || !is_new {
                return None;
            }
        }
        body.is_empty().then_some((it, partitions))
    }
}

fn number(into: &mut Vec<u8>, mut n: u64) {
    while n >= 0x80 {
        into.push((n as u8) | 0x80);
        n >>= 7;
    }
    into.push(n as u8);
}

fn take(from: &mut &[u8]) -> Option<u64> {
    let mut n = 0u64;
    for at in 0..10u32 {
        let (byte, rest) = from.split_first()?;
        *from = rest;
        let bits = u64::from(byte & 0x7f);
        if at == 9 && bits > 1 {
            return None;
        }
        n |= bits << (7 * at);
        if byte & 0x80 == 0 {
            return Some(n);
        }
    }
    None
}

fn text(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(MAGIC.len() + bytes.len() * 2);
    text.push_str(MAGIC);
    let (mut held, mut many) = (0u32, 0u32);
    for byte in bytes {
        held = (held << 8) | u32::from(*byte);
        many += 8;
        if many >= BITS {
            many -= BITS;
            text.extend(char::from_u32(FIRST + (held >> many)));
            held &= (1 << many) - 1;
        }
    }
    if many > 0 {
        text.extend(char::from_u32(FIRST + (held << (BITS - many))));
    }
    text
}

fn bytes(text: &str) -> Option<Vec<u8>> {
    let text = text.strip_prefix(MAGIC)?;
    let mut bytes = Vec::with_capacity(text.len());
    let (mut held, mut many) = (0u32, 0u32);
    for character in text.chars() {
        let bits = u32::from(character).checked_sub(FIRST).filter(|bits| *bits < 1 << BITS)?;
        held = (held << BITS) | bits;
        many += BITS;
        while many >= 8 {
            many -= 8;
            bytes.push((held >> many) as u8);
            held &= (1 << many) - 1;
        }
    }
    (held == 0).then_some(bytes)
}

#[cfg(test)]
mod tests {
    use proptest::collection::{btree_map, vec};
    use proptest::prelude::*;

    use super::*;

    fn id(n: usize) -> SessionId {
        SessionId::new(format!("s{n}")).unwrap()
    }

    fn done() -> impl Strategy<Value = Done> {
        (any::<u32>(), btree_map(any::<u64>(), 0..1u64 << 34, 0..300), 0..1u64 << 20).prop_map(|(at, open, more)| {
            let watermark = u64::from(at);
            let open: BTreeMap<u64, u64> = open.into_iter().map(|(s, first)| (s, watermark + first)).collect();
            let end = open.values().max().map_or(watermark, |last| last + 1) + more;
            Done { watermark, end, open }
        })
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(done in done(), partitions in any::<u32>()) {
            let written = done.write(partitions, METADATA_UNITS).unwrap();
            prop_assert!(written.encode_utf16().count() <= METADATA_UNITS);
            prop_assert_eq!(Done::read(done.watermark, &written), Read::Ours(done, partitions));
        }

        #[test]
        fn garbage_is_foreign(garbage in any::<String>(), at in any::<u64>()) {
            let read = Done::read(at, &garbage);
            prop_assert_eq!(read, if garbage.is_empty() { Read::Nothing } else { Read::Foreign });
            let ours = format!("{MAGIC}{}", garbage.chars().filter(|c| (0x800..0x8800).contains(&u32::from(*c))).collect::<String>());
            prop_assert_eq!(Done::read(at, &ours), Read::Foreign);
        }

        #[test]
        fn what_was_changed_on_the_way_is_foreign(done in done(), at in any::<prop::sample::Index>(), to in 0..1u32 << 15) {
            let written = done.write(8, METADATA_UNITS).unwrap();
            let mut changed: Vec<char> = written.chars().collect();
            let at = MAGIC.len() + at.index(changed.len() - MAGIC.len());
            changed[at] = char::from_u32(FIRST + to).unwrap();
            let changed: String = changed.into_iter().collect();
            let read = Done::read(done.watermark, &changed);
            prop_assert!(changed == written || read == Read::Foreign, "{:?}", read);
            let cut: String = written.chars().take(at).collect();
            prop_assert_eq!(Done::read(done.watermark, &cut), Read::Foreign);
        }

        /// Two holders of a lane, one after the other: what the second one tells, before it has seen all that the first one knew, is exactly what both did.
        #[test]
        fn what_was_known_before_is_not_forgotten(
            log in vec(0..12usize, 1..200),
            prefixes in vec(0..30usize, 12),
            more in vec(0..5usize, 12),
            (first_end, seen) in (0..200usize, 0..200usize),
        ) {
            let model = Model { log };
            let first_end = first_end.min(model.log.len()) as u64;
            let before = model.told(&prefixes, 0, first_end);
            for position in 0..model.log.len() {
                let is = (position as u64) < first_end && model.is_in_prefix(position, &prefixes);
                prop_assert_eq!(before.has(&id(model.log[position]), position as u64), is, "position {}", position);
            }
            // The second one starts at the watermark, is not handed what is done, has seen up to here, and did some more of each session.
            let seen = (seen as u64).clamp(before.watermark, model.log.len() as u64);
            let known: Vec<usize> = (0..12).map(|session| {
                let of_it = model.positions(session);
                let was = of_it.iter().filter(|p| before.has(&id(session), **p)).count();
                let handed = of_it.iter().filter(|p| **p < seen).count();
                if handed <= was { was } else { (was + more[session]).min(handed) }
            }).collect();
            let now = model.told(&known, before.watermark, seen).with_what_was_known(&before);
            for (position, session) in model.log.iter().enumerate() {
                let p = position as u64;
                let is = (p < seen || p < before.end) && model.is_in_prefix(position, &known);
                prop_assert_eq!(now.has(&id(*session), p), is, "position {} of session {}", position, session);
            }
            prop_assert!(now.open.values().all(|first| *first < now.end));
            prop_assert!(now.open.len() <= before.open.len().max(12));
        }
    }

    /// The session of each position.
    struct Model {
        log: Vec<usize>,
    }

    impl Model {
        fn positions(&self, session: usize) -> Vec<u64> {
            (0..self.log.len()).filter(|p| self.log[*p] == session).map(|p| p as u64).collect()
        }

        fn is_in_prefix(&self, position: usize, prefixes: &[usize]) -> bool {
            let session = self.log[position];
            self.log[..position].iter().filter(|s| **s == session).count() < prefixes[session]
        }

        /// As the engine tells it: of each session that has something open below the end, the first of that.
        fn told(&self, prefixes: &[usize], from: u64, end: u64) -> Done {
            let mut open: Vec<(SessionId, u64)> = Vec::new();
            for (session, prefix) in prefixes.iter().enumerate() {
                let first = self.positions(session).get(*prefix).copied();
                open.extend(first.filter(|p| *p < end).map(|p| (id(session), p)));
            }
            open.sort_by_key(|(_, first)| *first);
            let watermark = open.first().map_or(end, |(_, first)| *first).max(from);
            Done::of(&Progress { watermark, end, above: Above::Open(open) })
        }
    }

    #[test]
    fn as_many_as_are_promised_fit() {
        let open = (0..u64::from(MOST_SESSIONS)).map(|n| (u64::MAX - n, (1 << 35) - 1 - n)).collect();
        let done = Done { watermark: 0, end: 1 << 35, open };
        assert!(done.write(u32::MAX, METADATA_UNITS).is_ok());
        let refused = done.write(8, 512).unwrap_err();
        assert!(refused.units > 512, "{refused:?}");
    }

    #[test]
    fn without_anything_above_the_watermark_it_is_short() {
        let written = Done::below(77).write(8, METADATA_UNITS).unwrap();
        assert!(written.chars().count() <= 9, "{written:?}");
        assert_eq!(Done::read(77, &written), Read::Ours(Done::below(77), 8));
    }

    #[test]
    fn of_two_sessions_with_one_hash_the_lower_counts() {
        let mut done = Done::below(5);
        done.end = 20;
        done.opens(1, 9);
        done.opens(1, 7);
        done.opens(1, 11);
        assert_eq!(done.open.get(&1), Some(&7));
    }
}
