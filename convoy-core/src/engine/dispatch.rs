//! Which session's message starts: deliveries into session queues, the gate of a session, the turn among sessions.

use std::sync::Arc;
use std::time::Duration;

use super::input::{CancelWhy, End, How, Note, Notice, RunId, Start};
use super::state::{Entry, Links, Node, RunState, SessionState, Stage, Step};
use super::{Bug, Engine, Mode};
use crate::backend::{Grant, Loss, Reason};
use crate::message::{Defect, Inbound};
use crate::policy::{Defective, Foreign};
use crate::session::SessionId;
use crate::time::Moment;

impl Engine {
    pub(super) fn delivered(&mut self, now: Moment, grant: Grant, mut message: Inbound) {
        let gi = match self.live(grant) {
            Some(gi) => gi,
            None if self.bug(Bug::NoEpochCheckOnDelivery) => {
                match self.grants.iter().find(|(_, g)| g.grant.shard() == grant.shard()) {
                    Some((gi, _)) => gi,
                    None => return,
                }
            }
            None => return,
        };
        let position = message.position.value;
        let trusts_anything = self.bug(Bug::NoEpochCheckOnDelivery) || self.bug(Bug::BufferKeptAcrossGrants);
        let g = &mut self.grants[gi];
        if (position < g.next_position || position == u64::MAX) && !trusts_anything {
            // A backend that goes backwards, or to where nothing can follow, broke its contract: nothing of this grant can be trusted.
            return self.surrender(now, gi, Loss::Refused);
        }
        g.next_position = position.saturating_add(1);
        g.end = g.end.max(g.next_position);
        self.not_idle(gi);
        if matches!(message.defect, Some(Defect::NoSession | Defect::SessionTooLong)) {
            message.session = SessionId::lone(grant.shard(), position);
            if self.config.foreign == Foreign::Allow {
                message.defect = None;
            }
        }
        let size = message.content.size();
        let si = self.session_for(gi, &message.session);
        self.note(|_| Note::Delivered {
            grant,
            session: message.session.clone(),
            position: message.position,
            content: Arc::clone(&message.content),
        });
        if self.config_drops(gi) {
            self.grants[gi].ring.push_back(Entry { position, session: si, stage: Stage::Done(now) });
            self.sessions[si].entries += 1;
            self.became_done(now, gi, position);
            return;
        }
        let g = &mut self.grants[gi];
        g.ring.push_back(Entry { position, session: si, stage: Stage::Open });
        let node = self.nodes.insert(Node::new(message, size));
        let s = &mut self.sessions[si];
        s.entries += 1;
        let before = s.tail.replace(node);
        match before {
            Some(tail) => self.nodes[tail].next = Some(node),
            None => s.head = Some(node),
        }
        self.count_in(gi, si, size);
        self.bound_reading(gi);
        if before.is_none() {
            self.activate(si);
        }
    }

    fn config_drops(&self, gi: usize) -> bool {
        let g = &self.grants[gi];
        self.bug(Bug::DropOnFull) && self.config.bounds.lane.is_met(g.messages, g.bytes)
    }

    /// The session of this id in this place, made if need be, with its queue under this grant.
    pub(super) fn session_for(&mut self, gi: usize, id: &SessionId) -> usize {
        let shard = self.grants[gi].grant.shard();
        let si = match self.find_session(shard, id) {
            Some(si) => si,
            None => {
                let session = SessionState::new(id.clone(), shard);
                let hash = session.hash(&self.hasher);
                let si = self.sessions.insert(session);
                let (sessions, hasher) = (&self.sessions, &self.hasher);
                self.by_session.insert_unique(hash, si, |si| sessions[*si].hash(hasher));
                si
            }
        };
        self.sessions[si].grant = Some(gi);
        si
    }

    pub(super) fn find_session(&self, shard: u32, id: &SessionId) -> Option<usize> {
        let hash = SessionState::hash_of(&self.hasher, shard, id);
        let is_it = |si: &usize| {
            let s = &self.sessions[*si];
            s.shard == shard && s.id == *id
        };
        self.by_session.find(hash, is_it).copied()
    }

