//! What must hold of the engine's tables between any two inputs.

use std::collections::{HashMap, HashSet};

use super::super::state::{Stage, Step};
use super::super::{Engine, Mode};
use crate::backend::SettleStyle;
use crate::time::Moment;

impl Engine {
    /// Recomputes every counter and link from scratch, and compares.
    pub(super) fn check_invariants(&self, now: Moment) {
        self.check_maps();
        self.check_queues();
        self.check_runs();
        self.check_grants();
        self.check_claims();
        self.check_nobody_is_forgotten(now);
    }

    fn check_maps(&self) {
        assert_eq!(self.by_epoch.len(), self.grants.len(), "epochs");
        assert_eq!(self.by_place.len(), self.grants.len(), "places");
        for (gi, g) in &self.grants {
            assert_eq!(self.by_epoch.get(&g.grant.epoch()), Some(&gi));
            assert_eq!(self.by_place.get(&g.place), Some(&gi));
        }
        assert_eq!(self.by_session.len(), self.sessions.len(), "sessions");
        for (si, s) in &self.sessions {
            assert_eq!(self.find_session(s.shard, &s.id), Some(si));
        }
    }

    fn check_queues(&self) {
        let (mut messages, mut bytes) = (0, 0);
        for (si, s) in &self.sessions {
            let (mut len, mut size, mut last, mut next) = (0, 0, None, s.head);
            while let Some(node) = next {
                let n = &self.nodes[node];
                let gi = s.grant.expect("what is queued belongs to a grant");
                let g = &self.grants[gi];
                let at = g.ring.binary_search_by_key(&n.position.value, |e| e.position);
                let entry = &g.ring[at.expect("what is queued stands in the ring")];
                assert_eq!((entry.position, entry.session), (n.position.value, si));
                assert_eq!(entry.stage, Stage::Open);
                len += 1;
                size += n.size;
                last = next;
                next = n.next;
            }
            assert_eq!((s.len, s.bytes, s.tail), (len, size, last), "queue of {}", s.id);
            messages += len;
            bytes += size;
            if let Some(gi) = s.grant {
                let of_it = |e: &&super::super::state::Entry| e.session == si && e.stage != Stage::Settled;
                assert_eq!(s.entries, self.grants[gi].ring.iter().filter(of_it).count(), "entries of {}", s.id);
            } else {
                assert_eq!((s.entries, s.full, s.claim, s.step), (0, false, None, Step::Idle));
                assert!(s.run.is_some(), "only a gate outlives its grant");
            }
        }
        assert_eq!((self.messages, self.bytes), (messages, bytes), "in all");
        assert_eq!(self.nodes.len(), messages, "nodes");
    }

    fn check_runs(&self) {
        let mut sessions = HashSet::new();
        for (index, run) in &self.runs {
            assert!(sessions.insert(run.session), "one handler a session");
            assert_eq!(self.sessions[run.session].run, Some(index));
        }
        assert_eq!(self.sessions.iter().filter(|(_, s)| s.run.is_some()).count(), self.runs.len());
    }

