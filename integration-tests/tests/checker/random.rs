//! Random correct histories from a small model of a broker, and one broken event in them.

use std::collections::VecDeque;

use convoy_conformance::checker::{Checker, Fatal, Options, Verdict};
use convoy_conformance::history::{Answer, Cause, Ended, Event, GrantId, Message, Place, Position, SettleKind, What};
use proptest::prelude::*;

use crate::samples::samples;
use crate::story::GROUP;

/// A session of the model: its log, what the broker has settled of it, and who holds it.
#[derive(Default)]
struct Session {
    log: Vec<Message>,
    settled: usize,
    hold: Option<Hold>,
}

struct Hold {
    grant: GrantId,
    delivered: usize,
    next: usize,
    running: bool,
    ended: VecDeque<usize>,
    asked: VecDeque<usize>,
}

struct Model {
    events: Vec<Event>,
    sessions: Vec<Session>,
    pseq: u64,
    grants: u32,
}

impl Model {
    fn history(sessions: usize, choices: &[u8]) -> Vec<Event> {
        let mut model = Self { events: Vec::new(), sessions: Vec::new(), pseq: 0, grants: 0 };
        model.sessions.resize_with(sessions, Session::default);
        model.tell(GROUP, 0, What::GroupStart);
        for choice in choices {
            model.step(usize::from(*choice) % sessions, usize::from(*choice) / sessions % 16, *choice);
        }
        // A healthy consumer runs to the end.
        for at in 0..sessions {
            while model.sessions[at].settled < model.sessions[at].log.len() {
                [0, 2, 4, 6, 9, 10].into_iter().for_each(|op| model.step(at, op, 0));
            }
        }
        model.events
    }

    fn tell(&mut self, group: u32, process: u32, what: What) {
        let number = self.events.len() as u64;
        self.events.push(Event { time: (number + 1) * 1000, process, number, group, what });
    }

    fn step(&mut self, at: usize, op: usize, choice: u8) {
        let session = at as u64 + 1;
        let position = |log: usize| Some(Position { generation: 0, value: log as u64 });
        let Some(mut hold) = self.sessions[at].hold.take() else {
            if op == 1 {
                return self.send(at);
            }
            self.grants += 1;
            let (consumer, next) = (self.grants, self.sessions[at].settled);
            let grant = GrantId { consumer, n: 1 };
            let (ended, asked) = Default::default();
            self.tell(
                GROUP,
                consumer,
                What::Grant { place: Place::Session(session), grant, sent_at: 0, lock: 1 << 50 },
            );
            self.sessions[at].hold = Some(Hold { grant, delivered: next, next, running: false, ended, asked });
            return;
        };
        let (grant, process) = (hold.grant, hold.grant.consumer);
        let message = |model: &Self, index: usize| model.sessions[at].log[index];
        match op {
            0..=1 => self.send(at),
            2..=3 if hold.delivered < self.sessions[at].log.len() => {
                let (message, position) = (message(self, hold.delivered), position(hold.delivered));
                let hash = message.pseq;
                self.tell(GROUP, process, What::Deliver { session, message, grant, hash, position, malformed: false });
                hold.delivered += 1;
            }
            4..=5 if !hold.running && hold.next < hold.delivered => {
                let (message, position) = (message(self, hold.next), position(hold.next));
                let (checked_at, deadline, blocking) = (0, 1 << 50, false);
                self.tell(
                    GROUP,
                    process,
                    What::Start { session, message, grant, attempt: 1, checked_at, deadline, position, blocking },
                );
                hold.running = true;
            }
            6..=8 if hold.running => {
                let message = message(self, hold.next);
                let how = if op == 8 { Ended::Error } else { Ended::Ok };
                self.tell(GROUP, process, What::End { session, message, grant, how });
                hold.running = false;
                if how == Ended::Ok {
                    hold.ended.push_back(hold.next);
                    hold.next += 1;
                }
            }
            9 => {
                if let Some(index) = hold.ended.pop_front() {
                    let (message, kind) = (message(self, index), SettleKind::Complete);
                    self.tell(GROUP, process, What::SettleReq { session, message, grant, kind });
                    hold.asked.push_back(index);
                }
            }
            10..=11 => {
                if let Some(index) = hold.asked.pop_front() {
                    let (message, answer) = (message(self, index), Answer::Ok);
                    self.tell(GROUP, process, What::Settle { session, message, grant, answer });
                    self.sessions[at].settled = index + 1;
                }
            }
            12..=14 if op == 13 || hold.running || hold.asked.len() > 1 => {
                // The grant ends, and of what was asked for some landed without an answer.
                let landed = usize::from(choice) % (hold.asked.len() + 1);
                if let Some(index) = hold.asked.iter().take(landed).next_back() {
                    self.sessions[at].settled = index + 1;
                }
                if op == 12 {
                    self.tell(GROUP, 0, What::KillSent { target: process });
                    self.tell(GROUP, 0, What::Reaped { target: process });
                } else {
                    if hold.running {
                        let (message, how) = (message(self, hold.next), Ended::Cancelled);
                        self.tell(GROUP, process, What::End { session, message, grant, how });
                    }
                    self.tell(GROUP, process, What::Lost { grant, cause: Cause::Connection });
                }
                return;
            }
            15 if !hold.running && hold.ended.is_empty() && hold.asked.is_empty() => {
                self.tell(GROUP, process, What::Lost { grant, cause: Cause::Drained });
                return;
            }
            _ => {}
        }
        self.sessions[at].hold = Some(hold);
    }

