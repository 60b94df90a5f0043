//! Grants: evidence, deadlines, expiry, loss, and telling handlers.

use std::sync::Arc;
use std::time::Duration;

use super::input::{CancelWhy, Note, Notice, RunId};
use super::state::{GrantState, Links, Spare, Step};
use super::timers::Timer;
use super::{Bug, Engine, Mode};
use crate::backend::{Command, Grant, LeaseCell, Loss, Place, Shape};
use crate::position::Position;
use crate::time::Moment;

/// A renewal without an answer is asked for again after this.
const RENEW_AGAIN: Duration = Duration::from_millis(500);

/// Of how many grants the memory is kept for the next ones.
const SPARE: usize = 64;

impl Engine {
    pub(super) fn granted(&mut self, now: Moment, grant: Grant, place: Place, start: Position, lease: Arc<LeaseCell>) {
        if self.highest_epoch.is_some_and(|highest| grant.epoch() <= highest) {
            return;
        }
        self.highest_epoch = Some(grant.epoch());
        if let Some(old) = self.by_place.get(&place).copied() {
            self.lose(now, old, Loss::Revoked);
        }
        if matches!(self.mode, Mode::Draining { .. }) {
            self.commands.push(Command::Release { grant });
            return;
        }
        self.note(|_| Note::Granted { grant, place: place.clone() });
        let Spare { ring, untold, told } = self.spare.pop().unwrap_or_default();
        let gi = self.grants.insert(GrantState {
            grant,
            place: place.clone(),
            cell: lease,
            granted_at: now,
            deadline: None,
            suspended: false,
            renew_at: now + RENEW_AGAIN,
            renew_again: RENEW_AGAIN,
            generation: start.generation,
            next_position: start.value,
            end: start.value,
            ring,
            told_in_front: 0,
            settled_inside: 0,
            messages: 0,
            bytes: 0,
            full_sessions: 0,
            reading: true,
            running: 0,
            asides: 0,
            untold,
            untold_since: Moment::NEVER,
            told_since: Moment::NEVER,
            told,
            ticket: 0,
            no_room: false,
            covered: u64::MAX,
            held_back: false,
            passed: false,
            in_flight: 0,
            settle_after: Moment::ORIGIN,
            quiet_after: Moment::ORIGIN,
            urgent: false,
            leaving: None,
            handled: 0,
            began: None,
            idle_since: None,
            idle_links: Links::default(),
            claims: 0,
            lapsing: false,
            timer: None,
            armed: Moment::NEVER,
        });
        self.by_epoch.insert(grant.epoch(), gi);
        self.by_place.insert(place, gi);
        self.commands.push(Command::Renew { grant });
        self.bound_reading(gi);
        self.arm(now, gi);
    }

    pub(super) fn proved(&mut self, now: Moment, grant: Grant, asked_at: Moment, valid_for: Duration) {
        let Some(gi) = self.live(grant) else { return };
        let margin = self.limits.margin;
        let g = &self.grants[gi];
        let old = asked_at < g.granted_at;
        let from = if self.bug(Bug::DeadlineFromAnswer) { now } else { asked_at };
        let deadline = (from + valid_for) - margin;
        if (old && !self.bug(Bug::OldEvidence)) || deadline <= now || g.lapsing {
            return;
        }
        let g = &mut self.grants[gi];
        let resumes = g.deadline.is_none_or(|d| now >= d);
        if g.deadline.is_none_or(|d| deadline > d) {
            g.deadline = Some(deadline);
            g.suspended = false;
            g.cell.set(deadline);
            g.renew_at = asked_at + valid_for / 2;
            g.renew_again = (valid_for / 16).max(Duration::from_millis(1));
        }
        self.note(|_| Note::Proved { grant, asked_at, deadline });
        if resumes {
            self.activate_all(gi);
            self.note_idle(now, gi);
        }
        if self.holds(gi, grant) {
            self.arm(now, gi);
        }
    }

    /// Puts the sessions of a place in line that had to wait for its evidence.
    fn activate_all(&mut self, gi: usize) {
        for at in 0..self.grants[gi].ring.len() {
            if let Some(si) = self.grants[gi].ring[at].open()
                && self.sessions[si].step == Step::Idle
            {
                self.activate(si);
            }
        }
        if let Place::Session(id) = &self.grants[gi].place
            && let Some(claim) =
                self.find_session(self.grants[gi].grant.shard(), id).and_then(|si| self.sessions[si].claim)
        {
            self.wake_claim(claim);
        }
    }

