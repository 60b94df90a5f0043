//! Sessions held by a pull loop: the same primitive that the processor uses, held for longer than one message.

use super::input::{Notice, Start};
use super::state::{GrantState, Leaving, SessionState, Step};
use super::{Bug, Engine, Mode};
use crate::backend::{Grant, Loss, Place, Shape};
use crate::session::SessionId;
use crate::time::Moment;

/// Names a session that a pull loop holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ClaimId {
    index: usize,
    serial: u64,
}

impl ClaimId {
    /// A number that no other claim of this engine has.
    #[must_use]
    pub fn serial(self) -> u64 {
        self.serial
    }
}

#[derive(Debug)]
pub(super) struct Claim {
    serial: u64,
    pub(super) session: usize,
    pub(super) flushing: bool,
}

impl Claim {
    pub(super) fn id(&self, index: usize) -> ClaimId {
        ClaimId { index, serial: self.serial }
    }
}

/// Why a named session cannot be claimed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum NotClaimed {
    /// Its place is not held here.
    NotHeld,
    /// Its place is held, and not proved yet; ask again when something happens.
    NotYet,
    /// It is claimed already.
    Taken,
    /// Its lane's buffer is full of other sessions, so that no message of it can come.
    LaneBlocked,
}

/// What a claimed session has.
#[derive(Debug)]
#[non_exhaustive]
pub enum Next {
    /// A message.
    Start(Box<Start>),
    /// Nothing now; a [`Notice::Wake`] follows.
    Wait,
    /// Nothing, and nothing can come before other sessions of its lane are taken.
    Blocked,
    /// The right is gone.
    Lost,
}

impl Engine {
    /// Claims the session that waited longest with a message.
    pub fn claim_any(&mut self, now: Moment) -> Option<(ClaimId, SessionId)> {
        while self.mode == Mode::Running {
            let si = self.next_in_line()?;
            if let Some(gi) = self.sessions[si].grant
                && self.grants[gi].may_start(now)
            {
                return Some(self.claim(gi, si));
            }
        }
        None
    }

    /// Claims a session by name, whether it has a message or not.
    ///
    /// # Errors
    /// Why it cannot be claimed.
    pub fn claim_named(
        &mut self,
        now: Moment,
        place: &Place,
        id: &SessionId,
    ) -> Result<(ClaimId, SessionId), NotClaimed> {
        let gi = *self.by_place.get(place).ok_or(NotClaimed::NotHeld)?;
        let g = &self.grants[gi];
        if g.leaving.is_some() || self.mode != Mode::Running {
            return Err(NotClaimed::NotHeld);
        }
        if !g.may_start(now) {
            return Err(NotClaimed::NotYet);
        }
        let known = self.find_session(g.grant.shard(), id);
        if known.is_some_and(|si| self.sessions[si].claim.is_some()) {
            return Err(NotClaimed::Taken);
        }
        let has_message = known.is_some_and(|si| self.sessions[si].head.is_some());
        if !g.reading && !has_message {
            return Err(NotClaimed::LaneBlocked);
        }
        let si = self.session_for(gi, id);
        self.leaves_line(si);
        Ok(self.claim(gi, si))
    }

    fn claim(&mut self, gi: usize, si: usize) -> (ClaimId, SessionId) {
        let serial = self.next_serial();
        let index = self.claims.insert(Claim { serial, session: si, flushing: false });
        self.sessions[si].claim = Some(index);
        self.grants[gi].claims += 1;
        self.not_idle(gi);
        self.activate(si);
        (ClaimId { index, serial }, self.sessions[si].id.clone())
    }

    /// Starts the next message of a claimed session. Not while the engine is paused or stopped.
    pub fn next(&mut self, now: Moment, claim: ClaimId) -> Next {
        let Some(si) = self.claimed(claim) else { return Next::Lost };
        if self.mode == Mode::Running && self.sessions[si].step == Step::Offered {
            if let Some(start) = self.begin(now, si) {
                return Next::Start(Box::new(start));
            }
            if self.claimed(claim).is_none() {
                return Next::Lost;
            }
        }
        let s = &self.sessions[si];
        match s.grant {
            Some(gi) if !self.grants[gi].reading && s.head.is_none() && self.limits.shape == Shape::Lanes => {
                Next::Blocked
            }
            // Only what other sessions do lets it go on.
            Some(gi) if s.step == Step::Idle && s.run.is_none() && self.is_crowded_out(gi, si) => Next::Blocked,
            Some(_) => Next::Wait,
            None => Next::Lost,
        }
    }

