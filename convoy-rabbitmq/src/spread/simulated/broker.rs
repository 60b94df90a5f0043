//! What the broker does for a lane: whoever registered first is active, and when it goes, the next one is.

use convoy_core::Moment;

/// A connection of a member, the how many-th it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Conn {
    pub(super) member: usize,
    pub(super) number: u32,
}

#[derive(Clone, Debug, Default)]
struct Queue {
    registered: Vec<Conn>,
    /// Since when nobody is registered.
    bare_since: Moment,
    /// A message waits for whoever is active next.
    waits: bool,
}

#[derive(Debug)]
pub(super) struct Broker(Vec<Queue>);

impl Broker {
    pub(super) fn new(lanes: u32) -> Self {
        Self(vec![Queue::default(); lanes as usize])
    }

    pub(super) fn active(&self, lane: u32) -> Option<Conn> {
        self.0[lane as usize].registered.first().copied()
    }

    /// Whether it is the active one with that.
    pub(super) fn register(&mut self, conn: Conn, lane: u32) -> bool {
        let registered = &mut self.0[lane as usize].registered;
        assert!(!registered.contains(&conn), "the model: {conn:?} is registered for lane {lane} already");
        registered.push(conn);
        registered.len() == 1
    }

    /// Whether there is another active one with that.
    pub(super) fn remove(&mut self, conn: Conn, lane: u32, now: Moment) -> bool {
        let queue = &mut self.0[lane as usize];
        let was_active = queue.registered.first() == Some(&conn);
        queue.registered.retain(|other| *other != conn);
        if was_active {
            queue.bare_since = now;
        }
        was_active && !queue.registered.is_empty()
    }

    pub(super) fn bare_since(&self, lane: u32) -> Option<Moment> {
        let queue = &self.0[lane as usize];
        queue.registered.is_empty().then_some(queue.bare_since)
    }

    /// A message for nobody.
    pub(super) fn keep(&mut self, lane: u32) {
        self.0[lane as usize].waits = true;
    }

    /// The message that was kept, if there is one.
    pub(super) fn take(&mut self, lane: u32) -> bool {
        std::mem::take(&mut self.0[lane as usize].waits)
    }
}
