//! What should exist at a broker, and what is found there.

use std::collections::BTreeMap;
use std::fmt;

/// The channels that a program needs, with their consumer groups.
///
/// ```
/// use convoy_core::{ChannelSpec, Topology};
///
/// let topology = Topology::new().channel(ChannelSpec::new("orders").lanes(8).group("billing").group("shipping"));
/// assert_eq!(topology.channels().count(), 1);
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Topology {
    channels: Vec<ChannelSpec>,
}

/// One channel, its consumer groups, and options that only some brokers know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChannelSpec {
    name: String,
    groups: Vec<String>,
    lanes: Option<u32>,
    options: BTreeMap<String, String>,
}

impl Topology {
    /// No channel.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a channel, or replaces the one of that name.
    #[must_use]
    pub fn channel(mut self, channel: ChannelSpec) -> Self {
        self.channels.retain(|c| c.name != channel.name);
        self.channels.push(channel);
        self
    }

    /// The channels, in the order they were added.
    pub fn channels(&self) -> impl Iterator<Item = &ChannelSpec> {
        self.channels.iter()
    }
}

impl ChannelSpec {
    /// A channel of this name.
    #[must_use]
    pub fn new(name: impl Into<String>) -> Self {
        Self { name: name.into(), groups: Vec::new(), lanes: None, options: BTreeMap::new() }
    }

    /// Adds a consumer group.
    #[must_use]
    pub fn group(mut self, name: impl Into<String>) -> Self {
        let name = name.into();
        if !self.groups.contains(&name) {
            self.groups.push(name);
        }
        self
    }

    /// Pins the number of lanes, on brokers that have lanes.
    #[must_use]
    pub fn lanes(mut self, lanes: u32) -> Self {
        self.lanes = Some(lanes);
        self
    }

    /// Sets an option of the broker; one it does not know is an error that names it.
    #[must_use]
    pub fn option(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.options.insert(name.into(), value.into());
        self
    }

    /// The name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The consumer groups.
    #[must_use]
    pub fn groups(&self) -> &[String] {
        &self.groups
    }

    /// The pinned number of lanes.
    #[must_use]
    pub fn lane_count(&self) -> Option<u32> {
        self.lanes
    }

    /// The broker's options.
    pub fn options(&self) -> impl Iterator<Item = (&str, &str)> {
        self.options.iter().map(|(n, v)| (n.as_str(), v.as_str()))
    }
}

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Severity {
    /// Worth knowing.
    Note,
    /// Likely to hurt; every guarantee holds.
    Warning,
    /// A guarantee does not hold: a consumer refuses to start unless the finding is allowed by its code.
    Breaks,
}

/// Something about the broker's set-up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// How bad it is.
    pub severity: Severity,
    /// A stable code, by which it can be allowed: `channel-missing`, `lane-count`.
    pub code: &'static str,
    /// What was found, naming the channel, group or setting.
    pub what: String,
    /// What to do about it.
    pub remedy: String,
}

impl Finding {
    /// A finding.
    #[must_use]
    pub fn new(severity: Severity, code: &'static str, what: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { severity, code, what: what.into(), remedy: remedy.into() }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let severity = match self.severity {
            Severity::Note => "note",
            Severity::Warning => "warning",
            Severity::Breaks => "breaks a guarantee",
        };
        write!(f, "{severity} [{}]: {}; {}", self.code, self.what, self.remedy)
    }
}
