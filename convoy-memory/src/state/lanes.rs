//! Lane mode: a log a lane, leases on lanes, and how the members of a group share them.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use convoy_core::backend::{Event, Place, Progress, Recovered};
use convoy_core::{Content, Moment, Position, SessionId};

use super::done::{Done, HandOvers};
use super::locks::Granted;
use super::sessions::Next;
use super::{Group, KEPT, Log, NONE, Spot, State, Stored, Timer};

/// A lane that was given back without being asked goes to the same consumer again only after so long: one that drains gives back
/// everything, and would get it again at once.
const SHUNNED_FOR: Duration = Duration::from_millis(100);

/// The messages of a lane. Positions grow by one.
#[derive(Debug)]
pub(crate) struct LaneLog {
    /// The position of the first that is kept.
    base: u64,
    messages: VecDeque<(SessionId, Stored)>,
}

/// How far a group is with a lane.
#[derive(Debug)]
pub(crate) struct GroupLane {
    /// Everything below is settled.
    watermark: u64,
    /// What is settled above it.
    done: Done,
    /// The next to deliver to the holder.
    cursor: u64,
    /// The lease, if somebody holds it.
    pub(crate) lock: u32,
    /// Who gave it back without being asked, and until when it is not given there again.
    shunned: Option<(u32, Moment)>,
    unclean: bool,
    hand_overs: HandOvers,
}

/// What comes next in a lane.
pub(super) enum NextOfLane<'a> {
    Message(Next<'a>),
    /// Everything up to here that was not delivered is settled.
    Passed(u64),
}

impl LaneLog {
    pub(super) fn new() -> Self {
        Self { base: 1, messages: VecDeque::new() }
    }

    /// Some message that is kept.
    pub(super) fn any(&self) -> Option<(SessionId, u64, Arc<Content>)> {
        self.messages.front().map(|(session, stored)| (session.clone(), self.base, Arc::clone(&stored.content)))
    }

    fn end(&self) -> u64 {
        self.base + self.messages.len() as u64
    }

    /// A new group: the first one of the channel begins at the first message that is kept, others at the next.
    pub(super) fn join(&self, first: bool) -> GroupLane {
        let watermark = if first { self.base } else { self.end() };
        GroupLane {
            watermark,
            done: Done::default(),
            cursor: watermark,
            lock: NONE,
            shunned: None,
            unclean: false,
            hand_overs: HandOvers::default(),
        }
    }
}

impl GroupLane {
    /// A lease ended whose holder had got so far.
    pub(super) fn is_free(&mut self, end: u64, unclean: bool) {
        self.lock = NONE;
        self.unclean = unclean;
        self.cursor = self.watermark;
        self.hand_overs.record(end, self.watermark);
    }

    /// Takes over what is done, of what was delivered; says how many were not done before.
    fn apply(&mut self, progress: &Progress, delivered: u64) -> u64 {
        let mut new = 0;
        let watermark = progress.watermark.min(delivered);
        if watermark > self.watermark {
            let before = self.done.forget_below(watermark);
            new += watermark - self.watermark - before;
            self.watermark = watermark;
        }
        if let convoy_core::backend::Above::Done(above) = &progress.above {
            for position in above {
                if (self.watermark..delivered).contains(position) {
                    new += u64::from(self.done.insert(*position));
                }
            }
        }
        if !self.done.is_empty() {
            self.watermark = self.done.first_open(self.watermark);
            self.done.forget_below(self.watermark);
        }
        self.hand_overs.forget_below(self.watermark);
        new
    }
}

impl State {
    pub(crate) fn append_to_lane(
        &mut self,
        lane: u32,
        session: &SessionId,
        messages: impl Iterator<Item = Stored>,
    ) -> u64 {
        let Log::Lanes(lanes) = &mut self.log else { return 0 };
        let log = &mut lanes[lane as usize];
        let before = log.messages.len();
        for stored in messages {
            self.bytes += u64::from(stored.size);
            log.messages.push_back((session.clone(), stored));
        }
        let (added, last) = ((log.messages.len() - before) as u64, log.end() - 1);
        self.messages += added;
        for group in 0..self.groups.len() {
            self.groups[group].unsettled += added;
            let lock = self.groups[group].lanes[lane as usize].lock;
            if lock != NONE {
                self.mark_hot(lock);
            }
        }
        last
    }

