//! What things are called at the broker, and which lane a session belongs to.

use convoy_core::{Error, ErrorKind, Result, SessionId};
use lapin::types::ShortString;

use crate::entry::Entry;

/// Into how many slots the hash of a session falls. Fixed for ever: producers route to slots, and each group binds ranges of slots to its own lanes.
pub(crate) const SLOTS: u32 = 1_024;

/// The generation of the lanes of a group: a change of their number would begin the next one.
const GENERATION: u32 = 1;

/// The slot of a session.
pub(crate) fn slot(session: &SessionId) -> u32 {
    session.lane_hash() % SLOTS
}

/// The lane of a slot, of so many lanes: lanes are ranges of slots, as equal as can be.
pub(crate) fn lane_of_slot(slot: u32, lanes: u32) -> u32 {
    slot * lanes / SLOTS
}

/// The lane of a session, of so many lanes.
pub(crate) fn lane(session: &SessionId, lanes: u32) -> u32 {
    lane_of_slot(slot(session), lanes)
}

/// The names of one consumer group.
#[derive(Clone, Debug)]
pub(crate) struct Names {
    pub(crate) channel: String,
    pub(crate) group: String,
    pub(crate) lanes: u32,
    pub(crate) prefetch: u16,
    pub(crate) entry: Entry,
}

impl Names {
    /// Checks that every name fits, so that the others cannot fail.
    pub(crate) fn new(channel: &str, group: &str, lanes: u32, prefetch: u16) -> Result<Self> {
        self::channel(channel)?;
        if group.is_empty() || group.contains('.') {
            return Err(wrong("group", group, "a consumer group's name has at least one character and no dot"));
        }
        let names = Self { channel: channel.to_owned(), group: group.to_owned(), lanes, prefetch, entry: Entry::Slots };
        let longest = format!("convoy.{}", names.lane_text(lanes)).len() + Entry::ModulusHash.mark().len();
        if longest > 255 {
            return Err(wrong(
                "channel",
                channel,
                "channel and group are too long together: a queue's name has at most 255 bytes",
            ));
        }
        Ok(names)
    }

    /// With the broker's hash instead of the publishers', if that is said.
    pub(crate) fn entry(mut self, entry: Entry) -> Self {
        self.entry = entry;
        self
    }

    fn base(&self) -> String {
        format!("{}.{}", self.channel, self.group)
    }

    /// How the names of all queues begin, and perhaps those of other groups.
    #[cfg(feature = "management")]
    pub(crate) fn prefix(&self) -> String {
        format!("{}.", self.base())
    }

    /// The names of all queues.
    #[cfg(feature = "management")]
    pub(crate) fn queues(&self) -> std::collections::BTreeSet<String> {
        let lanes = (0..self.lanes).map(|lane| self.lane_text(lane));
        lanes.chain([self.pin(), self.dead()].map(|queue| queue.as_str().to_owned())).collect()
    }

    /// What lanes are named by: all that may not differ between members.
    fn pinned(&self) -> String {
        let Self { lanes, prefetch, entry, .. } = self;
        format!("{}.g{GENERATION}.l{lanes}.p{prefetch}{}", self.base(), entry.mark())
    }

    fn lane_text(&self, lane: u32) -> String {
        format!("{}.lane.{lane}", self.pinned())
    }

    /// The queue of a lane. The number of lanes, the prefetch and who hashes are part of the name: members that differ in one of them find no queue, and reorder nothing.
    pub(crate) fn lane(&self, lane: u32) -> ShortString {
        short(self.lane_text(lane))
    }

    /// The exchange that hashes for this group, where one does.
    pub(crate) fn hashing(&self) -> ShortString {
        short(format!("convoy.{}.hash", self.pinned()))
    }

    /// The queue whose arguments pin the number of lanes, the prefetch and who hashes; it never holds a message.
    pub(crate) fn pin(&self) -> ShortString {
        short(format!("{}.pin", self.base()))
    }

    /// The dead-letter store.
    pub(crate) fn dead(&self) -> ShortString {
        short(format!("{}.dead", self.base()))
    }

    /// The fanout exchange by which members know of each other.
    pub(crate) fn members(&self) -> ShortString {
        short(format!("convoy.{}.members", self.base()))
    }
}

