//! Turns: a session that has had its own gives its place to the next one.

use super::state::{Entry, Leaving, Step};
use super::{Bug, Engine};
use crate::backend::Shape;
use crate::time::Moment;

impl Engine {
    /// Ends the turn of a session that has had it, while others may be waiting for its place: it starts nothing more, what it did is settled, and it is given back. Between two messages, never
    /// within one, and not while one is tried again, whose attempts would be counted anew.
    pub(super) fn consider_turn(&mut self, now: Moment, gi: usize) {
        let Shape::Sessions { .. } = self.limits.shape else { return };
        let Some(turn) = self.config.turn.filter(|_| self.pressure) else { return };
        let g = &self.grants[gi];
        let (Some(began), true) = (g.began, g.leaving.is_none() && g.claims == 0 && g.running == 0) else { return };
        if !turn.is_over(g.handled, now.since(began)) {
            return;
        }
        if let Some(si) = g.ring.iter().find_map(Entry::open) {
            let s = &self.sessions[si];
            if s.failures > 0 || !matches!(s.step, Step::Idle | Step::Ready) {
                return;
            }
            self.leaves_line(si);
        }
        self.bugs_at_turn(now, gi);
        if let Some(g) = self.grants.get_mut(gi) {
            g.leaving = Some(Leaving { cancel_at: Moment::NEVER, until: Moment::NEVER, cancelled: true });
        }
    }

    fn bugs_at_turn(&mut self, now: Moment, gi: usize) {
        if self.bug(Bug::TurnDropsTheRest) {
            let open = |entry: &Entry| entry.open().map(|_| entry.position);
            let rest: Vec<u64> = self.grants[gi].ring.iter().filter_map(open).collect();
            rest.into_iter().for_each(|position| self.resolve(now, gi, position));
        }
        if self.bug(Bug::TurnForgetsToSettle) {
            self.release(now, gi);
        }
    }
}
