//! What a history comes to.

use std::fmt;

use super::histogram::Histogram;
use super::names::{Fatal, Liveness, Reported};
use super::report::{FATALS, LIVENESS, REPORTED};
use crate::history::{GrantId, Message};

/// A broken guarantee, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Finding {
    /// Its name.
    pub fatal: Fatal,
    /// The consumer group; 0 for what producers did.
    pub group: u32,
    /// The session.
    pub session: u64,
    /// The message, where one is meant.
    pub message: Option<Message>,
    /// The grant, where one is meant.
    pub grant: Option<GrantId>,
    /// When it showed.
    pub time: u64,
    /// One plain sentence.
    pub why: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} (session {:016x}, group {}", self.fatal, self.why, self.session, self.group)?;
        if let Some(grant) = self.grant {
            write!(f, ", grant {}/{}", grant.consumer, grant.n)?;
        }
        write!(f, ", at {} ns)", self.time)
    }
}

/// The spread of a measure, in nanoseconds; percentiles are exact to about 6 %.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Spread {
    /// Half are not above it.
    pub p50: u64,
    /// All but a hundredth are not above it.
    pub p99: u64,
    /// The greatest.
    pub max: u64,
}

impl Spread {
    pub(super) fn of(of: &Histogram) -> Option<Self> {
        Some(Self { p50: of.percentile(0.5)?, p99: of.percentile(0.99)?, max: of.max() }).filter(|s| s.max > 0)
    }
}

/// What the checker has to say of a history.
#[derive(Clone, Debug)]
#[must_use]
pub struct Verdict {
    pub(super) events: u64,
    pub(super) messages: u64,
    pub(super) sessions: u64,
    pub(super) bound: u64,
    pub(super) findings: Vec<Finding>,
    pub(super) fatal: [u64; FATALS],
    pub(super) all: [u64; FATALS],
    pub(super) counts: [u64; REPORTED],
    pub(super) live: [u64; LIVENESS],
    pub(super) spreads: [Option<Spread>; REPORTED],
}

impl Verdict {
    /// Nothing fatal. Liveness is a question of its own: see [`Verdict::is_live`].
    pub fn is_ok(&self) -> bool {
        self.fatal_total() == 0
    }

    /// Nothing was left hanging when the history ended.
    pub fn is_live(&self) -> bool {
        self.live.iter().all(|count| *count == 0)
    }

    /// In how many sessions something fatal was found.
    pub fn fatal_total(&self) -> u64 {
        self.fatal.iter().sum()
    }

    /// In how many sessions this is the first cause.
    pub fn fatal(&self, name: Fatal) -> u64 {
        self.fatal[name as usize]
    }

    /// How often this was found at all, consequences of other causes included.
    pub fn found(&self, name: Fatal) -> u64 {
        self.all[name as usize]
    }

    /// How often this was counted.
    pub fn count(&self, name: Reported) -> u64 {
        self.counts[name as usize]
    }

    /// The spread of a reported name, where it has a measure and a sample.
    pub fn spread(&self, name: Reported) -> Option<Spread> {
        self.spreads[name as usize]
    }

    /// How many messages or lanes were left so.
    pub fn left(&self, name: Liveness) -> u64 {
        self.live[name as usize]
    }

    /// The first findings in time, one a session of a group.
    pub fn findings(&self) -> &[Finding] {
        &self.findings
    }

    /// How many events were judged.
    pub fn events(&self) -> u64 {
        self.events
    }

    /// How many messages were handed over.
    pub fn messages(&self) -> u64 {
        self.messages
    }

    /// How many duplicates the ends of grants explain, all sessions together. Each session is judged by its own share of it.
    pub fn duplicates_bound(&self) -> u64 {
        self.bound
    }

    /// Pairs for a `RESULT` line: each fatal name that occurs, the counts always.
    pub fn pairs(&self) -> Vec<(String, String)> {
        let key = |name: &str| name.replace('-', "_");
        let mut pairs = vec![
            ("events".to_owned(), self.events.to_string()),
            ("messages".to_owned(), self.messages.to_string()),
            ("sessions".to_owned(), self.sessions.to_string()),
            ("fatal".to_owned(), self.fatal_total().to_string()),
            ("lost".to_owned(), self.fatal(Fatal::Lost).to_string()),
        ];
        let fatal = Fatal::ALL.iter().filter(|name| **name != Fatal::Lost && self.fatal(**name) > 0);
        pairs.extend(fatal.map(|name| (key(name.name()), self.fatal(*name).to_string())));
        for name in Reported::ALL {
            let plural = if *name == Reported::Duplicate { "duplicates".to_owned() } else { key(name.name()) };
            pairs.push((plural, self.count(*name).to_string()));
            if *name == Reported::Duplicate {
                pairs.push(("duplicates_bound".to_owned(), self.bound.to_string()));
            }
            if let Some(spread) = self.spread(*name) {
                pairs.push((format!("{}_p50_us", key(name.name())), (spread.p50 / 1000).to_string()));
                pairs.push((format!("{}_p99_us", key(name.name())), (spread.p99 / 1000).to_string()));
            }
        }
        pairs.extend(Liveness::ALL.iter().map(|name| (key(name.name()), self.left(*name).to_string())));
        pairs
    }

    /// [`Verdict::pairs`] as `key=value`, apart by spaces.
    pub fn result(&self) -> String {
        self.pairs().iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>().join(" ")
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (events, messages, sessions) = (self.events, self.messages, self.sessions);
        writeln!(f, "{events} events, {messages} messages, {sessions} sessions of groups")?;
        for name in Fatal::ALL.iter().filter(|name| self.fatal(**name) > 0) {
            writeln!(f, "FATAL {name}: in {} sessions, found {} times", self.fatal(*name), self.found(*name))?;
        }
        for finding in &self.findings {
            writeln!(f, "  {finding}")?;
        }
        for name in Reported::ALL.iter().filter(|name| self.count(**name) > 0) {
            write!(f, "{name}: {}", self.count(*name))?;
            if let Some(Spread { p50, p99, max }) = self.spread(*name) {
                let ms = |nanos: u64| format!("{}.{:03} ms", nanos / 1_000_000, nanos / 1000 % 1000);
                write!(f, " (p50 {}, p99 {}, most {})", ms(p50), ms(p99), ms(max))?;
            }
            writeln!(f)?;
        }
        for name in Liveness::ALL.iter().filter(|name| self.left(**name) > 0) {
            writeln!(f, "LEFT {name}: {}", self.left(*name))?;
        }
        f.write_str(if self.is_ok() { "nothing fatal" } else { "the guarantees do not hold" })
    }
}
