//! The order of deliveries and starts: `reorder-first`, `skip`, `nonmonotonic`,
//! `duplicate-after-settle`, `duplicate-excess`.
//!
//! A message enters the list of its session when it is first delivered, at its position or, without
//! positions, behind what was delivered before: a pair once delivered in one order keeps it. What was
//! sent and never delivered is not in the list; a start past it shows as `reorder-first` when it is
//! started after all, and as `lost` when it never is.

use super::Checker;
use super::names::{Fatal, Reported};
use super::options::Order;
use super::report::{Of, tell};
use super::ring::{Entry, NIL, flag};
use crate::history::{Answer, Event, GrantId, Message, Position};

/// The fields of a start.
#[derive(Clone, Copy, Debug)]
pub(super) struct Start {
    pub(super) session: u64,
    pub(super) message: Message,
    pub(super) grant: GrantId,
    pub(super) checked_at: u64,
    pub(super) deadline: u64,
    pub(super) position: Option<Position>,
    pub(super) blocking: bool,
}

impl Checker {
    #[expect(clippy::too_many_arguments, reason = "the fields of the event")]
    pub(super) fn deliver(
        &mut self,
        event: &Event,
        session: u64,
        message: Message,
        id: GrantId,
        hash: u64,
        position: Option<Position>,
        malformed: bool,
    ) {
        self.known(event, session, message, id, hash, position);
        let at = self.convoys.at(event.group, session);
        let (grant, serial) = self.grants.find(event.group, id);
        let over = self.grants.get(grant).is_some_and(|grant| grant.deadline <= event.time);
        let entry = self.admit(at, message, position, serial, over);
        if let Some(entry) = self.ring.get_mut(entry)
            && malformed
        {
            entry.flags |= flag::MALFORMED;
        }
    }

    pub(super) fn start(&mut self, event: &Event, start: &Start) {
        let at = self.convoys.at(event.group, start.session);
        let (grant, serial) = self.grants.find(event.group, start.grant);
        self.in_time(event, start, grant);
        let being_cut = self.alone(event, start, at, grant, serial);
        let id = self.locate(at, start, serial);
        if let Some(entry) = self.ring.get_mut(id)
            && being_cut
        {
            entry.flags |= flag::CUT;
        }
        let newest = self.convoys.all.get(at as usize).map_or(0, |convoy| convoy.serial);
        if serial < newest {
            self.zombie_start(event, start, at, id, grant);
        } else {
            let fresh = serial > newest;
            if fresh {
                self.take_over(event, at, grant, serial);
            }
            self.start_in_order(event, start, at, id, serial, fresh);
        }
        self.open_run(event, start, at, id, grant, serial);
    }

    /// The entry of a delivery, made if it is new. `NIL` for one that was settled before.
    fn admit(&mut self, at: u32, message: Message, position: Option<Position>, serial: u32, over: bool) -> u32 {
        let first = self.ring.find(at, message);
        let found = self.ring.copies(first).find(|id| match (self.options.order, self.ring.get(*id)) {
            (Order::Total, Some(entry)) if position.is_some() => entry.position == position,
            (_, Some(entry)) => entry.delivered_in != serial,
            _ => false,
        });
        if let Some(entry) = found.and_then(|id| self.ring.get_mut(id)) {
            entry.delivered_in = serial;
            return found.unwrap_or(NIL);
        }
        let settled = first == NIL && self.settled_before(at, message, position);
        // A message that was handed over twice may be there twice; but what is settled at this place is no other copy.
        let placed = self.options.order == Order::Total && position.is_some();
        let resent = self.sends.sent.get(&message).is_some_and(|sent| sent.copies > 1) && !(settled && placed);
        // What an older grant gets out of a buffer, when its process thaws for example, was on its way before: it did not come back. Nor did what is got under a right that is `over`, which
        // may be told only then.
        let stale = over || self.convoys.all.get(at as usize).is_some_and(|convoy| serial < convoy.serial);
        let returns = settled && !stale && self.options.acks_may_return && self.now < self.returns_until;
        let flags = match (first == NIL && !settled, resent) {
            (true, _) => 0,
            // What comes back comes first: behind anything else it is the copy of it.
            _ if returns && (!resent || self.only_returned(at, serial)) => flag::EXTRA | flag::RETURNED,
            (_, true) => flag::EXTRA,
            _ => return first,
        };
        if flags & flag::RETURNED != 0 {
            self.report.count(Reported::Returned);
        }
        self.enter(at, message, position, serial, flags)
    }

