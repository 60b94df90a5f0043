//! What is done, what the broker was told of it, and what it is known to have: the watermark and what stands above it.

use std::time::Duration;

use super::input::{Note, Notice};
use super::state::{GrantState, Stage, Step};
use super::{Bug, Engine};
use crate::backend::{Above, Answer, Command, Grant, Loss, Progress, SettleStyle, Ticket};
use crate::session::SessionId;
use crate::time::Moment;

/// Settled entries behind an open one are taken out of the ring when there are more of them than this, and than others.
const SETTLED_INSIDE: usize = 64;

/// A lane that falls quiet again and again is settled for that so often in a settle interval: more may be on its way, and each settlement costs the broker a request.
const QUIET_IN_INTERVAL: u32 = 5;

/// What is above the watermark waits for a later settlement as long as so much of what is told is below it: one part of this many.
const BELOW_AT_LEAST: usize = 8;

/// The longest wait for another try of a settlement, however long the settle interval is.
const SETTLE_AGAIN: Duration = Duration::from_millis(250);

impl Engine {
    /// One more entry of this ring is done.
    pub(super) fn became_done(&mut self, now: Moment, gi: usize, position: u64) {
        let g = &mut self.grants[gi];
        if g.untold.is_empty() && !g.passed {
            g.untold_since = now;
        }
        g.untold.push(position);
        g.no_room = false;
    }

    pub(super) fn passed(&mut self, now: Moment, grant: Grant, below: u64) {
        let Some(gi) = self.live(grant) else { return };
        let g = &mut self.grants[gi];
        if below <= g.end {
            return;
        }
        g.end = below;
        g.next_position = below;
        // A broker that settles message by message has no place for it.
        if self.limits.settle != SettleStyle::Each {
            if g.untold.is_empty() && !g.passed {
                g.untold_since = now;
            }
            g.passed = true;
            self.arm(now, gi);
        }
    }

    /// Tells the broker what is done, when it is time: enough of it, old enough, nothing else to do, or somebody waits.
    pub(super) fn consider_settling(&mut self, now: Moment, gi: usize) {
        let limits = &self.limits;
        let g = &self.grants[gi];
        if limits.settle == SettleStyle::Each {
            if now < g.settle_after {
                self.arm_at(gi, g.settle_after);
            } else if !g.untold.is_empty() && g.in_flight == 0 {
                self.settle_each(gi);
            }
            return;
        }
        if (g.untold.is_empty() && !g.passed) || g.in_flight > 0 {
            return;
        }
        let due_at = self.settle_due(g);
        let due = g.untold.len() >= limits.settle_count as usize || now >= due_at || g.urgent || g.leaving.is_some();
        if due && now >= g.settle_after {
            self.settle(now, gi);
        } else {
            self.arm_at(gi, if due { g.settle_after } else { due_at.max(g.settle_after) });
        }
    }

    /// When settling must be looked at again though nothing happens before.
    pub(super) fn settle_at(&self, now: Moment, gi: usize) -> Option<Moment> {
        let g = &self.grants[gi];
        match self.limits.settle {
            SettleStyle::Each => (now < g.settle_after).then_some(g.settle_after),
            _ if g.in_flight > 0 || (g.untold.is_empty() && !g.passed) => None,
            _ => Some(self.settle_due(g).max(g.settle_after)),
        }
    }

    /// When what is done is old enough to be settled, or the lane has been quiet for long enough.
    fn settle_due(&self, g: &GrantState) -> Moment {
        let due_at = g.untold_since + self.limits.settle_interval;
        if g.is_quiet() && !g.untold.is_empty() { due_at.min(g.quiet_after) } else { due_at }
    }

    /// One settlement for each message, in order, and one after the other: were one behind it applied while this one is not, there would be a gap.
    fn settle_each(&mut self, gi: usize) {
        let past_gap =
            self.bug(Bug::WatermarkPastGap) || self.bug(Bug::CompleteOutOfOrder) || self.bug(Bug::TwoHandlers);
        let g = &mut self.grants[gi];
        let mut told = None;
        for at in g.told_in_front..g.ring.len() {
            let entry = &mut g.ring[at];
            match entry.stage {
                Stage::Done(since) => {
                    self.serial += 1;
                    told = Some((entry.position, since));
                    entry.stage = Stage::Told(self.serial);
                    let watermark = entry.position.saturating_add(1);
                    let progress = Progress { watermark, end: g.end, above: Above::Nothing };
                    self.commands.push(Command::Settle { grant: g.grant, ticket: Ticket(self.serial), progress });
                }
                // The first open one: what is behind it waits, so that nothing is settled past a gap.
                Stage::Open if !past_gap => break,
                Stage::Open => continue,
                Stage::Told(_) | Stage::Settled => {}
            }
            if at == g.told_in_front {
                g.told_in_front += 1;
            }
            if told.is_some() {
                break;
            }
        }
        if let Some((position, since)) = told {
            (g.in_flight, g.told_since) = (1, since);
            g.untold.retain(|untold| *untold != position);
        }
    }

