//! Grants and their ends, processes and what was done to them.

use std::collections::VecDeque;

use foldhash::fast::RandomState;
use hashbrown::HashMap;

use super::Checker;
use super::ring::NIL;
use crate::history::{Cause, Ended, Event, Fault, GrantId, Phase, Place, Side};

/// How many ended grants are kept for records that come late.
const KEPT: usize = 1024;

#[derive(Clone, Debug)]
pub(super) struct Grant {
    key: (u32, GrantId),
    pub(super) place: Place,
    pub(super) process: u32,
    /// Its number in the order of time; the first is 1.
    pub(super) serial: u32,
    lock: u64,
    pub(super) deadline: u64,
    /// When its process saw it end.
    pub(super) lost_at: u64,
    /// When the broker may have ended it, seen by its process or not.
    ended_at: u64,
    pub(super) drained: bool,
    open: bool,
    queued: bool,
    /// Sessions that it holds, and its open runs.
    refs: u32,
    /// When something last moved under it.
    pub(super) moved_at: u64,
}

impl Grant {
    /// The end of the right as its process can know it.
    pub(super) fn seen_end(&self) -> u64 {
        self.deadline.min(self.lost_at)
    }

    /// The end of the right: from here on another may start.
    pub(super) fn right_end(&self) -> u64 {
        self.seen_end().min(self.ended_at)
    }

    pub(super) fn is_open(&self) -> bool {
        self.open
    }

    /// Ends it; a grant without a reference may go once it waits in no queue.
    fn close(&mut self) -> bool {
        self.open = false;
        self.refs == 0 && !std::mem::replace(&mut self.queued, true)
    }
}

#[derive(Debug, Default)]
pub(super) struct Grants {
    slots: Vec<Option<Grant>>,
    free: Vec<u32>,
    index: HashMap<(u32, GrantId), u32, RandomState>,
    ended: VecDeque<u32>,
    serial: u32,
    last: Option<((u32, GrantId), u32)>,
}

impl Grants {
    pub(super) fn clear(&mut self) {
        self.slots.clear();
        self.free.clear();
        self.index.clear();
        self.ended.clear();
        (self.serial, self.last) = (0, None);
    }

    pub(super) fn get(&self, at: u32) -> Option<&Grant> {
        self.slots.get(at as usize)?.as_ref()
    }

    pub(super) fn get_mut(&mut self, at: u32) -> Option<&mut Grant> {
        self.slots.get_mut(at as usize)?.as_mut()
    }

    /// The slot of a grant, and its number in the order of time. One that was never recorded, or
    /// ended long ago, is older than all.
    pub(super) fn find(&mut self, group: u32, id: GrantId) -> (u32, u32) {
        let key = (group, id);
        let at = match self.last {
            Some((last, at)) if last == key => at,
            _ => self.index.get(&key).copied().unwrap_or(NIL),
        };
        match self.get(at) {
            Some(grant) => {
                let serial = grant.serial;
                self.last = Some((key, at));
                (at, serial)
            }
            None => (NIL, 0),
        }
    }

    pub(super) fn hold(&mut self, at: u32) {
        if let Some(grant) = self.get_mut(at) {
            grant.refs += 1;
        }
    }

    pub(super) fn let_go(&mut self, at: u32) {
        let Some(grant) = self.get_mut(at) else { return };
        grant.refs = grant.refs.saturating_sub(1);
        if !grant.open && grant.close() {
            self.retire(at);
        }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Grant> {
        self.slots.iter().flatten()
    }

    fn iter_mut(&mut self) -> impl Iterator<Item = &mut Grant> {
        self.slots.iter_mut().flatten()
    }

    fn add(&mut self, grant: Grant) {
        let key = grant.key;
        let at = if let Some(at) = self.free.pop() {
            at
        } else {
            self.slots.push(None);
            u32::try_from(self.slots.len() - 1).unwrap_or(NIL)
        };
        if let Some(slot) = self.slots.get_mut(at as usize) {
            *slot = Some(grant);
            self.index.insert(key, at);
        }
    }

    fn retire(&mut self, at: u32) {
        self.ended.push_back(at);
        if self.ended.len() <= KEPT {
            return;
        }
        let Some(old) = self.ended.pop_front() else { return };
        let Some(slot) = self.slots.get_mut(old as usize) else { return };
        match slot {
            Some(grant) if grant.refs > 0 => grant.queued = false,
            Some(grant) => {
                if self.index.get(&grant.key) == Some(&old) {
                    self.index.remove(&grant.key);
                }
                *slot = None;
                self.free.push(old);
                self.last = None;
            }
            None => {}
        }
    }
}

/// What is known of a process.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Process {
    pub(super) kill_sent: bool,
    pub(super) reaped: bool,
    pub(super) frozen: bool,
    pub(super) resumed_at: u64,
}