    /// Puts a session whose head can be handled in line, or offers it to its claimant.
    pub(super) fn activate(&mut self, si: usize) {
        let s = &self.sessions[si];
        let gate_is_shut = s.run.is_some() && !self.bug(Bug::TwoHandlers) && !self.gate_is_broken(si);
        if s.head.is_none()
            || gate_is_shut
            || matches!(
                s.step,
                Step::Ready | Step::Offered | Step::Waiting | Step::Settling | Step::Aside | Step::Barrier(_)
            )
        {
            return;
        }
        let Some(gi) = s.grant else { return };
        let g = &self.grants[gi];
        if !g.is_proved() || g.leaving.is_some() {
            return;
        }
        if g.held_back && (g.in_flight > 0 || self.is_crowded_out(gi, si)) {
            let turn = self.next_serial();
            self.sessions[si].turn = turn;
            return self.hold_back(gi, si);
        }
        if let Some(claim) = s.claim {
            self.sessions[si].step = Step::Offered;
            self.wake_claim(claim);
            return;
        }
        let turn = self.next_serial();
        let s = &mut self.sessions[si];
        (s.step, s.turn) = (Step::Ready, turn);
        self.ready_now += 1;
        if self.ready.len() > 64 + 2 * self.ready_now {
            let sessions = &self.sessions;
            self.ready.retain(|(si, turn)| sessions.get(*si).is_some_and(|s| s.is_in_line(*turn)));
        }
        if self.bug(Bug::HotSessionStarves) {
            self.ready.push_front((si, turn));
        } else {
            self.ready.push_back((si, turn));
        }
    }

    /// Takes the session out of the line that waited longest.
    pub(super) fn next_in_line(&mut self) -> Option<usize> {
        while let Some((si, turn)) = self.ready.pop_front() {
            if self.sessions.get(si).is_some_and(|s| s.is_in_line(turn)) {
                self.leaves_line(si);
                return Some(si);
            }
        }
        None
    }

    /// A session that may stand in line does not any more.
    pub(super) fn leaves_line(&mut self, si: usize) {
        let s = &mut self.sessions[si];
        if s.step == Step::Ready {
            s.step = Step::Idle;
            self.ready_now = self.ready_now.saturating_sub(1);
        }
    }

    fn gate_is_broken(&self, si: usize) -> bool {
        let s = &self.sessions[si];
        let old = s.run.and_then(|r| self.runs.get(r)).is_some_and(|run| !self.holds(run.grant_index, run.grant));
        old && self.bug(Bug::GateEndsWithGrant)
    }

    /// The next message to handle, of the session that waited longest. The clock is looked at here, right before the start; whoever polls the handler looks once
    /// more at [`Start::lease`].
    pub fn start(&mut self, now: Moment) -> Option<Start> {
        while self.mode == Mode::Running {
            let si = self.next_in_line()?;
            if let Some(start) = self.begin(now, si) {
                return Some(start);
            }
        }
        None
    }

    /// Starts the head of a session, unless its right has run out or its envelope is defective.
    pub(super) fn begin(&mut self, now: Moment, si: usize) -> Option<Start> {
        let s = &mut self.sessions[si];
        s.step = Step::Idle;
        let (Some(gi), Some(head)) = (s.grant, s.head) else { return None };
        let g = &self.grants[gi];
        let expired = g.deadline.is_none_or(|deadline| now >= deadline) || g.cell.is_ended();
        if g.leaving.is_some() {
            return None;
        }
        if expired && !self.bug(Bug::StartAfterExpiry) {
            self.check_grant(now, gi);
            return None;
        }
        if self.must_hold_back(now, gi, self.nodes[head].position.value) {
            self.hold_back(gi, si);
            return None;
        }
        if let Some(defect) = self.nodes[head].defect
            && !self.passes_defect(now, si, defect)
        {
            return None;
        }
        let serial = self.next_serial();
        let s = &mut self.sessions[si];
        s.step = Step::Running;
        let attempt = s.failures.saturating_add(1);
        let message = self.nodes[head].message(&self.sessions[si].id);
        let g = &mut self.grants[gi];
        g.running += 1;
        g.began.get_or_insert(now);
        let (grant, deadline) = (g.grant, g.deadline.unwrap_or_default());
        let lease = Arc::clone(&g.cell);
        let index = self.runs.insert(RunState {
            serial,
            session: si,
            grant,
            grant_index: gi,
            position: message.position,
            attempt,
            started: now,
            cancelled: None,
            timer: None,
            links: Links::default(),
        });
        self.sessions[si].run = Some(index);
        if self.config.handler_timeout.is_some() {
            self.by_age.push(&mut self.runs, index);
        }
        self.note(|_| Note::Started {
            grant,
            session: message.session.clone(),
            position: message.position,
            content: Arc::clone(&message.content),
            attempt,
            checked_at: now,
            deadline,
        });
        self.bugs_at_start(now, si, gi);
        Some(Start { run: RunId { index, serial }, grant, message, attempt, lease, checked_at: now })
    }

