//! Who may run: `start-after-expiry`, `overlap-live`, `late-cancel`.

use super::Checker;
use super::names::{Fatal, Reported};
use super::order::Start;
use super::report::{Of, tell};
use super::ring::{NIL, flag};
use crate::history::{Ended, Event, GrantId, Message};

/// A run that has not ended.
#[derive(Clone, Debug)]
struct Run {
    message: Message,
    convoy: u32,
    entry: u32,
    id: GrantId,
    grant: u32,
    serial: u32,
    process: u32,
    started_at: u64,
    blocking: bool,
    /// Since when a newer grant's run goes on beside it.
    zombie_since: Option<u64>,
    /// It is being killed, and the start that follows was already counted as a duplicate.
    counted: bool,
    open: bool,
    next: u32,
}

#[derive(Debug, Default)]
pub(super) struct Runs {
    all: Vec<Run>,
    free: Vec<u32>,
    accused: Vec<Accused>,
}

/// An overlap with a run of a process that may be dead already: a process that aborts frees its
/// locks before anybody reaps it. Any later sign of its life convicts it.
#[derive(Debug)]
struct Accused {
    process: u32,
    event: Event,
    of: Of,
    why: String,
}

impl Runs {
    pub(super) fn clear(&mut self) {
        self.all.clear();
        self.free.clear();
        self.accused.clear();
    }

    pub(super) fn none_accused(&self) -> bool {
        self.accused.is_empty()
    }

    fn add(&mut self, run: Run) -> u32 {
        if let Some(at) = self.free.pop()
            && let Some(slot) = self.all.get_mut(at as usize)
        {
            *slot = run;
            return at;
        }
        self.all.push(run);
        u32::try_from(self.all.len() - 1).unwrap_or(NIL)
    }
}

impl Checker {
    /// No handler starts under a right that had run out when it was checked.
    pub(super) fn in_time(&mut self, event: &Event, start: &Start, grant: u32) {
        let (deadline, lost_at) = self.grants.get(grant).map_or((0, 0), |grant| (grant.deadline, grant.lost_at));
        let deadline = deadline.min(start.deadline);
        if start.checked_at >= deadline || start.checked_at > lost_at {
            let why = match (grant == NIL, lost_at < start.checked_at) {
                (true, _) => "started under a grant that is unknown or long over".to_owned(),
                (_, true) => format!("started {} ns after its right was seen to end", start.checked_at - lost_at),
                _ => format!("started {} ns after its deadline", start.checked_at - deadline),
            };
            let of = Of::new(start.session, start.message, start.grant);
            self.fatal(event, Fatal::StartAfterExpiry, of, format!("{} {why}", tell(start.message)));
        } else if event.time >= deadline {
            self.report.count(Reported::LateFirstInstruction);
            self.report.measure(Reported::LateFirstInstruction, event.time - deadline);
        }
    }

    /// Where two runs of a session overlap, the newer must have started after the older's right
    /// ended. Says whether a run of the same message is being killed meanwhile.
    pub(super) fn alone(&mut self, event: &Event, start: &Start, convoy: u32, grant: u32, serial: u32) -> bool {
        let mut at = self.convoys.all.get(convoy as usize).map_or(NIL, |convoy| convoy.run);
        let mut cut = false;
        while let Some(run) = self.runs.all.get_mut(at as usize) {
            let next = run.next;
            let newer = serial > run.serial;
            let newer_start = if newer { event.time } else { run.started_at };
            let older = if newer { run.grant } else { grant };
            let right_end = self.grants.get(older).map_or(0, super::grants::Grant::right_end);
            if run.serial == serial || newer_start < right_end {
                let why = format!(
                    "{} started while {} ran under {}",
                    tell(start.message),
                    tell(run.message),
                    if run.serial == serial { "the same grant" } else { "another whose right was alive" }
                );
                let of = Of::new(start.session, start.message, start.grant);
                if run.process == event.process || run.serial == serial || !newer {
                    self.fatal(event, Fatal::OverlapLive, of, why);
                } else {
                    self.runs.accused.push(Accused { process: run.process, event: *event, of, why });
                }
            } else {
                self.report.count(Reported::ZombieOverlap);
                if newer {
                    run.zombie_since.get_or_insert(event.time);
                }
                if run.message == start.message && self.processes.get(&run.process).is_some_and(|p| p.kill_sent) {
                    cut |= !std::mem::replace(&mut run.counted, true);
                }
            }
            at = next;
        }
        cut
    }

    /// A process was alive after what it is accused of; none stands for the end of the history.
    #[cold]
    pub(super) fn convict(&mut self, process: Option<u32>) {
        let guilty = |accused: &mut Accused| process.is_none_or(|process| accused.process == process);
        for Accused { event, of, why, .. } in self.runs.accused.extract_if(.., guilty).collect::<Vec<_>>() {
            self.fatal(&event, Fatal::OverlapLive, of, why);
        }
    }

