//! What happens when: a heap of small records, ordered by time and then by the order of their making.

use std::cmp::Ordering;
use std::collections::BinaryHeap;

/// Something that happens at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ev {
    /// Something of this connection reaches the broker.
    Up(u16),
    /// Something of this connection reaches its process.
    Down(u16),
    /// An engine wants its tick.
    Tick(u8),
    /// A handler ends: process, slot, serial.
    RunEnd(u8, u8, u32),
    /// A started handler is polled for the first time.
    Poll(u8, u8, u32),
    /// A frozen process goes on.
    Thaw(u8),
    /// A process starts.
    Boot(u8),
    /// A process tries to connect.
    Connect(u8, u32),
    /// A process notices that its connection is dead.
    Notice(u16),
    /// A broker looks at a right: has it run out?
    Right(u32),
    /// A broker looks at a connection: was it silent for too long?
    Silent(u16),
    /// A broker looks at a member of a group.
    Member(u8),
    /// An event put by comes to a process.
    Stashed(u32),
    /// A process is told the loss of a right whose lease it ended before.
    Lost(u32),
    /// A lane is subscribed again: process, incarnation, lane.
    Subscribe(u8, u32, u8),
    /// A fault of the plan begins.
    Fault(u16),
    /// A slow link is quick again.
    Quick(u16),
    /// A paused consumer goes on.
    Unpause(u8, u32),
    /// A frozen or stopped broker goes on.
    BrokerUp,
    /// A producer has something to send.
    Send(u8),
    /// A producer's clock.
    SendTick(u8),
    /// A run of a producer reaches the broker.
    Land(u16),
    /// The outcome of a run reaches its producer.
    Sent(u16),
    /// A halted session of a producer is resumed: producer, incarnation, session.
    Resume(u8, u32, u8),
    /// A producer starts anew.
    Producer(u8),
    /// A pull loop loses patience: process, slot, serial.
    Patience(u8, u8, u32),
    /// Somebody sends what is no proper message.
    Foreign,
    /// A drain that did not end is cut short: process, incarnation.
    Kill(u8, u32),
    /// Faults stop.
    Quiet,
}

#[derive(Clone, Copy, Debug)]
struct Item {
    time: u64,
    seq: u32,
    ev: Ev,
}

impl PartialEq for Item {
    fn eq(&self, other: &Self) -> bool {
        (self.time, self.seq) == (other.time, other.seq)
    }
}

impl Eq for Item {}

impl PartialOrd for Item {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Item {
    // The heap gives the greatest first: the earliest is the greatest.
    fn cmp(&self, other: &Self) -> Ordering {
        (other.time, other.seq).cmp(&(self.time, self.seq))
    }
}

/// The heap.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    heap: BinaryHeap<Item>,
    seq: u32,
}

impl Queue {
    pub(crate) fn clear(&mut self) {
        self.heap.clear();
        self.seq = 0;
    }

    pub(crate) fn push(&mut self, time: u64, ev: Ev) {
        self.seq += 1;
        self.heap.push(Item { time, seq: self.seq, ev });
    }

    pub(crate) fn pop(&mut self) -> Option<(u64, Ev)> {
        self.heap.pop().map(|item| (item.time, item.ev))
    }
}
