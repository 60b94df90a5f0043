//! What a consumer's `next` gives.

use std::sync::Arc;

use convoy_core::backend::Event;
use convoy_core::{Inbound, Moment, Position, Redelivered};

use super::consumers::Link;
use super::lanes::NextOfLane;
use super::sessions::Next;
use super::{Spot, State};

/// The most messages of one call.
const BATCH: usize = 1024;
/// The most messages of one lock before the next one's turn.
const TURN: usize = 64;

/// How a look for events ended.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Poll {
    /// There were some.
    Ready,
    /// There are none before this time, unless somebody wakes.
    Sleep(Moment),
    /// There will be none.
    Closed,
}

impl State {
    /// Appends what is there for a consumer.
    pub(crate) fn poll(&mut self, slot: u32, into: &mut Vec<Event>, now: Moment) -> Poll {
        self.advance(now);
        let consumer = &mut self.consumers[slot];
        if consumer.link == Link::Closed {
            if consumer.outbox.is_empty() {
                return Poll::Closed;
            }
            into.extend(consumer.outbox.drain(..));
            return Poll::Ready;
        }
        if self.frozen || matches!(consumer.link, Link::Silent(_)) {
            return self.sleep(slot, Moment::NEVER);
        }
        if consumer.handed > 0 {
            consumer.handed = 0;
            let group = consumer.group;
            self.ask(slot);
            self.serve_askers(group, now);
        }
        if self.consumers[slot].lapsed {
            self.join(slot, now);
        }
        let before = into.len();
        let consumer = &mut self.consumers[slot];
        into.extend(consumer.outbox.drain(..));
        consumer.handed = std::mem::take(&mut consumer.queued);
        self.fill(slot, into);
        if into.len() > before {
            return Poll::Ready;
        }
        let until = self.next_deadline();
        self.sleep(slot, until)
    }

    fn sleep(&mut self, slot: u32, until: Moment) -> Poll {
        let consumer = &mut self.consumers[slot];
        consumer.waiting = true;
        consumer.sleeps_until = until;
        Poll::Sleep(until)
    }

    /// Messages, a turn of each lock after the other.
    fn fill(&mut self, slot: u32, into: &mut Vec<Event>) {
        let mut room = BATCH;
        while room > 0 {
            let Some((lock, grant)) = self.consumers[slot].hot.pop_front() else { return };
            let Some(holding) = self.locks.live(lock, grant) else { continue };
            holding.hot = false;
            if holding.revoking || !holding.reading {
                continue;
            }
            let before = into.len();
            let more = self.turn(lock, room.min(TURN), into);
            room = room.saturating_sub(into.len() - before);
            if more {
                self.mark_hot(lock);
            }
        }
    }

    /// At most so many messages of one lock; whether there are more.
    fn turn(&mut self, lock: u32, most: usize, into: &mut Vec<Event>) -> bool {
        let prefetch = self.options.prefetch_limit();
        let holding = self.locks.get(lock);
        let (grant, group, spot, mut out, mut end) =
            (holding.grant, holding.group, holding.spot, holding.out, holding.end);
        for _ in 0..most {
            if out >= prefetch {
                break;
            }
            let next = match spot {
                Spot::Session(session) => self.next_of_session(group, session),
                Spot::Lane(lane) => match self.next_of_lane(group, lane) {
                    Some(NextOfLane::Message(next)) => Some(next),
                    // Between two deliveries a hole says it itself; behind the last one it has to be told.
                    Some(NextOfLane::Passed(below)) => {
                        end = end.max(below);
                        into.push(Event::Passed { grant, below });
                        continue;
                    }
                    None => None,
                },
            };
            let Some(next) = next else { break };
            out += 1;
            end = next.position + 1;
            into.push(Event::Delivered { grant, message: inbound(&next) });
        }
        let holding = self.locks.get_mut(lock);
        (holding.out, holding.end) = (out, end);
        let more = match spot {
            Spot::Session(session) => self.session_has_more(group, session),
            Spot::Lane(lane) => self.lane_has_more(group, lane),
        };
        more && out < prefetch
    }
}

fn inbound(next: &Next<'_>) -> Inbound {
    Inbound {
        position: Position::new(next.position),
        session: next.session.clone(),
        redelivered: Redelivered::Count(next.count),
        defect: next.stored.defect,
        content: Arc::clone(&next.stored.content),
    }
}
