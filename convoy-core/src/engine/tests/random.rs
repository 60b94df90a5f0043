//! Random inputs, sensible and not: nothing panics, the tables stay consistent, order and settlements are right, and in the end nothing is left.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::super::state::Stage;
use super::*;
use crate::backend::{Progress, SettleStyle};
use crate::policy::{Bound, Bounds, Defective, Exhausted, Foreign};

/// One step: what to do, and three numbers that say to whom.
type Step = (u8, u8, u8, u8);

/// What a model of a broker and its consumer remembers.
#[derive(Default)]
struct Model {
    grants: Vec<Grant>,
    places: Vec<Place>,
    /// The next position of each grant.
    next: BTreeMap<u64, u64>,
    /// What was delivered under a grant, and whether it is resolved.
    delivered: BTreeMap<u64, BTreeMap<u64, (SessionId, bool)>>,
    running: Vec<(RunId, Grant, SessionId, u64)>,
    claims: Vec<ClaimId>,
    settles: Vec<(Grant, Ticket)>,
    copies: Vec<(Grant, u64)>,
    /// What a session started last under a grant.
    started: BTreeMap<(u64, SessionId), u64>,
}

impl Model {
    fn starts(&mut self, start: &Start) {
        let (grant, session, position) = (start.grant, start.message.session.clone(), start.message.position.value);
        let shard = grant.shard();
        let overlaps = self.running.iter().any(|(_, g, s, _)| g.shard() == shard && *s == session);
        assert!(!overlaps, "two handlers of {session}");
        let before = self.started.insert((grant.epoch(), session.clone()), position);
        assert!(before.is_none_or(|before| before <= position), "{session} went back from {before:?} to {position}");
        let earlier = self.delivered[&grant.epoch()].range(..position);
        for (earlier, (s, resolved)) in earlier {
            assert!(*s != session || *resolved, "{session}@{position} started before {earlier} was resolved");
        }
        self.running.push((start.run, grant, session, position));
    }

    fn resolved(&mut self, grant: Grant, position: u64) {
        if let Some((_, resolved)) = self.delivered.get_mut(&grant.epoch()).and_then(|d| d.get_mut(&position)) {
            *resolved = true;
        }
    }

    /// What a settlement says must be so. Gives the positions that it speaks of.
    fn check(&self, style: SettleStyle, grant: Grant, progress: &Progress) -> BTreeSet<u64> {
        let mut spoken_of = BTreeSet::new();
        for (position, (session, resolved)) in &self.delivered[&grant.epoch()] {
            let covered = match (&progress.above, style) {
                (_, SettleStyle::Each) => *position + 1 == progress.watermark,
                (Above::Nothing, SettleStyle::Open { .. }) => true,
                (Above::Open(open), _) => {
                    *position < progress.end && !open.iter().any(|(s, at)| s == session && at <= position)
                }
                (Above::Done(done), _) => *position < progress.watermark || done.contains(position),
                (Above::Nothing, _) => *position < progress.watermark,
            };
            assert!(!covered || *resolved, "{session}@{position} is not resolved: {progress:?}");
            if covered {
                spoken_of.insert(*position);
            }
        }
        assert!(progress.watermark <= progress.end || style != SettleStyle::Each);
        if let Above::Done(done) = &progress.above {
            assert!(done.is_sorted() && done.iter().all(|p| *p > progress.watermark));
        }
        if let Above::Open(open) = &progress.above {
            assert!(open.is_sorted_by_key(|(_, at)| *at));
            let once: BTreeSet<_> = open.iter().map(|(session, _)| session).collect();
            assert_eq!(once.len(), open.len(), "a session is listed once");
        }
        spoken_of
    }
}

fn pick<T: Copy>(of: &[T], by: u8) -> Option<T> {
    if of.is_empty() { None } else { of.get(usize::from(by) % of.len()).copied() }
}

struct Walk {
    w: World,
    m: Model,
    style: SettleStyle,
}