impl Checker {
    pub(super) fn grant(&mut self, event: &Event, place: Place, id: GrantId, sent_at: u64, lock: u64) {
        self.grants.serial += 1;
        self.grants.last = None;
        let grant = Grant {
            key: (event.group, id),
            place,
            process: event.process,
            serial: self.grants.serial,
            lock,
            deadline: sent_at.saturating_add(lock),
            lost_at: u64::MAX,
            ended_at: u64::MAX,
            drained: false,
            open: true,
            queued: false,
            refs: 0,
            moved_at: event.time,
        };
        self.grants.add(grant);
    }

    pub(super) fn renewed(&mut self, event: &Event, id: GrantId, sent_at: u64) {
        let (at, _) = self.grants.find(event.group, id);
        if let Some(grant) = self.grants.get_mut(at) {
            grant.deadline = grant.deadline.max(sent_at.saturating_add(grant.lock));
        }
    }

    pub(super) fn lost(&mut self, event: &Event, id: GrantId, cause: Cause) {
        let (at, _) = self.grants.find(event.group, id);
        let Some(grant) = self.grants.get_mut(at) else { return };
        grant.lost_at = grant.lost_at.min(event.time);
        grant.drained = cause == Cause::Drained;
        if grant.close() {
            self.grants.retire(at);
        }
    }

    /// A kill closes the connections at some moment between the signal and the reaping, and the
    /// broker frees the lock at that moment: so the right ends with the signal.
    pub(super) fn kill_sent(&mut self, event: &Event, target: u32) {
        self.convict(Some(target));
        self.processes.entry(target).or_default().kill_sent = true;
        for grant in self.grants.iter_mut().filter(|grant| grant.process == target) {
            grant.ended_at = grant.ended_at.min(event.time);
        }
    }

    pub(super) fn reaped(&mut self, event: &Event, target: u32) {
        self.processes.entry(target).or_default().reaped = true;
        self.cut_runs(target);
        let mut gone = Vec::new();
        for (at, grant) in self.grants.slots.iter_mut().enumerate() {
            let Some(grant) = grant.as_mut().filter(|grant| grant.process == target) else { continue };
            grant.ended_at = grant.ended_at.min(event.time);
            if grant.close() {
                gone.push(u32::try_from(at).unwrap_or(NIL));
            }
        }
        gone.into_iter().for_each(|at| self.grants.retire(at));
    }

    /// Only a fault that the broker can see ends a right: one that cuts the client's side alone
    /// leaves the lock where it is.
    pub(super) fn fault(&mut self, event: &Event, fault: Fault, side: Side, phase: Phase, target: u32) {
        if fault == Fault::Freeze {
            let process = self.processes.entry(target).or_default();
            process.frozen = phase == Phase::Begin;
            if phase == Phase::End {
                process.resumed_at = event.time;
            }
        }
        if fault == Fault::NodeLoss {
            self.returns_until = match phase {
                Phase::Begin => u64::MAX,
                Phase::End => event.time.saturating_add(self.options.returns_within),
            };
        }
        if phase == Phase::Begin && side != Side::Client && fault.ends_right() {
            for grant in self.grants.iter_mut().filter(|grant| target == 0 || grant.process == target) {
                grant.ended_at = grant.ended_at.min(event.time);
            }
        }
    }

    /// Whether a failed run is charged to its message: the loss of the right is not.
    pub(super) const fn charged(how: Ended) -> bool {
        matches!(how, Ended::Error | Ended::Panic)
    }
}
