//! What can be wrong with a link, and how it is told.

use std::time::Duration;

use crate::history::{Fault, Phase, Side, What};

/// Which way bytes go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Way {
    /// From the client to the broker.
    ToBroker,
    /// From the broker to the client.
    ToClient,
    /// Both.
    Both,
}

/// What becomes of the bytes in a black hole. Either way, both sockets stay open and nobody is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Blackhole {
    /// They vanish: the link is lost. One that lost something has a gap, so it is reset at both ends when it is healed, as two ends would do that hear
    /// of each other again after one of them gave up.
    Drop,
    /// They wait: the link stands still, and goes on where it stood when it is healed. Nothing is read meanwhile, so a sender comes to feel it once the
    /// buffers are full, as it would by a cable pulled out.
    Hold,
}

/// A fault as it begins or ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Injected {
    /// The kind: `Reset`, `Blackhole`, `Slow` for delay and rate, `Other` for pieces and refusals.
    pub fault: Fault,
    /// Who sees something of it: `Client` where bytes for the client are concerned or its socket, and the broker knows nothing of it.
    pub side: Side,
    /// Begin or end. What happens in a moment ends at once.
    pub phase: Phase,
    /// The connection, by number; none stands for those to come. A connection that is accepted under a fault has its own begin, and its end when it is over.
    pub connection: Option<u64>,
}

impl Injected {
    /// As the history has it. Only the caller knows whose link it is: `target` is the number of the process, or 0 for all.
    pub const fn what(&self, target: u32) -> What {
        What::Fault { fault: self.fault, side: self.side, phase: self.phase, target }
    }
}

/// What is wrong with one way of a link.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct OneWay {
    pub(super) delay: Duration,
    pub(super) jitter: Duration,
    /// Bytes a second; 0 for no limit.
    pub(super) rate: u64,
    /// The largest piece; 0 for no limit.
    pub(super) slice: usize,
    pub(super) blackhole: Option<Blackhole>,
    /// The next buffer is cut, and the link with it.
    pub(super) cut: bool,
}

/// What is wrong with a link. A value that is exchanged as a whole, so that both ways change at once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Settings {
    pub(super) to_broker: OneWay,
    pub(super) to_client: OneWay,
    /// These ends are to be reset. It never goes back.
    pub(super) reset: Option<Side>,
    /// How often it was healed, for a link of which one end is gone.
    pub(super) healed: u64,
}

impl Settings {
    pub(super) fn way(&self, way: Way) -> &OneWay {
        if way == Way::ToBroker { &self.to_broker } else { &self.to_client }
    }

    /// Changes one way or both.
    pub(super) fn each(&mut self, way: Way, change: impl Fn(&mut OneWay)) {
        if way != Way::ToClient {
            change(&mut self.to_broker);
        }
        if way != Way::ToBroker {
            change(&mut self.to_client);
        }
    }

    /// Whether any way is a black hole of this kind.
    pub(super) fn is_black(&self, kind: Blackhole) -> bool {
        [self.to_broker, self.to_client].iter().any(|way| way.blackhole == Some(kind))
    }

    pub(super) fn reset(&mut self, ends: Side) {
        self.reset = Some(self.reset.map_or(ends, |before| if before == ends { ends } else { Side::Both }));
    }

    pub(super) fn heal(&mut self) {
        *self = Self { reset: self.reset, healed: self.healed + 1, ..Self::default() };
    }

    /// What begins and what ends from these settings to those. What lasts, even with other figures, does neither.
    pub(super) fn changes(&self, to: &Self) -> impl Iterator<Item = (Fault, Side, Phase)> {
        let (from, to) = (self.faults(), to.faults());
        let changed = from.into_iter().zip(to).filter(|(from, to)| from != to);
        changed.flat_map(|((fault, from), (_, to))| {
            let told = |side: Option<Side>, phase| side.map(|side| (fault, side, phase));
            [told(to, Phase::Begin), told(from, Phase::End)].into_iter().flatten()
        })
    }

    /// Each kind that lasts, and who sees something of it.
    fn faults(&self) -> [(Fault, Option<Side>); 3] {
        let side = |is: fn(&OneWay) -> bool| match (is(&self.to_broker), is(&self.to_client)) {
            (true, true) => Some(Side::Both),
            (true, false) => Some(Side::Broker),
            (false, true) => Some(Side::Client),
            (false, false) => None,
        };
        [
            (Fault::Blackhole, side(|way| way.blackhole.is_some())),
            (Fault::Slow, side(|way| !way.delay.is_zero() || !way.jitter.is_zero() || way.rate > 0)),
            (Fault::Other, side(|way| way.slice > 0)),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_lasts_is_told_once() {
        let plain = Settings::default();
        let mut dark = plain;
        dark.each(Way::ToClient, |way| way.blackhole = Some(Blackhole::Hold));
        let told = |a: &Settings, b: &Settings| a.changes(b).collect::<Vec<_>>();
        assert_eq!(told(&plain, &dark), [(Fault::Blackhole, Side::Client, Phase::Begin)]);
        let mut darker = dark;
        darker.each(Way::Both, |way| way.blackhole = Some(Blackhole::Drop));
        assert_eq!(
            told(&dark, &darker),
            [(Fault::Blackhole, Side::Both, Phase::Begin), (Fault::Blackhole, Side::Client, Phase::End)]
        );
        let mut other = darker;
        other.each(Way::Both, |way| way.blackhole = Some(Blackhole::Hold));
        assert_eq!(told(&darker, &other), []);
        other.heal();
        assert_eq!(told(&darker, &other), [(Fault::Blackhole, Side::Both, Phase::End)]);
    }

    #[test]
    fn a_reset_of_each_end_is_one_of_both() {
        let mut settings = Settings::default();
        settings.reset(Side::Client);
        assert_eq!(settings.reset, Some(Side::Client));
        settings.heal();
        settings.reset(Side::Broker);
        assert_eq!(settings.reset, Some(Side::Both));
    }
}
