//! How the faults happen. Nothing of this costs anything while no fault was asked for.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use convoy_core::backend::{Answer, Event, Fate, Loss, Place, Run, Sent, Ticket};
use convoy_core::{Content, Defect, Inbound, Moment, Position, Redelivered, Result, SessionId};

use super::{ConsumerLink, Log, Spot, State, Stored, Timer, lane_of};
use crate::error;
use crate::faults::{AnswerFault, Landing, SendFault, StaleEvent};
use crate::producer::Outcomes;

/// What the next requests of a kind meet.
#[derive(Debug)]
pub(crate) struct Queue<F>(VecDeque<(u32, F)>);

impl<F> Default for Queue<F> {
    fn default() -> Self {
        Self(VecDeque::new())
    }
}

impl<F: Copy> Queue<F> {
    pub(crate) fn push(&mut self, n: u32, fault: F) {
        if n > 0 {
            self.0.push_back((n, fault));
        }
    }

    pub(crate) fn take(&mut self) -> Option<F> {
        let (n, fault) = self.0.front_mut()?;
        let fault = *fault;
        *n -= 1;
        if *n == 0 {
            self.0.pop_front();
        }
        Some(fault)
    }

    pub(crate) fn clear(&mut self) {
        self.0.clear();
    }
}

/// The faults that a group's requests meet.
#[derive(Debug, Default)]
pub(crate) struct GroupFaults {
    pub(crate) settlements: Queue<AnswerFault>,
    pub(crate) set_asides: Queue<AnswerFault>,
    pub(crate) renewals: Queue<AnswerFault>,
}

/// The faults that a channel's sends meet, and what they left behind.
#[derive(Debug, Default)]
pub(crate) struct SendFaults {
    pub(crate) sends: Queue<SendFault>,
    pub(crate) hide_fates: bool,
    late: Vec<Late>,
}

/// A run that lands later.
#[derive(Debug)]
pub(crate) struct Late {
    producer: u64,
    run: Run,
    /// Runs that have to land before, where it waits for them.
    sends_left: Option<u32>,
}

impl State {
    /// Tells an answer, or what a fault makes of it. `done` is what the request came to.
    pub(crate) fn tell_answer(&mut self, consumer: u32, fault: Option<AnswerFault>, answer: Event, now: Moment) {
        match fault {
            None | Some(AnswerFault::Refuse | AnswerFault::NotApplied) => self.tell(consumer, answer),
            Some(AnswerFault::Delay(time)) => self.tell_at(consumer, answer, now + time),
            Some(AnswerFault::Unanswered | AnswerFault::AnswerLost) => {
                let at = now + self.options.answer_limit;
                match answer {
                    Event::Settled { grant, ticket, .. } => {
                        self.tell_at(consumer, Event::Settled { grant, ticket, answer: Answer::Unknown }, at);
                    }
                    Event::SetAside { grant, position, .. } => {
                        self.tell_at(consumer, Event::SetAside { grant, position, answer: Answer::Unknown }, at);
                    }
                    // A renewal may end in nothing.
                    _ => {}
                }
            }
        }
    }

    /// A run meets a fault.
    pub(crate) fn send_faulty(
        &mut self,
        from: &Arc<Outcomes>,
        run: Run,
        fault: SendFault,
        now: Moment,
    ) -> Option<Sent> {
        let (ticket, key) = (run.ticket, (from.id(), run.ticket));
        let outcome = match fault {
            SendFault::Refuse => Err(error::refused("send")),
            SendFault::Full => Err(error::full(&self.name, self.messages, self.bytes)),
            SendFault::Delay(time) => {
                let sent = self.send(run, now);
                // Its sender may stop waiting for this answer.
                self.fates.insert(key, if sent.outcome.is_ok() { Fate::Landed } else { Fate::Never });
                self.timers.add(now + time, Timer::Report { outcomes: Arc::clone(from), sent });
                self.arm(now + time);
                self.effects.nudge = Some(Arc::clone(from));
                return None;
            }
            SendFault::Landed => {
                let sent = self.send(run, now);
                if sent.outcome.is_err() {
                    return Some(sent);
                }
                self.fates.insert(key, Fate::Landed);
                Err(error::unknown("send"))
            }
            SendFault::NeverLands => {
                self.fates.insert(key, Fate::Never);
                Err(error::unknown("send"))
            }
            SendFault::LandsLate(when) => {
                self.keep_late(from.id(), run, when, now);
                Err(error::unknown("send"))
            }
        };
        Some(Sent { ticket, outcome })
    }

