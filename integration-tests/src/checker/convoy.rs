//! What is remembered of a session in a group.

use foldhash::fast::RandomState;
use hashbrown::HashMap;

use super::ring::{List, NIL};
use crate::history::{Message, Position};

#[derive(Clone, Debug)]
pub(super) struct Convoy {
    pub(super) session: u64,
    pub(super) group: u32,
    /// What is delivered and not settled, in log order.
    pub(super) list: List,
    /// What the newest grant started last; `NIL` when it is settled or nothing started.
    pub(super) cursor: u32,
    /// Up to here everything is settled or maybe settled.
    pub(super) swept: u32,
    /// Its open runs.
    pub(super) run: u32,
    /// The newest grant that started something here, and its number in the order of time.
    pub(super) grant: u32,
    pub(super) serial: u32,
    /// The furthest first start, by position and for the last producer by its sequence.
    pub(super) started_to: Position,
    started_pseq: u64,
    started_producer: u32,
    pub(super) duplicates: u32,
    pub(super) allowed: u32,
    /// How much of what is allowed comes from the grant before, and that one's number in the order of time.
    pub(super) credited: u32,
    pub(super) credited_of: u32,
}

/// An older grant that goes on in a session behind a newer one.
#[derive(Debug, Default)]
pub(super) struct Zombie {
    /// How much of what is allowed comes from it.
    pub(super) credited: u32,
    /// What it started last.
    pub(super) last: Option<Message>,
}

#[derive(Debug, Default)]
pub(super) struct Convoys {
    index: HashMap<(u32, u64), u32, RandomState>,
    pub(super) all: Vec<Convoy>,
    /// The furthest first start of the producers that are not the last of their session.
    others: HashMap<(u32, u32), u64, RandomState>,
    /// Older grants that went on in a session behind a newer one, by their number in the order of time.
    pub(super) zombies: HashMap<(u32, u32), Zombie, RandomState>,
    last: Option<((u32, u64), u32)>,
}

impl Convoys {
    pub(super) fn clear(&mut self) {
        self.index.clear();
        self.all.clear();
        self.others.clear();
        self.zombies.clear();
        self.last = None;
    }

    pub(super) fn find(&self, group: u32, session: u64) -> Option<u32> {
        self.index.get(&(group, session)).copied()
    }

    /// The number of a session in a group.
    pub(super) fn at(&mut self, group: u32, session: u64) -> u32 {
        let key = (group, session);
        if let Some((last, at)) = self.last
            && last == key
        {
            return at;
        }
        let at = *self.index.entry(key).or_insert_with(|| {
            self.all.push(Convoy {
                session,
                group,
                list: List::default(),
                cursor: NIL,
                swept: NIL,
                run: NIL,
                grant: NIL,
                serial: 0,
                started_to: Position::default(),
                started_pseq: 0,
                started_producer: 0,
                duplicates: 0,
                allowed: 0,
                credited: 0,
                credited_of: 0,
            });
            u32::try_from(self.all.len() - 1).unwrap_or(NIL)
        });
        self.last = Some((key, at));
        at
    }

    /// The furthest sequence of a producer that was started in a session.
    pub(super) fn started_of(&self, at: u32, producer: u32) -> Option<u64> {
        let convoy = self.all.get(at as usize)?;
        if convoy.started_producer == producer && convoy.serial > 0 {
            return Some(convoy.started_pseq);
        }
        self.others.get(&(at, producer)).copied()
    }

    pub(super) fn set_started(&mut self, at: u32, message: Message) {
        let Some(convoy) = self.all.get_mut(at as usize) else { return };
        if convoy.started_producer != message.producer {
            let before = (convoy.started_producer, convoy.started_pseq);
            convoy.started_pseq = self.others.remove(&(at, message.producer)).unwrap_or(0);
            convoy.started_producer = message.producer;
            if before.1 > 0 {
                self.others.insert((at, before.0), before.1);
            }
        }
        convoy.started_pseq = convoy.started_pseq.max(message.pseq);
    }
}