/// At the end of the name of an exchange whose messages the broker hashes.
const HASHED: &str = ".entry";

/// The exchange that a channel is published to. Who is mistaken about who hashes finds none.
pub(crate) fn exchange(channel: &str, entry: Entry) -> Result<ShortString> {
    let plain = self::channel(channel)?;
    Ok(if entry == Entry::Slots { plain } else { short(format!("{channel}{HASHED}")) })
}

/// The name of a channel.
pub(crate) fn channel(channel: &str) -> Result<ShortString> {
    match channel.len() {
        0 => Err(wrong("channel", channel, "a channel's name has at least one byte")),
        1..=200 if channel.ends_with(HASHED) => {
            Err(wrong("channel", channel, "names that end with `.entry` are those of channels that the broker hashes"))
        }
        1..=200 if !channel.starts_with("amq.") => Ok(short(channel.to_owned())),
        1..=200 => Err(wrong("channel", channel, "names that start with `amq.` are the broker's own")),
        _ => Err(wrong("channel", channel, "a channel's name has at most 200 bytes")),
    }
}

/// A name as the protocol has it. Those that come here were checked; a longer one is cut, and found missing.
pub(crate) fn short(mut name: String) -> ShortString {
    while name.len() > 255 {
        name.pop();
    }
    ShortString::try_new(name).unwrap_or_default()
}

fn wrong(what: &'static str, name: &str, why: &str) -> Error {
    Error::new(ErrorKind::InvalidOption, "name").because(why).with(what, name.escape_debug())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_slot_has_a_lane_and_lanes_are_as_equal_as_can_be() {
        for lanes in [1, 2, 3, 5, 8, 24, 64, 1_000, 1_024] {
            let mut slots = vec![0u32; lanes as usize];
            let mut last = 0;
            for slot in 0..SLOTS {
                let lane = lane_of_slot(slot, lanes);
                assert!(lane >= last, "ranges grow");
                last = lane;
                slots[lane as usize] += 1;
            }
            let (least, most) = (slots.iter().min().unwrap(), slots.iter().max().unwrap());
            assert!(most - least <= 1, "{lanes}: {least} to {most}");
        }
    }

    /// The vectors that a publisher in another language is tested with, too.
    #[test]
    fn slots_are_pinned() {
        let vectors = include_str!("../slots.tsv");
        let mut seen = 0;
        for line in vectors.lines().filter(|line| !line.starts_with('#')) {
            let (hex, wanted) = line.split_once('\t').unwrap();
            let bytes: Vec<u8> =
                (0..hex.len()).step_by(2).map(|i| u8::from_str_radix(&hex[i..i + 2], 16).unwrap()).collect();
            assert_eq!(slot(&SessionId::new(bytes).unwrap()).to_string(), wanted, "{hex}");
            seen += 1;
        }
        assert!(seen >= 16, "{seen}");
    }

    #[test]
    fn names_that_cannot_be_are_refused() {
        for (channel, group) in [("", "g"), ("c", ""), ("c", "a.b"), ("amq.c", "g"), ("c.entry", "g")] {
            assert_eq!(
                Names::new(channel, group, 8, 500).unwrap_err().kind(),
                ErrorKind::InvalidOption,
                "{channel}/{group}"
            );
        }
        assert!(Names::new(&"c".repeat(200), "group", 64, 500).is_ok());
        assert!(Names::new(&"c".repeat(201), "group", 64, 500).is_err());
        assert!(Names::new(&"c".repeat(190), &"g".repeat(60), 64, 500).is_err());
        let names = Names::new("orders.eu", "billing", 8, 500).unwrap();
        assert_eq!(names.lane(3).as_str(), "orders.eu.billing.g1.l8.p500.lane.3");
        assert_eq!(names.entry(Entry::ModulusHash).lane(3).as_str(), "orders.eu.billing.g1.l8.p500.mh.lane.3");
        let names = Names::new("orders.eu", "billing", 8, 500).unwrap().entry(Entry::ModulusHash);
        assert_eq!(names.hashing().as_str(), "convoy.orders.eu.billing.g1.l8.p500.mh.hash");
        assert_eq!(exchange("orders", Entry::Slots).unwrap().as_str(), "orders");
        assert_eq!(exchange("orders", Entry::ModulusHash).unwrap().as_str(), "orders.entry");
    }
}