    fn keep_late(&mut self, producer: u64, run: Run, when: Landing, now: Moment) {
        let ticket = run.ticket;
        let sends_left = match when {
            Landing::AfterSends(n) => Some(n),
            Landing::OnCommand => None,
            Landing::After(time) => {
                self.timers.add(now + time, Timer::Land { producer, ticket });
                self.arm(now + time);
                None
            }
        };
        self.faults.late.push(Late { producer, run, sends_left });
    }

    /// A run landed: those that waited for it come closer.
    pub(crate) fn count_for_late(&mut self, now: Moment) {
        if self.faults.late.is_empty() {
            return;
        }
        for late in &mut self.faults.late {
            late.sends_left = late.sends_left.map(|n| n.saturating_sub(1));
        }
        self.land_late(|late| late.sends_left == Some(0), now);
    }

    /// The late run of this producer and ticket lands.
    pub(super) fn land_one(&mut self, producer: u64, ticket: Ticket, now: Moment) {
        self.land_late(|late| late.producer == producer && late.run.ticket == ticket, now);
    }

    /// What is late and wanted lands, whatever its sender has done meanwhile.
    pub(crate) fn land_late(&mut self, wanted: impl Fn(&Late) -> bool, now: Moment) -> usize {
        let (land, keep) = std::mem::take(&mut self.faults.late).into_iter().partition(wanted);
        self.faults.late = keep;
        let land: Vec<Late> = land;
        let landed = land.len();
        for late in land {
            self.fates.insert((late.producer, late.run.ticket), Fate::Landed);
            self.append(&late.run.session, late.run.messages.into_iter().map(Stored::new), now);
        }
        landed
    }

    /// What became of a run, and that it cannot land any more.
    pub(crate) fn fate(&mut self, producer: u64, ticket: Ticket) -> Fate {
        if self.faults.hide_fates {
            return Fate::Unknown;
        }
        let late = self.faults.late.len();
        self.faults.late.retain(|late| late.producer != producer || late.run.ticket != ticket);
        if self.faults.late.len() < late {
            return Fate::Never;
        }
        self.fates.remove(&(producer, ticket)).unwrap_or(Fate::Unknown)
    }

    /// A foreign producer's message, with something wrong.
    pub(crate) fn put_foreign(&mut self, defect: Defect, session: &SessionId, body: Bytes, now: Moment) -> Result<u64> {
        let stored = Stored { defect: Some(defect), ..Stored::new(Arc::new(Content::new(body))) };
        let nameless = matches!(defect, Defect::NoSession | Defect::SessionTooLong);
        match &self.log {
            Log::Sessions(_) if defect == Defect::Misrouted => Err(error::no_two_lanes()),
            Log::Sessions(log) => {
                let lone = SessionId::lone(0, log.next_position);
                let session = if nameless { &lone } else { session };
                Ok(self.append_to_session(session, [stored].into_iter(), now))
            }
            Log::Lanes(lanes) => {
                let count = lanes.len() as u32;
                let lane = lane_of(session, count);
                if defect == Defect::Misrouted && count < 2 {
                    return Err(error::no_two_lanes());
                }
                let lane = if defect == Defect::Misrouted { (lane + 1) % count } else { lane };
                let lone = SessionId::lone(lane, self.end_of_lane(lane));
                let session = if nameless { &lone } else { session };
                Ok(self.append_to_lane(lane, session, [stored].into_iter()))
            }
        }
    }

