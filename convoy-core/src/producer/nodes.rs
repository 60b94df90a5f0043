//! The queued messages: a slab, and the order in which they run out of time.

use std::sync::Arc;

use crate::backend::Fate;
use crate::error::ErrorKind;
use crate::message::Content;
use crate::time::Moment;

use super::list::{Link, List, NIL};

/// A message that is queued, out or kept.
#[derive(Debug)]
pub(super) struct Node {
    /// `None` when the slot is free.
    pub(super) content: Option<Arc<Content>>,
    pub(super) session: u32,
    pub(super) serial: u64,
    pub(super) number: u64,
    pub(super) size: usize,
    pub(super) deadline: Moment,
    /// The ticket of the run it is or was part of; 0 for none.
    pub(super) run: u64,
    pub(super) state: State,
    /// Its neighbours in its session.
    pub(super) link: Link,
    due: Link,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// To be handed out.
    Waiting,
    /// At the broker.
    Out,
    /// Its outcome was told; it is kept until its session is resumed.
    Halted { kind: ErrorKind, fate: Fate },
}

impl State {
    pub(super) fn is_halted(self) -> bool {
        matches!(self, Self::Halted { .. })
    }
}

#[derive(Debug)]
pub(super) struct Nodes {
    pub(super) items: Vec<Node>,
    free: Vec<u32>,
    due: List,
}

impl Nodes {
    pub(super) fn new() -> Self {
        Self { items: Vec::new(), free: Vec::new(), due: List::EMPTY }
    }

    pub(super) fn insert(&mut self, node: Node) -> u32 {
        match self.free.pop() {
            Some(at) => {
                self.items[at as usize] = node;
                at
            }
            None => {
                self.items.push(node);
                (self.items.len() - 1) as u32
            }
        }
    }

    /// Frees the slot. The node must be in no list any more.
    pub(super) fn free(&mut self, at: u32) -> Option<Arc<Content>> {
        self.free.push(at);
        self.items[at as usize].content.take()
    }

    /// A message and those behind it in its session.
    pub(super) fn from(&self, first: u32) -> impl Iterator<Item = (u32, &Node)> {
        let mut n = first;
        std::iter::from_fn(move || {
            let node = self.items.get(n as usize)?;
            Some((std::mem::replace(&mut n, node.link.next), node))
        })
    }

    /// Puts it among those that run out of time. Equal deadlines keep the order of insertion, and deadlines mostly grow, so that this is a
    /// step or none.
    pub(super) fn watch(&mut self, at: u32) {
        let deadline = self.items[at as usize].deadline;
        let mut after = self.due.tail;
        while after != NIL && self.items[after as usize].deadline > deadline {
            after = self.items[after as usize].due.prev;
        }
        self.due.insert_after(&mut self.items, |n| &mut n.due, after, at);
    }

    pub(super) fn unwatch(&mut self, at: u32) {
        self.due.remove(&mut self.items, |n| &mut n.due, at);
    }

    /// The one that runs out of time first.
    pub(super) fn first_due(&self) -> Option<(u32, &Node)> {
        let at = self.due.head;
        (at != NIL).then(|| (at, &self.items[at as usize]))
    }
}

impl Node {
    pub(super) fn new(
        content: Arc<Content>,
        session: u32,
        serial: u64,
        number: u64,
        deadline: Moment,
        state: State,
    ) -> Self {
        let size = content.size();
        Self {
            content: Some(content),
            session,
            serial,
            number,
            size,
            deadline,
            run: 0,
            state,
            link: Link::NONE,
            due: Link::NONE,
        }
    }
}