    fn send(&mut self, at: usize) {
        // The end of a run must not send for ever.
        if self.sessions[at].log.len() >= 30 {
            return;
        }
        self.pseq += 1;
        let (session, message) = (at as u64 + 1, Message { producer: 1, pseq: self.pseq });
        let position = Some(Position { generation: 0, value: self.sessions[at].log.len() as u64 });
        self.tell(0, 100, What::SendReq { session, message, prev: 0, hash: message.pseq });
        self.tell(0, 100, What::Send { session, message, outcome: Answer::Ok, position });
        self.sessions[at].log.push(message);
    }
}

fn judge(events: &[Event]) -> Verdict {
    let mut checker = Checker::new(Options::total());
    events.iter().for_each(|event| checker.push(event));
    checker.finish()
}

/// The consumer's events of a message: what a broken one would have done wrong.
fn consumers(what: &mut What) -> Option<(&mut u64, &mut Message)> {
    match what {
        What::Deliver { session, message, .. }
        | What::Start { session, message, .. }
        | What::End { session, message, .. }
        | What::SettleReq { session, message, .. }
        | What::Settle { session, message, .. } => Some((session, message)),
        _ => None,
    }
}

fn message_of(event: &Event) -> Option<Message> {
    let mut what = event.what;
    consumers(&mut what).map(|(_, message)| *message)
}

fn no_run_open(events: &[Event], at: usize, of: u64) -> bool {
    let opened = events[..=at].iter().rev().find_map(|event| match event.what {
        What::Start { session, .. } if session == of => Some(true),
        What::End { session, .. } if session == of => Some(false),
        _ => None,
    });
    opened != Some(true)
}

/// Breaks one thing; says what the checker must then name, or nothing if the history has no place for it.
fn break_one(events: &mut Vec<Event>, how: u8, pick: usize) -> Option<Fatal> {
    let places = |events: &[Event], fits: &dyn Fn(usize, &What) -> bool| {
        let all: Vec<_> = (0..events.len()).filter(|at| fits(*at, &events[*at].what)).collect();
        all.get(pick % all.len().max(1)).copied()
    };
    match how {
        0 => {
            let at = places(events, &|_, what| matches!(what, What::Deliver { .. }))?;
            let gone = message_of(&events[at])?;
            events.retain(|event| message_of(event) != Some(gone));
            Some(Fatal::Lost)
        }
        1 => {
            let at = places(events, &|_, what| matches!(what, What::Deliver { .. }))?;
            let What::Deliver { hash, .. } = &mut events[at].what else { return None };
            *hash += 1000;
            Some(Fatal::Corrupt)
        }
        2 => {
            let at = places(events, &|_, what| matches!(what, What::Send { .. }))?;
            let What::Send { session, message, outcome, .. } = &mut events[at].what else { return None };
            *outcome = Answer::Refused;
            let resume = What::Resume { session: *session, producer: message.producer };
            let event = Event { what: resume, ..events[at] };
            events.insert(at + 1, event);
            Some(Fatal::AbortedRead)
        }
        3 => {
            let at = places(events, &|_, what| matches!(what, What::Start { .. }))?;
            let What::Start { checked_at, deadline, .. } = &mut events[at].what else { return None };
            *deadline = *checked_at;
            Some(Fatal::StartAfterExpiry)
        }
        4 => {
            let at = places(events, &|_, what| matches!(what, What::SettleReq { .. }))?;
            let unhandled = message_of(&events[at]);
            for event in events.iter_mut().filter(|event| message_of(event) == unhandled) {
                if let What::End { how, .. } = &mut event.what {
                    *how = Ended::Error;
                }
            }
            Some(Fatal::SettleUnhandled)
        }
        5 => {
            let at = places(
                events,
                &|at, what| matches!(what, What::Settle { session, .. } if no_run_open(events, at, *session)),
            )?;
            let settled = message_of(&events[at])?;
            let again = |fits: fn(&What) -> bool| {
                events[..at].iter().rev().find(|e| message_of(e) == Some(settled) && fits(&e.what)).copied()
            };
            let start = again(|what| matches!(what, What::Start { .. }))?;
            let end = again(|what| matches!(what, What::End { .. }))?;
            events.splice(at + 1..at + 1, [start, end]);
            Some(Fatal::DuplicateAfterSettle)
        }
        6 => {
            let first = places(events, &|_, what| matches!(what, What::Send { .. }))?;
            let What::Send { session: of, message: a, position: at_a, .. } = events[first].what else { return None };
            let (b, at_b) = events[first + 1..].iter().find_map(|event| match event.what {
                What::Send { session, message, position, .. } if session == of => Some((message, position)),
                _ => None,
            })?;
            let sent =
                events.iter().position(|event| matches!(event.what, What::Send { message, .. } if message == b))?;
            if events.iter().position(|event| message_of(event) == Some(a))? < sent {
                return None; // nothing can be delivered before it is sent
            }
            for event in events.iter_mut() {
                let Some((_, message)) = consumers(&mut event.what) else { continue };
                let position_of = if *message == a { (b, at_b) } else { (a, at_a) };
                if *message != a && *message != b {
                    continue;
                }
                *message = position_of.0;
                match &mut event.what {
                    What::Deliver { hash, position, .. } => {
                        (*hash, *position) = (position_of.0.pseq, position_of.1);
                    }
                    What::Start { position, .. } => *position = position_of.1,
                    _ => {}
                }
            }
            Some(Fatal::ReorderFirst)
        }
        7 => {
            let at = places(events, &|_, what| matches!(what, What::Deliver { .. }))?;
            let gone = message_of(&events[at])?;
            for event in events.iter_mut() {
                if let Some((_, message)) = consumers(&mut event.what).filter(|(_, message)| **message == gone) {
                    message.producer = 99;
                }
            }
            Some(Fatal::Phantom)
        }
        8 => {
            let at = places(events, &|_, what| matches!(what, What::Start { .. }))?;
            events.insert(at + 1, events[at]);
            Some(Fatal::OverlapLive)
        }
        9 => {
            // The grant before this one settles under the newer one's feet.
            let at = places(events, &|at, what| {
                let What::Start { session: of, grant: newer, .. } = *what else { return false };
                earlier(events, at, of, newer).is_some()
            })?;
            let What::Start { session, message, grant, .. } = events[at].what else { return None };
            let grant = earlier(events, at, session, grant)?;
            let asked = What::SettleReq { session, message, grant, kind: SettleKind::Complete };
            let taken = What::Settle { session, message, grant, answer: Answer::Ok };
            let both = [asked, taken].map(|what| Event { what, ..events[at] });
            events.splice(at + 1..at + 1, both);
            Some(Fatal::StaleSettle)
        }
        _ => {
            let at = places(events, &|_, what| matches!(what, What::Deliver { .. }))?;
            let gone = message_of(&events[at])?;
            for event in events.iter_mut() {
                if let Some((session, _)) = consumers(&mut event.what).filter(|(_, message)| **message == gone) {
                    *session = 50;
                }
            }
            Some(Fatal::Misroute)
        }
    }
}

