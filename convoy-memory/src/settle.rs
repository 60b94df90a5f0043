//! What the broker does with a consumer's commands.

use std::time::SystemTime;

use convoy_core::backend::{Answer, Command, Event, Grant, Progress, Reason, Ticket};
use convoy_core::{Inbound, Moment};

use crate::state::{Spot, State};

impl State {
    /// Carries out what a consumer asked for at `asked_at`.
    pub(crate) fn command(&mut self, consumer: u32, command: Command, asked_at: Moment, now: Moment) {
        match command {
            Command::Accept { wanted } => self.want(consumer, wanted, now),
            Command::AcceptNamed { session, until } => self.accept_named(consumer, session, until, now),
            Command::Settle { grant, ticket, progress } => self.settle(consumer, grant, ticket, &progress),
            Command::SetAside { grant, message, reason } => self.set_aside(consumer, grant, &message, &reason),
            Command::Renew { grant } => self.renew(consumer, grant, asked_at, now),
            Command::Read { grant, on } => self.read(consumer, grant, on),
            Command::Leave => self.leave_for_good(consumer),
            Command::Release { grant } => self.give_back(consumer, grant, false, now),
            Command::Surrender { grant } => self.give_back(consumer, grant, true, now),
            // The contract may grow; a right that this broker cannot serve is better not held.
            _ => {}
        }
    }

    fn settle(&mut self, consumer: u32, grant: Grant, ticket: Ticket, progress: &Progress) {
        let Some(lock) = self.held(consumer, grant) else {
            // Its holder was told that the right is gone, which answers it.
            let group = self.consumers[consumer].group;
            self.groups[group as usize].stale_settlements += 1;
            return;
        };
        self.apply(lock, progress);
        self.tell(consumer, Event::Settled { grant, ticket, answer: Answer::Ok });
    }

    fn apply(&mut self, lock: u32, progress: &Progress) {
        match self.locks.get(lock).spot {
            Spot::Session(_) => self.settle_session(lock, progress.watermark),
            Spot::Lane(_) => self.settle_lane(lock, progress),
        }
    }

    /// A session's message goes to the store and is settled in one step; a lane's is copied only.
    fn set_aside(&mut self, consumer: u32, grant: Grant, message: &Inbound, reason: &Reason) {
        let Some(lock) = self.held(consumer, grant) else { return };
        let answer = self.copy_aside(lock, message, reason);
        self.tell(consumer, Event::SetAside { grant, position: message.position.value, answer });
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
        self.extend(lock, now);
        self.tell(consumer, Event::Proved { grant, asked_at, valid_for: self.options.lock });
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