impl Walk {
    fn new(limits: Limits, by: u8) -> Self {
        let bounds =
            Bounds { session: Bound::new(6, 1_000), lane: Bound::new(10, 1_000), total: Bound::new(18, 1_000) };
        let retry = Retry::exponential(10 * MS..SEC);
        let config = Config {
            bounds,
            retry: match by % 3 {
                0 => retry,
                1 => retry.at_most(2).then(Exhausted::DeadLetter),
                _ => retry.within(50 * MS).then(Exhausted::DeadLetter),
            },
            handler_timeout: (by & 4 > 0).then_some(2 * SEC),
            idle_under_pressure: if by & 8 > 0 { Duration::ZERO } else { 100 * MS },
            foreign: if by & 16 > 0 { Foreign::Allow } else { Foreign::DeadLetter },
            misrouted: Defective::DeadLetter,
            observe: by & 32 > 0,
            ..config()
        };
        let style = limits.settle;
        Self { w: World::new(config, limits), m: Model::default(), style }
    }

    /// A grant, mostly one that is held.
    fn some_grant(&self, by: u8) -> Option<Grant> {
        let held: Vec<Grant> = self.m.grants.iter().copied().filter(|g| self.w.engine.live(*g).is_some()).collect();
        pick(if by < 250 && !held.is_empty() { &held } else { &self.m.grants }, by)
    }

    fn grant(&mut self, by: u8) {
        let place = if self.w.engine.limits.shape == crate::backend::Shape::Lanes {
            Place::Lane(u32::from(by % 3))
        } else {
            Place::Session(id(["a", "b", "c"][usize::from(by % 3)]))
        };
        let grant = self.w.granted(place.clone());
        self.m.grants.push(grant);
        self.m.places.push(place);
        self.m.delivered.insert(grant.epoch(), BTreeMap::new());
    }

    fn deliver(&mut self, a: u8, b: u8, c: u8) {
        let Some(grant) = self.some_grant(a) else { return };
        let next = self.m.next.entry(grant.epoch()).or_default();
        let position = *next + u64::from(c % 3);
        *next = position + 1;
        let name = ["a", "b", "c", "d"][usize::from(b % 4)];
        let defect = match b {
            0..4 => Some(Defect::NoSession),
            4..6 => Some(Defect::Headers),
            6..8 => Some(Defect::Misrouted),
            _ => None,
        };
        let session = if b < 4 { SessionId::lone(grant.shard(), position) } else { id(name) };
        if self.w.engine.live(grant).is_some() {
            self.m.delivered.entry(grant.epoch()).or_default().insert(position, (session, false));
        }
        let message = Inbound { defect, ..message(name, position) };
        self.w.event(Event::Delivered { grant, message });
    }

    fn end(&mut self, a: u8, b: u8, c: u8) {
        if self.m.running.is_empty() {
            return;
        }
        let (run, grant, _, position) = self.m.running.swap_remove(usize::from(a) % self.m.running.len());
        let detail = String::new();
        let (end, done) = match b % 12 {
            0 => (failed(Then::Retry), false),
            1 => (failed(Then::DeadLetter), false),
            2 => (failed(Then::RetryIn(u32::from(c) * MS)), false),
            3 => (End::Panicked { detail }, false),
            4 => (End::Cancelled, false),
            5 => (End::Returned, false),
            _ => (End::Done, true),
        };
        if done && self.w.engine.live(grant).is_some() {
            self.m.resolved(grant, position);
        }
        let counts = self.w.engine.ended(self.w.now, run, end, u64::from(c) << 20);
        assert!(!counts || self.m.grants.contains(&grant));
        self.w.collect();
        assert!(!self.w.engine.ended(self.w.now, run, End::Done, 0), "an end is told once");
    }

