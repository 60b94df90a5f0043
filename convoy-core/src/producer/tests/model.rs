//! The pipeline against a model that is too simple to be wrong: a list a session, searched from the front.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::backend::Fate;
use crate::producer::Resume;

const MOST: usize = 12;
const LARGEST: usize = 4;

#[derive(Clone, Debug)]
enum Step {
    Send { session: u8, size: usize, limit: u64 },
    Hand,
    Answer { which: usize, how: How },
    Wait(u64),
    Resume { session: u8, how: Resume },
}

#[derive(Clone, Copy, Debug)]
enum How {
    Ok,
    Refused,
    Unknown,
}

fn step() -> impl Strategy<Value = Step> {
    let how = prop_oneof![4 => Just(How::Ok), 1 => Just(How::Refused), 1 => Just(How::Unknown)];
    let resume = prop_oneof![Just(Resume::Resend), Just(Resume::Skip), Just(Resume::Discard)];
    let size = prop_oneof![15 => 1..=LARGEST, 1 => Just(LARGEST + 1)];
    prop_oneof![
        6 => (0..4u8, size, 1..40u64).prop_map(|(session, size, limit)| Step::Send { session, size, limit }),
        4 => Just(Step::Hand),
        5 => (any::<usize>(), how).prop_map(|(which, how)| Step::Answer { which, how }),
        1 => (1..15u64).prop_map(Step::Wait),
        2 => (0..4u8, resume).prop_map(|(session, how)| Step::Resume { session, how }),
    ]
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Place {
    Waiting,
    Out(Ticket),
    Kept { own: bool, fate: Fate, run: Option<Ticket> },
}

#[derive(Clone, Debug)]
struct Entry {
    number: u64,
    size: usize,
    deadline: Moment,
    /// Order of the sends, for equal deadlines.
    order: u64,
    place: Place,
}

#[derive(Default)]
struct Queue {
    entries: Vec<Entry>,
    /// Every message that was ever taken, and whether it was not given up.
    chain: Vec<(u64, bool)>,
    halted: bool,
    confirmed: u64,
}

type Told = BTreeMap<u64, Result<(), (bool, Outcome)>>;

#[derive(Default)]
struct Model {
    queues: BTreeMap<u8, Queue>,
    numbers: u64,
    order: u64,
    told: Told,
}

impl Model {
    fn count(&self, kept: bool) -> usize {
        let entries = self.queues.values().flat_map(|q| &q.entries);
        entries.filter(|e| matches!(e.place, Place::Kept { .. }) == kept).count()
    }

    fn send(&mut self, session: u8, size: usize, deadline: Moment) -> Result<(), ErrorKind> {
        let (queued, kept) = (self.count(false), self.count(true));
        let queue = self.queues.entry(session).or_default();
        if queue.halted {
            return Err(ErrorKind::Halted);
        }
        if kept >= MOST {
            return Err(ErrorKind::Backpressure);
        }
        self.numbers += 1;
        self.order += 1;
        queue.chain.push((self.numbers, true));
        let entry = Entry { number: self.numbers, size, deadline, order: self.order, place: Place::Waiting };
        queue.entries.push(entry);
        let error = match () {
            () if queued >= MOST => ErrorKind::Backpressure,
            () if size > LARGEST => ErrorKind::TooLarge,
            () => return Ok(()),
        };
        let last = queue.entries.len() - 1;
        self.fail(session, last, Outcome::NotApplied);
        self.told.remove(&self.numbers);
        Err(error)
    }

    /// The entry, with all of its run if that is out, failed; what is behind is held back.
    fn fail(&mut self, session: u8, first: usize, outcome: Outcome) {
        let queue = self.queues.get_mut(&session).unwrap();
        queue.halted = true;
        let run = queue.entries[first].place;
        for (i, entry) in queue.entries.iter_mut().enumerate().skip(first) {
            if matches!(entry.place, Place::Kept { .. }) {
                continue;
            }
            let own = i == first || (entry.place == run && matches!(run, Place::Out(_)));
            let outcome = if own { outcome } else { Outcome::NotApplied };
            let fate = if outcome == Outcome::Unknown { Fate::Unknown } else { Fate::Never };
            let run = if let Place::Out(ticket) = entry.place { Some(ticket) } else { None };
            entry.place = Place::Kept { own, fate, run };
            self.told.insert(entry.number, Err((own, outcome)));
        }
    }

    fn answer(&mut self, ticket: Ticket, how: How) {
        let outcome = match how {
            How::Ok => None,
            How::Refused => Some(Outcome::NotApplied),
            How::Unknown => Some(Outcome::Unknown),
        };
        let sessions = self.queues.keys().copied().collect::<Vec<_>>();
        for session in sessions {
            let queue = self.queues.get_mut(&session).unwrap();
            if let Some(first) = queue.entries.iter().position(|e| e.place == Place::Out(ticket)) {
                if let Some(outcome) = outcome {
                    return self.fail(session, first, outcome);
                }
                for entry in queue.entries.extract_if(.., |e| e.place == Place::Out(ticket)) {
                    assert!(queue.confirmed < entry.number, "order among ok's");
                    queue.confirmed = entry.number;
                    self.told.insert(entry.number, Ok(()));
                }
                return;
            }
            for entry in &mut queue.entries {
                if let Place::Kept { fate, run, .. } = &mut entry.place
                    && *run == Some(ticket)
                    && *fate == Fate::Unknown
                {
                    *fate = match how {
                        How::Ok => Fate::Landed,
                        How::Refused => Fate::Never,
                        How::Unknown => Fate::Unknown,
                    };
                }
            }
        }
    }

    fn tick(&mut self, now: Moment) {
        loop {
            let due = self.queues.iter().flat_map(|(s, q)| q.entries.iter().enumerate().map(move |(i, e)| (*s, i, e)));
            let due = due.filter(|(_, _, e)| !matches!(e.place, Place::Kept { .. }) && e.deadline <= now);
            let Some((session, i, entry)) = due.min_by_key(|(_, _, e)| (e.deadline, e.order)) else { return };
            match entry.place {
                Place::Out(ticket) => {
                    let first = self.queues[&session].entries.iter().position(|e| e.place == Place::Out(ticket));
                    self.fail(session, first.unwrap(), Outcome::Unknown);
                }
                _ => self.fail(session, i, Outcome::NotApplied),
            }
        }
    }

    fn resume(&mut self, session: u8, how: Resume, deadline: Moment) -> usize {
        let Some(queue) = self.queues.get_mut(&session).filter(|q| q.halted) else { return 0 };
        queue.halted = false;
        let mut again = 0;
        let mut left = Vec::new();
        for mut entry in std::mem::take(&mut queue.entries) {
            let Place::Kept { own, fate, .. } = entry.place else {
                left.push(entry);
                continue;
            };
            let given_up = how == Resume::Discard || (how == Resume::Skip && own);
            if fate == Fate::Landed {
                queue.confirmed = queue.confirmed.max(entry.number);
            } else if given_up {
                queue.chain.iter_mut().find(|(n, _)| *n == entry.number).unwrap().1 = false;
            } else {
                again += 1;
                self.order += 1;
                (entry.place, entry.deadline, entry.order) = (Place::Waiting, deadline, self.order);
                left.push(entry);
            }
        }
        let large = left.iter().position(|e| e.size > LARGEST);
        queue.entries = left;
        if let Some(large) = large {
            self.fail(session, large, Outcome::NotApplied);
        }
        again
    }

    /// A session's run is the next one it may hand out.
    fn hand(&mut self, session: u8, run: &Run, max_run: usize) {
        let queue = self.queues.get_mut(&session).unwrap();
        assert!(!queue.entries.iter().any(|e| matches!(e.place, Place::Out(_))), "two runs out");
        let mut bytes = 0;
        let waiting = queue.entries.iter_mut().take_while(|e| e.place == Place::Waiting).take(max_run);
        let expected = waiting.take_while(|e| {
            bytes += e.size;
            bytes <= LARGEST
        });
        let mut numbers = Vec::new();
        for entry in expected {
            entry.place = Place::Out(run.ticket);
            numbers.push(entry.number);
        }
        let stamps = run.messages.iter().map(|c| c.stamp().unwrap()).collect::<Vec<_>>();
        assert_eq!(stamps.iter().map(|s| s.number).collect::<Vec<_>>(), numbers);
        for stamp in stamps {
            let before = queue.chain.iter().rev().skip_while(|(n, _)| *n != stamp.number).skip(1);
            let prev = before.clone().find(|(_, kept)| *kept).map_or(0, |(n, _)| *n);
            let skipped = before.take_while(|(n, _)| *n != prev).count() > 0;
            assert_eq!((stamp.prev, stamp.skipped), (prev, skipped), "message {}", stamp.number);
        }
    }

    fn may_hand(&self) -> Vec<u8> {
        let ready = self.queues.iter().filter(|(_, q)| q.entries.first().is_some_and(|e| e.place == Place::Waiting));
        ready.map(|(s, _)| *s).collect()
    }
}

fn session(n: u8) -> SessionId {
    id(&n.to_string())
}

fn check(pipeline: &mut Pipeline, model: &mut Model, numbers: &HashMap<SendId, u64>) {
    let mut told = Told::new();
    for (send, result) in outcomes(pipeline) {
        let number = numbers[&send];
        let shown = match result {
            Ok(receipt) => {
                assert_eq!(receipt.number, number);
                Ok(())
            }
            Err(error) => Err((error.kind() != ErrorKind::Halted, error.outcome())),
        };
        // A message sent again may fail again in the same step: its last word counts, as in the model.
        told.insert(number, shown);
    }
    assert_eq!(told, std::mem::take(&mut model.told));
    assert_eq!(pipeline.pending(), model.count(false));
    assert_eq!(pipeline.kept_messages(), model.count(true));
    for (n, queue) in &model.queues {
        let kept = pipeline.halted_messages(&session(*n)).into_iter().map(|m| (m.number, m.fate));
        let expected = queue.entries.iter().filter_map(|e| match e.place {
            Place::Kept { fate, .. } => Some((e.number, fate)),
            _ => None,
        });
        assert_eq!(kept.collect::<Vec<_>>(), expected.collect::<Vec<_>>());
        assert_eq!(pipeline.unsettled(&session(*n)).is_some(), queue.halted);
    }
}

fn run(steps: Vec<Step>, max_run: usize) {
    let mut pipeline = pipeline(|o| (o.max_queued, o.max_message, o.max_run) = (MOST, LARGEST, max_run));
    let mut model = Model::default();
    let mut now = at(0);
    let mut numbers = HashMap::new();
    // Tickets that may still be answered, once each.
    let mut out: Vec<Ticket> = Vec::new();
    for step in steps {
        match step {
            Step::Send { session: s, size, limit } => {
                let deadline = now + Duration::from_secs(limit);
                let content = Content::new("x".repeat(size));
                let sent = pipeline.enqueue(now, session(s), content, deadline);
                let expected = model.send(s, size, deadline);
                assert_eq!(sent.as_ref().map(|_| ()).map_err(SendError::kind), expected);
                if let Ok(send) = sent {
                    numbers.insert(send, model.numbers);
                }
            }
            Step::Hand => {
                let mut ready = model.may_hand();
                ready.retain(|s| !model.queues[s].entries.iter().any(|e| matches!(e.place, Place::Out(_))));
                let mut handed = Vec::new();
                for run in runs(&mut pipeline) {
                    let s = run.session.to_string().parse().unwrap();
                    model.hand(s, &run, max_run);
                    out.push(run.ticket);
                    handed.push(s);
                }
                handed.sort_unstable();
                assert_eq!(handed, ready);
            }
            Step::Answer { which, how } if !out.is_empty() => {
                let ticket = out.swap_remove(which % out.len());
                pipeline.on_sent(
                    now,
                    match how {
                        How::Ok => ok(ticket, 1),
                        How::Refused => refused(ticket),
                        How::Unknown => unknown(ticket),
                    },
                );
                model.answer(ticket, how);
            }
            Step::Answer { .. } => {}
            Step::Wait(seconds) => {
                now = now + Duration::from_secs(seconds);
                pipeline.tick(now);
                model.tick(now);
            }
            Step::Resume { session: s, how } => {
                let deadline = now + Duration::from_secs(30);
                let kept = pipeline.halted_messages(&session(s));
                let again = pipeline.resume(now, &session(s), how, deadline);
                assert_eq!(again.len(), model.resume(s, how, deadline));
                let sent = kept.into_iter().filter(|m| {
                    let given_up = match how {
                        Resume::Resend => false,
                        Resume::Skip => m.kind != ErrorKind::Halted,
                        Resume::Discard => true,
                    };
                    m.fate != Fate::Landed && !given_up
                });
                numbers.extend(again.into_iter().zip(sent.map(|m| m.number)));
            }
        }
        check(&mut pipeline, &mut model, &numbers);
    }
    // Nothing hangs: in the end everything has an outcome.
    pipeline.tick(now + Duration::from_secs(100));
    model.tick(now + Duration::from_secs(100));
    check(&mut pipeline, &mut model, &numbers);
    assert_eq!(pipeline.pending(), 0);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn does_what_the_model_does(steps in prop::collection::vec(step(), 1..150), max_run in 1..4usize) {
        run(steps, max_run);
    }
}
