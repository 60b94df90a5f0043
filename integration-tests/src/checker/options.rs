//! What the judged backend promises.

/// How the log order of a session is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Order {
    /// The broker gives positions: Kafka, Service Bus, memory.
    Total,
    /// It does not: each producer's order, and between producers what was once delivered. RabbitMQ.
    Partial,
}

/// The settings of a [`Checker`](super::Checker). Times are nanoseconds.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Options {
    /// How the log order is known.
    pub order: Order,
    /// How long a run may go on after its right ended, as its process saw it.
    pub grace: u64,
    /// The settle interval: when so old, what finished is to be settled.
    pub settle_interval: u64,
    /// The most that may be finished and unsettled in a session: twice the settle count, since as much again may finish until the answer.
    pub settle_count: u32,
    /// How long the answer to a settlement may take on top of the interval, before nothing more may be started.
    pub settle_slack: u64,
    /// The attempts after which a message may be dead-lettered as exhausted; 0 for no check.
    pub max_attempts: u32,
    /// Acked messages may come back after the loss of a broker node.
    pub acks_may_return: bool,
    /// How long after such a loss is over: they stand at the head of their queues, so whoever reads these again meets them first.
    pub returns_within: u64,
    /// A healthy consumer ran to the end of the history: what is not settled is lost.
    pub settled_by_end: bool,
    /// The dead letters were read to their end: what is not there is lost.
    pub dead_read: bool,
    /// A lane on which nothing moved for so long before the end is stuck.
    pub stuck_after: u64,
    /// How many fatal findings are told in full.
    pub keep: usize,
}

impl Options {
    /// The settings of a broker with positions.
    pub fn total() -> Self {
        Self {
            order: Order::Total,
            grace: 5_000_000_000,
            settle_interval: 250_000_000,
            settle_count: 1000,
            settle_slack: 250_000_000,
            max_attempts: 0,
            acks_may_return: false,
            returns_within: 15_000_000_000,
            settled_by_end: true,
            dead_read: false,
            stuck_after: 10_000_000_000,
            keep: 20,
        }
    }

    /// The settings of a broker without positions, whose acks a lost node may forget.
    pub fn partial() -> Self {
        Self { order: Order::Partial, acks_may_return: true, ..Self::total() }
    }
}

impl Default for Options {
    fn default() -> Self {
        Self::total()
    }
}
