//! Settlements: `settle-unhandled`, `stale-settle`, and `skip` where one leaves a gap.

use foldhash::fast::RandomState;
use hashbrown::HashSet;

use super::Checker;
use super::names::Fatal;
use super::report::{Of, tell};
use super::ring::{NIL, flag};
use crate::history::{Answer, Event, GrantId, Message, Reason, SettleKind};

#[derive(Debug, Default)]
pub(super) struct Settles {
    /// Asked for after a newer grant's first run: may not be taken. By session, message and grant.
    stale: HashSet<(u32, Message, GrantId), RandomState>,
    /// Brought back after they were settled.
    redriven: HashSet<(u32, Message), RandomState>,
}

impl Settles {
    pub(super) fn clear(&mut self) {
        self.stale.clear();
        self.redriven.clear();
    }

    /// Whether a settled message may start: until it is settled again, so that a retry or a new grant may start it too.
    pub(super) fn redriven(&self, at: u32, message: Message) -> bool {
        self.redriven.contains(&(at, message))
    }
}

impl Checker {
    pub(super) fn asked(&mut self, event: &Event, session: u64, message: Message, id: GrantId, kind: SettleKind) {
        let at = self.convoys.at(event.group, session);
        let (grant, serial) = self.grants.find(event.group, id);
        if let Some(grant) = self.grants.get_mut(grant) {
            grant.moved_at = event.time;
        }
        let Some(convoy) = self.convoys.all.get(at as usize) else { return };
        let stale = serial < convoy.serial;
        let entry = self.unsettled(at, message, convoy.cursor, |flags| flags & (flag::ASKED | flag::SETTLED) == 0);
        if stale {
            self.settles.stale.insert((at, message, id));
        }
        let Some(live) = self.ring.get_mut(entry) else { return };
        let unhandled = kind == SettleKind::Complete && !live.has(flag::ENDED_OK | flag::SETTLED);
        if !stale {
            live.asked_in = serial;
            live.flags = (live.flags & !(flag::ASIDE | flag::DEAD)) | flag::ASKED;
            live.flags |= match kind {
                SettleKind::Complete => 0,
                SettleKind::Parked => flag::ASIDE,
                SettleKind::Dead(_) => flag::ASIDE | flag::DEAD,
            };
        }
        let of = Of::new(session, message, id);
        if unhandled {
            let why = format!("{} was completed, and no run of it ended well", tell(message));
            self.fatal(event, Fatal::SettleUnhandled, of, why);
        }
        if let SettleKind::Dead(reason) = kind {
            self.dead_asked(event, of, at, entry, reason);
        }
    }

    pub(super) fn answered(&mut self, event: &Event, session: u64, message: Message, id: GrantId, answer: Answer) {
        let at = self.convoys.at(event.group, session);
        let (grant, serial) = self.grants.find(event.group, id);
        if let Some(grant) = self.grants.get_mut(grant) {
            grant.moved_at = event.time;
        }
        let head = self.convoys.all.get(at as usize).map_or(NIL, |convoy| convoy.list.head);
        let entry = self.unsettled(at, message, head, |flags| flags & flag::SETTLED == 0);
        let of = Of::new(session, message, id);
        if !self.settles.stale.is_empty()
            && self.settles.stale.contains(&(at, message, id))
            && answer != Answer::Unknown
        {
            self.settles.stale.remove(&(at, message, id));
            if answer == Answer::Ok {
                let why = format!("{} was settled by a grant after a newer one had started", tell(message));
                self.fatal(event, Fatal::StaleSettle, of, why);
            }
        }
        let Some(live) = self.ring.get_mut(entry) else {
            if answer == Answer::Ok && !self.settles.redriven.is_empty() {
                self.settles.redriven.remove(&(at, message));
            }
            return;
        };
        match answer {
            Answer::Ok => {
                let dead = live.has(flag::DEAD);
                live.flags = (live.flags & !flag::ASKED) | flag::SETTLED;
                self.without_gap(event, of, at, entry);
                self.settled_here(entry, at);
                self.source_settled(event, of, at, dead);
                self.pop_settled(at);
            }
            Answer::Refused if live.asked_in == serial && !live.has(flag::UNSURE) => {
                live.flags &= !(flag::ASKED | flag::ASIDE | flag::DEAD);
                self.reopen(at, entry);
            }
            Answer::Unknown => live.flags |= flag::UNSURE,
            Answer::Refused => {}
        }
    }

