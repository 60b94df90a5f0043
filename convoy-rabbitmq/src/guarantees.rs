//! What this backend promises, and how.

use convoy_core::{Guarantee as G, Guarantees, Support};

/// What every broker of this backend claims; the same as [`Backend::guarantees`](convoy_core::backend::Backend::guarantees) of one that is connected.
#[must_use]
pub fn guarantees() -> Guarantees {
    use Support::{Emulated, Native, Unsupported};
    Guarantees::none()
        .claim(G::NoLoss, Native, "durable quorum queues, persistent messages, confirms, and acknowledgements only after handling")
        .claim(G::SessionFifo, Emulated, "a lane is in order and has one active consumer; convoy splits it into sessions")
        .claim(G::GapFreeSettlement, Emulated, "convoy acknowledges a prefix of each session")
        .claim(G::SuffixRedelivery, Native, "an AMQP channel that is closed gives back what is not acknowledged, in order")
        .claim(
            G::BoundedDuplicates,
            Emulated,
            "what is done and not known to be acknowledged is bounded; after the loss of a broker node acknowledged messages may come again",
        )
        .claim(
            G::LiveExclusion,
            Emulated,
            "a right ends here one heartbeat after its last proof, before the broker can move a silent lane; a connection that the broker sees die moves its lanes at once; before 4.3 so does the loss of the consumer's node",
        )
        .claim(G::ZombieBound, Emulated, "the handler is cancelled when its right ends, and dropped after the grace time")
        .claim(G::SettleFencing, Native, "an acknowledgement counts only on the AMQP channel of its delivery")
        .claim(G::FencedEffects, Emulated, "no position of the broker's: a row a session and producer")
        .claim(G::InPlaceRetry, Emulated, "convoy repeats the head of the session, unacknowledged")
        .claim(G::DeadLetterOrder, Emulated, "convoy's own copy is confirmed, then the source acknowledged")
        .claim(G::ProducerOrder, Emulated, "one unconfirmed message a session; convoy halts a session after a failure")
        .claim(G::Isolation, Emulated, "until the prefetch of the lane is full of stuck sessions")
        .claim(G::NoPhantom, Native, "a message is handed over as it was stored")
        .claim(G::ParkOrder, Unsupported, "there is no parking store yet")
        .claim(G::StateFencing, Unsupported, "lanes hold no session state yet")
        .claim(G::DurableAttempts, Unsupported, "attempts are counted in the process; the broker's own count is shown beside them")
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