    /// Settles what is done of a claimed session; a [`Notice::Flushed`] follows when the broker is known to have it. `false` when the right is gone.
    pub fn flush(&mut self, now: Moment, claim: ClaimId) -> bool {
        let Some(si) = self.claimed(claim) else { return false };
        let Some(gi) = self.sessions[si].grant else { return false };
        if let Some(c) = self.claims.get_mut(claim.index) {
            c.flushing = true;
        }
        if self.sessions[si].is_flushed() {
            self.claim_flushed(claim.index);
        } else {
            self.grants[gi].urgent = true;
            self.consider_settling(now, gi);
        }
        true
    }

    /// Gives a claimed session back. With a delivery of it still out its right is not released but left to run out, on a broker that locks sessions.
    pub fn unclaim(&mut self, now: Moment, claim: ClaimId) {
        let Some(si) = self.claimed(claim) else { return };
        self.remove_claim(claim.index);
        let s = &mut self.sessions[si];
        if s.step == Step::Offered {
            s.step = Step::Idle;
        }
        let Some(gi) = s.grant else { return self.forget_if_idle(si) };
        if s.entries == 0 {
            // Nothing of it is in the ring, by which the end of the grant would find it; an older handler may keep it.
            s.grant = None;
        }
        if self.limits.shape == Shape::Lanes {
            self.activate(si);
            return self.forget_if_idle(si);
        }
        let out = s.run.is_some();
        if out && self.bug(Bug::ReleaseUnderDelivery) {
            return self.release(now, gi);
        }
        self.forget_if_idle(si);
        let g = &mut self.grants[gi];
        let grant = g.grant;
        g.lapsing |= out;
        // A right that is taken back keeps the time by which it must be gone.
        g.leaving.get_or_insert(Leaving { cancel_at: Moment::NEVER, until: Moment::NEVER, cancelled: true });
        self.after_work(now, gi, grant);
    }

    /// Gives back what nobody claimed, on a broker that locks sessions, when nobody waits for the next session any more; but for those that somebody waits for by
    /// name, as `is_awaited` says.
    pub fn release_unclaimed(&mut self, now: Moment, is_awaited: impl Fn(&SessionId) -> bool) {
        let is_free = |g: &GrantState| match &g.place {
            Place::Session(id) => g.claims == 0 && g.running == 0 && g.is_told() && !is_awaited(id),
            Place::Lane(_) => false,
        };
        let free: Vec<usize> = self.grants.iter().filter(|(_, g)| is_free(g)).map(|(gi, _)| gi).collect();
        for gi in free {
            self.release(now, gi);
        }
    }

    /// The right that a claimed session is held by.
    #[must_use]
    pub fn grant_of(&self, claim: ClaimId) -> Option<Grant> {
        let gi = self.sessions[self.claimed(claim)?].grant?;
        self.grants.get(gi).map(|g| g.grant)
    }

    fn claimed(&self, claim: ClaimId) -> Option<usize> {
        self.claims.get(claim.index).filter(|c| c.serial == claim.serial).map(|c| c.session)
    }

    pub(super) fn wake_claim(&mut self, index: usize) {
        if let Some(c) = self.claims.get(index) {
            let claim = c.id(index);
            self.notices.push(Notice::Wake { claim });
        }
    }

    /// Takes a claim out of the tables.
    fn remove_claim(&mut self, index: usize) -> Claim {
        let claim = self.claims.remove(index);
        let s = &mut self.sessions[claim.session];
        s.claim = None;
        if let Some(g) = s.grant.and_then(|gi| self.grants.get_mut(gi)) {
            g.claims = g.claims.saturating_sub(1);
        }
        claim
    }

    pub(super) fn claim_lost(&mut self, index: usize, why: Loss) {
        if self.claims.contains(index) {
            let claim = self.remove_claim(index).id(index);
            self.notices.push(Notice::ClaimLost { claim, why });
        }
    }

    /// Those who wait for a message that cannot come any more are told.
    pub(super) fn wake_blocked(&mut self, gi: usize) {
        if self.limits.shape == Shape::Lanes && self.grants[gi].claims > 0 {
            self.wake_claims(|s| s.grant == Some(gi) && s.head.is_none());
        }
    }

    /// What had to stand still goes on.
    pub(super) fn resume(&mut self) {
        self.mode = Mode::Running;
        self.wake_claims(|s| s.step == Step::Offered);
    }

    fn wake_claims(&mut self, wanted: impl Fn(&SessionState) -> bool) {
        for (index, claim) in &self.claims {
            if wanted(&self.sessions[claim.session]) {
                self.notices.push(Notice::Wake { claim: claim.id(index) });
            }
        }
    }

    /// The sessions claimed under a grant that is gone, with or without a message.
    pub(super) fn claimed_under(&self, gi: usize) -> Vec<usize> {
        let under = |si: &usize| self.sessions.get(*si).is_some_and(|s| s.grant == Some(gi));
        self.claims.iter().map(|(_, c)| c.session).filter(under).collect()
    }
}
