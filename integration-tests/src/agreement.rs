//! Whether a sentinel counted what happened: its counts beside those of the history, where nothing is forgotten, and beside what the
//! [`checker`](crate::checker) found.
//!
//! The sentinel goes by what messages say of each other and remembers a few numbers a session. Here it is known what was sent and how that ended, and every start is kept in a
//! set. Both must come to the same. Repeats are counted within bounds: a sentinel takes a run for well ended until it is told otherwise.

use std::collections::{BTreeMap, HashMap};
use std::fmt;

use convoy_core::SentinelCounts;

use crate::checker::{Fatal, Reported, Verdict};
use crate::history::{Answer, Ended, Event, Message, What};

/// What a sentinel that watched a whole group must have counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Expected {
    /// Starts of numbered messages.
    pub seen: u64,
    /// First starts past a message that was sent well and had not started.
    pub gaps: u64,
    /// First starts behind a later message, of what was sent well.
    pub inversions: u64,
    /// The same of what its sender had given up.
    pub late: u64,
    /// First starts of messages that nobody sent.
    pub strays: u64,
    /// First starts behind messages that their sender gave up.
    pub skips: u64,
    /// Starts after a run that ended well.
    pub least_repeats: u64,
    /// Starts of messages that had started before, but for retries in place.
    pub most_repeats: u64,
}

/// The names of the checker that a sentinel sees something of: what is missing in a session, or out of order.
pub const ORDER: &[Fatal] =
    &[Fatal::Phantom, Fatal::Misroute, Fatal::ProducerReorder, Fatal::ReorderFirst, Fatal::Skip, Fatal::Lost];

/// What is said against a sentinel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Disagreement(String);

impl fmt::Display for Disagreement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Disagreement {}

/// Compares the counts of the sentinel of each group with the history and with its verdict.
///
/// # Errors
/// Which count is another one than it must be, or that the checker found nothing where a sentinel counts something.
pub fn agree(events: &[Event], verdict: &Verdict, sentinels: &[(u32, SentinelCounts)]) -> Result<(), Disagreement> {
    let of_groups = expected(events);
    let (mut in_order, mut repeats) = (true, 0);
    for (group, counts) in sentinels {
        let expected = of_groups.get(group).copied().unwrap_or_default();
        for (name, counted, expected) in [
            ("starts", counts.seen, expected.seen),
            ("gaps", counts.gaps, expected.gaps),
            ("inversions", counts.inversions, expected.inversions),
            ("late messages", counts.late, expected.late),
            ("strays", counts.strays, expected.strays),
            ("skips", counts.skips, expected.skips),
            ("repeats", counts.repeats, counts.repeats.clamp(expected.least_repeats, expected.most_repeats)),
        ] {
            if counted != expected {
                let why = format!(
                    "the sentinel of group {group} counted {counted} {name}, and there were {expected}: {counts:?}"
                );
                return Err(Disagreement(why));
            }
        }
        in_order &= counts.is_in_order();
        repeats += counts.repeats;
    }
    let found: Vec<_> = ORDER.iter().filter(|name| verdict.found(**name) > 0).map(|name| name.name()).collect();
    if !in_order && found.is_empty() {
        return Err(Disagreement(format!("the sentinel counts what the checker does not find: {sentinels:?}")));
    }
    if verdict.count(Reported::Duplicate) > repeats {
        let duplicates = verdict.count(Reported::Duplicate);
        return Err(Disagreement(format!(
            "the checker counts {duplicates} duplicates, the sentinel {repeats} repeats"
        )));
    }
    Ok(())
}