    fn step(&mut self, (what, a, b, c): Step) {
        let answer = match b {
            0..8 => Answer::Refused,
            8..16 => Answer::Unknown,
            16..64 => Answer::NotApplied,
            _ => Answer::Ok,
        };
        let why = [Loss::Revoked, Loss::Disconnected, Loss::Expired][usize::from(b % 3)];
        let now = self.w.now;
        match what % 80 {
            0 | 1 => self.grant(a),
            2..4 => {
                let asked_at = now - u32::from(b % 8) * 100 * MS;
                if let Some(grant) = self.some_grant(a) {
                    self.w.event(Event::Proved { grant, asked_at, valid_for: u32::from(c) * 400 * MS });
                }
            }
            4..12 | 60..72 => self.deliver(a, b, c),
            12..18 | 72..80 => {
                let start = self.w.engine.start(now);
                if let Some(start) = start {
                    self.m.starts(&start);
                }
                self.w.collect();
            }
            18..24 | 40..50 => self.end(a, b, c),
            24..27 | 50..60 => {
                if !self.m.settles.is_empty() {
                    let (grant, ticket) = self.m.settles.remove(usize::from(a) % self.m.settles.len());
                    self.w.event(Event::Settled { grant, ticket, answer });
                }
            }
            28..31 => self.w.advance(u32::from(a) * u32::from(b % 16 + 1) * MS),
            31 if c < 64 => {
                if let Some(grant) = self.some_grant(a) {
                    self.w.lost(grant, why);
                }
            }
            32 if c < 64 => {
                if let Some(grant) = self.some_grant(a) {
                    self.w.event(Event::Revoking { grant, until: now + u32::from(b) * 20 * MS });
                }
            }
            27 | 31 | 32 => {
                if !self.m.copies.is_empty() {
                    let (grant, position) = self.m.copies.swap_remove(usize::from(a) % self.m.copies.len());
                    if c < 8 {
                        self.m.copies.push((grant, position));
                    }
                    if answer == Answer::Ok {
                        self.copy_confirmed(grant, position);
                    }
                    self.w.copied(grant, position, answer);
                }
            }
            33 => {
                let claimed = if b % 2 > 0 {
                    self.w.engine.claim_any(now).map(|(claim, _)| claim)
                } else if let Some(place) = self.m.places.get(usize::from(a) % self.m.places.len().max(1)).cloned() {
                    self.w
                        .engine
                        .claim_named(now, &place, &id(["a", "b", "c", "d"][usize::from(c % 4)]))
                        .ok()
                        .map(|(c, _)| c)
                } else {
                    None
                };
                self.m.claims.extend(claimed);
                self.remember_claims();
                self.w.collect();
            }
            34 | 35 => {
                if let Some(claim) = pick(&self.m.claims, a) {
                    match b % 4 {
                        0 => self.w.engine.unclaim(now, claim),
                        1 => drop(self.w.engine.flush(now, claim)),
                        _ => {
                            if let Next::Start(start) = self.w.engine.next(now, claim) {
                                self.m.starts(&start);
                            }
                        }
                    }
                    self.w.collect();
                }
            }
            36 => self.w.input(if b < 32 { Input::Pause } else { Input::Resume }),
            37 => self.w.input(Input::Pressure(b % 2 > 0)),
            38 => {
                if let Some(grant) = self.some_grant(a) {
                    self.w.event(Event::Passed { grant, below: u64::from(c) });
                    let next = self.m.next.entry(grant.epoch()).or_default();
                    *next = (*next).max(u64::from(c));
                }
            }
            _ => self.nonsense(a, b, c, answer),
        }
        self.look();
    }

    /// What no backend and no driver may say.
    fn nonsense(&mut self, a: u8, b: u8, c: u8, answer: Answer) {
        let now = self.w.now;
        match c % 16 {
            0 => self.w.event(Event::Settled {
                grant: Grant::new(u64::from(a), &Place::Lane(0)),
                ticket: Ticket(u64::from(b)),
                answer,
            }),
            1 => {
                if let Some(grant) = self.some_grant(a) {
                    self.w.event(Event::Settled { grant, ticket: Ticket(u64::MAX), answer });
                    self.w.copied(grant, u64::MAX, answer);
                }
            }
            2 => self.w.input(Input::Tick),
            3 => {
                let run = RunId { index: usize::from(a), serial: u64::from(b) };
                if !self.m.running.iter().any(|(r, ..)| *r == run) {
                    assert!(!self.w.engine.ended(now, run, End::Done, 0));
                }
            }
            4 => {
                // A position that goes backwards ends the grant.
                if let Some(grant) = self.some_grant(a)
                    && self.m.next.get(&grant.epoch()).is_some_and(|next| *next > 0)
                {
                    self.w.deliver(grant, "a", 0);
                    assert!(self.w.engine.live(grant).is_none());
                }
            }
            5 => {
                self.w.engine.release_unclaimed(now, |_| false);
                self.w.collect();
            }
            6 => self.w.engine.shrink(),
            _ => {
                let _ = (self.w.engine.stuck(), self.w.engine.oldest_untold(now));
                self.w.lease.end();
            }
        }
    }

