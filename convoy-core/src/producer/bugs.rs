//! Deliberate defects, for proving that the simulation finds them. Without the feature `seeded-bugs` there is nothing here but `false`.

/// A defect of the pipeline.
#[cfg(feature = "seeded-bugs")]
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

#[cfg(feature = "seeded-bugs")]
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

/// Whether the named defect is switched on.
#[cfg(feature = "seeded-bugs")]
macro_rules! bug {
    ($self:expr, $name:ident) => {
        $self.options.bug == Some($crate::producer::ProducerBug::$name)
    };
}
#[cfg(not(feature = "seeded-bugs"))]
macro_rules! bug {
    ($self:expr, $name:ident) => {
        $crate::producer::bugs::none()
    };
}
pub(super) use bug;

#[cfg(not(feature = "seeded-bugs"))]
pub(super) const fn none() -> bool {
    false
}
