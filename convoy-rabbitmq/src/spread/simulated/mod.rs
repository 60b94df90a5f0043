//! Groups that form, fail and heal, by a seed and in virtual time: the real [`Spread`](super::Spread) of each member over a model of the broker.
//!
//! `CONVOY_SEED` gives the first seed, `CONVOY_SCHEDULES` how many follow on it. A schedule that fails is told with its seed and all that happened in it.

mod broker;
mod faults;
mod judge;
mod view;
mod world;

use std::collections::BTreeMap;

use faults::Kind;
use judge::{Figures, Judge};
use view::Defect;
use world::World;

fn schedule(seed: u64, defect: Option<Defect>) -> Result<Figures, String> {
    let mut world = World::new(seed, defect, false);
    world.run().map(|()| Judge::figures(&world))
}

/// All that happens in a schedule.
fn traced(seed: u64) -> String {
    let mut world = World::new(seed, None, true);
    let ended = world.run();
    let trace = world.trace.take().unwrap_or_default().join("\n");
    format!("{:?}, faults over at {:?}\n{trace}\n{ended:?}", world.plan, world.calm_at)
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().and_then(|number| number.parse().ok())
}

#[test]
fn whatever_befalls_members_their_lanes_are_spread_in_the_end() {
    let first = number("CONVOY_SEED").unwrap_or_else(|| fastrand::u64(1..1_000_000_000));
    let schedules = number("CONVOY_SCHEDULES").unwrap_or(2_000);
    println!("spreading simulated: CONVOY_SEED={first} CONVOY_SCHEDULES={schedules}");
    let mut seen: BTreeMap<Kind, Vec<(Figures, u64)>> = BTreeMap::new();
    for seed in first..first + schedules {
        let figures = schedule(seed, None).unwrap_or_else(|why| {
            panic!("{why}\nagain with CONVOY_SEED={seed} CONVOY_SCHEDULES=1; what happened:\n{}", traced(seed));
        });
        seen.entry(figures.kind).or_default().push((figures, seed));
    }
    seen.into_iter().for_each(|(kind, seen)| told(kind, seen));
}

/// How long it took: half of them, 99 of a hundred, the worst; and the most of what else is bounded.
fn told(kind: Kind, mut seen: Vec<(Figures, u64)>) {
    seen.sort_by_key(|(figures, _)| figures.settled);
    let at = |hundredths: usize| seen[(seen.len() - 1) * hundredths / 100];
    let most = |of: fn(&Figures) -> f64| seen.iter().map(|(figures, _)| of(figures)).fold(0.0, f64::max);
    let (worst, seed) = at(100);
    println!(
        "RESULT kind={kind:?} schedules={} at_rest_p50={:.2?} p99={:.2?} max={:.2?} (seed {seed}) moves={:.3} probes={:.3} handed={:.3}",
        seen.len(),
        at(50).0.settled,
        at(99).0.settled,
        worst.settled,
        most(|figures| figures.moves),
        most(|figures| figures.probes),
        most(|figures| figures.handed),
    );
}

#[test]
fn every_deliberate_defect_is_found() {
    for defect in Defect::ALL {
        let found = (1..=300).find_map(|seed| Some((seed, schedule(seed, Some(*defect)).err()?)));
        println!("{defect:?}: {found:?}");
        assert!(found.is_some(), "{defect:?} is not found");
    }
}
