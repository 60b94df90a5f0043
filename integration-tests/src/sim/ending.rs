//! How a schedule ended, and what is said of it.

use super::env::{Tally, tell};
use super::plan::Personality;
use super::world::World;
use crate::checker::{Fatal, Liveness, Verdict};
use crate::history::{Store, What};

/// How a schedule ended.
#[derive(Debug)]
pub(crate) struct Ending {
    pub(crate) verdict: Verdict,
    pub(crate) tally: Tally,
    pub(crate) personality: Personality,
    pub(crate) hash: u64,
    /// Everything was settled, and every consumer left in good order.
    pub(crate) finished: bool,
}

impl Ending {
    /// Whether anything is wrong: a guarantee broken, something left hanging, a turn forgotten, something kept.
    pub(crate) fn is_bad(&self) -> bool {
        !self.verdict.is_ok()
            || !self.verdict.is_live()
            || !self.finished
            || self.tally.starved + self.tally.leaks + self.tally.doubled + self.tally.lapsed > 0
    }

    /// The first cause, by name.
    pub(crate) fn cause(&self) -> &'static str {
        if let Some(first) = self.verdict.findings().first() {
            return first.fatal.name();
        }
        if let Some(fatal) = Fatal::ALL.iter().find(|name| self.verdict.fatal(**name) > 0) {
            return fatal.name();
        }
        if let Some(left) = Liveness::ALL.iter().find(|name| self.verdict.left(**name) > 0) {
            return left.name();
        }
        let own = [
            (self.tally.doubled, "two-at-once"),
            (self.tally.lapsed, "let-expire"),
            (self.tally.starved, "starved"),
            (self.tally.leaks, "leak"),
        ];
        own.iter().find(|(count, _)| *count > 0).map_or("unfinished", |(_, name)| name)
    }
}

impl World {
    /// Tells the checker what is in the store, and asks it.
    pub(super) fn end(&mut self, finished: bool) -> Ending {
        let env = &mut self.env;
        for at in 0..env.log.dead.len() {
            let position = u64::from(env.log.dead[at]) + 1;
            let entry = &env.log.entries[env.log.dead[at] as usize];
            let (session, message) = (entry.key(position), entry.message);
            env.judge.push(env.now, 0, What::Stored { session, message, store: Store::Dead });
        }
        for (at, entry) in env.log.entries.iter().enumerate().filter(|(_, entry)| !entry.settled) {
            tell!(env, "left: {} of session {} in place {}", at + 1, entry.session, entry.place);
        }
        if !finished {
            for (place, spot) in self.broker.spots.iter().enumerate() {
                tell!(env, "place {place}: holder {:?}, committed {:?}", spot.holder, spot.committed);
            }
            for process in &self.processes {
                let counts = process.engine.as_ref().map(convoy_core::engine::Engine::counts);
                tell!(env, "p{}: {counts:?}, connection {:?}", process.incarnation, process.conn);
            }
        }
        // What is not settled at the broker is left hanging; what is settled there and was not handled is lost.
        env.judge.checker.options_mut().settled_by_end = env.log.unsettled == 0;
        let verdict = env.judge.checker.finish();
        let hash = env.judge.hash;
        Ending { verdict, tally: env.tally, personality: env.plan.personality, hash, finished }
    }
}
