//! Who holds what, and until when. All locks of a channel last equally long, so that the order of renewal is the order of expiry.

use std::sync::Arc;

use convoy_core::Moment;
use convoy_core::backend::{Event, Grant, LeaseCell, Loss, Place};

use super::slab::{Link, Linked};
use super::{ConsumerLink, KEPT, List, Log, Map, NONE, Slab, State};

/// All locks and leases of a channel.
#[derive(Debug)]
pub(crate) struct Locks {
    table: Slab<Holding>,
    by_epoch: Map<u64, u32>,
    by_expiry: List,
    last_epoch: u64,
}

/// One lock or lease.
#[derive(Debug)]
pub(crate) struct Holding {
    pub(crate) grant: Grant,
    /// Its deadline, as its holder sees it.
    lease: Option<Arc<LeaseCell>>,
    pub(crate) consumer: u32,
    pub(crate) group: u32,
    pub(crate) spot: Spot,
    pub(crate) expires: Moment,
    /// Whether the holder wants messages.
    pub(crate) reading: bool,
    /// Whether the holder was told to give it back.
    pub(crate) revoking: bool,
    /// Whether it stands in its consumer's list of what can be delivered.
    pub(crate) hot: bool,
    /// Delivered and not settled.
    pub(crate) out: u32,
    /// One past the highest position that was delivered.
    pub(crate) end: u64,
    link: Link,
}

/// What a consumer is told of a lock that it won.
pub(super) struct Granted {
    pub(super) lock: u32,
    pub(super) grant: Grant,
    pub(super) lease: Arc<LeaseCell>,
}

/// What a lock covers, by its slot in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Spot {
    Session(u32),
    Lane(u32),
}

impl Default for Holding {
    /// A free slot.
    fn default() -> Self {
        Self {
            grant: Grant::new(0, &Place::Lane(0)),
            lease: None,
            consumer: NONE,
            group: 0,
            spot: Spot::Lane(0),
            expires: Moment::ORIGIN,
            reading: false,
            revoking: false,
            hot: false,
            out: 0,
            end: 0,
            link: Link::default(),
        }
    }
}

impl Holding {
    /// What its holder knows of it.
    pub(super) fn known(&self) -> Option<(Grant, Arc<LeaseCell>)> {
        Some((self.grant, Arc::clone(self.lease.as_ref()?)))
    }
}

impl Linked for Holding {
    fn link(&mut self) -> &mut Link {
        &mut self.link
    }
}

impl Locks {
    pub(crate) fn new() -> Self {
        Self { table: Slab::new(), by_epoch: Map::default(), by_expiry: List::default(), last_epoch: 0 }
    }

    /// The slot of a grant, while its right lasts.
    pub(crate) fn find(&self, grant: Grant) -> Option<u32> {
        self.by_epoch.get(&grant.epoch()).copied()
    }

    pub(crate) fn get(&self, slot: u32) -> &Holding {
        &self.table[slot]
    }

    pub(crate) fn get_mut(&mut self, slot: u32) -> &mut Holding {
        &mut self.table[slot]
    }

    /// The holding in `slot`, if it still is that of `grant`.
    pub(crate) fn live(&mut self, slot: u32, grant: Grant) -> Option<&mut Holding> {
        if slot >= self.table.end() {
            return None;
        }
        Some(&mut self.table[slot]).filter(|holding| holding.grant == grant)
    }

    /// The slots of all that `wanted` says yes to.
    pub(crate) fn slots(&self, wanted: impl Fn(&Holding) -> bool) -> Vec<u32> {
        (0..self.table.end()).filter(|slot| self.table[*slot].consumer != NONE && wanted(&self.table[*slot])).collect()
    }

    pub(crate) fn first_expiry(&self) -> Moment {
        self.by_expiry.front().map_or(Moment::NEVER, |slot| self.table[slot].expires)
    }

    pub(crate) fn expired(&self, now: Moment) -> Option<u32> {
        self.by_expiry.front().filter(|slot| self.table[*slot].expires <= now)
    }

    fn insert(&mut self, place: &Place, mut holding: Holding) -> (u32, Grant) {
        self.last_epoch += 1;
        let grant = Grant::new(self.last_epoch, place);
        holding.grant = grant;
        let slot = self.table.insert(holding);
        self.by_epoch.insert(grant.epoch(), slot);
        self.by_expiry.push_back(self.table.as_mut_slice(), slot);
        (slot, grant)
    }

