//! The small enumerations of the history, each with its pinned byte.

macro_rules! codes {
    ($(#[$doc:meta])* $name:ident { $($(#[$vdoc:meta])* $variant:ident = $code:literal,)+ }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum $name { $($(#[$vdoc])* $variant,)+ }

        impl $name {
            pub(super) const fn code(self) -> u8 {
                match self { $(Self::$variant => $code,)+ }
            }

            pub(super) const fn from_code(code: u8) -> Option<Self> {
                match code { $($code => Some(Self::$variant),)+ _ => None }
            }
        }
    };
}

codes! {
    /// The three-valued answer of a broker.
    Answer {
        /// Done, and known to be.
        Ok = 1,
        /// Definitely not done.
        Refused = 2,
        /// It left, and no answer came.
        Unknown = 3,
    }
}
codes! {
    /// How a handler ended.
    Ended {
        /// Well.
        Ok = 1,
        /// With an error, its own time limit included.
        Error = 2,
        /// With a panic.
        Panic = 3,
        /// Cancelled for the loss of its right: not charged.
        Cancelled = 4,
    }
}
codes! {
    /// Why a message goes to the dead letters.
    Reason {
        /// The attempts are used up.
        Exhausted = 1,
        /// The handler said so.
        Explicit = 2,
        /// The envelope is broken.
        Malformed = 3,
    }
}
codes! {
    /// Where a message is set aside.
    Store {
        /// The dead letters.
        Dead = 1,
        /// The parking store.
        Parked = 2,
    }
}
codes! {
    /// Why a grant ended.
    Cause {
        /// Given back after a drain that finished: no duplicate may follow.
        Drained = 1,
        /// Given back although the drain did not finish in time.
        DrainCut = 2,
        /// Taken by the broker: revoked, detached, cancelled.
        Revoked = 3,
        /// The connection ended.
        Connection = 4,
        /// A settlement or renewal was refused.
        Refused = 5,
        /// The local deadline passed.
        Expired = 6,
        /// Given up after an unknown answer.
        Surrendered = 7,
    }
}
codes! {
    /// Kinds of fault. Those with which a broker may end a right at once say so in
    /// [`Fault::ends_right`].
    Fault {
        /// The process is stopped (`SIGSTOP`).
        Freeze = 1,
        /// The connection is closed or reset.
        Reset = 2,
        /// The link swallows bytes.
        Blackhole = 3,
        /// The broker detaches the link by force.
        Detach = 4,
        /// The broker cancels the consumer.
        Cancel = 5,
        /// The member left its group, or was put out of it.
        MemberLeft = 6,
        /// The broker is stopped or restarted, cleanly.
        BrokerStop = 7,
        /// The broker is killed.
        BrokerKill = 8,
        /// The broker is stopped (`SIGSTOP`): no lock moves meanwhile.
        BrokerFreeze = 9,
        /// A node of the broker is lost: acks may be forgotten where the broker says so.
        NodeLoss = 10,
        /// The link is slow.
        Slow = 11,
        /// The broker is full.
        Full = 12,
        /// Any other.
        Other = 13,
    }
}
codes! {
    /// Which side of a link was cut.
    Side {
        /// The client's side only: the broker knows nothing of it.
        Client = 1,
        /// The broker's side only: the client knows nothing of it.
        Broker = 2,
        /// Both.
        Both = 3,
    }
}
codes! {
    /// Begin or end of a fault.
    Phase {
        /// It begins.
        Begin = 1,
        /// It ends.
        End = 2,
    }
}

impl Fault {
    /// Whether a broker that sees this fault may end the right at once, without expiry.
    pub const fn ends_right(self) -> bool {
        !matches!(self, Self::Freeze | Self::BrokerFreeze | Self::Slow | Self::Full | Self::Other)
    }
}
