//! Sessions held by a pull loop: the same primitive that the processor uses, held for longer than one message.

use super::input::{Notice, Start};
use super::state::Step;
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
            let si = self.ready.pop_front()?;
            let Some(s) = self.sessions.get(si) else { continue };
            if s.step != Step::Ready || s.claim.is_some() {
                continue;
            }
            let expired = s.grant.is_none_or(|gi| self.grants[gi].deadline.is_none_or(|d| now >= d));
            self.sessions[si].step = Step::Idle;
            if !expired {
                return Some(self.claim(si));
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
        if g.deadline.is_none_or(|d| now >= d) {
            return Err(NotClaimed::NotYet);
        }
        let known = self.by_session.get(id).copied();
        if known.is_some_and(|si| self.sessions[si].claim.is_some()) {
            return Err(NotClaimed::Taken);
        }
        let has_message = known.is_some_and(|si| self.sessions[si].head.is_some());
        if !g.reading && !has_message {
            return Err(NotClaimed::LaneBlocked);
        }
        let si = self.session_for(gi, id);
        if self.sessions[si].step == Step::Ready {
            self.sessions[si].step = Step::Idle;
        }
        self.grants[gi].idle_since = None;
        Ok(self.claim(si))
    }

    fn claim(&mut self, si: usize) -> (ClaimId, SessionId) {
        let serial = self.next_serial();
        let index = self.claims.insert(Claim { serial, session: si, flushing: false });
        self.sessions[si].claim = Some(index);
        if let Some(gi) = self.sessions[si].grant {
            self.grants[gi].idle_since = None;
        }
        self.activate(si);
        (ClaimId { index, serial }, self.sessions[si].id.clone())
    }

    /// Starts the next message of a claimed session.
    pub fn next(&mut self, now: Moment, claim: ClaimId) -> Next {
        let Some(si) = self.claimed(claim) else { return Next::Lost };
        if self.sessions[si].step == Step::Offered {
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
        self.claims.remove(claim.index);
        let s = &mut self.sessions[si];
        s.claim = None;
        if s.step == Step::Offered {
            s.step = Step::Idle;
        }
        let Some(gi) = s.grant else { return self.forget_if_idle(si) };
        if self.limits.shape == Shape::Lanes {
            self.activate(si);
            return self.forget_if_idle(si);
        }
        let out = s.run.is_some();
        if out && self.bug(Bug::ReleaseUnderDelivery) {
            return self.release(now, gi);
        }
        let grant = self.grants[gi].grant;
        let g = &mut self.grants[gi];
        g.lapsing |= out;
        g.leaving = Some(super::state::Leaving { cancel_at: Moment::NEVER, until: Moment::NEVER, cancelled: true });
        self.after_work(now, gi, grant);
        if let Some(gi) = self.live(grant) {
            self.arm(gi);
        }
    }

    /// Gives back what nobody claimed, on a broker that locks sessions, when nobody waits for a session any more.
    pub fn release_unclaimed(&mut self, now: Moment) {
        if self.limits.shape == Shape::Lanes {
            return;
        }
        let free = |engine: &Self, place: &Place| match place {
            Place::Session(id) => engine.by_session.get(id).is_none_or(|si| {
                let s = &engine.sessions[*si];
                s.claim.is_none() && s.run.is_none()
            }),
            Place::Lane(_) => false,
        };
        let idle: Vec<usize> = self.grants.iter().filter(|(_, g)| free(self, &g.place)).map(|(gi, _)| gi).collect();
        for gi in idle {
            if self.grants[gi].is_told() {
                self.release(now, gi);
            }
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

    pub(super) fn claim_lost(&mut self, index: usize, why: Loss) {
        if self.claims.contains(index) {
            let claim = self.claims.remove(index).id(index);
            self.notices.push(Notice::ClaimLost { claim, why });
        }
    }

    /// Voids the claims of sessions that stood in no ring, as an empty one of a lane.
    pub(super) fn void_claims_of(&mut self, gi: usize, why: Loss) {
        let void: Vec<usize> = self
            .claims
            .iter()
            .filter(|(_, c)| self.sessions.get(c.session).is_some_and(|s| s.grant == Some(gi)))
            .map(|(index, _)| index)
            .collect();
        for index in void {
            let si = self.claims[index].session;
            self.sessions[si].grant = None;
            self.sessions[si].claim = None;
            self.sessions[si].step = Step::Idle;
            self.claim_lost(index, why);
            self.forget_if_idle(si);
        }
    }
}
