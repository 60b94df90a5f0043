//! Leaving: one place that the broker takes back in good order, or all of them.

use std::time::Duration;

use super::input::CancelWhy;
use super::state::{Leaving, Step};
use super::{Bug, Engine, Mode};
use crate::backend::{Command, Grant};
use crate::time::Moment;

impl Engine {
    /// Starts nothing more; every place is released when its handlers have ended and what they did is settled, at the latest at `until`.
    pub(super) fn drain(&mut self, now: Moment, until: Moment) {
        self.mode = Mode::Draining { until, over: false };
        self.commands.push(Command::Leave);
        self.each_grant(|engine, gi| engine.leave(now, gi, until));
    }

    pub(super) fn revoking(&mut self, now: Moment, grant: Grant, until: Moment) {
        if let Some(gi) = self.live(grant) {
            self.leave(now, gi, until);
        }
    }

    fn leave(&mut self, now: Moment, gi: usize, until: Moment) {
        let grant = self.grants[gi].grant;
        let cancel_at = (until - self.config.grace).max(now);
        let g = &mut self.grants[gi];
        if g.leaving.is_none_or(|l| until < l.until) {
            g.leaving = Some(Leaving { cancel_at, until, cancelled: false });
        }
        if self.bug(Bug::DrainAbandons) || (self.bug(Bug::ReleaseWhileRunning) && self.grants[gi].running > 0) {
            return self.release(now, gi);
        }
        self.consider_settling(now, gi);
        self.consider_leaving(now, gi);
        if self.holds(gi, grant) {
            self.arm(now, gi);
        }
    }

    /// Releases a place that is to be given back, once no handler of it runs and everything it did that can be told is settled.
    pub(super) fn consider_leaving(&mut self, now: Moment, gi: usize) {
        let g = &self.grants[gi];
        let Some(leaving) = g.leaving else { return };
        let done = g.in_flight == 0 && g.asides == 0 && (g.untold.is_empty() || g.no_room);
        let settled = done || self.bug(Bug::DrainForgetsToSettle);
        if g.running == 0 && (settled || now >= leaving.until) {
            self.release(now, gi);
        }
    }

    pub(super) fn leave_if_due(&mut self, now: Moment, gi: usize) {
        let Some(leaving) = &mut self.grants[gi].leaving else { return };
        if now >= leaving.cancel_at && !leaving.cancelled {
            leaving.cancelled = true;
            self.cancel_runs(now, gi, CancelWhy::Leaving);
        }
        self.consider_leaving(now, gi);
    }

    /// The deadline of a drain: what still runs is told to end, and its right is left to run out.
    pub(super) fn drain_is_over(&mut self, now: Moment, until: Moment) {
        self.mode = Mode::Draining { until, over: true };
        self.each_grant(|engine, gi| {
            engine.grants[gi].lapsing = true;
            engine.leave_if_due(now, gi);
        });
    }

    fn each_grant(&mut self, mut act: impl FnMut(&mut Self, usize)) {
        let all: Vec<usize> = self.grants.iter().map(|(gi, _)| gi).collect();
        for gi in all {
            if self.grants.contains(gi) {
                act(self, gi);
            }
        }
    }

    /// The session that has stood still for longest: with a failing head, since when, and how often it failed.
    #[must_use]
    pub fn stuck(&self) -> Option<(&crate::session::SessionId, Moment, u32)> {
        let stuck = self.sessions.iter().filter(|(_, s)| s.failures > 0 && s.step != Step::Idle);
        stuck.min_by_key(|(_, s)| s.failed_since).map(|(_, s)| (&s.id, s.failed_since, s.failures))
    }

    /// How long ago the oldest message was done that the broker is not known to have, at `now`.
    #[must_use]
    pub fn oldest_untold(&self, now: Moment) -> Option<Duration> {
        let untold = self.grants.iter().filter(|(_, g)| !g.untold.is_empty()).map(|(_, g)| g.untold_since).min();
        untold.map(|since| now.since(since))
    }
}