    /// Whether this grant got nothing of the session but what came back.
    fn only_returned(&self, at: u32, serial: u32) -> bool {
        let mut next = self.convoys.all.get(at as usize).map_or(NIL, |convoy| convoy.list.head);
        while let Some(entry) = self.ring.get(next) {
            if entry.delivered_in == serial && !entry.has(flag::RETURNED) {
                return false;
            }
            next = entry.next;
        }
        true
    }

    fn enter(&mut self, at: u32, message: Message, position: Option<Position>, serial: u32, flags: u16) -> u32 {
        let Some(convoy) = self.convoys.all.get_mut(at as usize) else { return NIL };
        let mut after = convoy.list.tail;
        if flags & flag::RETURNED != 0 {
            // Back at the head of its queue, behind what came back before it.
            after = NIL;
            let mut next = convoy.list.head;
            while self.ring.get(next).is_some_and(|entry| entry.has(flag::RETURNED)) {
                (after, next) = (next, self.ring.next(next));
            }
        } else if self.options.order == Order::Total && position.is_some() {
            while let Some(entry) = self.ring.get(after).filter(|entry| entry.position > position) {
                after = entry.prev;
            }
        }
        let entry = Entry {
            message,
            position,
            rank: 0,
            ended_at: 0,
            session: at,
            prev: NIL,
            next: NIL,
            copy: NIL,
            delivered_in: serial,
            ended_in: 0,
            asked_in: 0,
            failed: 0,
            flags,
        };
        let id = self.ring.insert(&mut convoy.list, after, entry);
        self.reopen(at, id);
        id
    }

    /// The entry that a start means: of several copies, the one that this grant has not done.
    fn locate(&mut self, at: u32, start: &Start, serial: u32) -> u32 {
        let Some(convoy) = self.convoys.all.get(at as usize) else { return NIL };
        let guess = if convoy.cursor == NIL { convoy.list.head } else { self.ring.next(convoy.cursor) };
        let first = self.ring.find_near(guess, at, start.message);
        let Some(entry) = self.ring.get(first) else {
            return self.admit(at, start.message, start.position, serial, false);
        };
        if entry.copy == NIL && first != guess {
            return first;
        }
        let first = self.ring.find(at, start.message);
        let meant = self.ring.copies(first).find(|id| match (self.options.order, self.ring.get(*id)) {
            (Order::Total, Some(entry)) if start.position.is_some() => entry.position == start.position,
            (_, Some(entry)) => !(entry.has(flag::ENDED_OK) && entry.ended_in == serial),
            _ => false,
        });
        meant.unwrap_or(first)
    }

    /// The first start of a newer grant: what the older may have left undone is now known.
    fn take_over(&mut self, event: &Event, at: u32, grant: u32, serial: u32) {
        let Some(convoy) = self.convoys.all.get_mut(at as usize) else { return };
        let old = convoy.grant;
        if let Some(left) = self.grants.get(old) {
            let right_end = left.right_end().min(event.time);
            self.report.count(Reported::Takeover);
            self.report.measure(Reported::Takeover, event.time - right_end);
            (convoy.credited, convoy.credited_of) = (0, left.serial);
            if !left.drained {
                // From the end of the first one on, so much may finish until it is settled.
                let recent = self.options.settle_interval.saturating_add(self.options.settle_slack);
                let (mut unsettled, mut next, mut first) = (0, convoy.list.head, None);
                while let Some(entry) = self.ring.get(next) {
                    if entry.has(flag::DONE) && entry.ended_in == left.serial && !entry.has(flag::SETTLED) {
                        let first = *first.get_or_insert(entry.ended_at);
                        unsettled += u32::from(entry.ended_at <= first.saturating_add(recent));
                    }
                    next = entry.next;
                }
                convoy.credited = unsettled.min(self.options.settle_count) + 1;
                convoy.allowed += convoy.credited;
            }
        }
        (convoy.grant, convoy.serial) = (grant, serial);
        convoy.cursor = NIL;
        self.grants.hold(grant);
        self.grants.let_go(old);
    }

