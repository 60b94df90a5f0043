//! What must hold in each schedule, and what is measured of it.

use std::time::Duration;

use convoy_core::Moment;

use super::faults::{Fault, Kind};
use super::world::{Process, World, ms};

/// So long after the last join the lanes of a group that nothing befell are where they belong.
const CALM_LIMIT: Duration = ms(5_000);
/// So long after one of its members came again.
const AGAIN_LIMIT: Duration = ms(8_000);
/// So long after the one thing that befell a group is over they are there again.
const ONE_LIMIT: Duration = ms(15_000);
/// So long after the last of many faults is over.
const SPOILT_LIMIT: Duration = ms(45_000);
/// So long after that nothing moves.
const LONG: Duration = ms(30_000);
/// So many lanes are moved, at most, for each lane of each member and each change of the members.
const MOVES: f64 = 0.5;
/// The same where words are lost, so that members come and go in each other's eyes.
const MOVES_SPOILT: f64 = 1.5;
/// So many probes are sent, at most, for each lane and each change of the members.
const PROBES: f64 = 3.0;
/// So often a lane of the group changes hands, at most and on the average, when one member of three leaves or is killed.
const HANDED: f64 = 1.25;

#[derive(Clone, Debug, Default)]
pub(super) struct Judge {
    /// How often the members changed, in somebody's eyes.
    pub(super) changes: u32,
    moves: u32,
    probes: u32,
    moved_at: Moment,
    probed_at: Moment,
    activated_at: Moment,
    /// How often another one became active, and how often when the last fault began.
    handed: u32,
    handed_before: u32,
    fault: Option<Fault>,
    /// When it was not yet as it should be, and why.
    wrong_at: Moment,
    wrong: String,
}

/// What is measured of a schedule.
#[derive(Clone, Copy, Debug)]
pub(super) struct Figures {
    pub(super) kind: Kind,
    pub(super) settled: Duration,
    pub(super) moves: f64,
    pub(super) probes: f64,
    /// How often lanes changed hands since the last fault began, for each lane.
    pub(super) handed: f64,
}

impl Judge {
    pub(super) fn moved(&mut self, now: Moment) {
        (self.moves, self.moved_at) = (self.moves + 1, now);
    }

    pub(super) fn probed(&mut self, now: Moment) {
        (self.probes, self.probed_at) = (self.probes + 1, now);
    }

    pub(super) fn activated(&mut self, now: Moment) {
        (self.handed, self.activated_at) = (self.handed + 1, now);
    }

    pub(super) fn strikes(&mut self, fault: Fault) {
        self.fault = Some(fault);
        self.handed_before = self.handed;
    }

    /// Looks at everything. Gives whether all was seen.
    pub(super) fn look(world: &mut World) -> Result<bool, String> {
        is_bare(world)?;
        if world.faults_left > 0 {
            return Ok(false);
        }
        if let Err(why) = is_right(world) {
            (world.judge.wrong_at, world.judge.wrong) = (world.now, why);
        }
        came_to_rest(world)?;
        let over = world.now >= world.judge.restless_at().max(world.calm_at) + LONG;
        if over { was_little(world).map(|()| true) } else { Ok(false) }
    }

    fn restless_at(&self) -> Moment {
        self.wrong_at.max(self.moved_at).max(self.activated_at).max(self.probed_at)
    }

    pub(super) fn figures(world: &World) -> Figures {
        let judge = &world.judge;
        let settled = judge.restless_at().since(world.calm_at);
        let members = world.processes.len() as f64;
        let each = f64::from(world.plan.lanes) * f64::from(judge.changes.max(1));
        let (moves, probes) = (f64::from(judge.moves) / each / members, f64::from(judge.probes) / each);
        let handed = f64::from(judge.handed - judge.handed_before) / f64::from(world.plan.lanes);
        Figures { kind: world.plan.kind, settled, moves, probes, handed }
    }
}

/// A lane without any registration is in the middle of being handed over.
fn is_bare(world: &World) -> Result<(), String> {
    let ready = world.processes.iter().filter(|process| process.alive).filter_map(|process| process.ready_since);
    let Some(ready) = ready.min() else { return Ok(()) };
    for lane in 0..world.plan.lanes {
        let Some(since) = world.broker.bare_since(lane) else { continue };
        let bare = world.now.since(since.max(ready));
        if bare > world.plan.bare_limit() {
            return Err(format!("lane {lane} was registered for by nobody for {bare:?}"));
        }
    }
    Ok(())
}

/// Each lane is active at the one member that all say it belongs to, and all have as many as the others, or one more.
fn is_right(world: &World) -> Result<(), String> {
    let living: Vec<(usize, &Process)> =
        world.processes.iter().enumerate().filter(|(_, process)| process.alive).collect();
    let mut loads = vec![0_u32; world.processes.len()];
    for lane in 0..world.plan.lanes {
        let by: Vec<usize> =
            living.iter().filter(|(_, process)| process.view.spread.expects(lane)).map(|(at, _)| *at).collect();
        let [owner] = by[..] else { return Err(format!("lane {lane} is expected by {by:?}")) };
        let active = world.broker.active(lane).map(|conn| conn.member);
        if active != Some(owner) {
            return Err(format!("lane {lane} is active at {active:?} and belongs to {owner}"));
        }
        loads[owner] += 1;
    }
    let loads: Vec<u32> = living.iter().map(|(at, _)| loads[*at]).collect();
    match (loads.iter().min(), loads.iter().max()) {
        (Some(least), Some(most)) if most - least > 1 => Err(format!("the lanes are spread {loads:?}")),
        _ => Ok(()),
    }
}

/// What must have come to rest, and has not.
fn came_to_rest(world: &World) -> Result<(), String> {
    let judge = &world.judge;
    let limit = match world.plan.kind {
        Kind::Calm => CALM_LIMIT,
        Kind::One if judge.fault == Some(Fault::CutOff) => AGAIN_LIMIT,
        Kind::One => ONE_LIMIT,
        Kind::Spoilt => SPOILT_LIMIT,
    };
    let late = |at: Moment| Some(at.since(world.calm_at)).filter(|late| *late > limit);
    if let Some(late) = late(judge.wrong_at) {
        return Err(format!("not spread {late:?} after the last fault: {}", judge.wrong));
    }
    let restless = [(judge.moved_at, "moved"), (judge.activated_at, "changed hands"), (judge.probed_at, "was probed")];
    match restless.into_iter().find_map(|(at, what)| Some((late(at)?, what))) {
        Some((late, what)) => Err(format!("a lane {what} {late:?} after the last fault")),
        None => Ok(()),
    }
}

/// It took no more than it had to.
fn was_little(world: &World) -> Result<(), String> {
    let figures = Judge::figures(world);
    if figures.moves > if world.plan.kind == Kind::Spoilt { MOVES_SPOILT } else { MOVES } {
        return Err(format!("{:.2} moves a lane of a member and change", figures.moves));
    }
    if figures.probes > PROBES {
        return Err(format!("{:.2} probes a lane and change", figures.probes));
    }
    let lost_one = world.plan.kind == Kind::One && matches!(world.judge.fault, Some(Fault::Leave | Fault::Kill));
    if lost_one && figures.handed > HANDED {
        return Err(format!("a lane changed hands {:.2} times on the average", figures.handed));
    }
    Ok(())
}