    fn bugs_at_start(&mut self, now: Moment, si: usize, gi: usize) {
        if self.bug(Bug::CompleteBeforeEnd) {
            self.request_note(gi, si, How::Completed, None);
            if let Some(head) = self.sessions[si].head {
                self.resolve(now, gi, self.nodes[head].position.value);
            }
        }
        if self.bug(Bug::TurnEndsUnderHandler)
            && self.pressure
            && self
                .config
                .turn
                .is_some_and(|turn| turn.is_over(self.grants[gi].handled.saturating_add(1), Duration::ZERO))
        {
            return self.release(now, gi);
        }
        if self.bug(Bug::TwoHandlers)
            && let Some(next) = self.sessions[si].head.and_then(|h| self.nodes[h].next)
        {
            // The head runs; the one behind it is put in line as well.
            self.sessions[si].head = Some(next);
            self.sessions[si].step = Step::Idle;
            self.activate(si);
        }
    }

    /// Whether a message with this defect is handled all the same; otherwise it is dealt with here.
    fn passes_defect(&mut self, now: Moment, si: usize, defect: Defect) -> bool {
        let policy = match defect {
            Defect::NoSession | Defect::SessionTooLong => match self.config.foreign {
                Foreign::Allow => Defective::Allow,
                Foreign::DeadLetter => Defective::DeadLetter,
                Foreign::Stop => Defective::Stop,
            },
            Defect::Headers => self.config.defective,
            Defect::Misrouted => self.config.misrouted,
        };
        match policy {
            Defective::Allow => return true,
            Defective::DeadLetter => {
                self.set_aside(now, si, Reason::new(defect.code(), "the envelope is defective", 0))
            }
            Defective::Stop => self.stop(si, Reason::new(defect.code(), "the envelope is defective", 0)),
        }
        false
    }

    /// A run ended and its future is gone. Whether that counts: `false` when its right was gone before.
    pub fn ended(&mut self, now: Moment, run: RunId, end: End, jitter: u64) -> bool {
        if self.runs.get(run.index).is_none_or(|r| r.serial != run.serial) {
            return false;
        }
        self.by_age.unlink(&mut self.runs, run.index);
        let mut state = self.runs.remove(run.index);
        self.timers.cancel(&mut state.timer);
        let si = state.session;
        if self.sessions[si].run == Some(run.index) {
            self.sessions[si].run = None;
        }
        let gi = Some(state.grant_index).filter(|gi| self.holds(*gi, state.grant));
        self.note(|e| Note::Ended {
            grant: state.grant,
            session: e.sessions[si].id.clone(),
            position: state.position,
            attempt: state.attempt,
            how: end.kind(),
            counted: gi.is_some(),
        });
        let gi = match gi {
            Some(gi) => gi,
            None => return self.ended_after_its_grant(now, si, &end),
        };
        let g = &mut self.grants[gi];
        g.running = g.running.saturating_sub(1);
        self.sessions[si].step = Step::Idle;
        // What a handler says after it was told to end for the sake of its right is not its failure.
        let not_its_fault = matches!(state.cancelled, Some(CancelWhy::Lost(_) | CancelWhy::Leaving));
        match end {
            End::Done => self.complete(now, si),
            End::Failed { .. } | End::Panicked { .. } if not_its_fault => self.activate(si),
            End::Failed { then, detail } => self.failed(now, si, then, &detail, jitter),
            End::Panicked { detail } => self.failed(now, si, super::Then::Retry, &detail, jitter),
            End::Cancelled if state.cancelled == Some(CancelWhy::TimedOut) => {
                self.failed(now, si, super::Then::Retry, "the handler timeout was over", jitter);
            }
            End::Cancelled if self.bug(Bug::CancelDropsMessage) => self.complete(now, si),
            End::Cancelled | End::Returned => self.activate(si),
        }
        self.after_work(now, gi, state.grant);
        true
    }

