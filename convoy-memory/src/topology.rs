//! What should exist, and what is wrong with what does.

use std::time::Duration;

use convoy_core::{ChannelSpec, Finding, Result, Severity, Topology};

use crate::backend::Broker;
use crate::config::Options;
use crate::state::Channel;

/// A lock that short ends because of an ordinary pause of the scheduler.
const LOCK_TOO_SHORT: Duration = Duration::from_millis(10);
/// A lock that short asks for many renewals.
const LOCK_SHORT: Duration = Duration::from_secs(1);

impl Broker {
    /// Makes the channels and groups that are missing; changes nothing that exists.
    pub(crate) fn provision(&self, topology: &Topology) -> Result<()> {
        let wanted: Vec<(&ChannelSpec, Options)> =
            topology.channels().map(|spec| Ok((spec, self.options_of(spec)?))).collect::<Result<_>>()?;
        for (spec, options) in wanted {
            let channel = self.make(spec.name(), options);
            channel.with(|state, _| {
                for group in spec.groups() {
                    state.open_group(group);
                }
            });
        }
        Ok(())
    }

    /// What differs from `topology`, and what is wrong anyway.
    pub(crate) fn check(&self, topology: &Topology) -> Result<Vec<Finding>> {
        let mut findings = Vec::new();
        for spec in topology.channels() {
            let wanted = self.options_of(spec)?;
            let name = spec.name();
            let Some(channel) = self.find(name) else {
                let what = format!("the channel `{name}` does not exist");
                findings.push(Finding::new(Severity::Breaks, "channel-missing", what, "provision it"));
                continue;
            };
            for group in spec.groups().iter().filter(|group| channel.with(|state, _| state.group(group)).is_none()) {
                let what = format!("the group `{group}` of channel `{name}` does not exist: nothing is kept for it");
                findings.push(Finding::new(
                    Severity::Breaks,
                    "group-missing",
                    what,
                    "provision it before the first send",
                ));
            }
            let (has, wants) = (channel.options.lanes, wanted.lanes);
            if has != wants {
                let what = format!("the channel `{name}` has {has} lanes, {wants} are wanted");
                let remedy = "use the number it was made with: another one puts sessions into other lanes";
                findings.push(Finding::new(Severity::Breaks, "lane-count", what, remedy));
            } else if channel.options != wanted {
                let what = format!("the channel `{name}` was made with other options");
                findings.push(Finding::new(Severity::Warning, "options", what, "options hold from the making on"));
            }
            findings.extend(channel.findings());
        }
        Ok(findings)
    }

    /// The options of a channel: the broker's, and what its description says. A broker of sessions has no lanes to pin.
    fn options_of(&self, spec: &ChannelSpec) -> Result<Options> {
        let mut options = self.options.clone();
        for (name, value) in spec.options() {
            options.set_of_channel(name, value)?;
        }
        if let (Some(lanes), true) = (spec.lane_count(), options.lanes > 0) {
            options.lanes = lanes.max(1);
        }
        options.validate()?;
        Ok(options)
    }
}

impl Channel {
    /// What is wrong with this channel, whatever was wanted.
    pub(crate) fn findings(&self) -> Vec<Finding> {
        let lock = self.options.lock;
        let (severity, code) = match lock {
            lock if lock < LOCK_TOO_SHORT => (Severity::Breaks, "lock-too-short"),
            lock if lock < LOCK_SHORT => (Severity::Note, "lock-short"),
            _ => return Vec::new(),
        };
        let what = format!("a lock of the channel `{}` lasts {lock:?} only", self.name);
        vec![Finding::new(severity, code, what, "make the channel with a longer `lock`; 30s is the default")]
    }
}
