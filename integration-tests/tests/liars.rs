//! The suite can fail: for every fatal name of the checker, but those that come with park, a liar that makes it and only it.
//!
//! Each line of [`TABLE`] is run twice on the memory broker: with its lie, when the name must be what is reported; and with the same workload and
//! the same faults without it, when nothing must be. Most lies are the backend's. Those of [`Told::ByProgram`] no backend can tell, since the
//! engine does not let it: a program tells them.

#![allow(unreachable_pub, reason = "modules of one test target")]

#[path = "liars/stage.rs"]
mod stage;
#[path = "liars/state.rs"]
mod state;

use std::time::Duration;

use convoy_conformance::agreement::ORDER;
use convoy_conformance::checker::Fatal;
use convoy_conformance::liars::Lie;

use self::stage::{Judged, Play, Program, Trouble};

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);

/// Who tells the lie.
#[derive(Clone, Copy, Debug)]
enum Told {
    ByBackend(Lie),
    ByProgram(Program),
    /// By a backend as well; state is kept by pull loops, which have a workload of their own.
    OfState,
}

/// Each fatal name, the lie that makes it, and the workload in which it shows.
#[rustfmt::skip]
const TABLE: &[(Fatal, Told, Play)] = &[
    // What the broker stores.
    (Fatal::Lost,                 Told::ByBackend(Lie::DropsConfirmed),       Play::PLAIN),
    (Fatal::Phantom,              Told::ByBackend(Lie::Invents),              Play::PLAIN),
    (Fatal::AbortedRead,          Told::ByBackend(Lie::StoresWhatItRefused),  Play::PLAIN),
    (Fatal::ProducerReorder,      Told::ByBackend(Lie::StoresOutOfOrder),     Play::PLAIN),
    // On lanes what is done is settled after a while. Where each message is settled at once this is a duplicate after its settlement.
    (Fatal::Nonmonotonic,         Told::ByBackend(Lie::StoresTwice),          Play { lanes: 2, ..Play::PLAIN }),
    // What it hands out.
    (Fatal::Corrupt,              Told::ByBackend(Lie::FlipsAByte),           Play::PLAIN),
    (Fatal::Misroute,             Told::ByBackend(Lie::DeliversElsewhere),    Play::PLAIN),
    (Fatal::ReorderFirst,         Told::ByBackend(Lie::HoldsBack),            Play { trouble: Trouble::Lose(3), ..Play::ALONE }),
    (Fatal::Skip,                 Told::ByBackend(Lie::SkipsHandedOut),       Play { trouble: Trouble::Lose(1), ..Play::ALONE }),
    // Whom it lets.
    (Fatal::OverlapLive,          Told::ByBackend(Lie::TwoHolders),           Play { work: SECOND, ..Play::TWO }),
    (Fatal::StartAfterExpiry,     Told::ByBackend(Lie::OverstatesLock),       Play { trouble: Trouble::Silence(1), work: MS.saturating_mul(1900), lock: SECOND.saturating_mul(2), ..Play::TWO }),
    (Fatal::LateCancel,           Told::ByProgram(Program::HoldsItsThread),   Play { lock: SECOND, ..Play::ALONE }),
    // What it settles.
    (Fatal::StaleSettle,          Told::ByBackend(Lie::TakesStaleSettlement), Play { trouble: Trouble::HandOver(1), work: SECOND, ..Play::TWO }),
    (Fatal::SettleUnhandled,      Told::ByProgram(Program::SwallowsErrors),   Play::ALONE),
    (Fatal::DuplicateAfterSettle, Told::ByBackend(Lie::ForgetsSettlements),   Play { trouble: Trouble::Lose(4), ..Play::ALONE }),
    (Fatal::DuplicateExcess,      Told::ByBackend(Lie::IgnoresSettlements),   Play { trouble: Trouble::Lose(4), work: SECOND, ..Play::ALONE }),
    // Dead letters, effects, state.
    (Fatal::DeadEarly,            Told::ByBackend(Lie::CallsMalformed),       Play::PLAIN),
    (Fatal::DeadLost,             Told::ByBackend(Lie::LosesDeadLetter),      Play { poison: &[2, 4], ..Play::ALONE }),
    (Fatal::DeadReorder,          Told::ByBackend(Lie::ReordersDeadLetters),  Play { poison: &[2, 4], ..Play::ALONE }),
    (Fatal::FenceViolation,       Told::ByProgram(Program::UnfencedSink),     Play { trouble: Trouble::HandOver(1), work: SECOND, ..Play::TWO }),
    (Fatal::StateStale,           Told::OfState,                              Play::TWO),
];

async fn perform(told: Told, play: &Play, lies: bool) -> Judged {
    match told {
        Told::ByBackend(lie) => stage::perform(play, lies.then_some(lie), None).await,
        Told::ByProgram(program) => stage::perform(play, None, Some((program, lies))).await,
        Told::OfState => state::perform(lies.then_some(Lie::TakesStaleState)).await,
    }
}

