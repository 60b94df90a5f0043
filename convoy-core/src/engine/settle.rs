//! What is done, what the broker was told of it, and what it is known to have: the watermark and what stands above it.

use super::input::{Note, Notice};
use super::state::{GrantState, Stage, Step};
use super::{Bug, Engine};
use crate::backend::{Above, Answer, Command, Grant, Loss, Progress, SettleStyle, Ticket};
use crate::session::SessionId;
use crate::time::Moment;

impl Engine {
    /// One more entry of this ring is done.
    pub(super) fn became_done(&mut self, now: Moment, gi: usize) {
        let g = &mut self.grants[gi];
        g.untold += 1;
        if g.untold == 1 {
            g.untold_since = now;
        }
    }

    pub(super) fn passed(&mut self, now: Moment, grant: Grant, below: u64) {
        let Some(gi) = self.live(grant) else { return };
        let g = &mut self.grants[gi];
        if below > g.end {
            g.end = below;
            g.next_position = below;
            if !g.passed && g.untold == 0 {
                g.untold_since = now;
            }
            g.passed = true;
            self.arm(gi);
        }
    }

    /// Tells the broker what is done, when it is time: enough of it, old enough, nothing else to do, or somebody waits.
    pub(super) fn consider_settling(&mut self, now: Moment, gi: usize) {
        let limits = &self.limits;
        let g = &self.grants[gi];
        if limits.settle == SettleStyle::Each {
            if g.untold > 0 {
                self.settle_each(now, gi);
            }
            return;
        }
        if (g.untold == 0 && !g.passed) || g.in_flight > 0 {
            return;
        }
        let due = g.untold >= limits.settle_count
            || now >= g.untold_since + limits.settle_interval
            || (g.is_quiet() && g.untold > 0)
            || g.urgent
            || g.leaving.is_some();
        if due && now >= g.settle_after {
            self.settle(gi);
        } else {
            self.arm(gi);
        }
    }

    /// One settlement for each message, in order.
    fn settle_each(&mut self, now: Moment, gi: usize) {
        let past_gap =
            self.bug(Bug::WatermarkPastGap) || self.bug(Bug::CompleteOutOfOrder) || self.bug(Bug::TwoHandlers);
        for at in 0..self.grants[gi].ring.len() {
            let entry = self.grants[gi].ring[at];
            match entry.stage {
                Stage::Done => {
                    let ticket = self.next_serial();
                    let g = &mut self.grants[gi];
                    g.ring[at].stage = Stage::Told(ticket);
                    g.in_flight += 1;
                    g.untold = g.untold.saturating_sub(1);
                    let watermark = entry.position.saturating_add(1);
                    let progress = Progress { watermark, end: g.end, above: Above::Nothing };
                    self.commands.push(Command::Settle { grant: g.grant, ticket: Ticket(ticket), progress });
                }
                // The first open one: what is behind it is not done either, as a session's messages end in order.
                Stage::Open if !past_gap => break,
                Stage::Open | Stage::Told(_) | Stage::Settled => {}
            }
        }
        self.grants[gi].passed = false;
        self.grants[gi].untold_since = now;
    }

    /// One settlement for everything that is done.
    fn settle(&mut self, gi: usize) {
        let ticket = self.next_serial();
        let past_gap = self.bug(Bug::WatermarkPastGap);
        let style = self.limits.settle;
        let g = &mut self.grants[gi];
        let mut watermark = None;
        let mut done = Vec::new();
        for entry in &mut g.ring {
            match entry.stage {
                Stage::Open => {
                    watermark.get_or_insert(entry.position);
                    continue;
                }
                Stage::Done => entry.stage = Stage::Told(ticket),
                Stage::Told(_) | Stage::Settled => continue,
            }
            if past_gap {
                watermark = Some(entry.position + 1);
            } else if watermark.is_some() && style == SettleStyle::Delta {
                done.push(entry.position);
            }
        }
        g.untold = 0;
        g.untold_since = Moment::NEVER;
        g.passed = false;
        g.urgent = false;
        g.in_flight += 1;
        let mut progress = Progress { watermark: watermark.unwrap_or(g.end), end: g.end, above: Above::Nothing };
        match style {
            SettleStyle::Delta if !done.is_empty() => progress.above = Above::Done(done),
            SettleStyle::Open { most } if watermark.is_some() => {
                let (open, end) = self.open_sessions(gi, most);
                progress.end = end.unwrap_or(progress.end);
                progress.above = Above::Open(open);
            }
            _ => {}
        }
        let grant = self.grants[gi].grant;
        self.commands.push(Command::Settle { grant, ticket: Ticket(ticket), progress });
    }