    /// Does what is due of a grant, and arms its timer for what is due next.
    pub(super) fn check_grant(&mut self, now: Moment, gi: usize) {
        let grant = self.grants[gi].grant;
        let g = &self.grants[gi];
        let gives_up_at = match g.deadline {
            Some(deadline) => deadline + self.limits.surrender_after,
            None => g.granted_at + self.config.prove_within,
        };
        if now >= gives_up_at && !self.bug(Bug::StartAfterExpiry) {
            return self.surrender(now, gi, Loss::Expired);
        }
        if g.deadline.is_some_and(|deadline| now >= deadline) && !g.suspended {
            self.grants[gi].suspended = true;
            self.cancel_runs(now, gi, CancelWhy::Lost(Loss::Expired));
        }
        self.renew_if_due(now, gi);
        self.consider_settling(now, gi);
        self.leave_if_due(now, gi);
        if self.holds(gi, grant) {
            self.arm(now, gi);
        }
    }

    fn renew_if_due(&mut self, now: Moment, gi: usize) {
        let skips = self.bug(Bug::RenewalStopsWhileRunning) && self.grants[gi].running > 0;
        let g = &mut self.grants[gi];
        if now < g.renew_at || g.lapsing {
            return;
        }
        g.renew_at = now + g.renew_again;
        if !skips {
            self.commands.push(Command::Renew { grant: g.grant });
        }
    }

    /// Arms the timer of a grant for what comes next.
    pub(super) fn arm(&mut self, now: Moment, gi: usize) {
        let g = &self.grants[gi];
        let mut due = match g.deadline {
            Some(deadline) if g.suspended => deadline + self.limits.surrender_after,
            Some(deadline) => deadline,
            None => g.granted_at + self.config.prove_within,
        };
        if self.bug(Bug::StartAfterExpiry) && now >= due {
            due = Moment::NEVER;
        }
        if !g.lapsing {
            due = due.min(g.renew_at);
        }
        if let Some(leaving) = &g.leaving {
            due = due.min(match leaving.cancelled {
                false => leaving.cancel_at,
                // A handler that goes on behind that time is waited for: its end is the next thing that happens.
                true if now < leaving.until => leaving.until,
                true => Moment::NEVER,
            });
        }
        if let Some(settle_at) = self.settle_at(now, gi) {
            due = due.min(settle_at);
        }
        self.arm_at(gi, due);
    }

    /// Arms the timer of a grant, unless it fires before anyway: what is due then is looked at anew.
    pub(super) fn arm_at(&mut self, gi: usize, due: Moment) {
        let g = &mut self.grants[gi];
        if due < g.armed {
            g.armed = due;
            self.timers.set(&mut g.timer, due, Timer::Grant(gi));
        }
    }

    fn idle_limit(&self) -> Duration {
        if self.pressure { self.config.idle_under_pressure } else { self.config.idle_release }
    }

    /// Starts the clock of a session that has nothing to do, on a broker that locks sessions.
    pub(super) fn note_idle(&mut self, now: Moment, gi: usize) {
        let Shape::Sessions { .. } = self.limits.shape else { return };
        let g = &mut self.grants[gi];
        if g.idle_since.is_some() || g.claims > 0 || !(g.is_quiet() && g.is_told() && g.is_proved()) {
            return;
        }
        if self.idle_limit().is_zero() {
            return self.release(now, gi);
        }
        self.grants[gi].idle_since = Some(now);
        self.idle.push(&mut self.grants, gi);
    }

    /// Something is to be done there.
    pub(super) fn not_idle(&mut self, gi: usize) {
        if self.grants[gi].idle_since.take().is_some() {
            self.idle.unlink(&mut self.grants, gi);
        }
    }

    /// When the session that is idle for longest is to be released.
    pub(super) fn idle_until(&self) -> Option<Moment> {
        let since = self.grants.get(self.idle.oldest()?)?.idle_since?;
        Some(since + self.idle_limit())
    }

    /// Idle sessions make room for others; under pressure sooner.
    pub(super) fn release_idle(&mut self, now: Moment) {
        while self.idle_until().is_some_and(|until| now >= until)
            && let Some(gi) = self.idle.oldest()
        {
            self.release(now, gi);
        }
    }

    /// Ends a right here and at the broker: nobody may hold what this engine no longer trusts.
    pub(super) fn surrender(&mut self, now: Moment, gi: usize, why: Loss) {
        let grant = self.grants[gi].grant;
        self.lose(now, gi, why);
        if !self.bug(Bug::NoSurrender) {
            self.commands.push(Command::Surrender { grant });
        }
    }