    fn start_in_order(&mut self, event: &Event, start: &Start, at: u32, id: u32, serial: u32, fresh: bool) {
        let of = Of::new(start.session, start.message, start.grant);
        let cursor = self.convoys.all.get(at as usize).map_or(NIL, |convoy| convoy.cursor);
        let Some(entry) = self.ring.get(id) else {
            if !self.settles.redriven(at, start.message) {
                self.fatal(event, Fatal::DuplicateAfterSettle, of, settled_twice(start.message));
            }
            return;
        };
        let retry = !fresh && cursor == id;
        let done_here = entry.has(flag::ENDED_OK) && entry.ended_in == serial;
        if entry.has(flag::SETTLED) {
            self.fatal(event, Fatal::DuplicateAfterSettle, of, settled_twice(start.message));
        } else if done_here || (cursor != NIL && self.ring.before(id, cursor) && !entry.has(flag::RETURNED)) {
            let why = format!("{} started behind a later one, or again after it ended well", tell(start.message));
            self.fatal(event, Fatal::Nonmonotonic, of, why);
        }
        if cursor == NIL || self.ring.before(cursor, id) {
            self.pass(event, start, at, cursor, id, serial, fresh);
        }
        self.first_start(event, start, at, id);
        let Some(entry) = self.ring.get_mut(id) else { return };
        // The broker gave it again: so what an older grant asked for had not been done.
        let given_again = entry.has(flag::ASKED) && entry.asked_in != serial;
        let again = entry.has(flag::DONE | flag::CUT) && !retry && !done_here && !entry.has(flag::SETTLED);
        entry.flags &= !(flag::DONE | flag::CUT);
        if given_again {
            entry.flags &= !(flag::ASKED | flag::ASIDE | flag::DEAD | flag::UNSURE);
            self.reopen(at, id);
        }
        if again {
            self.duplicate(event, start, at, id);
        }
        self.pop_settled(at);
    }

    /// A start passes what lies between: each must be done.
    #[expect(clippy::too_many_arguments, reason = "a step of `start_in_order`")]
    fn pass(&mut self, event: &Event, start: &Start, at: u32, from: u32, to: u32, serial: u32, fresh: bool) {
        let mut next =
            if from == NIL { self.convoys.all.get(at as usize).map_or(NIL, |convoy| convoy.list.head) } else { from };
        while let Some(entry) = self.ring.get_mut(next).filter(|_| next != to) {
            let (id, asked_here) = (next, entry.has(flag::ASKED) && entry.asked_in == serial);
            next = entry.next;
            let barrier = entry.has(flag::ASIDE) && !entry.has(flag::SETTLED) && asked_here;
            let done = entry.has(flag::SETTLED | flag::ASKED | flag::MALFORMED)
                || (entry.has(flag::ENDED_OK) && entry.ended_in == serial);
            let of = Of::new(start.session, start.message, start.grant);
            if barrier && !entry.has(flag::MALFORMED) {
                let why = format!("{} did not wait until {} was set aside", tell(start.message), self.told(id));
                self.fatal(event, Fatal::DeadReorder, of, why);
            } else if !done {
                entry.flags |= flag::OVERTAKEN;
                let why = format!("{} started before {} was done", tell(start.message), self.told(id));
                self.fatal(event, Fatal::Skip, of, why);
            } else if fresh && entry.has(flag::ASKED) && !asked_here {
                // The broker goes on behind it: so what an older grant asked for was done.
                entry.flags = (entry.flags & !flag::ASKED) | flag::SETTLED;
                self.settled_here(id, at);
            }
        }
        if let Some(convoy) = self.convoys.all.get_mut(at as usize) {
            convoy.cursor = to;
        }
    }

