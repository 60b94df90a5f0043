//! One channel behind one lock: its messages, its groups, who holds what.
//!
//! Everything here is a plain state machine under [`Channel::with`]: it is given the time, and says whom to wake. Nothing is woken and no
//! foreign code runs while the lock is held.

mod accept;
mod consumers;
mod deliver;
mod done;
mod faults;
mod lanes;
mod locks;
mod sessions;
mod slab;
mod timers;

use std::sync::Arc;

use bytes::Bytes;
use convoy_core::backend::{Fate, Run, Sent, Ticket};
use convoy_core::runtime::now;
use convoy_core::{Content, Moment, SessionId};
use hashbrown::HashMap;
use parking_lot::Mutex;
use tokio::sync::Notify;

pub(crate) use self::consumers::{Consumer, Link as ConsumerLink};
pub(crate) use self::deliver::Poll;
pub(crate) use self::faults::{GroupFaults, SendFaults};
pub(crate) use self::lanes::{GroupLane, LaneLog};
pub(crate) use self::locks::{Holding, Locks, Spot};
pub(crate) use self::sessions::{GroupSession, SessionLog};
pub(crate) use self::slab::{KEPT, List, NONE, Slab};
pub(crate) use self::timers::{Timer, Timers};
use crate::config::Options;
use crate::dead::DeadLetters;
use crate::gate::Gate;
use crate::producer::Outcomes;

pub(crate) type Map<K, V> = HashMap<K, V, foldhash::fast::RandomState>;

/// A channel, shared by the broker and everybody who opened it.
#[derive(Debug)]
pub(crate) struct Channel {
    pub(crate) name: String,
    pub(crate) options: Options,
    /// Whether the broker answers at all.
    pub(crate) gate: Arc<Gate>,
    state: Mutex<State>,
}

/// What is under the lock.
#[derive(Debug)]
pub(crate) struct State {
    pub(crate) name: String,
    pub(crate) options: Options,
    /// What is kept, in messages and bytes.
    pub(crate) messages: u64,
    pub(crate) bytes: u64,
    pub(crate) log: Log,
    pub(crate) groups: Vec<Group>,
    pub(crate) consumers: Slab<Consumer>,
    pub(crate) locks: Locks,
    pub(crate) timers: Timers,
    /// Whether the broker stands still, by a fault.
    pub(crate) frozen: bool,
    /// Runs that came while the broker stood still.
    pub(crate) held_back: Vec<(Arc<Outcomes>, Run)>,
    /// What became of runs whose outcome may have come too late or not at all, by producer and ticket.
    pub(crate) fates: Map<(u64, Ticket), Fate>,
    pub(crate) faults: SendFaults,
    effects: Effects,
}

/// The messages, each stored once for all groups.
#[derive(Debug)]
pub(crate) enum Log {
    Sessions(SessionLog),
    Lanes(Vec<LaneLog>),
}

/// A consumer group: how far it is with what, and who holds it.
#[derive(Debug, Default)]
pub(crate) struct Group {
    pub(crate) name: String,
    /// Messages that this group has to settle.
    pub(crate) unsettled: u64,
    /// By the slot of the session in the log.
    pub(crate) sessions: Vec<GroupSession>,
    /// Free sessions with messages, the longest waiting first.
    pub(crate) ready: List,
    /// Consumers with an open request for the next free session, the longest waiting first.
    pub(crate) askers: std::collections::VecDeque<u32>,
    /// Who waits for which session by name.
    pub(crate) named: Map<u32, std::collections::VecDeque<accept::Waiter>>,
    pub(crate) lanes: Vec<GroupLane>,
    /// Who shares the lanes, in the order they joined.
    pub(crate) members: Vec<u32>,
    pub(crate) states: Map<SessionId, Bytes>,
    pub(crate) dead: DeadLetters,
    /// Sessions that a fault keeps for one consumer, until it asks for one.
    pub(crate) reserved: Vec<(u32, u32)>,
    pub(crate) faults: GroupFaults,
    /// Settlements that came under a right that was gone.
    pub(crate) stale_settlements: u64,
}

/// A message in the log.
#[derive(Clone, Debug)]
pub(crate) struct Stored {
    pub(crate) content: Arc<Content>,
    pub(crate) size: u32,
    pub(crate) defect: Option<convoy_core::Defect>,
}

impl Stored {
    pub(crate) fn new(content: Arc<Content>) -> Self {
        let size = u32::try_from(content.size()).unwrap_or(u32::MAX);
        Self { content, size, defect: None }
    }
}