    /// The gate of a session that came back while its old handler ran opens.
    fn ended_after_its_grant(&mut self, now: Moment, si: usize, end: &End) -> bool {
        if self.bug(Bug::NoEpochCheckOnEnd) && matches!(end, End::Done) && self.sessions[si].head.is_some() {
            let gi = self.sessions[si].grant;
            self.resolve_head(now, si, How::Completed, None);
            if let Some(gi) = gi {
                self.after_work(now, gi, self.grants[gi].grant);
            }
        }
        if self.bug(Bug::LossIsCharged) {
            self.sessions[si].failures += 1;
        }
        self.activate(si);
        self.forget_if_idle(si);
        false
    }

    /// What a grant may need after something of it ended: to be told the broker, given back, or released as idle.
    pub(super) fn after_work(&mut self, now: Moment, gi: usize, grant: Grant) {
        if !self.holds(gi, grant) {
            return;
        }
        self.bound_reading(gi);
        self.consider_turn(now, gi);
        if !self.holds(gi, grant) {
            return;
        }
        self.consider_settling(now, gi);
        self.consider_leaving(now, gi);
        if self.holds(gi, grant) {
            self.note_idle(now, gi);
        }
    }

    fn complete(&mut self, now: Moment, si: usize) {
        if self.bug(Bug::CompleteOutOfOrder)
            && let Some(gi) = self.sessions[si].grant
            && let Some(tail) = self.sessions[si].tail
            && self.sessions[si].head != Some(tail)
        {
            self.resolve(now, gi, self.nodes[tail].position.value);
        }
        self.totals.completed += 1;
        self.resolve_head(now, si, How::Completed, None);
        self.activate(si);
        self.forget_if_idle(si);
    }

    /// Takes the head off its queue and marks it as done in the ring.
    pub(super) fn resolve_head(&mut self, now: Moment, si: usize, how: How, reason: Option<&'static str>) {
        let Some(gi) = self.sessions[si].grant else { return };
        self.request_note(gi, si, how, reason);
        if let Some(position) = self.pop_head(gi, si) {
            self.resolve(now, gi, position);
        }
    }

    /// Marks what stands at this position of the ring as done.
    pub(super) fn resolve(&mut self, now: Moment, gi: usize, position: u64) {
        if let Some(entry) = self.grants[gi].entry(position)
            && entry.stage == Stage::Open
        {
            entry.stage = Stage::Done(now);
            self.became_done(now, gi, position);
        }
    }

    pub(super) fn request_note(&mut self, gi: usize, si: usize, how: How, reason: Option<&'static str>) {
        if !self.config.observe {
            return;
        }
        let Some(head) = self.sessions[si].head else { return };
        let note = Note::SettleRequested {
            grant: self.grants[gi].grant,
            session: self.sessions[si].id.clone(),
            position: self.nodes[head].position,
            how,
            reason,
        };
        self.notes.push(note);
    }

    /// Takes the head off its queue; gives its position.
    pub(super) fn pop_head(&mut self, gi: usize, si: usize) -> Option<u64> {
        let s = &mut self.sessions[si];
        let node = self.nodes.remove(s.head?);
        s.head = node.next;
        if s.head.is_none() {
            s.tail = None;
        }
        s.failures = 0;
        let g = &mut self.grants[gi];
        g.handled = g.handled.saturating_add(1);
        self.count_out(gi, si, node.size);
        Some(node.position.value)
    }

    /// Forgets a session of which nothing is left.
    pub(super) fn forget_if_idle(&mut self, si: usize) {
        let s = &self.sessions[si];
        if s.head.is_none() && s.run.is_none() && s.entries == 0 && s.claim.is_none() && s.step == Step::Idle {
            let hash = s.hash(&self.hasher);
            if let Ok(found) = self.by_session.find_entry(hash, |other| *other == si) {
                found.remove();
            }
            self.sessions.remove(si);
        }
    }

    /// Nothing starts any more: a message says that the consumer must stop.
    pub(super) fn stop(&mut self, si: usize, reason: Reason) {
        if !matches!(self.mode, Mode::Draining { .. }) {
            self.mode = Mode::Stopped;
        }
        let s = &self.sessions[si];
        if let Some(head) = s.head {
            let position = self.nodes[head].position;
            self.notices.push(Notice::Stop { session: s.id.clone(), position, reason });
        }
    }
}
