//! The pipeline's bounds.

use std::time::Duration;

/// The bounds of a [`Pipeline`](super::Pipeline).
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Options {
    /// The most messages that are queued or at the broker. As many again may be kept by halted sessions.
    pub max_queued: usize,
    /// The most bytes of them, as [`Content::size`](crate::Content::size) counts. One message is always let in.
    pub max_queued_bytes: usize,
    /// The largest message, and the most bytes of a run.
    pub max_message: usize,
    /// The most messages of a run.
    pub max_run: usize,
    /// So long before a message's deadline its run must have left ([`Run::until`](crate::backend::Run)), so that a sink that still has it can say in
    /// time that it was not sent.
    pub answer_margin: Duration,
    /// Of how many idle sessions the last number is remembered, for the next message's `prev`. At most 2²⁴.
    pub remember: usize,
    /// For how long an idle session is remembered.
    pub remember_for: Duration,
    /// The defect to show.
    #[cfg(feature = "seeded-bugs")]
    pub bug: Option<super::ProducerBug>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            max_queued: 65_536,
            max_queued_bytes: 64 << 20,
            max_message: usize::MAX,
            max_run: 1,
            answer_margin: Duration::ZERO,
            remember: 16_384,
            remember_for: Duration::from_secs(300),
            #[cfg(feature = "seeded-bugs")]
            bug: None,
        }
    }
}

impl Options {
    /// Slots of sessions are numbered with 28 bits (see `Pipeline::cut`): these limits keep them below.
    const MOST: usize = 1 << 24;

    pub(super) fn within_reason(mut self) -> Self {
        self.max_queued = self.max_queued.clamp(1, Self::MOST);
        self.remember = self.remember.min(Self::MOST);
        self.max_run = self.max_run.max(1);
        self
    }
}
