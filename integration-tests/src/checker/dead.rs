//! Dead letters: `dead-early`, `dead-lost`, `dead-reorder` (the start that does not wait is found
//! in `order`), and ghosts.

use foldhash::fast::RandomState;
use hashbrown::HashMap;

use super::Checker;
use super::names::{Fatal, Reported};
use super::report::{Of, tell};
use crate::history::{Answer, Event, GrantId, Message, Reason, Store, What};

/// A message that went, or was to go, to the dead letters.
#[derive(Clone, Debug)]
struct Copy {
    session: u64,
    /// The order in which they were first set aside: the log order, since a session has one at a time.
    seq: u64,
    /// When it was asked for last.
    asked_at: u64,
    confirmed: bool,
    stored: bool,
    /// The source was settled as a dead letter, by then.
    settled_at: Option<u64>,
    /// The source was completed elsewhere.
    completed: bool,
    ghost: bool,
}

#[derive(Debug, Default)]
struct Furthest {
    confirmed: u64,
    confirmed_at: u64,
    seen: u64,
}

#[derive(Debug, Default)]
pub(super) struct Dead {
    copies: HashMap<(u32, Message), Copy, RandomState>,
    /// The furthest first copy of a session, confirmed and seen in the store.
    furthest: HashMap<u32, Furthest, RandomState>,
    seq: u64,
}

impl Dead {
    pub(super) fn clear(&mut self) {
        self.copies.clear();
        self.furthest.clear();
        self.seq = 0;
    }

    fn copy(&mut self, at: u32, session: u64, message: Message) -> &mut Copy {
        self.copies.entry((at, message)).or_insert_with(|| {
            self.seq += 1;
            Copy {
                session,
                seq: self.seq,
                asked_at: 0,
                confirmed: false,
                stored: false,
                settled_at: None,
                completed: false,
                ghost: false,
            }
        })
    }
}

impl Checker {
    pub(super) fn dead_asked(&mut self, event: &Event, of: Of, at: u32, entry: u32, reason: Reason) {
        let Some(message) = of.message else { return };
        self.dead.copy(at, of.session, message).asked_at = event.time;
        if let Some(early) = self.dead_in_time(entry, reason) {
            self.fatal(event, Fatal::DeadEarly, of, format!("{} was dead-lettered {early}", tell(message)));
        }
    }

    pub(super) fn copied(
        &mut self,
        event: &Event,
        session: u64,
        message: Message,
        id: GrantId,
        store: Store,
        answer: Answer,
    ) {
        if store != Store::Dead || answer != Answer::Ok {
            return;
        }
        let at = self.convoys.at(event.group, session);
        let live = self.ring.find(at, message) != super::ring::NIL;
        let copy = self.dead.copy(at, session, message);
        // Its source is gone and was not dead-lettered: so it was completed elsewhere.
        copy.completed |= !live && copy.settled_at.is_none();
        if std::mem::replace(&mut copy.confirmed, true) {
            return;
        }
        let (seq, asked_at, completed) = (copy.seq, copy.asked_at, copy.completed);
        if completed {
            self.ghost(at, message);
            return;
        }
        let furthest = self.dead.furthest.entry(at).or_default();
        // An answer may come late, to a process that was frozen: the copy was made at some time since it was asked for.
        let behind = seq < furthest.confirmed && asked_at >= furthest.confirmed_at;
        if seq > furthest.confirmed {
            (furthest.confirmed, furthest.confirmed_at) = (seq, event.time);
        }
        if behind {
            self.fatal(event, Fatal::DeadReorder, Of::new(session, message, id), out_of_order(message));
        }
    }

    /// The source of a message is settled: as a dead letter only with its copy confirmed.
    pub(super) fn source_settled(&mut self, event: &Event, of: Of, at: u32, dead: bool) {
        let Some(message) = of.message else { return };
        if self.dead.copies.is_empty() && !dead {
            return;
        }
        let Some(copy) = self.dead.copies.get_mut(&(at, message)) else { return };
        if !dead {
            copy.completed = true;
            if copy.confirmed {
                self.ghost(at, message);
            }
            return;
        }
        copy.settled_at = Some(event.time);
        if !copy.confirmed {
            let why = format!("{} was settled as a dead letter before its copy was confirmed", tell(message));
            self.fatal(event, Fatal::DeadLost, of, why);
        }
    }

    pub(super) fn stored(&mut self, event: &Event, session: u64, message: Message, store: Store) {
        if store != Store::Dead {
            return;
        }
        let at = self.convoys.at(event.group, session);
        if !self.dead.copies.contains_key(&(at, message)) {
            // The process died between the copy and its confirm, or nobody ever sent it.
            if self.was_sent(session, message) {
                self.dead.copy(at, session, message).completed = true;
            } else {
                let why = format!("{} lies in the dead letters and was never sent", tell(message));
                self.fatal(event, Fatal::Phantom, Of::sent(session, message), why);
                return;
            }
        }
        let copy = self.dead.copy(at, session, message);
        if std::mem::replace(&mut copy.stored, true) {
            return;
        }
        let (seq, completed) = (copy.seq, copy.completed);
        if completed {
            self.ghost(at, message);
            return;
        }
        let furthest = &mut self.dead.furthest.entry(at).or_default().seen;
        let behind = seq < *furthest;
        *furthest = seq.max(*furthest);
        if behind {
            self.fatal(event, Fatal::DeadReorder, Of::sent(session, message), out_of_order(message));
        }
    }

    pub(super) fn forget_dead(&mut self, at: u32, message: Message) {
        self.dead.copies.remove(&(at, message));
    }

    /// Where the store was read to its end, every dead letter is in it.
    pub(super) fn judge_dead(&mut self) {
        if !self.options.dead_read {
            return;
        }
        let missing = self.dead.copies.iter().filter(|(_, copy)| copy.settled_at.is_some() && !copy.stored);
        let missing: Vec<_> = missing.map(|((at, m), copy)| (*at, *m, copy.session, copy.settled_at)).collect();
        for (at, message, session, settled_at) in missing {
            let group = self.convoys.all.get(at as usize).map_or(0, |convoy| convoy.group);
            let time = settled_at.unwrap_or(self.now);
            let event = Event { time, process: 0, number: 0, group, what: What::GroupStart };
            let why = format!("{} is not among the dead letters", tell(message));
            self.fatal(&event, Fatal::DeadLost, Of::sent(session, message), why);
        }
    }

    fn ghost(&mut self, at: u32, message: Message) {
        if let Some(copy) = self.dead.copies.get_mut(&(at, message))
            && !std::mem::replace(&mut copy.ghost, true)
        {
            self.report.count(Reported::Ghost);
        }
    }
}

fn out_of_order(message: Message) -> String {
    format!("the first copy of {} lies behind that of a later one", tell(message))
}
