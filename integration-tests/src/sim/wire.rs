//! What passes between a process and a broker, and the links that it passes over.

use std::collections::VecDeque;

use convoy_core::backend::{Answer, Loss, Progress, Ticket};

use crate::history::Reason;

/// From a process to the broker. A token names a right.
#[derive(Debug)]
pub(crate) enum Up {
    /// Takes part in what is assigned.
    Join,
    /// The same member, on another connection.
    Back,
    /// Wants no right any more.
    Leave,
    /// Opens so many more requests for the next free session.
    Accept(u32),
    /// Asks for one session.
    AcceptNamed(u8, u64),
    /// Registers for a lane.
    Subscribe(u8),
    /// Goes on reading from an entry, on a new connection.
    Fetch(u32, u32),
    Settle(u32, Ticket, Progress),
    SetAside(u32, u64, Reason),
    Renew(u32, u64),
    Read(u32, bool),
    Release(u32),
    Surrender(u32),
    /// The end of the connection, as the kernel shows it.
    Closed,
}

/// From the broker to a process.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Down {
    Granted(u32),
    /// A message: its right, its number in the log, the entry of the place behind it.
    Deliver(u32, u32, u32),
    Passed(u32, u64),
    /// Asked when, and good for how long from then.
    Proved(u32, u64, u64),
    Settled(u32, Ticket, Answer),
    SetAside(u32, u64, Answer),
    /// A right is wanted back, and taken then.
    Revoke(u32, u64),
    Lost(u32, Loss),
    /// The process is no member any more.
    Kicked,
    Denied(u8),
    Closed,
}

/// One direction of a connection: first in, first out.
#[derive(Debug)]
pub(crate) struct Link<T> {
    pub(crate) queue: VecDeque<(u64, T)>,
    /// When the last one arrives, and when it was sent.
    last: u64,
    sent: u64,
    /// Swallows everything.
    pub(crate) dead: bool,
}

impl<T> Link<T> {
    pub(crate) const fn new() -> Self {
        Self { queue: VecDeque::new(), last: 0, sent: u64::MAX, dead: false }
    }

    pub(crate) fn reset(&mut self) {
        self.queue.clear();
        (self.last, self.sent, self.dead) = (0, u64::MAX, false);
    }

    /// Puts it on its way; says when it arrives if nothing else arrives then. What is sent together arrives together.
    pub(crate) fn send(&mut self, now: u64, delay: u64, what: T) -> Option<u64> {
        if self.sent != now || self.last < now {
            self.last = self.last.max(now + delay);
            self.sent = now;
        }
        let alone = self.queue.back().is_none_or(|(at, _)| *at < self.last);
        self.queue.push_back((self.last, what));
        alone.then_some(self.last)
    }

    /// What has arrived.
    pub(crate) fn arrived(&mut self, now: u64) -> Option<T> {
        match self.queue.front() {
            Some((at, _)) if *at <= now => self.queue.pop_front().map(|(_, what)| what),
            _ => None,
        }
    }
}

/// A connection, with what each side believes of it.
#[derive(Debug)]
pub(crate) struct Conn {
    pub(crate) process: u8,
    pub(crate) incarnation: u32,
    pub(crate) up: Link<Up>,
    pub(crate) down: Link<Down>,
    pub(crate) client_open: bool,
    pub(crate) broker_open: bool,
    /// When the broker heard of it last.
    pub(crate) heard: u64,
    /// Takes so much longer.
    pub(crate) slow: u64,
    /// Requests for the next free session that are open at the broker.
    pub(crate) asks: u32,
    pub(crate) left: bool,
}

impl Conn {
    pub(crate) const fn new() -> Self {
        Self {
            process: 0,
            incarnation: 0,
            up: Link::new(),
            down: Link::new(),
            client_open: false,
            broker_open: false,
            heard: 0,
            slow: 0,
            asks: 0,
            left: false,
        }
    }

    pub(crate) fn open(&mut self, process: u8, incarnation: u32, now: u64) {
        self.up.reset();
        self.down.reset();
        (self.process, self.incarnation) = (process, incarnation);
        (self.client_open, self.broker_open, self.left) = (true, true, false);
        (self.heard, self.slow, self.asks) = (now, 0, 0);
    }
}