    pub(super) fn redrive(&mut self, event: &Event, session: u64, message: Message) {
        let at = self.convoys.at(event.group, session);
        self.settles.redriven.insert((at, message));
    }

    pub(super) fn purge(&mut self, event: &Event, session: u64, message: Message) {
        let at = self.convoys.at(event.group, session);
        self.forget_dead(at, message);
        let bit = self.group_bit(event.group);
        self.sends.settled(message, bit);
        let entry = self.ring.find(at, message);
        self.remove(at, entry);
    }

    /// A settlement that the broker took leaves no gap before it.
    fn without_gap(&mut self, event: &Event, of: Of, at: u32, entry: u32) {
        let open = self.sweep(at);
        if open != NIL && open != entry && self.ring.before(open, entry) {
            let message = self.told(entry);
            let why = format!("{message} was settled before {}, which is not settled", self.told(open));
            self.fatal(event, Fatal::Skip, of, why);
        }
    }

    /// The first message that is neither settled nor maybe settled.
    fn sweep(&mut self, at: u32) -> u32 {
        let Some(convoy) = self.convoys.all.get_mut(at as usize) else { return NIL };
        loop {
            let next = if convoy.swept == NIL { convoy.list.head } else { self.ring.next(convoy.swept) };
            match self.ring.get(next) {
                Some(entry) if entry.has(flag::SETTLED | flag::ASKED | flag::MALFORMED) => convoy.swept = next,
                _ => return next,
            }
        }
    }

    /// An entry is, again, neither settled nor maybe settled.
    pub(super) fn reopen(&mut self, at: u32, entry: u32) {
        let Some(convoy) = self.convoys.all.get_mut(at as usize) else { return };
        if convoy.swept != NIL && !self.ring.before(convoy.swept, entry) {
            convoy.swept = self.ring.get(entry).map_or(NIL, |entry| entry.prev);
        }
    }

    /// Forgets what is settled at the head of the session.
    pub(super) fn pop_settled(&mut self, at: u32) {
        while let Some(convoy) = self.convoys.all.get(at as usize)
            && self.ring.get(convoy.list.head).is_some_and(|entry| entry.has(flag::SETTLED))
        {
            self.remove(at, convoy.list.head);
        }
    }

    fn remove(&mut self, at: u32, entry: u32) {
        let Some(convoy) = self.convoys.all.get_mut(at as usize) else { return };
        let Some(before) = self.ring.get(entry).map(|entry| entry.prev) else { return };
        for mark in [&mut convoy.cursor, &mut convoy.swept] {
            if *mark == entry {
                *mark = before;
            }
        }
        self.ring.remove(&mut convoy.list, entry);
    }

    /// Of several copies the first that fits, else the first; a guess saves the look-up.
    fn unsettled(&self, at: u32, message: Message, guess: u32, fits: impl Fn(u16) -> bool) -> u32 {
        let first = self.ring.find_near(guess, at, message);
        match self.ring.get(first) {
            Some(entry) if first != guess || entry.copy != NIL || !fits(entry.flags) => {
                let first = self.ring.find(at, message);
                let fitting = self.ring.copies(first).find(|id| self.ring.get(*id).is_some_and(|e| fits(e.flags)));
                fitting.unwrap_or(first)
            }
            _ => first,
        }
    }

    /// The reasons for which a message may be dead-lettered.
    pub(super) fn dead_in_time(&self, entry: u32, reason: Reason) -> Option<&'static str> {
        let live = self.ring.get(entry)?;
        match reason {
            Reason::Exhausted if live.failed < self.options.max_attempts => Some("as exhausted with attempts left"),
            Reason::Explicit if !live.has(flag::RAN) => Some("as the handler's wish, and no handler ran"),
            Reason::Malformed if !live.has(flag::MALFORMED) => Some("as malformed, and it is not"),
            _ => None,
        }
    }
}