    /// Gives a right back in good order.
    pub(super) fn release(&mut self, now: Moment, gi: usize) {
        let grant = self.grants[gi].grant;
        self.commands.push(Command::Release { grant });
        self.lose(now, gi, Loss::Released);
    }

    /// Ends a right here: handlers are told, what was buffered is forgotten. Their sessions' gates stay shut until they end.
    pub(super) fn lose(&mut self, now: Moment, gi: usize, why: Loss) {
        self.cancel_runs(now, gi, CancelWhy::Lost(why));
        self.not_idle(gi);
        let mut g = self.grants.remove(gi);
        self.left_behind |= matches!(self.mode, Mode::Draining { .. }) && (g.in_flight > 0 || !g.untold.is_empty());
        g.cell.end();
        self.timers.cancel(&mut g.timer);
        self.totals.lost += u64::from(why != Loss::Released);
        self.by_epoch.remove(&g.grant.epoch());
        self.by_place.remove(&g.place);
        let claimed = if g.claims > 0 { self.claimed_under(gi) } else { Vec::new() };
        for si in g.ring.iter().map(|e| e.session).chain(claimed) {
            // A session may stand in the ring many times and be forgotten at the first.
            if self.sessions.get(si).is_some_and(|s| s.grant == Some(gi)) {
                self.empty(si, why);
            }
        }
        self.note(|_| Note::Lost { grant: g.grant, place: g.place.clone(), why });
        if self.spare.len() < SPARE {
            let mut spare = Spare { ring: g.ring, untold: g.untold, told: g.told };
            spare.ring.clear();
            spare.untold.clear();
            spare.told.clear();
            self.spare.push(spare);
        }
        self.bound_total();
    }

    /// Forgets what was queued in a session under a grant that is gone.
    fn empty(&mut self, si: usize, why: Loss) {
        let keeps = self.bug(Bug::BufferKeptAcrossGrants);
        self.leaves_line(si);
        let s = &mut self.sessions[si];
        s.grant = None;
        s.aside = None;
        s.entries = 0;
        self.timers.cancel(&mut s.timer);
        if !self.bug(Bug::LossIsCharged) {
            self.sessions[si].failures = 0;
        }
        let mut next = if keeps { None } else { self.sessions[si].head.take() };
        while let Some(node) = next {
            let node = self.nodes.remove(node);
            next = node.next;
            self.messages = self.messages.saturating_sub(1);
            self.bytes = self.bytes.saturating_sub(node.size);
        }
        let s = &mut self.sessions[si];
        if !keeps {
            (s.tail, s.len, s.bytes, s.full) = (None, 0, 0, false);
        }
        if let Some(claim) = s.claim.take() {
            self.claim_lost(claim, why);
        }
        self.sessions[si].step = Step::Idle;
        self.forget_if_idle(si);
    }

    /// Tells every handler of a grant to end.
    pub(super) fn cancel_runs(&mut self, now: Moment, gi: usize, why: CancelWhy) {
        if self.grants[gi].running == 0 || self.bug(Bug::NoCancelOnLoss) {
            return;
        }
        for at in 0..self.grants[gi].ring.len() {
            if let Some(run) = self.grants[gi].ring[at].open().and_then(|si| self.sessions[si].run)
                && self.runs[run].grant == self.grants[gi].grant
            {
                self.cancel(now, run, why);
            }
        }
    }

    /// Tells a handler to end; its future is dropped after the grace time.
    fn cancel(&mut self, now: Moment, index: usize, why: CancelWhy) {
        let run = &mut self.runs[index];
        let first = run.cancelled.is_none();
        if first || matches!(why, CancelWhy::Lost(_)) {
            run.cancelled = Some(why);
        }
        if first {
            let serial = run.serial;
            self.notices.push(Notice::Cancel { run: RunId { index, serial }, why });
            self.timers.set(&mut run.timer, now + self.config.grace, Timer::Run(index));
            self.by_age.unlink(&mut self.runs, index);
        }
    }

    /// A handler that was told to end did not: its future is to be dropped.
    pub(super) fn grace_is_over(&mut self, index: usize) {
        let run = &mut self.runs[index];
        run.timer = None;
        self.notices.push(Notice::Drop { run: RunId { index, serial: run.serial } });
    }

    /// Handlers that ran for too long are told to end.
    pub(super) fn time_out_runs(&mut self, now: Moment) {
        let Some(timeout) = self.config.handler_timeout else { return };
        while let Some(oldest) = self.by_age.oldest()
            && now >= self.runs[oldest].started + timeout
        {
            self.cancel(now, oldest, CancelWhy::TimedOut);
        }
    }
}