fn earlier(events: &[Event], at: usize, of: u64, newer: GrantId) -> Option<GrantId> {
    events[..at].iter().rev().find_map(|event| match event.what {
        What::Start { session, grant, .. } if session == of && grant != newer => Some(grant),
        _ => None,
    })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 1500, ..ProptestConfig::default() })]

    #[test]
    fn correct_histories_are_called_correct(sessions in 1usize..5, choices in prop::collection::vec(any::<u8>(), 0..400)) {
        let verdict = judge(&Model::history(sessions, &choices));
        prop_assert!(verdict.is_ok() && verdict.is_live(), "{}", verdict);
    }

    #[test]
    fn correct_histories_without_positions_are_called_correct(
        sessions in 1usize..5,
        choices in prop::collection::vec(any::<u8>(), 0..400),
    ) {
        let mut checker = Checker::new(Options::partial());
        for mut event in Model::history(sessions, &choices) {
            if let What::Send { position, .. } | What::Deliver { position, .. } | What::Start { position, .. } =
                &mut event.what
            {
                *position = None;
            }
            checker.push(&event);
        }
        let verdict = checker.finish();
        prop_assert!(verdict.is_ok() && verdict.is_live(), "{}", verdict);
    }

    #[test]
    fn one_broken_event_is_named(
        sessions in 1usize..5,
        choices in prop::collection::vec(any::<u8>(), 20..300),
        how in 0u8..11,
        pick in any::<usize>(),
    ) {
        let mut events = Model::history(sessions, &choices);
        if let Some(expected) = break_one(&mut events, how, pick) {
            let verdict = judge(&events);
            prop_assert_eq!(verdict.fatal(expected), 1, "wanted {}: {}", expected, verdict);
            prop_assert_eq!(verdict.fatal_total(), 1, "{}", verdict);
        }
    }

    #[test]
    fn a_broken_history_is_no_panic(
        sessions in 1usize..5,
        choices in prop::collection::vec(any::<u8>(), 0..200),
        swaps in prop::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>()), 0..50),
    ) {
        let mut events = Model::history(sessions, &choices);
        events.extend(samples());
        for (a, b) in swaps {
            let (a, b) = (a.index(events.len()), b.index(events.len()));
            events.swap(a, b);
        }
        let verdict = judge(&events);
        prop_assert_eq!(verdict.events(), events.len() as u64);
    }
}