/// What the sentinel of each group must have counted in this history.
pub fn expected(events: &[Event]) -> BTreeMap<u32, Expected> {
    let sent = Sent::of(events);
    let mut groups: BTreeMap<u32, Expected> = BTreeMap::new();
    let mut lines: HashMap<(u32, u64, u32), Line> = HashMap::new();
    for event in events {
        let (What::Start { session, message, .. }
        | What::End { session, message, .. }
        | What::Copied { session, message, answer: Answer::Ok | Answer::Unknown, .. }) = event.what
        else {
            continue;
        };
        // A message of a foreign producer has no name.
        if message == Message::default() {
            continue;
        }
        let line = lines.entry((event.group, session, message.producer)).or_default();
        let counts = groups.entry(event.group).or_default();
        match event.what {
            What::Start { attempt, .. } => {
                counts.seen += 1;
                match line.runs.get_mut(&message.pseq) {
                    Some(done) => {
                        counts.least_repeats += u64::from(std::mem::take(done));
                        counts.most_repeats += u64::from(attempt == 1);
                    }
                    None => line.first(&sent, session, message, counts),
                }
            }
            What::End { how, .. } => {
                if let Some(done) = line.runs.get_mut(&message.pseq) {
                    *done = how == Ended::Ok;
                }
            }
            // Set aside without a start it is out of the way as well.
            _ => {
                if message.pseq > line.top {
                    line.first(&sent, session, message, counts);
                }
                line.runs.entry(message.pseq).or_default();
            }
        }
    }
    groups
}

/// What was started of a producer in a session of a group.
#[derive(Debug, Default)]
struct Line {
    /// Whether the last run of each message ended well.
    runs: HashMap<u64, bool>,
    /// The greatest number.
    top: u64,
}

impl Line {
    fn first(&mut self, sent: &Sent, session: u64, message: Message, counts: &mut Expected) {
        let number = message.pseq;
        let of_session = sent.0.get(&(session, message.producer));
        let Some(known) = of_session.and_then(|of_session| of_session.get(&number)) else {
            // What nobody sent here follows nothing. Where it is the first, there is nothing to compare it with.
            if self.top == 0 {
                self.top = number;
            } else if number > self.top {
                counts.strays += 1;
            }
            self.runs.insert(number, false);
            return;
        };
        if number < self.top {
            let count = if known.well { &mut counts.inversions } else { &mut counts.late };
            *count += 1;
        } else {
            let between = |from: u64| of_session.into_iter().flat_map(move |of| of.range(from + 1..number));
            let missing = between(self.top).any(|(other, sent)| sent.well && !self.runs.contains_key(other));
            counts.gaps += u64::from(self.top > 0 && missing);
            counts.skips += u64::from(between(known.prev).any(|(_, sent)| !sent.well));
            self.top = number;
        }
        self.runs.insert(number, false);
    }
}

/// What was sent in each session by each producer, by its numbers.
struct Sent(HashMap<(u64, u32), BTreeMap<u64, One>>);

#[derive(Debug)]
struct One {
    /// The number that it says is before it.
    prev: u64,
    /// Whether it was not given up: nothing is known against it.
    well: bool,
}

