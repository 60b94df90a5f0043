//! What follows a failed attempt: a wait in place, the dead-letter store, or a stop.

use std::sync::Arc;

use super::input::{How, Note, Then};
use super::state::Step;
use super::timers::Timer;
use super::{Bug, Engine};
use crate::backend::{Answer, Command, Grant, Loss, Reason};
use crate::policy::Exhausted;
use crate::position::Position;
use crate::time::Moment;

impl Engine {
    pub(super) fn failed(&mut self, now: Moment, si: usize, then: Then, detail: &str, jitter: u64) {
        self.totals.failed += 1;
        let s = &mut self.sessions[si];
        if s.failures == 0 {
            s.failed_since = now;
        }
        s.failures = s.failures.saturating_add(1);
        let failures = s.failures;
        match then {
            Then::Retry => self.retry_or_give_up(now, si, detail, jitter),
            Then::RetryIn(wait) => self.wait(now, si, wait),
            Then::Wait => {
                let wait = self.config.retry.wait(failures, jitter);
                self.wait(now, si, wait);
            }
            Then::DeadLetterAs(code) => self.set_aside(now, si, Reason::new(code, detail, failures)),
            Then::DeadLetter => self.set_aside(now, si, Reason::new("handler", detail, failures)),
            Then::Stop => self.stop(si, Reason::new("handler-stop", detail, failures)),
        }
    }

    fn retry_or_give_up(&mut self, now: Moment, si: usize, detail: &str, jitter: u64) {
        let retry = &self.config.retry;
        let s = &self.sessions[si];
        let wait = retry.wait(s.failures, jitter);
        let early = u32::from(self.bug(Bug::EarlyDeadLetter));
        let too_many = retry.attempts.is_some_and(|most| s.failures + early >= most);
        let too_long = retry.elapsed.is_some_and(|most| (now + wait).since(s.failed_since) > most);
        let reason = || {
            let code = if too_many { "attempts-exhausted" } else { "time-exhausted" };
            Reason::new(code, detail, s.failures)
        };
        match retry.then {
            Some(Exhausted::DeadLetter) if too_many || too_long => {
                let reason = reason();
                self.set_aside(now, si, reason);
            }
            Some(Exhausted::Stop) if too_many || too_long => {
                let reason = reason();
                self.stop(si, reason);
            }
            _ => self.wait(now, si, wait),
        }
    }

    /// The head waits, and its session with it.
    fn wait(&mut self, now: Moment, si: usize, wait: std::time::Duration) {
        if self.bug(Bug::RetryToTheBack) {
            self.move_head_back(si);
        }
        self.totals.retried += 1;
        let s = &mut self.sessions[si];
        s.step = Step::Waiting;
        self.timers.set(&mut s.timer, now + wait, Timer::Session(si));
        self.note(|e| {
            let s = &e.sessions[si];
            let head = s.head.map(|h| e.nodes[h].position).unwrap_or_default();
            let grant = s.grant.map_or(Grant::new(0, &crate::backend::Place::Lane(0)), |g| e.grants[g].grant);
            Note::Retrying { grant, session: s.id.clone(), position: head, attempt: s.failures, wait }
        });
    }

    fn move_head_back(&mut self, si: usize) {
        let s = &mut self.sessions[si];
        if let (Some(head), Some(tail)) = (s.head, s.tail)
            && head != tail
        {
            s.head = self.nodes[head].next.take();
            self.nodes[tail].next = Some(head);
            s.tail = Some(head);
        }
    }

    /// A wait is over: the head's turn comes again, or its copy is tried again, unless its place is about to be given back.
    pub(super) fn wait_is_over(&mut self, now: Moment, si: usize) {
        let s = &mut self.sessions[si];
        s.step = Step::Idle;
        match s.aside.take() {
            Some(reason) if s.grant.is_some_and(|gi| self.grants[gi].leaving.is_none()) => {
                self.set_aside(now, si, *reason)
            }
            _ => self.activate(si),
        }
    }