    /// One settlement for everything that is done and that it can speak of.
    fn settle(&mut self, now: Moment, gi: usize) {
        let past_gap = self.bug(Bug::WatermarkPastGap);
        let style = self.limits.settle;
        let mut watermark = self.grants[gi].ring.iter().find(|e| e.stage == Stage::Open).map(|e| e.position);
        let mut end = self.grants[gi].end;
        let mut covered = None;
        let mut above = Above::Nothing;
        if let SettleStyle::Open { most } = style
            && watermark.is_some()
        {
            let (open, first_uncovered) = self.open_sessions(gi, most);
            covered = first_uncovered;
            end = covered.unwrap_or(end);
            above = Above::Open(open);
        }
        // Up to here is told.
        let told_end = match watermark {
            Some(watermark) if style == SettleStyle::Delta && !self.tells_above(now, gi, watermark) => watermark,
            _ => end,
        };
        let ticket = self.next_serial();
        let wait = self.again_after();
        let quiet_after = now + self.limits.settle_interval / QUIET_IN_INTERVAL;
        let g = &mut self.grants[gi];
        g.quiet_after = quiet_after;
        let mut told = std::mem::replace(&mut g.untold, std::mem::take(&mut g.told));
        g.told_since = if told.is_empty() { Moment::NEVER } else { g.untold_since };
        g.untold_since = Moment::NEVER;
        // With more open sessions than can be listed, what is done behind the last one is not told yet.
        g.covered = covered.unwrap_or(u64::MAX);
        g.untold.extend(told.iter().filter(|position| **position >= told_end));
        if !g.untold.is_empty() {
            told.retain(|position| *position < told_end);
            g.untold_since = g.untold_within(0..u64::MAX).1;
            if told.is_empty() && !g.passed {
                g.told = told;
                g.settle_after = now + wait;
                g.no_room = true;
                self.goes_on(gi);
                return self.arm(now, gi);
            }
        }
        for position in &told {
            if let Some(entry) = g.entry(*position)
                && let Stage::Done(_) = entry.stage
            {
                entry.stage = Stage::Told(ticket);
            }
        }
        if past_gap {
            watermark = told.iter().max().map(|highest| highest.saturating_add(1)).or(watermark);
        }
        let mut progress = Progress { watermark: watermark.unwrap_or(end), end, above };
        if style == SettleStyle::Delta {
            let mut done: Vec<u64> = told.iter().copied().filter(|p| *p > progress.watermark).collect();
            if !done.is_empty() {
                done.sort_unstable();
                progress.above = Above::Done(done);
            }
        }
        std::mem::swap(&mut g.told, &mut told);
        g.ticket = ticket;
        g.passed = false;
        g.urgent = false;
        g.in_flight = 1;
        let grant = g.grant;
        self.not_idle(gi);
        self.commands.push(Command::Settle { grant, ticket: Ticket(ticket), progress });
    }

    /// Whether what is done above the watermark is told now. It costs the broker something for each message, and most of it is below the watermark a moment later: so
    /// not before it is due itself, unless it is nearly all that there is to tell, or somebody waits.
    fn tells_above(&self, now: Moment, gi: usize, watermark: u64) -> bool {
        let g = &self.grants[gi];
        let below = g.untold.iter().filter(|position| **position < watermark).count();
        if BELOW_AT_LEAST * below < g.untold.len() || g.urgent || g.leaving.is_some() || self.bug(Bug::WatermarkPastGap)
        {
            return true;
        }
        below < g.untold.len() && now >= g.untold_within(watermark..u64::MAX).1 + self.limits.settle_interval
    }

    /// The first open position of each session, ascending; at most so many, with the first position that is then not covered.
    fn open_sessions(&mut self, gi: usize, most: u32) -> (Vec<(SessionId, u64)>, Option<u64>) {
        let mut open = Vec::new();
        let mark = self.next_serial();
        for entry in &self.grants[gi].ring {
            if entry.stage != Stage::Open {
                continue;
            }
            let s = &mut self.sessions[entry.session];
            if std::mem::replace(&mut s.listed, mark) == mark {
                continue;
            }
            if open.len() >= most as usize {
                return (open, Some(entry.position));
            }
            open.push((s.id.clone(), entry.position));
        }
        (open, None)
    }