impl Sent {
    fn of(events: &[Event]) -> Self {
        let mut sent: HashMap<(u64, u32), BTreeMap<u64, One>> = HashMap::new();
        for event in events {
            match event.what {
                What::SendReq { session, message, prev, .. } => {
                    let of_session = sent.entry((session, message.producer)).or_default();
                    of_session.insert(message.pseq, One { prev, well: true });
                }
                What::Send { session, message, outcome, .. } => {
                    let of_session = sent.entry((session, message.producer)).or_default();
                    let one = of_session.entry(message.pseq).or_insert(One { prev: 0, well: true });
                    one.well = outcome == Answer::Ok;
                }
                _ => {}
            }
        }
        Self(sent)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checker::{Checker, Options};
    use crate::history::{GrantId, Position};

    /// Sends numbers 1 to `sent` to one session, of which some end so, and starts these.
    fn history(sent: u64, ends: &[(u64, Answer)], starts: &[u64]) -> Vec<Event> {
        let grant = GrantId { consumer: 1, n: 1 };
        let message = |pseq| Message { producer: 1, pseq };
        let mut events = vec![What::GroupStart];
        let mut prev = 0;
        for number in 1..=sent {
            let outcome = ends.iter().find(|(n, _)| *n == number).map_or(Answer::Ok, |(_, answer)| *answer);
            events.push(What::SendReq { session: 7, message: message(number), prev, hash: number });
            events.push(What::Send { session: 7, message: message(number), outcome, position: None });
            if outcome == Answer::Ok {
                prev = number;
            } else {
                events.push(What::Resume { session: 7, producer: 1 });
            }
        }
        for (at, number) in starts.iter().enumerate() {
            let position = Some(Position { generation: 0, value: at as u64 });
            let (session, message) = (7, message(*number));
            let (attempt, checked_at, deadline, blocking) = (1, 0, u64::MAX, false);
            events.push(What::Deliver { session, message, grant, hash: *number, position, malformed: false });
            events.push(What::Start { session, message, grant, attempt, checked_at, deadline, position, blocking });
            events.push(What::End { session, message, grant, how: Ended::Ok });
        }
        let event = |(at, what)| Event { time: at as u64, process: 1, number: at as u64, group: 1, what };
        events.into_iter().enumerate().map(event).collect()
    }

    fn counted(events: &[Event]) -> Expected {
        expected(events).get(&1).copied().unwrap_or_default()
    }

    #[test]
    fn a_history_says_what_is_missing_and_what_is_out_of_order() {
        let all = |seen| Expected { seen, ..Expected::default() };
        assert_eq!(counted(&history(4, &[], &[1, 2, 3, 4])), all(4));
        assert_eq!(counted(&history(4, &[], &[1, 3, 4])), Expected { gaps: 1, ..all(3) });
        assert_eq!(counted(&history(4, &[], &[1, 3, 2, 4])), Expected { gaps: 1, inversions: 1, ..all(4) });
        assert_eq!(counted(&history(4, &[], &[2, 3])), all(2), "the first may be before its time");
        assert_eq!(counted(&history(4, &[], &[2, 1])), Expected { inversions: 1, ..all(2) });
        assert_eq!(counted(&history(2, &[], &[1, 2, 9, 10])), Expected { strays: 2, ..all(4) });
        let repeats = Expected { least_repeats: 2, most_repeats: 2, ..all(5) };
        assert_eq!(counted(&history(3, &[], &[1, 2, 1, 2, 3])), repeats);
    }

    #[test]
    fn what_was_given_up_is_a_skip_and_may_be_late() {
        let refused = [(2, Answer::Refused), (3, Answer::Unknown)];
        let skip = Expected { seen: 2, skips: 1, ..Expected::default() };
        assert_eq!(counted(&history(4, &refused, &[1, 4])), skip);
        assert_eq!(counted(&history(4, &refused, &[1, 4, 3])), Expected { seen: 3, late: 1, ..skip });
        // It came before the next one all the same, and both say that something was given up.
        assert_eq!(counted(&history(4, &refused, &[1, 3, 4])), Expected { seen: 3, skips: 2, ..skip });
    }

    #[test]
    fn a_count_that_is_another_one_is_told() {
        let events = history(4, &[], &[1, 3, 4]);
        let mut checker = Checker::new(Options::total());
        events.iter().for_each(|event| checker.push(event));
        let verdict = checker.finish();
        assert!(verdict.found(Fatal::Lost) > 0, "{verdict}");
        let mut counts = SentinelCounts::default();
        (counts.seen, counts.gaps) = (3, 1);
        assert_eq!(agree(&events, &verdict, &[(1, counts)]), Ok(()));
        counts.gaps = 0;
        let missed = agree(&events, &verdict, &[(1, counts)]).unwrap_err().to_string();
        assert!(missed.contains("counted 0 gaps, and there were 1"), "{missed}");
        // Where nothing is missing the checker has nothing to say, and a sentinel that counts all the same is wrong.
        let events = history(2, &[], &[1, 2]);
        (counts.seen, counts.gaps) = (2, 1);
        let mut checker = Checker::new(Options::total());
        events.iter().for_each(|event| checker.push(event));
        let verdict = checker.finish();
        assert!(agree(&events, &verdict, &[(1, counts)]).is_err());
    }
}