impl Channel {
    pub(crate) fn new(name: &str, options: Options, gate: &Arc<Gate>) -> Self {
        let log = match options.lanes {
            0 => Log::Sessions(SessionLog::new()),
            lanes => Log::Lanes((0..lanes).map(|_| LaneLog::new()).collect()),
        };
        let state = State {
            name: name.to_owned(),
            options: options.clone(),
            messages: 0,
            bytes: 0,
            log,
            groups: Vec::new(),
            consumers: Slab::new(),
            locks: Locks::new(),
            timers: Timers::default(),
            frozen: !gate.is_open(),
            held_back: Vec::new(),
            fates: Map::default(),
            faults: SendFaults::default(),
            effects: Effects::default(),
        };
        Self { name: name.to_owned(), options, gate: Arc::clone(gate), state: Mutex::new(state) }
    }

    /// By when an answer comes, or is not waited for any more.
    pub(crate) fn answer_limit(&self) -> Moment {
        now() + self.options.answer_limit
    }

    /// Runs `f` under the lock, then wakes whom it concerns.
    pub(crate) fn with<R>(&self, f: impl FnOnce(&mut State, Moment) -> R) -> R {
        let at = now();
        let mut state = self.state.lock();
        let result = f(&mut state, at);
        let effects = std::mem::take(&mut state.effects);
        drop(state);
        effects.happen();
        result
    }
}

impl State {
    pub(crate) fn group(&self, name: &str) -> Option<u32> {
        self.groups.iter().position(|g| g.name == name).map(|g| g as u32)
    }

    /// The group of this name; a new one sees what is sent from now on, the first one of a channel also what was sent before.
    pub(crate) fn open_group(&mut self, name: &str) -> u32 {
        if let Some(group) = self.group(name) {
            return group;
        }
        let first = self.groups.is_empty();
        let mut group = Group { name: name.to_owned(), ..Group::default() };
        match &mut self.log {
            Log::Sessions(log) => log.join(&mut group, first),
            Log::Lanes(lanes) => {
                group.lanes = lanes.iter().map(|lane| lane.join(first)).collect();
                group.unsettled = if first { self.messages } else { 0 };
            }
        }
        self.groups.push(group);
        (self.groups.len() - 1) as u32
    }

    /// Stores messages of one session and offers them; gives the position of the last.
    pub(crate) fn append(&mut self, session: &SessionId, messages: impl Iterator<Item = Stored>, now: Moment) -> u64 {
        match self.log {
            Log::Sessions(_) => self.append_to_session(session, messages, now),
            Log::Lanes(ref lanes) => {
                let lane = lane_of(session, lanes.len() as u32);
                self.append_to_lane(lane, session, messages)
            }
        }
    }

    /// Does what the time asks for: ends what ran out, fires what is due. Nothing moves in a frozen broker.
    pub(crate) fn advance(&mut self, now: Moment) {
        if self.frozen {
            return;
        }
        while let Some(slot) = self.locks.expired(now) {
            self.expire(slot, now);
        }
        while let Some(timer) = self.timers.due(now) {
            self.fire(timer, now);
        }
    }

    /// When [`advance`](Self::advance) has something to do next.
    pub(crate) fn next_deadline(&self) -> Moment {
        self.locks.first_expiry().min(self.timers.first())
    }

    /// Reports the outcome of a send once the lock is let go.
    pub(crate) fn report(&mut self, outcomes: Arc<Outcomes>, sent: Sent) {
        self.effects.sent.push((outcomes, sent));
    }

    /// Wakes a consumer's pending `next`, if there is one.
    pub(crate) fn wake(&mut self, consumer: u32) {
        let consumer = &mut self.consumers[consumer];
        if consumer.waiting {
            consumer.waiting = false;
            self.effects.wake(&consumer.notify);
        }
    }

    /// Wakes those who would sleep past `at`.
    pub(crate) fn arm(&mut self, at: Moment) {
        for slot in 0..self.consumers.end() {
            if self.consumers[slot].sleeps_until > at {
                self.wake(slot);
            }
        }
    }
}

/// The lane of a session: pinned, the same in every process and version.
pub(crate) fn lane_of(session: &SessionId, lanes: u32) -> u32 {
    (session.stable_hash() % u64::from(lanes.max(1))) as u32
}

/// What happens once the lock is let go: whom to wake, almost always nobody or one, and the outcomes of sends that were held back.
#[derive(Debug, Default)]
struct Effects {
    wake: Option<Arc<Notify>>,
    wake_too: Vec<Arc<Notify>>,
    sent: Vec<(Arc<Outcomes>, Sent)>,
    nudge: Option<Arc<Outcomes>>,
}

impl Effects {
    fn wake(&mut self, notify: &Arc<Notify>) {
        match self.wake {
            None => self.wake = Some(Arc::clone(notify)),
            Some(_) => self.wake_too.push(Arc::clone(notify)),
        }
    }

    fn happen(self) {
        for notify in self.wake.iter().chain(&self.wake_too) {
            notify.notify_one();
        }
        if let Some(outcomes) = self.nudge {
            outcomes.nudge();
        }
        for (outcomes, sent) in self.sent {
            outcomes.push(sent);
        }
    }
}
