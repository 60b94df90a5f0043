//! What had not happened when the history ended: `lost`, and the liveness names.

use foldhash::fast::RandomState;
use hashbrown::HashSet;

use super::Checker;
use super::names::{Fatal, Liveness, Reported};
use super::options::Order;
use super::producer::Sent;
use super::report::{FATALS, Of, REPORTED, tell};
use super::ring::flag;
use super::verdict::{Spread, Verdict};
use crate::history::{Answer, Event, Message, Place, What};

/// What became of a message that a group has not settled.
enum Left {
    Lost(&'static str),
    Alive(Liveness),
    MaybeSettled,
}

impl Checker {
    pub(super) fn judge_sends(&mut self) {
        let sent = std::mem::take(&mut self.sends.sent);
        let groups = self.groups.clone();
        let mut stalled = HashSet::with_hasher(RandomState::default());
        for (message, sent) in &sent {
            match sent.outcome {
                Some(Answer::Unknown) | None if sent.seen => self.report.count(Reported::UnknownPresent),
                Some(Answer::Unknown) | None => self.report.count(Reported::UnknownAbsent),
                _ => {}
            }
            // An unknown one is owed once it was seen: then it is there.
            if !(sent.outcome == Some(Answer::Ok) || (sent.seen && sent.outcome != Some(Answer::Refused))) {
                continue;
            }
            for (bit, group) in groups.iter().enumerate().take(64) {
                if sent.owed & (1 << bit) == 0 {
                    continue;
                }
                match self.left(*group, *message, sent, &mut stalled) {
                    Left::MaybeSettled => {}
                    Left::Alive(name) => self.report.live(name),
                    Left::Lost(why) => {
                        let event =
                            Event { time: sent.at, process: 0, number: 0, group: *group, what: What::GroupStart };
                        let why = format!("{} {why}", tell(*message));
                        self.fatal(&event, Fatal::Lost, Of::sent(sent.session, *message), why);
                    }
                }
            }
        }
        self.sends.sent = sent;
        self.judge_lanes(&stalled);
    }

    /// Behind what started it is lost for certain. Otherwise a held message only stalls, and one that
    /// nobody holds is lost if a healthy consumer had the time to take it.
    fn left(&self, group: u32, message: Message, sent: &Sent, stalled: &mut HashSet<u32, RandomState>) -> Left {
        let Some(at) = self.convoys.find(group, sent.session) else { return self.undelivered() };
        let entry = self.ring.get(self.ring.find(at, message));
        let Some(entry) = entry else {
            let started = match (self.options.order, sent.position) {
                (Order::Total, Some(position)) => {
                    self.convoys.all.get(at as usize).is_some_and(|convoy| convoy.started_to > position)
                }
                _ => self.convoys.started_of(at, message.producer).is_some_and(|to| to > message.pseq),
            };
            return if started {
                Left::Lost("was never delivered, and later ones of its session were started")
            } else {
                self.undelivered()
            };
        };
        if entry.has(flag::ASKED | flag::SETTLED) {
            return Left::MaybeSettled;
        }
        if entry.has(flag::OVERTAKEN) {
            return Left::Lost("was passed over and never settled");
        }
        match self.grants.iter().find(|grant| grant.serial == entry.delivered_in && grant.is_open()) {
            Some(grant) => {
                stalled.insert(grant.serial);
                Left::Alive(Liveness::Stall)
            }
            None if self.options.settled_by_end => Left::Lost("was delivered, never settled, and not given again"),
            None => Left::Alive(Liveness::Stall),
        }
    }

    fn undelivered(&self) -> Left {
        if self.options.settled_by_end { Left::Lost("was never delivered") } else { Left::Alive(Liveness::Unseen) }
    }

    fn judge_lanes(&mut self, stalled: &HashSet<u32, RandomState>) {
        let since = self.now.saturating_sub(self.options.stuck_after);
        let stuck = self.grants.iter().filter(|grant| {
            matches!(grant.place, Place::Lane(_)) && stalled.contains(&grant.serial) && grant.moved_at <= since
        });
        for _ in 0..stuck.count() {
            self.report.live(Liveness::StuckLane);
        }
    }

    pub(super) fn verdict(&mut self) -> Verdict {
        let report = &mut self.report;
        // What a producer did wrong is the cause of what its session shows in the groups.
        let mut first: Vec<_> = report.first.drain().map(|(_, finding)| finding).collect();
        first.sort_by_key(|f| (f.session, f.group != 0, f.fatal, f.time));
        let mut sent = None;
        first.retain(|f| {
            if f.group == 0 {
                sent = Some((f.session, f.fatal));
            }
            f.group == 0 || sent.is_none_or(|(session, fatal)| session != f.session || f.fatal < fatal)
        });
        let mut fatal = [0; FATALS];
        first.iter().for_each(|f| fatal[f.fatal as usize] += 1);
        first.sort_by_key(|f| (f.time, f.fatal, f.group, f.session));
        first.truncate(self.options.keep);
        let spreads: [Option<Spread>; REPORTED] = std::array::from_fn(|at| report.spreads.get(at).and_then(Spread::of));
        Verdict {
            events: self.events,
            messages: self.sends.messages,
            sessions: self.convoys.all.len() as u64,
            bound: self.convoys.all.iter().map(|convoy| u64::from(convoy.allowed)).sum(),
            findings: first,
            fatal,
            all: report.all,
            counts: report.counts,
            live: report.live,
            spreads,
        }
    }
}