    pub(super) fn settled(&mut self, now: Moment, grant: Grant, ticket: Ticket, answer: Answer) {
        let gi = match self.live(grant) {
            Some(gi) => gi,
            None if self.bug(Bug::NoEpochCheckOnSettle) => {
                match self.grants.iter().find(|(_, g)| g.grant.shard() == grant.shard()) {
                    Some((gi, _)) => return self.stale_answer_counts(gi),
                    None => return,
                }
            }
            None => return,
        };
        let Some(told) = self.told_by(gi, ticket) else { return };
        let answer = match answer {
            Answer::Unknown if self.bug(Bug::UnknownIsOk) => Answer::Ok,
            Answer::Refused if self.bug(Bug::RefusedIgnored) => Answer::Ok,
            answer => answer,
        };
        for position in &told {
            self.note_answer(gi, *position, answer);
        }
        match answer {
            Answer::Ok => {
                for position in &told {
                    self.entry_settled(now, gi, *position);
                }
            }
            Answer::Refused => return self.lose(now, gi, Loss::Refused),
            Answer::Unknown if !self.limits.later_settle_covers => return self.surrender(now, gi, Loss::Unknown),
            Answer::Unknown | Answer::NotApplied => self.settle_again(now, gi, &told),
        }
        self.give_back(gi, told);
        self.goes_on(gi);
        self.after_work(now, gi, grant);
    }

    /// Takes what this settlement spoke of, if it is the one on its way.
    fn told_by(&mut self, gi: usize, ticket: Ticket) -> Option<Vec<u64>> {
        let g = &mut self.grants[gi];
        if self.limits.settle == SettleStyle::Each {
            let entry = g.ring.iter().find(|e| e.stage == Stage::Told(ticket.0))?;
            g.in_flight = g.in_flight.saturating_sub(1);
            let mut told = std::mem::take(&mut self.told);
            told.push(entry.position);
            return Some(told);
        }
        if g.in_flight == 0 || g.ticket != ticket.0 {
            return None;
        }
        g.in_flight = 0;
        Some(std::mem::take(&mut g.told))
    }

    /// The defect of taking an old grant's answer for this one's: what was told is known.
    fn stale_answer_counts(&mut self, gi: usize) {
        let g = &mut self.grants[gi];
        let told = g.ring.iter_mut().find(|e| matches!(e.stage, Stage::Done(_) | Stage::Open));
        if let Some(entry) = told {
            entry.stage = Stage::Settled;
            g.settled_inside += 1;
            self.tidy(gi);
        }
    }

    /// The broker is known to have this entry: its session may go on behind a dead letter, or be forgotten.
    pub(super) fn entry_settled(&mut self, now: Moment, gi: usize, position: u64) {
        let g = &mut self.grants[gi];
        let Some(entry) = g.entry(position).filter(|e| e.stage != Stage::Settled) else { return };
        entry.stage = Stage::Settled;
        let si = entry.session;
        g.settled_inside += 1;
        self.tidy(gi);
        let s = &mut self.sessions[si];
        s.entries = s.entries.saturating_sub(1);
        if s.step == Step::Barrier(position) {
            s.step = Step::Idle;
            self.activate(si);
        } else if s.step == Step::Settling && s.entries == s.len {
            self.settled_before_aside(now, si);
        }
        let s = &self.sessions[si];
        if let Some(claim) = s.claim
            && s.is_flushed()
        {
            self.claim_flushed(claim);
        }
        self.forget_if_idle(si);
    }

    /// Drops what is settled from the front of the ring, and now and then from its middle: one message that stands still must not make it grow.
    fn tidy(&mut self, gi: usize) {
        let g = &mut self.grants[gi];
        while g.ring.front().is_some_and(|e| e.stage == Stage::Settled) {
            g.ring.pop_front();
            g.settled_inside = g.settled_inside.saturating_sub(1);
            g.told_in_front = g.told_in_front.saturating_sub(1);
        }
        if g.settled_inside > SETTLED_INSIDE && g.settled_inside > g.ring.len() / 2 {
            g.ring.retain(|e| e.stage != Stage::Settled);
            (g.settled_inside, g.told_in_front) = (0, 0);
        }
    }

    /// After so long a settlement is tried again that did not happen, or had nothing that it could tell: no longer than the interval, and never for long.
    fn again_after(&self) -> Duration {
        self.limits.settle_interval.clamp(Duration::from_millis(1), SETTLE_AGAIN)
    }

    /// A settlement did not happen, or may not have: the next one covers it.
    fn settle_again(&mut self, now: Moment, gi: usize, told: &[u64]) {
        let wait = self.again_after();
        let g = &mut self.grants[gi];
        // What waits since then still does.
        let since = if told.is_empty() { now } else { g.told_since };
        // Before what was done since: of each session in order, as the answer to the next one is told.
        let done_since = std::mem::take(&mut g.untold);
        for position in told {
            if let Some(entry) = g.entry(*position)
                && let Stage::Told(_) = entry.stage
            {
                entry.stage = Stage::Done(since);
                g.untold.push(*position);
            }
        }
        g.untold.extend(done_since);
        g.told_in_front = 0;
        g.passed |= told.is_empty();
        g.untold_since = g.untold_since.min(since);
        g.settle_after = now + wait;
    }