    pub(super) fn open_run(&mut self, event: &Event, start: &Start, at: u32, entry: u32, grant: u32, serial: u32) {
        let Some(convoy) = self.convoys.all.get_mut(at as usize) else { return };
        convoy.run = self.runs.add(Run {
            message: start.message,
            convoy: at,
            entry,
            id: start.grant,
            grant,
            serial,
            process: event.process,
            started_at: event.time,
            blocking: start.blocking,
            zombie_since: (serial < convoy.serial).then_some(event.time),
            counted: false,
            open: true,
            next: convoy.run,
        });
        self.grants.hold(grant);
    }

    pub(super) fn end(&mut self, event: &Event, session: u64, message: Message, id: GrantId, how: Ended) {
        let at = self.convoys.at(event.group, session);
        let (grant, serial) = self.grants.find(event.group, id);
        let Some(run) = self.close_run(at, message, id) else { return };
        if let Some(grant) = self.grants.get_mut(grant) {
            grant.moved_at = event.time;
        }
        self.ended_in_time(event, session, &run);
        if let Some(since) = run.zombie_since {
            self.report.measure(Reported::ZombieOverlap, event.time.saturating_sub(since));
        }
        let entry = self.ring.find_near(run.entry, at, message);
        let Some(entry) = self.ring.get_mut(entry) else { return };
        entry.flags |= flag::RAN;
        if how == Ended::Ok {
            entry.flags |= flag::ENDED_OK | flag::DONE;
            // A zombie's end says nothing of what the newer grant did.
            if serial >= entry.ended_in {
                (entry.ended_in, entry.ended_at) = (serial, event.time);
            }
        } else if Self::charged(how) {
            entry.failed += 1;
        }
    }

    /// A crash cuts off the runs of its process: the attempt is charged, and a start that follows
    /// is a duplicate.
    pub(super) fn cut_runs(&mut self, process: u32) {
        self.runs.accused.retain(|accused| accused.process != process);
        for at in 0..self.runs.all.len() {
            let Some(run) = self.runs.all.get(at).filter(|run| run.open && run.process == process).cloned() else {
                continue;
            };
            self.close_run(run.convoy, run.message, run.id);
            let entry = self.ring.find_near(run.entry, run.convoy, run.message);
            if let Some(entry) = self.ring.get_mut(entry) {
                entry.failed += 1;
                entry.flags |= flag::RAN | if run.counted { 0 } else { flag::CUT };
            }
        }
    }

    /// Runs that never ended although their process lives.
    pub(super) fn judge_runs(&mut self) {
        self.convict(None);
        for at in 0..self.runs.all.len() {
            let Some(run) = self.runs.all.get(at).filter(|run| run.open).cloned() else { continue };
            let alive = self.processes.get(&run.process).is_none_or(|p| !p.kill_sent && !p.reaped && !p.frozen);
            let Some(convoy) = self.convoys.all.get(run.convoy as usize).filter(|_| alive) else { continue };
            let (group, session) = (convoy.group, convoy.session);
            let what = crate::history::What::GroupStart;
            let event = Event { time: self.now, process: run.process, number: 0, group, what };
            self.ended_in_time(&event, session, &run);
        }
    }

    /// A run ends at the latest the grace time after its process saw the right end, or thawed.
    fn ended_in_time(&mut self, event: &Event, session: u64, run: &Run) {
        let seen = self.grants.get(run.grant).map_or(0, super::grants::Grant::seen_end);
        if run.blocking || event.time <= seen {
            return;
        }
        // A process that does something is not frozen, or not yet: who thaws it may be slow to say so.
        let thawed = |process: &super::grants::Process| if process.frozen { event.time } else { process.resumed_at };
        let thawed = self.processes.get(&run.process).map_or(0, thawed);
        let limit = seen.max(thawed).saturating_add(self.options.grace);
        if event.time > limit {
            let why = format!("{} ran on {} ns beyond the grace time", tell(run.message), event.time - limit);
            self.fatal(event, Fatal::LateCancel, Of::new(session, run.message, run.id), why);
        }
    }

    fn close_run(&mut self, at: u32, message: Message, id: GrantId) -> Option<Run> {
        let convoy = self.convoys.all.get_mut(at as usize)?;
        let (mut before, mut at) = (NIL, convoy.run);
        loop {
            let run = self.runs.all.get_mut(at as usize)?;
            if run.message == message && run.id == id {
                run.open = false;
                break;
            }
            (before, at) = (at, run.next);
        }
        let run = self.runs.all.get(at as usize)?.clone();
        match self.runs.all.get_mut(before as usize) {
            Some(before) => before.next = run.next,
            None => convoy.run = run.next,
        }
        self.runs.free.push(at);
        self.grants.let_go(run.grant);
        Some(run)
    }
}
