//! Guarantees as data: what a backend promises, and how.

use std::fmt;

macro_rules! guarantees {
    ($($(#[$doc:meta])* $variant:ident = $name:literal,)*) => {
        /// A promise, by name. The statements are exact; the conformance suite checks each one that a backend claims.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[non_exhaustive]
        pub enum Guarantee { $($(#[$doc])* $variant,)* }

        impl Guarantee {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// The stable name, as in `session-fifo`.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }
        }
    };
}

guarantees! {
    /// Every confirmed message is in the end settled, in each group that existed when it was sent.
    NoLoss = "no-loss",
    /// First starts of a session's messages are in the order of its log.
    SessionFifo = "session-fifo",
    /// A message is settled only when every earlier one of its session is.
    GapFreeSettlement = "gap-free-settlement",
    /// A new holder starts at the first message that is not settled and goes on without a gap.
    SuffixRedelivery = "suffix-redelivery",
    /// Duplicates only where a holder ended unfinished, and no more than it had finished but not settled.
    BoundedDuplicates = "bounded-duplicates",
    /// Two runs of one session overlap only after the older holder's right had ended; nothing starts after a deadline.
    LiveExclusion = "live-exclusion",
    /// A run ends within the grace time after its right did.
    ZombieBound = "zombie-bound",
    /// No settlement that was asked for after a newer holder's first start is accepted.
    SettleFencing = "settle-fencing",
    /// A sink that compares fences sees each effect once and in order.
    FencedEffects = "fenced-effects",
    /// Between two attempts of a message no other of its session starts.
    InPlaceRetry = "in-place-retry",
    /// A dead letter is confirmed in its store before its source is settled, and the session waits for that.
    DeadLetterOrder = "dead-letter-order",
    /// A parked session's messages are handled in order after re-drive.
    ParkOrder = "park-order",
    /// The order of calls on one producer is the order in the session; after a failure nothing overtakes.
    ProducerOrder = "producer-order",
    /// Stuck sessions do not slow the others until a stated buffer is full.
    Isolation = "isolation",
    /// What is delivered was sent, unchanged, in that session.
    NoPhantom = "no-phantom",
    /// Session state written by an older holder is refused or void.
    StateFencing = "state-fencing",
    /// The attempts of a message that ends its process are counted.
    DurableAttempts = "durable-attempts",
}

impl fmt::Display for Guarantee {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// How a backend meets a guarantee.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Support {
    /// The broker does it.
    Native,
    /// convoy does it on top of the broker.
    Emulated,
    /// It does not hold.
    Unsupported,
}

impl fmt::Display for Support {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Native => "native",
            Self::Emulated => "emulated",
            Self::Unsupported => "unsupported",
        })
    }
}

/// What a backend claims of one guarantee.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    /// Which.
    pub guarantee: Guarantee,
    /// How.
    pub support: Support,
    /// Why, in one line.
    pub why: &'static str,
}

/// Everything a backend claims. A guarantee that is not named is unsupported.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Guarantees(Vec<Claim>);

impl Guarantees {
    /// No claim at all.
    #[must_use]
    pub fn none() -> Self {
        Self::default()
    }

    /// Adds a claim, or replaces the one of that guarantee.
    #[must_use]
    pub fn claim(mut self, guarantee: Guarantee, support: Support, why: &'static str) -> Self {
        self.0.retain(|c| c.guarantee != guarantee);
        self.0.push(Claim { guarantee, support, why });
        self
    }

    /// What is claimed of one guarantee.
    #[must_use]
    pub fn of(&self, guarantee: Guarantee) -> Claim {
        let unnamed = Claim { guarantee, support: Support::Unsupported, why: "not claimed" };
        self.0.iter().find(|c| c.guarantee == guarantee).cloned().unwrap_or(unnamed)
    }

    /// One claim for each guarantee, in the order of [`Guarantee::ALL`].
    pub fn iter(&self) -> impl Iterator<Item = Claim> + '_ {
        Guarantee::ALL.iter().map(|g| self.of(*g))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_claimed_is_unsupported() {
        let claims = Guarantees::none().claim(Guarantee::NoLoss, Support::Native, "a log");
        assert_eq!(claims.of(Guarantee::NoLoss).support, Support::Native);
        assert_eq!(claims.of(Guarantee::ParkOrder).support, Support::Unsupported);
        assert_eq!(claims.iter().count(), Guarantee::ALL.len());
        let again = claims.claim(Guarantee::NoLoss, Support::Emulated, "a copy");
        assert_eq!(again.of(Guarantee::NoLoss).support, Support::Emulated);
    }
}