    fn remove(&mut self, slot: u32) -> Holding {
        self.by_expiry.remove(self.table.as_mut_slice(), slot);
        let holding = self.table.remove(slot);
        self.by_epoch.remove(&holding.grant.epoch());
        if self.by_epoch.is_empty() && self.by_epoch.capacity() > KEPT {
            self.by_epoch = Map::default();
        }
        holding
    }

    /// The lock holds until then, from now on.
    fn extend(&mut self, slot: u32, expires: Moment) {
        self.by_expiry.remove(self.table.as_mut_slice(), slot);
        self.table[slot].expires = expires;
        self.by_expiry.push_back(self.table.as_mut_slice(), slot);
    }
}

impl State {
    /// Gives a lock that nobody holds to a consumer, and remembers it as the holder. Says nothing yet.
    pub(super) fn lock(&mut self, consumer: u32, spot: Spot, place: &Place, now: Moment) -> Granted {
        let expires = now + self.options.lock;
        if self.locks.by_expiry.is_empty() {
            self.arm(expires);
        }
        let group = self.consumers[consumer].group;
        let lease = Arc::<LeaseCell>::default();
        let holding = Holding {
            consumer,
            group,
            spot,
            expires,
            reading: true,
            lease: Some(Arc::clone(&lease)),
            ..Holding::default()
        };
        self.consumers[consumer].holds += 1;
        let (lock, grant) = self.locks.insert(place, holding);
        Granted { lock, grant, lease }
    }

    /// The lock was renewed.
    pub(crate) fn extend(&mut self, slot: u32, now: Moment) {
        self.locks.extend(slot, now + self.options.lock);
    }

    /// A lock or lease ran out.
    pub(super) fn expire(&mut self, slot: u32, now: Moment) {
        let &Holding { consumer, group, spot, .. } = self.locks.get(slot);
        if matches!(spot, Spot::Lane(_)) {
            // Like a member that missed its heartbeat: it is out of the group until it shows life.
            self.leave(consumer, now);
            self.consumers[consumer].lapsed = true;
        }
        self.end(slot, Some(Loss::Expired), true, now);
        self.share_lanes(group, now);
    }

    /// Ends a right, tells its holder why unless it knows, and offers what it covered again; `unclean` when the holder did not give it back
    /// by itself. The caller shares out lanes.
    pub(crate) fn end(&mut self, slot: u32, why: Option<Loss>, unclean: bool, now: Moment) {
        let holding = self.locks.remove(slot);
        let consumer = &mut self.consumers[holding.consumer];
        // One that is cut off without knowing it does not see the end either.
        if let (Some(lease), false) = (&holding.lease, matches!(consumer.link, ConsumerLink::Silent(_))) {
            lease.end();
        }
        consumer.holds -= 1;
        consumer.last_ended = Some(holding.grant);
        if let Some(why) = why {
            self.tell(holding.consumer, Event::Lost { grant: holding.grant, why });
        }
        self.forget_if_gone(holding.consumer);
        match holding.spot {
            Spot::Session(session) => self.session_is_free(holding.group, session, holding.end, unclean, now),
            Spot::Lane(lane) => self.groups[holding.group as usize].lanes[lane as usize].is_free(holding.end, unclean),
        }
    }

    /// Something can be delivered under this lock: its consumer will find it.
    pub(crate) fn mark_hot(&mut self, slot: u32) {
        let holding = self.locks.get_mut(slot);
        if !holding.hot && holding.reading && !holding.revoking {
            holding.hot = true;
            let (consumer, grant) = (holding.consumer, holding.grant);
            self.consumers[consumer].hot.push_back((slot, grant));
            self.wake(consumer);
        }
    }

    /// The slot of the lock of `place` in a group, if somebody holds it.
    pub(crate) fn holder(&self, group: u32, place: &Place) -> Option<u32> {
        let group = self.groups.get(group as usize)?;
        let slot = match (place, &self.log) {
            (Place::Session(id), Log::Sessions(log)) => group.sessions.get(log.find(id)? as usize)?.lock,
            (Place::Lane(lane), Log::Lanes(_)) => group.lanes.get(*lane as usize)?.lock,
            _ => NONE,
        };
        (slot != NONE).then_some(slot)
    }
}
