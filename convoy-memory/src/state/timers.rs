//! What happens at a time, apart from the expiry of locks: rare things, so a sorted map is enough.

use std::collections::BTreeMap;
use std::sync::Arc;

use convoy_core::Moment;
use convoy_core::backend::{Event, Grant, Loss, Sent, Ticket};

use super::{ConsumerLink, Map, State};
use crate::error;
use crate::producer::Outcomes;

/// Something to be done at a time.
#[derive(Debug)]
pub(crate) enum Timer {
    /// The holder of a lane that moves had time until now.
    Revoked { slot: u32, grant: Grant },
    /// A lane that was given back without being asked may go to the same consumer again.
    Share { group: u32 },
    /// Somebody waited long enough for a session.
    Named { group: u32, session: u32 },
    /// An answer that a fault held back.
    Tell { consumer: u32, id: u64, event: Event },
    /// An outcome that a fault held back.
    Report { outcomes: Arc<Outcomes>, sent: Sent },
    /// A run that a fault made late.
    Land { producer: u64, ticket: Ticket },
    /// A consumer that was cut off connects again.
    Reconnect { consumer: u32, id: u64 },
}

/// All timers of a channel, by time.
#[derive(Debug, Default)]
pub(crate) struct Timers {
    by_time: BTreeMap<(Moment, u64), Timer>,
    at: Map<u64, Moment>,
    last: u64,
}

impl Timers {
    /// Adds one and gives its number.
    pub(crate) fn add(&mut self, at: Moment, timer: Timer) -> u64 {
        self.last += 1;
        self.by_time.insert((at, self.last), timer);
        self.at.insert(self.last, at);
        self.last
    }

    pub(crate) fn cancel(&mut self, number: u64) {
        if let Some(at) = self.at.remove(&number) {
            self.by_time.remove(&(at, number));
        }
    }

    pub(crate) fn first(&self) -> Moment {
        self.by_time.first_key_value().map_or(Moment::NEVER, |((at, _), _)| *at)
    }

    pub(super) fn due(&mut self, now: Moment) -> Option<(u64, Timer)> {
        if self.first() > now {
            return None;
        }
        let ((_, number), timer) = self.by_time.pop_first()?;
        self.at.remove(&number);
        Some((number, timer))
    }
}

impl State {
    pub(super) fn fire(&mut self, (number, timer): (u64, Timer), now: Moment) {
        match timer {
            Timer::Revoked { slot, grant } => {
                let Some(holding) = self.locks.live(slot, grant) else { return };
                let group = holding.group;
                // Who is cut off without knowing it was not told, and believes to have what was promised: until its lock runs out nobody else gets it.
                if matches!(self.consumers[holding.consumer].link, ConsumerLink::Silent(_)) {
                    return;
                }
                self.end(slot, Some(Loss::Revoked), true, now);
                self.share_lanes(group, now);
            }
            Timer::Share { group } => self.share_lanes(group, now),
            Timer::Named { group, session } => self.named_is_over(group, session, number, error::not_in_time()),
            Timer::Tell { consumer, id, event } => {
                // Nothing is reported under a right that is gone.
                let stands = event.grant().is_none_or(|grant| self.held(consumer, grant).is_some());
                if self.consumers[consumer].id == id && stands {
                    self.tell(consumer, event);
                }
            }
            Timer::Report { outcomes, sent } => self.report(outcomes, sent),
            Timer::Land { producer, ticket } => self.land_one(producer, ticket, now),
            Timer::Reconnect { consumer, id } => {
                if self.consumers[consumer].id == id && self.consumers[consumer].link == ConsumerLink::Cut {
                    self.reconnect(consumer, now);
                }
            }
        }
    }
}