    /// First starts are in log order. A resent copy, what came back, and what is set aside as
    /// malformed are excepted; without positions also a send of unknown outcome, which may land late.
    fn first_start(&mut self, event: &Event, start: &Start, at: u32, id: u32) {
        let Some(entry) = self.ring.get_mut(id) else { return };
        let (flags, position) = (entry.flags, entry.position);
        entry.flags |= flag::STARTED;
        if flags & flag::STARTED != 0 {
            return;
        }
        let started = self.convoys.started_of(at, start.message.producer);
        let Some(convoy) = self.convoys.all.get_mut(at as usize) else { return };
        let mut behind = flags & flag::OVERTAKEN != 0;
        if let (Order::Total, Some(position)) = (self.options.order, position) {
            behind |= position < convoy.started_to;
            convoy.started_to = convoy.started_to.max(position);
        }
        // Positions are the backend's word; that a producer's order is the log's is known without it.
        let sent = self.sends.sent.get(&start.message);
        let sure = sent.is_some_and(|s| s.copies == 1 && s.outcome != Some(Answer::Unknown));
        behind |= sure && started.is_some_and(|to| to > start.message.pseq);
        self.convoys.set_started(at, start.message);
        if behind && flags & (flag::EXTRA | flag::MALFORMED) == 0 {
            let why = format!("{} first started after one that lies behind it in the log", tell(start.message));
            self.fatal(event, Fatal::ReorderFirst, Of::new(start.session, start.message, start.grant), why);
        }
    }

    /// A start of an older grant than the newest that runs here. It did not know: whether it had
    /// the right is judged by its deadline and by the overlap, and its repeats as duplicates.
    fn zombie_start(&mut self, event: &Event, start: &Start, at: u32, id: u32, grant: u32) {
        self.first_start(event, start, at, id);
        let (drained, serial) = self.grants.get(grant).map_or((false, 0), |grant| (grant.drained, grant.serial));
        let most = self.options.settle_count.saturating_add(1);
        let zombie = self.convoys.zombies.entry((at, serial)).or_default();
        let retry = zombie.last.replace(start.message) == Some(start.message);
        let again = self.ring.get_mut(id).map_or(!retry, |entry| {
            let again = entry.has(flag::DONE | flag::CUT);
            entry.flags &= !(flag::DONE | flag::CUT);
            again
        });
        let Some(convoy) = self.convoys.all.get_mut(at as usize) else { return };
        // It ends without a finished drain as well: so much of its own may be repeated, or repeats.
        let credited = match serial == convoy.credited_of {
            true => &mut convoy.credited,
            false => &mut zombie.credited,
        };
        if !drained && *credited < most {
            *credited += 1;
            convoy.allowed += 1;
        }
        if again {
            self.duplicate(event, start, at, id);
        }
    }

    fn duplicate(&mut self, event: &Event, start: &Start, at: u32, id: u32) {
        self.report.count(Reported::Duplicate);
        let extra = self.ring.get(id).map_or(0, |entry| entry.flags);
        let Some(convoy) = self.convoys.all.get_mut(at as usize).filter(|_| extra & flag::EXTRA == 0) else { return };
        convoy.duplicates += 1;
        if convoy.duplicates > convoy.allowed {
            let why = format!(
                "{} is duplicate {} of its session, where the ends of grants explain {}",
                tell(start.message),
                convoy.duplicates,
                convoy.allowed
            );
            self.fatal(event, Fatal::DuplicateExcess, Of::new(start.session, start.message, start.grant), why);
        }
    }
}

fn settled_twice(message: Message) -> String {
    format!("{} started again after it was settled", tell(message))
}
