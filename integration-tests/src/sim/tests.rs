//! The simulation itself: that it holds, repeats itself, has what it says it has, and finds what is planted.

use super::*;

#[test]
fn schedules_hold_and_each_handles_a_hundred() {
    let summary = run(&Options { schedules: 3_000, ..Options::default() });
    assert!(summary.is_ok(), "{:#?}", summary.failures);
    assert_eq!(summary.schedules, 3_000);
    assert!(summary.fewest >= 100 && summary.median_faults() >= 3);
}

#[test]
fn every_kind_of_disturbance_is_in_one_schedule_of_a_hundred() {
    let options = Options { schedules: 20_000, seed: 1 << 40, ..Options::default() };
    let (rarest, percent) = run(&options).rarest();
    assert!(percent >= 1.0, "{}: {percent} %", rarest.name());
}

#[test]
fn a_seed_gives_the_same_trace_alone_and_among_others() {
    let mut options = Options { schedules: 200, seed: 77, ..Options::default() };
    let alone = (77..277).map(|seed| replay(seed, None, Defect::None, false).0).fold(0, u64::wrapping_add);
    options.threads = 1;
    assert_eq!(run(&options).hash, alone);
    options.threads = 3;
    assert_eq!(run(&options).hash, alone);
}

#[test]
fn each_personality_can_be_had_alone() {
    for personality in Personality::ALL {
        let summary = run(&Options { schedules: 200, personality: Some(*personality), ..Options::default() });
        assert!(summary.is_ok(), "{:#?}", summary.failures);
        assert_eq!(summary.by_personality[*personality as usize], 200);
    }
}

#[test]
fn every_planted_defect_is_caught_and_shows_again() {
    for found in hunt(None, &Options { schedules: 100_000, ..Options::default() }) {
        let caught = found.caught.unwrap_or_else(|| panic!("{} is not caught", found.name));
        let defect = known_bugs().into_iter().find(|(name, _)| *name == found.name).map(|(_, defect)| defect);
        let again = replay(caught.seed, None, defect.unwrap_or(Defect::None), false).1;
        assert_eq!(again.map(|failure| failure.cause), Some(caught.cause), "{}", found.name);
    }
}
