//! What this broker promises, and how.

use convoy_core::{Guarantee as G, Guarantees, Support};

/// The claims of a broker of lanes, or of sessions.
pub(crate) fn of(lanes: bool) -> Guarantees {
    use Support::{Emulated, Native, Unsupported};
    let claims = Guarantees::none()
        .claim(G::NoLoss, Native, "kept in memory until every group settled it; ends with the process")
        .claim(G::SettleFencing, Native, "a settlement is taken only under the lock that holds")
        .claim(G::FencedEffects, Native, "positions grow within a session")
        .claim(
            G::ZombieBound,
            Emulated,
            "the handler is cancelled when its right ends, and dropped after the grace time",
        )
        .claim(G::InPlaceRetry, Emulated, "convoy repeats the head of the session")
        .claim(
            G::ProducerOrder,
            Emulated,
            "the broker keeps the order of calls; convoy halts a session after a failure",
        )
        .claim(G::NoPhantom, Native, "a message is handed over as it was stored")
        .claim(G::ParkOrder, Unsupported, "there is no parking store")
        .claim(G::DurableAttempts, Unsupported, "nothing outlives the process");
    if lanes {
        return claims
            .claim(G::SessionFifo, Emulated, "a lane is in order; convoy splits it into sessions")
            .claim(G::GapFreeSettlement, Emulated, "convoy settles a prefix of each session")
            .claim(G::SuffixRedelivery, Native, "a watermark and what is settled above it are kept for each lane")
            .claim(G::BoundedDuplicates, Native, "a new holder gets what is not settled and nothing else")
            .claim(
                G::LiveExclusion,
                Native,
                "a lease runs out or is given back; the end of a connection ends it at once",
            )
            .claim(G::DeadLetterOrder, Emulated, "the copy is confirmed, then the source settled")
            .claim(G::Isolation, Emulated, "until the buffer of the lane is full of stuck sessions")
            .claim(G::StateFencing, Unsupported, "lanes hold no session state");
    }
    claims
        .claim(G::SessionFifo, Native, "a log a session")
        .claim(G::GapFreeSettlement, Native, "a session is settled from its head on")
        .claim(G::SuffixRedelivery, Native, "a session is offered from its first unsettled message on")
        .claim(G::BoundedDuplicates, Native, "each message is settled by itself")
        .claim(G::LiveExclusion, Native, "a lock runs out or is given back; the end of a connection ends it at once")
        .claim(G::DeadLetterOrder, Native, "copied and settled in one step")
        .claim(G::Isolation, Native, "each session is locked and delivered by itself")
        .claim(G::StateFencing, Native, "state is written only under the lock that holds")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_guarantee_has_a_word() {
        for claim in of(false).iter().chain(of(true).iter()) {
            assert_ne!(claim.why, "not claimed", "{}", claim.guarantee);
        }
    }
}
