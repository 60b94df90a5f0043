//! Deliberate defects, one at a time, for proving that the simulation finds them.
//!
//! Without the feature `seeded-bugs` none of them exists: every question is answered `false` at compile time.

macro_rules! bugs {
    ($($(#[$doc:meta])* $variant:ident = $name:literal,)*) => {
        /// A defect of the engine that can be switched on in a build for the simulation.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum Bug { $($(#[$doc])* $variant,)* }

        impl Bug {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// A stable name.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }
        }
    };
}

bugs! {
    /// Starts a session's next message although one of it runs.
    TwoHandlers = "two-handlers",
    /// Records a message as done when its handler starts.
    CompleteBeforeEnd = "complete-before-end",
    /// The watermark is the highest position that is done.
    WatermarkPastGap = "watermark-past-gap",
    /// A session's messages complete with the last one that was delivered, not the one that ran.
    CompleteOutOfOrder = "complete-out-of-order",
    /// A delivery of an old grant is taken for one of the current grant of its place.
    NoEpochCheckOnDelivery = "no-epoch-check-on-delivery",
    /// An answer to a settlement of an old grant counts for the current one.
    NoEpochCheckOnSettle = "no-epoch-check-on-settle",
    /// The end of a run of an old grant completes the current head.
    NoEpochCheckOnEnd = "no-epoch-check-on-end",
    /// What was buffered under a lost grant is handled under the next one.
    BufferKeptAcrossGrants = "buffer-kept-across-grants",
    /// A failed message goes behind the others of its session.
    RetryToTheBack = "retry-to-the-back",
    /// A right is given back while a handler of it runs.
    ReleaseWhileRunning = "release-while-running",
    /// The deadline is not looked at before a start, nor on the clock.
    StartAfterExpiry = "start-after-expiry",
    /// Evidence that was asked for before the grant allows a start.
    OldEvidence = "old-evidence",
    /// The deadline counts from the answer, not from the request.
    DeadlineFromAnswer = "deadline-from-answer",
    /// A right that ran out here is not ended at the broker.
    NoSurrender = "no-surrender",
    /// A pulled session is given back while its delivery is out.
    ReleaseUnderDelivery = "release-under-delivery",
    /// A settlement whose answer was lost is taken for settled.
    UnknownIsOk = "unknown-is-ok",
    /// A refused settlement does not end the grant.
    RefusedIgnored = "refused-ignored",
    /// What arrives over the bound is dropped and counts as done.
    DropOnFull = "drop-on-full",
    /// A message is set aside one attempt too early.
    EarlyDeadLetter = "early-dead-letter",
    /// The source of a dead letter is settled before its copy is confirmed.
    SettledBeforeCopy = "settled-before-copy",
    /// A session goes on behind a dead letter before its source is settled.
    NextBeforeDeadLetterSettled = "next-before-dead-letter-settled",
    /// A drain does not wait for running handlers and what they did.
    DrainAbandons = "drain-abandons",
    /// A drain gives rights back before what is done was settled.
    DrainForgetsToSettle = "drain-forgets-to-settle",
    /// A session that comes back may start while its old handler runs.
    GateEndsWithGrant = "gate-ends-with-grant",
    /// A session with more to do goes first again.
    HotSessionStarves = "hot-session-starves",
    /// A right is not renewed while a handler of it runs.
    RenewalStopsWhileRunning = "renewal-stops-while-running",
    /// Nobody tells a running handler that its right is gone.
    NoCancelOnLoss = "no-cancel-on-loss",
    /// A cancelled attempt takes its message away.
    CancelDropsMessage = "cancel-drops-message",
    /// A place whose reading was stopped is never read again.
    ReadingStaysOff = "reading-stays-off",
    /// An attempt that the loss of the right cut off is charged to the message.
    LossIsCharged = "loss-is-charged",
    /// A turn ends under the handler that begins the next message.
    TurnEndsUnderHandler = "turn-ends-under-handler",
    /// A session whose turn is over is given back before what it did is settled.
    TurnForgetsToSettle = "turn-forgets-to-settle",
    /// What a session whose turn is over has left counts as done.
    TurnDropsTheRest = "turn-drops-the-rest",
    /// Messages start however much is done that the broker is not known to have.
    NeverHoldsBack = "never-holds-back",
}