    /// Where the next message of a lane will stand.
    pub(crate) fn end_of_lane(&self, lane: u32) -> u64 {
        match &self.log {
            Log::Lanes(lanes) => lanes[lane as usize].end(),
            Log::Sessions(_) => 0,
        }
    }

    /// What comes next for the holder of this lease. What is settled already is passed over.
    pub(super) fn next_of_lane(&mut self, group: u32, lane: u32) -> Option<NextOfLane<'_>> {
        let Log::Lanes(lanes) = &self.log else { return None };
        let log = &lanes[lane as usize];
        let of_group = &mut self.groups[group as usize].lanes[lane as usize];
        let position = of_group.cursor;
        if position >= log.end() {
            return None;
        }
        if !of_group.done.is_empty() && of_group.done.contains(position) {
            of_group.cursor = of_group.done.first_open(position);
            return Some(NextOfLane::Passed(of_group.cursor));
        }
        let (session, stored) = log.messages.get((position - log.base) as usize)?;
        of_group.cursor = position + 1;
        let count = of_group.hand_overs.next(position);
        Some(NextOfLane::Message(Next { position, session, count, stored }))
    }

    pub(super) fn lane_has_more(&self, group: u32, lane: u32) -> bool {
        self.groups[group as usize].lanes[lane as usize].cursor < self.end_of_lane(lane)
    }

    /// Records what is done of a lane, as far as it was delivered under this lease.
    pub(crate) fn settle_lane(&mut self, slot: u32, progress: &Progress) {
        let holding = self.locks.get_mut(slot);
        let Spot::Lane(lane) = holding.spot else { return };
        let group = &mut self.groups[holding.group as usize];
        let new = group.lanes[lane as usize].apply(progress, holding.end);
        holding.out = holding.out.saturating_sub(u32::try_from(new).unwrap_or(u32::MAX));
        group.unsettled -= new;
        self.trim_lane(lane);
        let holding = self.locks.get(slot);
        if self.lane_has_more(holding.group, lane) {
            self.mark_hot(slot);
        }
    }

    /// Drops what every group has behind it.
    fn trim_lane(&mut self, lane: u32) {
        let Log::Lanes(lanes) = &mut self.log else { return };
        let log = &mut lanes[lane as usize];
        let settled = self.groups.iter().map(|g| g.lanes[lane as usize].watermark).min().unwrap_or(log.base);
        while log.base < settled {
            let Some((_, stored)) = log.messages.pop_front() else { break };
            log.base += 1;
            self.messages -= 1;
            self.bytes -= u64::from(stored.size);
        }
        if log.messages.is_empty() && log.messages.capacity() > KEPT {
            log.messages = VecDeque::new();
        }
    }

    /// A consumer takes part in sharing the lanes of its group.
    pub(crate) fn join(&mut self, consumer: u32, now: Moment) {
        let group = self.consumers[consumer].group;
        self.consumers[consumer].lapsed = false;
        if self.consumers[consumer].leaving {
            return;
        }
        let members = &mut self.groups[group as usize].members;
        if matches!(self.log, Log::Lanes(_)) && !members.contains(&consumer) {
            members.push(consumer);
            self.revoke_surplus(group, now);
            self.share_lanes(group, now);
        }
    }

    /// A consumer takes no part any more. What it holds is not touched.
    pub(crate) fn leave(&mut self, consumer: u32, now: Moment) {
        let group = self.consumers[consumer].group;
        let of_group = &mut self.groups[group as usize];
        of_group.members.retain(|member| *member != consumer);
        for lane in &mut of_group.lanes {
            lane.shunned = lane.shunned.filter(|(who, _)| *who != consumer);
        }
        if !of_group.reserved.is_empty() {
            self.serve_reserved(group, now);
        }
    }

    /// A lane was given back by its holder.
    pub(crate) fn lane_given_back(&mut self, group: u32, lane: u32, consumer: u32, asked_for: bool, now: Moment) {
        if !asked_for {
            self.groups[group as usize].lanes[lane as usize].shunned = Some((consumer, now + SHUNNED_FOR));
            self.timers.add(now + SHUNNED_FOR, Timer::Share { group });
            self.arm(now + SHUNNED_FOR);
        }
        self.share_lanes(group, now);
    }

    /// Gives every free lane to the member with the fewest.
    pub(crate) fn share_lanes(&mut self, group: u32, now: Moment) {
        if self.groups[group as usize].members.is_empty() {
            return;
        }
        for lane in 0..self.groups[group as usize].lanes.len() as u32 {
            let of_group = &mut self.groups[group as usize].lanes[lane as usize];
            if of_group.lock != NONE {
                continue;
            }
            of_group.shunned = of_group.shunned.filter(|(_, until)| *until > now);
            let shunned = of_group.shunned.map(|(consumer, _)| consumer);
            let members = self.groups[group as usize].members.iter().filter(|m| Some(**m) != shunned);
            if let Some(member) = members.copied().min_by_key(|m| self.lanes_of(group, *m).len()) {
                self.grant_lane(group, lane, member, now);
            }
        }
    }

    /// Asks members that have more than their share for what is too much.
    fn revoke_surplus(&mut self, group: u32, now: Moment) {
        let lanes = self.groups[group as usize].lanes.len();
        let mut members: Vec<Vec<u32>> =
            self.groups[group as usize].members.iter().map(|member| self.lanes_of(group, *member)).collect();
        let (share, mut with_one_more) = (lanes / members.len().max(1), lanes % members.len().max(1));
        members.sort_by_key(|held| std::cmp::Reverse(held.len()));
        for held in members {
            let quota = share + usize::from(with_one_more > 0);
            with_one_more = with_one_more.saturating_sub(1);
            for slot in held.iter().skip(quota) {
                self.revoke(*slot, now);
            }
        }
    }

    /// Tells a holder to finish and give back.
    pub(crate) fn revoke(&mut self, slot: u32, now: Moment) {
        let until = now + self.options.handover_limit();
        let holding = self.locks.get_mut(slot);
        holding.revoking = true;
        let (consumer, grant) = (holding.consumer, holding.grant);
        self.timers.add(until, Timer::Revoked { slot, grant });
        self.arm(until);
        self.tell(consumer, Event::Revoking { grant, until });
    }

    /// Gives a free lane to a consumer.
    pub(crate) fn grant_lane(&mut self, group: u32, lane: u32, consumer: u32, now: Moment) {
        let place = Place::Lane(lane);
        let Granted { lock, grant, lease } = self.lock(consumer, Spot::Lane(lane), &place, now);
        let of_group = &mut self.groups[group as usize].lanes[lane as usize];
        of_group.lock = lock;
        of_group.shunned = None;
        let mut recovered = Recovered::default();
        recovered.unclean = of_group.unclean;
        let start = of_group.watermark;
        self.locks.get_mut(lock).end = start;
        let start = Position::new(start);
        self.tell(consumer, Event::Granted { grant, place, start, recovered, lease });
        if self.lane_has_more(group, lane) {
            self.mark_hot(lock);
        }
    }

    /// The leases of a member that it may keep.
    fn lanes_of(&self, group: u32, consumer: u32) -> Vec<u32> {
        let locks = self.groups[group as usize].lanes.iter().map(|lane| lane.lock).filter(|lock| *lock != NONE);
        locks.filter(|lock| self.locks.get(*lock).consumer == consumer && !self.locks.get(*lock).revoking).collect()
    }
}

impl Group {
    /// How many lanes somebody holds.
    pub(crate) fn held_lanes(&self) -> usize {
        self.lanes.iter().filter(|lane| lane.lock != NONE).count()
    }
}