    /// The first open position of each session, ascending; at most so many, with the first position that is then not covered.
    fn open_sessions(&mut self, gi: usize, most: u32) -> (Vec<(SessionId, u64)>, Option<u64>) {
        let mut open = Vec::new();
        let mark = self.next_serial();
        for entry in &self.grants[gi].ring {
            let s = &mut self.sessions[entry.session];
            if entry.stage != Stage::Open || std::mem::replace(&mut s.listed, mark) == mark {
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
                    Some((gi, _)) => return self.stale_answer_counts(now, gi),
                    None => return,
                }
            }
            None => return,
        };
        if !self.grants[gi].ring.iter().any(|e| e.stage == Stage::Told(ticket.0))
            && self.limits.settle == SettleStyle::Each
        {
            return;
        }
        let g = &mut self.grants[gi];
        g.in_flight = g.in_flight.saturating_sub(1);
        let answer = match answer {
            Answer::Unknown if self.bug(Bug::UnknownIsOk) => Answer::Ok,
            Answer::Refused if self.bug(Bug::RefusedIgnored) => Answer::Ok,
            answer => answer,
        };
        self.note_answers(gi, ticket, answer);
        match answer {
            Answer::Ok => self.settled_ok(now, gi, ticket),
            Answer::Refused => return self.lose(now, gi, Loss::Refused),
            Answer::Unknown if !self.limits.later_settle_covers => return self.surrender(now, gi, Loss::Unknown),
            Answer::Unknown | Answer::NotApplied => self.settle_again(now, gi, ticket),
        }
        self.after_work(now, gi, grant);
    }

    /// The defect of taking an old grant's answer for this one's: what was told is known.
    fn stale_answer_counts(&mut self, now: Moment, gi: usize) {
        let told = self.grants[gi].ring.iter_mut().find(|e| matches!(e.stage, Stage::Done | Stage::Open));
        if let Some(entry) = told {
            entry.stage = Stage::Settled;
            self.known(now, gi);
        }
    }

    fn settled_ok(&mut self, now: Moment, gi: usize, ticket: Ticket) {
        for at in 0..self.grants[gi].ring.len() {
            let entry = &mut self.grants[gi].ring[at];
            if entry.stage != Stage::Told(ticket.0) {
                continue;
            }
            entry.stage = Stage::Settled;
            let (si, seq) = (entry.session, self.grants[gi].base + at as u64);
            self.entry_known(si, seq);
            if self.limits.settle == SettleStyle::Each {
                break;
            }
        }
        self.known(now, gi);
    }

    /// An entry is known to the broker: its session may go on behind a dead letter, or be forgotten.
    fn entry_known(&mut self, si: usize, seq: u64) {
        let s = &mut self.sessions[si];
        s.entries = s.entries.saturating_sub(1);
        if s.step == Step::Barrier(seq) {
            s.step = Step::Idle;
            self.activate(si);
        }
        let s = &self.sessions[si];
        if let Some(claim) = s.claim
            && s.is_flushed()
        {
            self.claim_flushed(claim);
        }
        self.forget_if_idle(si);
    }

    /// Drops what is known from the front of the ring.
    fn known(&mut self, _now: Moment, gi: usize) {
        let g: &mut GrantState = &mut self.grants[gi];
        while g.ring.front().is_some_and(|e| e.stage == Stage::Settled) {
            g.ring.pop_front();
            g.base += 1;
        }
    }

    /// A settlement did not happen, or may not have: the next one covers it.
    fn settle_again(&mut self, now: Moment, gi: usize, ticket: Ticket) {
        let wait = self.limits.settle_interval.max(std::time::Duration::from_millis(1));
        let g = &mut self.grants[gi];
        for entry in &mut g.ring {
            if entry.stage == Stage::Told(ticket.0) {
                entry.stage = Stage::Done;
                g.untold += 1;
            }
        }
        g.untold_since = now;
        g.settle_after = now + wait;
        self.arm(gi);
    }

    fn note_answers(&mut self, gi: usize, ticket: Ticket, answer: Answer) {
        if !self.config.observe {
            return;
        }
        let g = &self.grants[gi];
        for entry in g.ring.iter().filter(|e| e.stage == Stage::Told(ticket.0)) {
            let session = self.sessions[entry.session].id.clone();
            let position = crate::position::Position { generation: g.generation, value: entry.position };
            self.notes.push(Note::Settled { grant: g.grant, session, position, answer });
        }
    }

    /// Marks an entry that the broker settled together with its copy.
    pub(super) fn settled_with_copy(&mut self, now: Moment, gi: usize, si: usize, seq: u64) {
        if let Some(entry) = self.grants[gi].entry(seq) {
            entry.stage = Stage::Settled;
            self.entry_known(si, seq);
            self.known(now, gi);
        }
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
