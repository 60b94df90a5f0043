//! The kinds of disturbance, each with a name and a bit.

macro_rules! kinds {
    ($($(#[$doc:meta])* $variant:ident = $name:literal,)*) => {
        /// A kind of disturbance.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[non_exhaustive]
        pub enum Kind { $($(#[$doc])* $variant,)* }

        impl Kind {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// A stable name.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }

            pub(crate) const fn bit(self) -> u64 {
                1 << self as u64
            }
        }
    };
}

kinds! {
    /// A consumer process is killed; its connection shows it.
    Crash = "crash",
    /// A consumer's machine dies: nobody is told.
    CrashSilent = "crash-silent",
    /// A consumer is stopped, for less than its lease.
    Freeze = "freeze",
    /// A consumer is stopped for longer than its lease.
    FreezeLong = "freeze-past-lease",
    /// A connection is reset, and both sides see it.
    CutBoth = "cut-both",
    /// A connection is reset, and only the client sees it.
    CutClient = "cut-client",
    /// A connection is reset, and only the broker sees it.
    CutBroker = "cut-broker",
    /// Nothing reaches the broker any more.
    HalfUp = "half-open-up",
    /// Nothing reaches the client any more.
    HalfDown = "half-open-down",
    /// Nothing passes any more.
    HalfBoth = "half-open-both",
    /// A link is slow.
    Slow = "slow-link",
    /// A lane moves to another consumer, or a session's lock is taken away.
    Move = "move",
    /// A lane is taken back and given to the same consumer again.
    GiveBack = "give-back",
    /// The broker ends one right by force.
    Detach = "detach",
    /// The broker stands still.
    BrokerFreeze = "broker-freeze",
    /// The broker is stopped and started.
    BrokerRestart = "broker-restart",
    /// A consumer is stopped gracefully and comes back later.
    Drain = "drain",
    /// A consumer is paused.
    Pause = "pause",
    /// One more consumer.
    Join = "join",
    /// A producer process is killed.
    ProducerCrash = "producer-crash",
    /// A settlement is applied, and its answer is lost.
    AnswerLost = "settle-answer-lost",
    /// A settlement is lost, and nobody knows.
    SettleLost = "settle-lost",
    /// A settlement is refused, since its right is gone.
    SettleRefused = "settle-refused",
    /// A settlement certainly did not happen.
    SettleNotApplied = "settle-not-applied",
    /// The dead-letter store refuses.
    StoreRefused = "store-refused",
    /// The dead-letter store does not answer.
    StoreUnknown = "store-unknown",
    /// A renewal comes to nothing.
    RenewLost = "renewal-lost",
    /// A send fails.
    SendFailed = "send-failed",
    /// A send lands, and its outcome is unknown.
    SendUnknown = "send-unknown-landed",
    /// A send never lands, and its outcome is unknown.
    SendNever = "send-unknown-never",
    /// A send lands after its outcome was given up.
    SendLate = "send-lands-late",
    /// A handler fails.
    Fail = "handler-fails",
    /// A handler panics.
    Panic = "handler-panics",
    /// A handler hangs.
    Hang = "handler-hangs",
    /// A handler takes longer than the lock.
    Long = "handler-outlives-lock",
    /// A handler blocks its thread.
    Block = "handler-blocks",
    /// A handler asks for the dead-letter store.
    AskDead = "handler-dead-letters",
    /// A handler stops its consumer.
    AskStop = "handler-stops",
    /// A message whose handler always fails.
    Poison = "poison",
    /// A message without a session or with a broken envelope.
    Malformed = "malformed",
    /// A started handler is polled late.
    LatePoll = "late-poll",
    /// A bound is met, so that reading stops.
    Full = "bound-met",
    /// A pulled delivery outlives its session.
    DeliveryOut = "unclaimed-under-delivery",
}
