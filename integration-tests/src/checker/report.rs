//! Where findings gather: of each session the one that comes first in the precedence.

use foldhash::fast::RandomState;
use hashbrown::HashMap;

use super::histogram::Histogram;
use super::names::{Fatal, Liveness, Reported};
use super::verdict::Finding;
use super::{Checker, ring};
use crate::history::{Event, GrantId, Message};

pub(super) const FATALS: usize = Fatal::ALL.len();
pub(super) const REPORTED: usize = Reported::ALL.len();
pub(super) const LIVENESS: usize = Liveness::ALL.len();

#[derive(Debug)]
pub(super) struct Report {
    /// By group and session; group 0 for what producers did.
    pub(super) first: HashMap<(u32, u64), Finding, RandomState>,
    pub(super) all: [u64; FATALS],
    pub(super) counts: [u64; REPORTED],
    pub(super) live: [u64; LIVENESS],
    pub(super) spreads: [Histogram; REPORTED],
}

impl Default for Report {
    fn default() -> Self {
        Self {
            first: HashMap::default(),
            all: [0; FATALS],
            counts: [0; REPORTED],
            live: [0; LIVENESS],
            spreads: [const { Histogram::new() }; REPORTED],
        }
    }
}

impl Report {
    pub(super) fn clear(&mut self) {
        self.first.clear();
        self.all = [0; FATALS];
        self.counts = [0; REPORTED];
        self.live = [0; LIVENESS];
        self.spreads.iter_mut().for_each(Histogram::clear);
    }

    pub(super) fn count(&mut self, name: Reported) {
        self.counts[name as usize] += 1;
    }

    pub(super) fn live(&mut self, name: Liveness) {
        self.live[name as usize] += 1;
    }

    pub(super) fn measure(&mut self, name: Reported, value: u64) {
        self.spreads[name as usize].add(value);
    }

    pub(super) fn fatal(&mut self, finding: Finding) {
        self.all[finding.fatal as usize] += 1;
        let rank = |f: &Finding| (f.fatal, f.time, f.message);
        let first = self.first.entry((finding.group, finding.session)).or_insert_with(|| finding.clone());
        if rank(&finding) < rank(first) {
            *first = finding;
        }
    }
}

/// Of whom a finding speaks.
#[derive(Clone, Copy, Debug)]
pub(super) struct Of {
    pub(super) session: u64,
    pub(super) message: Option<Message>,
    pub(super) grant: Option<GrantId>,
}

impl Of {
    pub(super) const fn new(session: u64, message: Message, grant: GrantId) -> Self {
        Self { session, message: Some(message), grant: Some(grant) }
    }

    pub(super) const fn sent(session: u64, message: Message) -> Self {
        Self { session, message: Some(message), grant: None }
    }
}

impl Checker {
    #[cold]
    pub(super) fn fatal(&mut self, event: &Event, fatal: Fatal, of: Of, why: impl Into<String>) {
        let Of { session, message, grant } = of;
        let why = why.into();
        self.report.fatal(Finding { fatal, group: event.group, session, message, grant, time: event.time, why });
    }

    /// How a finding names the message of an entry.
    pub(super) fn told(&self, id: u32) -> String {
        self.ring.get(id).map_or_else(|| "a message".into(), |e: &ring::Entry| tell(e.message))
    }
}

pub(super) fn tell(message: Message) -> String {
    format!("message {}/{}", message.producer, message.pseq)
}
