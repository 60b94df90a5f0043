//! Deliberate defects, for proving that the simulation finds them.

/// A defect of the pipeline.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ProducerBug {
    /// What is queued behind a failed run goes on.
    OvertakesAfterFailure,
    /// A second run of a session goes out while the first is out.
    TwoRunsOut,
    /// A run whose outcome is unknown is confirmed.
    UnknownTakenForOk,
    /// Resending puts the first message behind the others.
    ResendOutOfOrder,
    /// A time-out at the broker does not halt the session.
    HaltForgottenAfterTimeout,
    /// A halted session takes further sends.
    AcceptsWhileHalted,
}

impl ProducerBug {
    /// All of them.
    pub const ALL: &'static [Self] = &[
        Self::OvertakesAfterFailure,
        Self::TwoRunsOut,
        Self::UnknownTakenForOk,
        Self::ResendOutOfOrder,
        Self::HaltForgottenAfterTimeout,
        Self::AcceptsWhileHalted,
    ];
}