    pub(crate) fn consumers_of(&self, group: u32) -> Vec<u64> {
        let slots = (0..self.consumers.end()).map(|slot| &self.consumers[slot]);
        let mut ids: Vec<u64> = slots.filter(|c| c.id > 0 && c.group == group).map(|c| c.id).collect();
        ids.sort_unstable();
        ids
    }

    pub(crate) fn lose(&mut self, group: u32, place: &Place, now: Moment) -> bool {
        self.advance(now);
        let Some(lock) = self.holder(group, place) else { return false };
        self.end(lock, Some(Loss::Revoked), true, now);
        self.share_lanes(group, now);
        true
    }

    pub(crate) fn hand_to_another(&mut self, group: u32, place: &Place, now: Moment) -> bool {
        self.advance(now);
        let Some(lock) = self.holder(group, place) else { return false };
        let holder = self.locks.get(lock).consumer;
        let others = (0..self.consumers.end()).filter(|slot| {
            let consumer = &self.consumers[*slot];
            *slot != holder && consumer.id > 0 && consumer.group == group && consumer.may_win().is_ok()
        });
        let Some(other) = others.max_by_key(|slot| self.consumers[*slot].open_requests()) else { return false };
        self.move_lock(lock, other, now);
        true
    }

    pub(crate) fn take_and_give_back(&mut self, group: u32, place: &Place, now: Moment) -> bool {
        self.advance(now);
        let Some(lock) = self.holder(group, place) else { return false };
        let holder = self.locks.get(lock).consumer;
        let can = self.consumers[holder].may_win().is_ok();
        if can {
            self.move_lock(lock, holder, now);
        }
        can
    }

    fn move_lock(&mut self, lock: u32, to: u32, now: Moment) {
        let (group, spot) = (self.locks.get(lock).group, self.locks.get(lock).spot);
        if let Spot::Session(session) = spot {
            self.groups[group as usize].reserved.push((session, to));
        }
        self.end(lock, Some(Loss::Revoked), true, now);
        if let Spot::Lane(lane) = spot {
            self.grant_lane(group, lane, to, now);
        }
    }

    pub(crate) fn revoke_place(&mut self, group: u32, place: &Place, now: Moment) -> bool {
        self.advance(now);
        let Some(lock) = self.holder(group, place).filter(|_| matches!(place, Place::Lane(_))) else { return false };
        if !self.locks.get(lock).revoking {
            self.revoke(lock, now);
        }
        true
    }

    pub(crate) fn cut_for(&mut self, slot: u32, reconnect_after: Option<Duration>, now: Moment) {
        if self.consumers[slot].link == ConsumerLink::Closed {
            return;
        }
        self.cut(slot, now);
        if let Some(time) = reconnect_after {
            let id = self.consumers[slot].id;
            self.timers.add(now + time, Timer::Reconnect { consumer: slot, id });
            self.arm(now + time);
        }
    }

    pub(crate) fn tell_stale(&mut self, slot: u32, event: StaleEvent, now: Moment) -> bool {
        let Some(grant) = self.consumers[slot].last_ended else { return false };
        let event = match event {
            StaleEvent::Delivered => Event::Delivered { grant, message: self.any_message() },
            StaleEvent::Settled => Event::Settled { grant, ticket: Ticket(0), answer: Answer::Ok },
            StaleEvent::Proved => Event::Proved { grant, asked_at: now, valid_for: self.options.lock },
        };
        self.tell(slot, event);
        true
    }

    /// Some message of the channel, or one that was never sent if there is none.
    fn any_message(&self) -> Inbound {
        let kept = match &self.log {
            Log::Sessions(log) => log.any(),
            Log::Lanes(lanes) => lanes.iter().find_map(|lane| lane.any()),
        };
        let never_sent = || (SessionId::lone(0, 0), 0, Arc::new(Content::new("stale")));
        let (session, position, content) = kept.unwrap_or_else(never_sent);
        let (position, redelivered) = (Position::new(position), Redelivered::Count(1));
        Inbound { position, session, redelivered, defect: None, content }
    }
}
