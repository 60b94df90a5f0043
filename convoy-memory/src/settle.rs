//! What the broker does with a consumer's commands.

use std::time::SystemTime;

use convoy_core::backend::{Answer, Command, Event, Grant, Loss, Progress, Reason, Ticket};
use convoy_core::{Inbound, Moment};

use crate::faults::AnswerFault;
use crate::state::{Spot, State};

impl State {
    /// Carries out what a consumer asked for at `asked_at`.
    pub(crate) fn command(&mut self, consumer: u32, command: Command, asked_at: Moment, now: Moment) {
        match command {
            Command::Accept { wanted } => self.want(consumer, wanted, now),
            Command::AcceptNamed { session, until } => self.accept_named(consumer, session, until, now),
            Command::Settle { grant, ticket, progress } => self.settle(consumer, grant, ticket, &progress, now),
            Command::SetAside { grant, message, reason } => self.set_aside(consumer, grant, &message, &reason, now),
            Command::Renew { grant } => self.renew(consumer, grant, asked_at, now),
            Command::Read { grant, on } => self.read(consumer, grant, on),
            Command::Leave => self.leave_for_good(consumer, now),
            Command::Release { grant } => self.give_back(consumer, grant, false, now),
            Command::Surrender { grant } => self.give_back(consumer, grant, true, now),
            // The contract may grow; a right that this broker cannot serve is better not held.
            _ => {}
        }
    }

    fn settle(&mut self, consumer: u32, grant: Grant, ticket: Ticket, progress: &Progress, now: Moment) {
        let Some(lock) = self.held(consumer, grant) else {
            // Its holder was told that the right is gone, which answers it.
            let group = self.consumers[consumer].group;
            self.groups[group as usize].stale_settlements += 1;
            return;
        };
        let group = self.locks.get(lock).group;
        let fault = self.groups[group as usize].faults.settlements.take();
        let answer = match fault {
            Some(AnswerFault::Refuse) => Answer::Refused,
            Some(AnswerFault::NotApplied | AnswerFault::Unanswered) => Answer::NotApplied,
            None | Some(AnswerFault::Delay(_) | AnswerFault::AnswerLost) => {
                self.apply(lock, progress);
                Answer::Ok
            }
        };
        self.tell_answer(consumer, fault, Event::Settled { grant, ticket, answer }, now);
        if answer == Answer::Refused {
            self.refuse_right(lock, now);
        }
    }

    /// The right ends with a request that was refused.
    fn refuse_right(&mut self, lock: u32, now: Moment) {
        let group = self.locks.get(lock).group;
        self.end(lock, Some(Loss::Refused), true, now);
        self.share_lanes(group, now);
    }

    fn apply(&mut self, lock: u32, progress: &Progress) {
        match self.locks.get(lock).spot {
            Spot::Session(_) => self.settle_session(lock, progress.watermark),
            Spot::Lane(_) => self.settle_lane(lock, progress),
        }
    }

    /// A session's message goes to the store and is settled in one step; a lane's is copied only.
    fn set_aside(&mut self, consumer: u32, grant: Grant, message: &Inbound, reason: &Reason, now: Moment) {
        let Some(lock) = self.held(consumer, grant) else { return };
        let group = self.locks.get(lock).group;
        let fault = self.groups[group as usize].faults.set_asides.take();
        let answer = match fault {
            Some(AnswerFault::Refuse) => Answer::Refused,
            Some(AnswerFault::NotApplied | AnswerFault::Unanswered) => Answer::NotApplied,
            None | Some(AnswerFault::Delay(_) | AnswerFault::AnswerLost) => self.copy_aside(lock, message, reason),
        };
        let position = message.position.value;
        self.tell_answer(consumer, fault, Event::SetAside { grant, position, answer }, now);
    }

    fn copy_aside(&mut self, lock: u32, message: &Inbound, reason: &Reason) -> Answer {
        let position = message.position.value;
        let &crate::state::Holding { group, spot, end, .. } = self.locks.get(lock);
        let delivered = position < end;
        let in_turn = match spot {
            Spot::Session(session) => delivered && self.head_of_session(group, session) == Some(position),
            Spot::Lane(_) => delivered,
        };
        let most = self.options.dead_letters as usize;
        if !in_turn || !self.groups[group as usize].dead.add(message, reason, most, SystemTime::now()) {
            return Answer::Refused;
        }
        if let Spot::Session(_) = spot {
            self.settle_session(lock, position + 1);
        }
        Answer::Ok
    }

    fn renew(&mut self, consumer: u32, grant: Grant, asked_at: Moment, now: Moment) {
        let Some(lock) = self.held(consumer, grant) else { return };
        let group = self.locks.get(lock).group;
        let fault = self.groups[group as usize].faults.renewals.take();
        match fault {
            Some(AnswerFault::Refuse) => return self.refuse_right(lock, now),
            Some(AnswerFault::NotApplied | AnswerFault::Unanswered) => return,
            None | Some(AnswerFault::Delay(_) | AnswerFault::AnswerLost) => self.extend(lock, now),
        }
        let valid_for = self.options.lock;
        self.tell_answer(consumer, fault, Event::Proved { grant, asked_at, valid_for }, now);
    }

    fn read(&mut self, consumer: u32, grant: Grant, on: bool) {
        let Some(lock) = self.held(consumer, grant) else { return };
        self.locks.get_mut(lock).reading = on;
        if on {
            self.mark_hot(lock);
        }
    }

    fn give_back(&mut self, consumer: u32, grant: Grant, surrendered: bool, now: Moment) {
        let Some(lock) = self.held(consumer, grant) else { return };
        let &crate::state::Holding { group, spot, revoking, .. } = self.locks.get(lock);
        self.end(lock, None, surrendered, now);
        if let Spot::Lane(lane) = spot {
            self.lane_given_back(group, lane, consumer, revoking || surrendered, now);
        }
    }
}
