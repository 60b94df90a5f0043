//! What this backend promises, and how.

use convoy_core::{Guarantee as G, Guarantees, Support};

/// What every broker of this backend claims; the same as [`Backend::guarantees`](convoy_core::backend::Backend::guarantees) of one that is connected.
#[must_use]
pub fn guarantees() -> Guarantees {
    use Support::{Emulated, Native, Unsupported};
    Guarantees::none()
        .claim(
            G::NoLoss,
            Native,
            "records confirmed by all replicas in sync, commits only after handling; as long as the topic keeps what is not handled, which `check` looks at",
        )
        .claim(G::SessionFifo, Emulated, "a partition is in order and has one owner; convoy splits it into sessions")
        .claim(G::GapFreeSettlement, Emulated, "convoy commits a watermark, and of what is above it a prefix of each session")
        .claim(
            G::SuffixRedelivery,
            Emulated,
            "a new owner goes on at the committed watermark, and leaves out what the commit's metadata says is done above it",
        )
        .claim(G::BoundedDuplicates, Emulated, "what is done and not known to be committed is bounded")
        .claim(
            G::LiveExclusion,
            Emulated,
            "a right ends here one session timeout after its last answered commit was sent, before the broker can expel the member; a member that is expelled or removed by hand loses its lanes at once, and hears of it by its next heartbeat",
        )
        .claim(G::ZombieBound, Emulated, "the handler is cancelled when its right ends, and dropped after the grace time")
        .claim(
            G::SettleFencing,
            Emulated,
            "a broker refuses commits of a member that is out of its group; those of a living one for a lane it has lost are held back here, under the lock that a revoke takes",
        )
        .claim(G::FencedEffects, Native, "the offset: it grows strictly within a session as long as the number of partitions stays")
        .claim(G::InPlaceRetry, Emulated, "convoy repeats the head of the session, uncommitted")
        .claim(G::DeadLetterOrder, Emulated, "convoy's own copy is confirmed, then the source committed")
        .claim(G::ProducerOrder, Emulated, "one unconfirmed record a session; convoy halts a session after a failure")
        .claim(G::Isolation, Emulated, "until the lane's buffer is full of stuck sessions")
        .claim(G::NoPhantom, Native, "a record is handed over as it was stored")
        .claim(G::ParkOrder, Unsupported, "there is no parking store yet")
        .claim(G::StateFencing, Unsupported, "lanes hold no session state yet")
        .claim(G::DurableAttempts, Unsupported, "attempts are counted in the process; Kafka counts none")
}

#[cfg(test)]
mod tests {
    #[test]
    fn every_guarantee_has_a_word() {
        for claim in super::guarantees().iter() {
            assert_ne!(claim.why, "not claimed", "{}", claim.guarantee);
        }
    }
}