    /// Sends a copy of the head to the dead-letter store, once what was done before it is settled: were that handed out again and set aside in its
    /// turn, its copy would come behind this one. The session waits until the copy is confirmed and the source settled.
    pub(super) fn set_aside(&mut self, now: Moment, si: usize, reason: Reason) {
        let s = &mut self.sessions[si];
        let (Some(gi), Some(head)) = (s.grant, s.head) else { return };
        let code = reason.code;
        s.aside = Some(Box::new(reason.clone()));
        if s.entries > s.len {
            s.step = Step::Settling;
            self.grants[gi].urgent = true;
            return self.consider_settling(now, gi);
        }
        s.step = Step::Aside;
        let g = &mut self.grants[gi];
        g.asides += 1;
        let message = self.nodes[head].message(&self.sessions[si].id);
        self.commands.push(Command::SetAside { grant: g.grant, message, reason });
        self.request_note(gi, si, How::DeadLettered, Some(code));
        if self.bug(Bug::SettledBeforeCopy) {
            self.resolve(now, gi, self.nodes[head].position.value);
            self.grants[gi].urgent = true;
            self.consider_settling(now, gi);
        }
    }

    /// What was done before a head that is to be set aside is settled now.
    pub(super) fn settled_before_aside(&mut self, now: Moment, si: usize) {
        let s = &mut self.sessions[si];
        s.step = Step::Idle;
        if let Some(reason) = s.aside.take()
            && s.grant.is_some_and(|gi| self.grants[gi].leaving.is_none())
        {
            self.set_aside(now, si, *reason);
        }
    }

    pub(super) fn set_aside_answered(&mut self, now: Moment, grant: Grant, position: u64, answer: Answer) {
        let Some(gi) = self.live(grant) else { return };
        // A copy is made for a session's head, and at most one at a time; find it by its position.
        let Some(si) = self.grants[gi].entry(position).and_then(|e| e.open()) else { return };
        let Some(head) = self.sessions[si].head else { return };
        let source = self.nodes[head].position;
        if source.value != position || self.sessions[si].step != Step::Aside {
            return;
        }
        self.grants[gi].asides = self.grants[gi].asides.saturating_sub(1);
        self.note(|e| {
            let (session, content) = (e.sessions[si].id.clone(), Arc::clone(&e.nodes[head].content));
            Note::SetAside { grant, session, position: source, content, answer }
        });
        match answer {
            Answer::Ok => {
                self.copy_is_safe(now, gi, si, source);
                // Where the copy settles its source, what waited for that may go on.
                if self.holds(gi, grant) {
                    self.goes_on(gi);
                }
            }
            Answer::Unknown if self.limits.set_aside_settles => return self.surrender(now, gi, Loss::Unknown),
            Answer::Refused | Answer::Unknown | Answer::NotApplied => self.copy_again(now, si),
        }
        self.after_work(now, gi, grant);
    }

    fn copy_is_safe(&mut self, now: Moment, gi: usize, si: usize, source: Position) {
        self.totals.dead_lettered += 1;
        self.sessions[si].aside = None;
        self.sessions[si].step = Step::Idle;
        self.pop_head(gi, si);
        if self.limits.set_aside_settles {
            self.note(|e| Note::Settled {
                grant: e.grants[gi].grant,
                session: e.sessions[si].id.clone(),
                position: source,
                answer: Answer::Ok,
            });
            self.activate(si);
            return self.entry_settled(now, gi, source.value);
        }
        self.resolve(now, gi, source.value);
        self.grants[gi].urgent = true;
        if self.bug(Bug::NextBeforeDeadLetterSettled) {
            return self.activate(si);
        }
        self.sessions[si].step = Step::Barrier(source.value);
    }

    /// The store did not take the copy: the source stays, the session waits, and it is tried again.
    fn copy_again(&mut self, now: Moment, si: usize) {
        let s = &self.sessions[si];
        let wait = self.config.retry.wait(s.failures.saturating_add(1), now.as_nanos());
        self.wait(now, si, wait);
    }
}