/// One test for each name, so that a failure names it.
macro_rules! tests {
    ($($test:ident = $fatal:ident,)+) => {
        $(mod $test {
            #[tokio::test(start_paused = true)]
            async fn the_lie_is_named() {
                super::is_named(super::Fatal::$fatal).await;
            }

            #[tokio::test(start_paused = true)]
            async fn without_the_lie_nothing_is() {
                super::is_innocent(super::Fatal::$fatal).await;
            }
        })+

        const TESTED: &[Fatal] = &[$(Fatal::$fatal,)+];
    };
}

tests! {
    lost = Lost,
    phantom = Phantom,
    aborted_read = AbortedRead,
    producer_reorder = ProducerReorder,
    nonmonotonic = Nonmonotonic,
    corrupt = Corrupt,
    misroute = Misroute,
    reorder_first = ReorderFirst,
    skip = Skip,
    overlap_live = OverlapLive,
    start_after_expiry = StartAfterExpiry,
    late_cancel = LateCancel,
    stale_settle = StaleSettle,
    settle_unhandled = SettleUnhandled,
    duplicate_after_settle = DuplicateAfterSettle,
    duplicate_excess = DuplicateExcess,
    dead_early = DeadEarly,
    dead_lost = DeadLost,
    dead_reorder = DeadReorder,
    fence_violation = FenceViolation,
    state_stale = StateStale,
}

/// Positions are the backend's word: those of this one are in order, and its messages are not.
#[tokio::test(start_paused = true)]
async fn neighbours_that_change_places_under_growing_positions_are_named_as_well() {
    let Judged { verdict, counts, agreed } = perform(Told::ByBackend(Lie::SwapsNeighbours), &Play::ALONE, true).await;
    assert!(verdict.fatal(Fatal::ReorderFirst) > 0, "{verdict}");
    assert_eq!(verdict.fatal(Fatal::ReorderFirst), verdict.fatal_total(), "{verdict}");
    assert_eq!((agreed, counts.inversions), (Ok(()), 1));
}

/// A sentinel that misses a gap is caught by what the history says, and only then.
#[tokio::test(start_paused = true)]
async fn a_sentinel_that_misses_a_gap_disagrees() {
    for lie in [Lie::DropsConfirmed, Lie::SkipsHandedOut, Lie::DeliversElsewhere] {
        let (.., play) =
            TABLE.iter().find(|(_, told, _)| matches!(told, Told::ByBackend(of) if *of == lie)).expect("a line");
        for blind in [false, true] {
            let judged = stage::perform(play, Some(lie), Some((Program::MissesGaps, blind))).await;
            assert!(!judged.verdict.is_ok(), "{lie:?} is found");
            assert_eq!(judged.counts.gaps == 0, blind, "{lie:?}: {:?}", judged.counts);
            let told = judged.agreed.as_ref().err().map(ToString::to_string).unwrap_or_default();
            assert_eq!(told.contains("gaps, and there were"), blind, "{lie:?}: {told}");
        }
    }
    let judged = stage::perform(&Play::PLAIN, None, Some((Program::MissesGaps, true))).await;
    assert_eq!(judged.agreed, Ok(()), "where nothing is missing it has nothing to miss");
}

#[test]
fn every_fatal_name_but_those_of_park_has_its_liar() {
    for name in Fatal::ALL.iter().filter(|name| !name.name().starts_with("park-")) {
        assert_eq!(TABLE.iter().filter(|(fatal, ..)| fatal == name).count(), 1, "{name} has one line in the table");
        assert_eq!(TESTED.iter().filter(|fatal| *fatal == name).count(), 1, "{name} has its tests");
    }
    assert_eq!(TABLE.len(), TESTED.len());
}

async fn is_named(name: Fatal) {
    let (_, told, play) = TABLE.iter().find(|(fatal, ..)| *fatal == name).expect("a line in the table");
    let Judged { verdict, counts, agreed } = perform(*told, play, true).await;
    assert!(verdict.fatal(name) > 0, "{told:?} was not named {name}\n{verdict}");
    assert_eq!(verdict.fatal(name), verdict.fatal_total(), "{told:?} was named otherwise than {name}\n{verdict}");
    assert_eq!(agreed, Ok(()), "{told:?}");
    assert_eq!(counts.is_in_order(), !ORDER.contains(&name), "{told:?}: what is missing or out of order: {counts:?}");
    let repeats = matches!(name, Fatal::Nonmonotonic | Fatal::DuplicateAfterSettle | Fatal::DuplicateExcess);
    assert!(!repeats || counts.repeats > 0, "{told:?}: {counts:?}");
}

async fn is_innocent(name: Fatal) {
    let (_, told, play) = TABLE.iter().find(|(fatal, ..)| *fatal == name).expect("a line in the table");
    let Judged { verdict, counts, agreed } = perform(*told, play, false).await;
    assert_eq!((agreed, counts.is_in_order()), (Ok(()), true), "without {told:?}: {counts:?}");
    assert!(verdict.is_ok() && verdict.is_live(), "without {told:?}\n{verdict}");
    assert!(verdict.messages() > 0, "nothing was sent");
}
