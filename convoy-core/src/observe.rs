//! The one seam for everything that watches: histories, metrics, tracing.

use std::fmt;

use crate::engine::Note;
use crate::time::Moment;

/// Sees what happens in a consumer or producer, in the order in which it happens.
///
/// It is called on the driver's own threads while they hold the state of a shard, in the order of the events of each session: return fast, and call nothing of the same
/// consumer or producer from within.
pub trait Observer: Send + Sync + 'static {
    /// Something happened.
    fn on(&self, event: &Observed<'_>);
}

/// Something that happened.
#[derive(Debug)]
#[non_exhaustive]
pub struct Observed<'a> {
    /// When.
    pub at: Moment,
    /// On which channel.
    pub channel: &'a str,
    /// In which consumer group; empty for a producer.
    pub group: &'a str,
    /// What.
    pub note: &'a Note,
}

impl<'a> Observed<'a> {
    /// An event.
    #[must_use]
    pub fn new(at: Moment, channel: &'a str, group: &'a str, note: &'a Note) -> Self {
        Self { at, channel, group, note }
    }
}

impl<F: Fn(&Observed<'_>) + Send + Sync + 'static> Observer for F {
    fn on(&self, event: &Observed<'_>) {
        self(event);
    }
}

impl fmt::Debug for dyn Observer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Observer")
    }
}

/// Tells [`tracing`] what happens, at the levels that an operator wants: losses and stuck sessions as warnings, the rest as debug and trace.
#[cfg(feature = "runtime")]
#[derive(Clone, Copy, Debug, Default)]
pub struct TracingObserver;

#[cfg(feature = "runtime")]
impl Observer for TracingObserver {
    fn on(&self, event: &Observed<'_>) {
        use crate::backend::Loss;
        let (channel, group) = (event.channel, event.group);
        match event.note {
            Note::Lost { grant, place, why: Loss::Released } => {
                tracing::debug!(channel, group, ?grant, %place, "released");
            }
            Note::Lost { grant, place, why } => tracing::warn!(channel, group, ?grant, %place, ?why, "right lost"),
            Note::Granted { grant, place } => tracing::debug!(channel, group, ?grant, %place, "right won"),
            Note::Retrying { session, position, attempt, wait, .. } => {
                tracing::info!(channel, group, %session, %position, attempt, ?wait, "attempt failed; trying again");
            }
            Note::SetAside { session, position, answer, .. } => {
                tracing::warn!(channel, group, %session, %position, ?answer, "dead-lettered");
            }
            Note::HeldBack { session, .. } => {
                tracing::debug!(channel, group, %session, "waits for the broker's answer to what was settled before");
            }
            Note::Reading { place, on: false, hottest, .. } => {
                tracing::info!(channel, group, %place, ?hottest, "buffer full; reading stopped");
            }
            other => tracing::trace!(channel, group, ?other),
        }
    }
}