    fn check_grants(&self) {
        let mut by_grant: HashMap<usize, (usize, usize, usize, usize)> = HashMap::new();
        for (_, s) in &self.sessions {
            if let Some(gi) = s.grant {
                let sum = by_grant.entry(gi).or_default();
                *sum = (
                    sum.0 + s.len,
                    sum.1 + s.bytes,
                    sum.2 + usize::from(s.full),
                    sum.3 + usize::from(s.step == Step::Aside),
                );
            }
        }
        for (gi, g) in &self.grants {
            let sum = by_grant.get(&gi).copied().unwrap_or_default();
            assert_eq!((g.messages, g.bytes, g.full_sessions, g.asides), sum, "of {:?}", g.grant);
            assert_eq!(g.running, self.runs.iter().filter(|(_, r)| r.grant == g.grant).count(), "running");
            let stage = |wanted: fn(&Stage) -> bool| -> Vec<u64> {
                g.ring.iter().filter(|e| wanted(&e.stage)).map(|e| e.position).collect()
            };
            let sorted = |positions: &[u64]| {
                let mut positions = positions.to_vec();
                positions.sort_unstable();
                positions
            };
            assert_eq!(sorted(&g.untold), stage(|s| matches!(s, Stage::Done(_))), "untold");
            assert_eq!(g.settled_inside, stage(|s| *s == Stage::Settled).len(), "settled inside");
            let told = stage(|s| matches!(s, Stage::Told(_)));
            match self.limits.settle {
                SettleStyle::Each => {
                    assert_eq!(g.in_flight as usize, told.len(), "in flight");
                    assert!(told.len() <= 1, "one settlement is out at a time");
                }
                _ => {
                    assert_eq!(sorted(&g.told), told, "told");
                    assert!(
                        g.in_flight == 1 || (g.in_flight == 0 && told.is_empty()),
                        "one settlement is out at a time"
                    );
                }
            }
            let in_front = g.ring.iter().take(g.told_in_front);
            assert!(in_front.clone().count() == g.told_in_front, "told in front");
            assert!(in_front.clone().all(|e| matches!(e.stage, Stage::Told(_) | Stage::Settled)), "told in front");
            assert!(g.settled_inside <= 64 || g.settled_inside <= g.ring.len() / 2, "the ring is tidy");
            assert_eq!(
                g.claims,
                self.sessions.iter().filter(|(_, s)| s.grant == Some(gi) && s.claim.is_some()).count()
            );
            assert!(g.ring.iter().zip(g.ring.iter().skip(1)).all(|(a, b)| a.position < b.position), "the ring ascends");
            assert!(g.ring.front().is_none_or(|e| e.stage != Stage::Settled), "what is settled leaves the front");
            assert!(g.ring.back().is_none_or(|e| e.position < g.end));
        }
    }

    fn check_claims(&self) {
        let claimed = self.sessions.iter().filter_map(|(si, s)| s.claim.map(|claim| (claim, si)));
        assert_eq!(claimed.clone().count(), self.claims.len(), "claims");
        for (claim, si) in claimed {
            assert_eq!(self.claims[claim].session, si);
        }
    }

    /// A session whose head could start is in line, what waits has its timer, and nothing else has one.
    fn check_nobody_is_forgotten(&self, now: Moment) {
        let in_line: HashSet<(usize, u64)> = self.ready.iter().copied().collect();
        let stands_still = self.mode == Mode::Stopped || matches!(self.mode, Mode::Draining { .. });
        for (si, s) in &self.sessions {
            match s.step {
                Step::Ready => assert!(in_line.contains(&(si, s.turn)) && s.head.is_some(), "{} is in line", s.id),
                Step::Offered => assert!(s.claim.is_some() && s.head.is_some(), "{} is offered", s.id),
                Step::Running => assert!(s.run.is_some()),
                Step::Settling => assert!(s.aside.is_some() && s.head.is_some() && s.entries > s.len),
                Step::Aside => assert!(s.aside.is_some() && s.head.is_some()),
                Step::Waiting => assert!(s.timer.is_some() && s.head.is_some(), "{} waits", s.id),
                Step::Barrier(position) => {
                    let g = &self.grants[s.grant.expect("a barrier belongs to a grant")];
                    assert!(g.ring.iter().any(|e| e.position == position && e.stage != Stage::Settled));
                }
                Step::Idle => {
                    let may_start = s.grant.is_some_and(|gi| self.grants[gi].may_start(now));
                    let held_back = s.grant.is_some_and(|gi| self.grants[gi].held_back);
                    let can_start = s.head.is_some() && s.run.is_none() && may_start;
                    assert!(!can_start || stands_still || held_back, "{} is forgotten", s.id);
                }
            }
            assert_eq!(s.timer.is_some(), s.step == Step::Waiting);
        }
        assert_eq!(self.ready_now, self.sessions.iter().filter(|(_, s)| s.step == Step::Ready).count(), "ready");
        assert!(self.ready.len() <= 65 + 2 * self.ready_now.max(1), "the line is tidy");
        let mut idle = 0;
        for (_, g) in &self.grants {
            let timer = g.timer.expect("every grant has a timer");
            assert_eq!(self.timers.due(timer), g.armed);
            if g.idle_since.is_some() {
                idle += 1;
                assert!(g.is_quiet() && g.is_told() && g.is_proved() && g.claims == 0, "{:?} is idle", g.grant);
            }
        }
        assert_eq!(idle > 0, self.idle.oldest().is_some());
        self.timers.check();
        let waiting = self.sessions.iter().filter(|(_, s)| s.timer.is_some()).count();
        let told_to_end = self.runs.iter().filter(|(_, r)| r.timer.is_some()).count();
        assert_eq!(self.timers.len(), self.grants.len() + waiting + told_to_end, "timers");
    }
}