    /// A confirmed copy resolves its source, if it was asked for and not answered yet.
    fn copy_confirmed(&mut self, grant: Grant, position: u64) {
        let Some(gi) = self.w.engine.live(grant) else { return };
        let Some(si) = self.w.engine.grants[gi].entry(position).and_then(|e| e.open()) else { return };
        let s = &self.w.engine.sessions[si];
        let is_head = s.head.is_some_and(|h| self.w.engine.nodes[h].position.value == position);
        if s.step == super::super::state::Step::Aside && is_head {
            self.m.resolved(grant, position);
        }
    }

    fn remember_claims(&mut self) {
        for claim in &self.m.claims {
            self.w.claim_names.insert(claim.serial(), String::new());
        }
    }

    /// Looks at what came out.
    fn look(&mut self) {
        for command in std::mem::take(&mut self.w.commands) {
            match &command {
                Command::Settle { grant, ticket, progress } => {
                    let spoken_of = self.m.check(self.style, *grant, progress);
                    if let Some(gi) = self.w.engine.live(*grant) {
                        let told = self.w.engine.grants[gi].ring.iter().filter(|e| e.stage == Stage::Told(ticket.0));
                        for entry in told {
                            assert!(
                                spoken_of.contains(&entry.position),
                                "{entry:?} would count as settled: {progress:?}"
                            );
                        }
                    }
                    self.m.settles.push((*grant, *ticket));
                }
                Command::SetAside { grant, message, .. } => self.m.copies.push((*grant, message.position.value)),
                Command::Release { grant } => {
                    assert!(self.m.running.iter().all(|(_, g, ..)| g != grant), "a right is released under a handler");
                }
                _ => {}
            }
        }
        self.w.notices.clear();
        self.w.notes.clear();
    }

    /// In the end every right is lost and every handler ends, and nothing is left.
    fn finish(mut self) {
        for (run, ..) in std::mem::take(&mut self.m.running) {
            if run.serial() % 2 > 0 {
                self.w.engine.ended(self.w.now, run, End::Cancelled, 0);
            } else {
                self.m.running.push((run, Grant::new(0, &Place::Lane(0)), id("x"), 0));
            }
        }
        for grant in self.m.grants.clone() {
            self.w.lost(grant, Loss::Disconnected);
        }
        for (run, ..) in self.m.running {
            assert!(!self.w.engine.ended(self.w.now, run, End::Done, 0));
        }
        self.w.collect();
        let engine = &self.w.engine;
        assert_eq!(engine.counts(), super::super::Counts::default());
        assert_eq!((engine.nodes.len(), engine.claims.len(), engine.timers.len(), engine.ready_now), (0, 0, 0, 0));
        assert_eq!(engine.next_deadline(), None);
    }

    fn run(limits: Limits, by: u8, steps: &[Step]) {
        let mut walk = Self::new(limits, by);
        for step in steps {
            walk.step(*step);
        }
        walk.finish();
    }
}

fn every_limits() -> Vec<Limits> {
    let lanes = Limits { settle_count: 3, ..Limits::lanes() };
    vec![
        lanes.clone(),
        Limits { settle: SettleStyle::Open { most: 2 }, surrender_after: 500 * MS, ..lanes.clone() },
        Limits { settle: SettleStyle::Each, ..lanes },
        Limits::sessions(),
        Limits { set_aside_settles: false, surrender_after: SEC, later_settle_covers: true, ..Limits::sessions() },
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_comes_the_tables_are_right(by: u8, steps in proptest::collection::vec(any::<Step>(), 0..400)) {
        for limits in every_limits() {
            Walk::run(limits, by, &steps);
        }
    }
}

#[test]
fn long_walks_leave_nothing_behind() {
    for seed in 0..40_u64 {
        let mut random = super::tables::generator(seed);
        let mut next = || (random() & 0xff) as u8;
        let steps: Vec<Step> = (0..4_000).map(|_| (next(), next(), next(), next())).collect();
        let limits = every_limits().swap_remove(seed as usize % 5);
        Walk::run(limits, seed as u8, &steps);
    }
}
