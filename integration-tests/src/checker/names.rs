//! What the checker names.

use std::fmt;

macro_rules! names {
    ($(#[$doc:meta])* $name:ident { $($(#[$vdoc:meta])* $variant:ident = $text:literal,)+ }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[non_exhaustive]
        pub enum $name { $($(#[$vdoc])* $variant,)+ }

        impl $name {
            /// All of them, in order.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];

            /// The name as the documents spell it.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $text,)+ }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.name())
            }
        }
    };
}

names! {
    /// A broken guarantee. **The order is the precedence**: of all that is found in a session of a
    /// group, the first of this list is its cause and is reported; the others follow from it
    /// (what broke exclusion also reorders, a reordering implies a skip, a skip implies a loss).
    Fatal {
        /// Delivered, and never sent.
        Phantom = "phantom",
        /// Delivered under another session than it was sent to.
        Misroute = "misroute",
        /// Body or headers changed.
        Corrupt = "corrupt",
        /// A send that definitely failed was delivered.
        AbortedRead = "aborted-read",
        /// The log is not in the order of the calls, or something was handed over behind a halt.
        ProducerReorder = "producer-reorder",
        /// A handler started under a right that had run out when it was checked.
        StartAfterExpiry = "start-after-expiry",
        /// Two runs of a session overlapped while the older's right was alive.
        OverlapLive = "overlap-live",
        /// A run went on beyond the end of its right and the grace time.
        LateCancel = "late-cancel",
        /// A settlement asked for after a newer grant's first run was taken.
        StaleSettle = "stale-settle",
        /// Completed without any run that ended well.
        SettleUnhandled = "settle-unhandled",
        /// First starts out of log order.
        ReorderFirst = "reorder-first",
        /// Started again after it was settled.
        DuplicateAfterSettle = "duplicate-after-settle",
        /// Dead-lettered before its attempts were used up.
        DeadEarly = "dead-early",
        /// The source of a dead letter was settled, and there is no copy.
        DeadLost = "dead-lost",
        /// Dead letters out of order, or a start that did not wait for one.
        DeadReorder = "dead-reorder",
        /// Started or settled past a message that was not done.
        Skip = "skip",
        /// A grant went back in the log.
        Nonmonotonic = "nonmonotonic",
        /// More duplicates than the ends of grants explain.
        DuplicateExcess = "duplicate-excess",
        /// A fenced sink took an effect out of order, or refused one in order.
        FenceViolation = "fence-violation",
        /// State of an older grant replaced that of a newer, or was read.
        StateStale = "state-stale",
        /// Sent, and never settled.
        Lost = "lost",
    }
}

names! {
    /// What is counted, and is no fault.
    Reported {
        /// Starts after a run that ended well or was cut off by a crash.
        Duplicate = "duplicate",
        /// Runs that went on beside a newer grant's; how long.
        ZombieOverlap = "zombie-overlap",
        /// Starts checked in time whose first instruction came after the deadline; how late.
        LateFirstInstruction = "late-first-instruction",
        /// Dead letters whose source was completed elsewhere.
        Ghost = "ghost",
        /// Sends of unknown outcome that were delivered.
        UnknownPresent = "unknown-present",
        /// Sends of unknown outcome that were never seen.
        UnknownAbsent = "unknown-absent",
        /// Acked messages that came back after the loss of a broker node.
        Returned = "returned",
        /// First starts of a grant in a session that an older one held; how long after its end.
        Takeover = "takeover",
    }
}

names! {
    /// What had not happened when the history ended.
    Liveness {
        /// Sent, and not delivered.
        Unseen = "unseen",
        /// Delivered, and not settled.
        Stall = "stall",
        /// A held lane with stalls on which nothing moved any more.
        StuckLane = "stuck-lane",
    }
}