    /// Whether a message must not start now, so that what would be handled again after a loss stays bounded: too much is done that the broker is not known to have, or
    /// some of it for too long.
    pub(super) fn must_hold_back(&self, now: Moment, gi: usize, position: u64) -> bool {
        // As much again, and for as long again, as until it is told: for the answer. Where nothing is done there is nothing to wait for.
        let most = 2 * self.limits.settle_count.max(1) as usize;
        let is_too_much = |unsettled: usize, since: Moment| {
            let late =
                self.limits.settle != SettleStyle::Each && now >= since + self.limits.settle_interval.saturating_mul(2);
            unsettled > 0 && (late || unsettled >= most)
        };
        let g = &self.grants[gi];
        let (told, since) = match g.in_flight {
            0 => (0, g.untold_since),
            _ => (g.told.len().max(1), g.told_since.min(g.untold_since)),
        };
        if !is_too_much(g.untold.len() + told, since) || self.bug(Bug::NeverHoldsBack) {
            return false;
        }
        if self.is_waited_for(gi, position) {
            return false;
        }
        // What makes room for more in the next settlement goes on, as long as that itself is told in time.
        let makes_room = g.in_flight == 0 && position < g.covered && g.covered != u64::MAX;
        let (count, since) = if makes_room { g.untold_within(0..g.covered) } else { return true };
        is_too_much(count, since)
    }

    /// Whether everything that is done waits for this one: nothing of it can be told before its end.
    fn is_waited_for(&self, gi: usize, position: u64) -> bool {
        let g = &self.grants[gi];
        let can_tell_none = match self.limits.settle {
            SettleStyle::Each => g.untold.iter().all(|untold| *untold > position),
            SettleStyle::Open { .. } => g.no_room,
            SettleStyle::Delta => false,
        };
        let first_open = || g.ring.iter().find(|e| e.stage == Stage::Open).map(|e| e.position);
        g.in_flight == 0 && can_tell_none && first_open() == Some(position)
    }

    /// Whether the next message of this session waits until other sessions make room for it in a settlement.
    pub(super) fn is_crowded_out(&self, gi: usize, si: usize) -> bool {
        let g = &self.grants[gi];
        let head = self.sessions[si].head.map(|head| self.nodes[head].position.value);
        g.held_back
            && g.in_flight == 0
            && g.covered != u64::MAX
            && head.is_some_and(|head| head >= g.covered && !self.is_waited_for(gi, head))
    }

    /// Something of this session is held back, and observers are told.
    pub(super) fn hold_back(&mut self, gi: usize, si: usize) {
        self.grants[gi].held_back = true;
        self.note(|e| Note::HeldBack { grant: e.grants[gi].grant, session: e.sessions[si].id.clone() });
    }

    /// What was held back is looked at again.
    pub(super) fn goes_on(&mut self, gi: usize) {
        if !std::mem::take(&mut self.grants[gi].held_back) {
            return;
        }
        let open = self.grants[gi].ring.iter().filter_map(|entry| entry.open());
        let mut held: Vec<(u64, usize)> = open.map(|si| (self.sessions[si].turn, si)).collect();
        // Whoever waits for longest is first again.
        held.sort_unstable();
        held.dedup();
        for (_, si) in held {
            if self.sessions[si].step == Step::Idle {
                self.activate(si);
            }
        }
    }

    /// Keeps the memory of a settlement for the next one.
    fn give_back(&mut self, gi: usize, mut told: Vec<u64>) {
        told.clear();
        match self.limits.settle {
            SettleStyle::Each => self.told = told,
            _ => self.grants[gi].told = told,
        }
    }

    fn note_answer(&mut self, gi: usize, position: u64, answer: Answer) {
        if !self.config.observe {
            return;
        }
        let g = &mut self.grants[gi];
        let Some(si) = g.entry(position).map(|e| e.session) else { return };
        let position = crate::position::Position { generation: g.generation, value: position };
        let session = self.sessions[si].id.clone();
        self.notes.push(Note::Settled { grant: g.grant, session, position, answer });
    }

    pub(super) fn claim_flushed(&mut self, claim: usize) {
        if let Some(c) = self.claims.get_mut(claim)
            && std::mem::take(&mut c.flushing)
        {
            let claim = c.id(claim);
            self.notices.push(Notice::Flushed { claim });
        }
    }
}
