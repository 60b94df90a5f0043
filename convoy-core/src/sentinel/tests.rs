//! What a sentinel makes of starts, as an engine tells them.

use std::sync::Arc;

use parking_lot::Mutex;

use super::{DeviationKind, Sentinel, SentinelCounts, SentinelOptions};
use crate::backend::{Answer, Grant, Place};
use crate::engine::{EndKind, Note};
use crate::message::{Content, ProducerId, Stamp};
use crate::observe::{Observed, Observer};
use crate::position::Position;
use crate::session::SessionId;
use crate::time::Moment;

/// A sentinel, and who tells it.
struct Watched {
    sentinel: Sentinel,
    told: Arc<Mutex<Vec<String>>>,
    position: u64,
    right: u64,
}

impl Watched {
    fn with(options: SentinelOptions) -> Self {
        let told = Arc::<Mutex<Vec<String>>>::default();
        let tell = Arc::clone(&told);
        let options = options.on_deviation(move |of| {
            let kind = format!("{:?}", of.kind).to_lowercase();
            tell.lock().push(format!("{kind} {} after {} in {}", of.number, of.last, of.session));
        });
        Self { sentinel: Sentinel::with(options), told, position: 0, right: 1 }
    }

    fn one_of_many() -> Self {
        Self::with(SentinelOptions::new())
    }

    fn of_all() -> Self {
        Self::with(SentinelOptions::new().whole_group())
    }

    fn grant(&self) -> Grant {
        Grant::new(self.right, &Place::Lane(0))
    }

    fn on(&self, note: &Note) {
        self.sentinel.on(&Observed::new(Moment::ORIGIN, "orders", "billing", note));
    }

    /// A message of producer 1 starts in session `s`: its number, and the one before it.
    fn start(&mut self, number: u64, prev: u64) -> &mut Self {
        self.start_of("s", stamp(1, number, prev, false))
    }

    fn start_of(&mut self, session: &str, stamp: Stamp) -> &mut Self {
        self.position += 1;
        self.start_again(session, stamp)
    }

    fn start_again(&mut self, session: &str, stamp: Stamp) -> &mut Self {
        let mut content = Content::new("body");
        content.set_stamp(stamp);
        self.start_content(session, content)
    }

    fn start_content(&mut self, session: &str, content: Content) -> &mut Self {
        self.on(&Note::Started {
            grant: self.grant(),
            session: SessionId::new(session.to_owned()).unwrap(),
            position: Position::new(self.position),
            content: Arc::new(content),
            attempt: 1,
            checked_at: Moment::ORIGIN,
            deadline: Moment::NEVER,
        });
        self
    }

    /// What started last in session `s` ends so.
    fn end(&mut self, how: EndKind) -> &mut Self {
        self.on(&Note::Ended {
            grant: self.grant(),
            session: SessionId::new("s").unwrap(),
            position: Position::new(self.position),
            attempt: 1,
            how,
            counted: true,
        });
        self
    }

    fn aside(&mut self, number: u64, prev: u64, answer: Answer) -> &mut Self {
        let mut content = Content::new("body");
        content.set_stamp(stamp(1, number, prev, false));
        let session = SessionId::new("s").unwrap();
        let (grant, position, content) = (self.grant(), Position::new(self.position), Arc::new(content));
        self.on(&Note::SetAside { grant, session, position, content, answer });
        self
    }

    /// Session and place are under another right from now on.
    fn another_right(&mut self) -> &mut Self {
        self.right += 1;
        self
    }

    /// A consumer gets its first right, under the number that each has for it.
    fn another_consumer(&mut self) -> &mut Self {
        self.right = 1;
        self.on(&Note::Granted { grant: self.grant(), place: Place::Lane(0) });
        self
    }

    fn counts(&self) -> SentinelCounts {
        self.sentinel.counts()
    }

    fn told(&self) -> Vec<String> {
        std::mem::take(&mut self.told.lock())
    }
}

fn stamp(producer: u128, number: u64, prev: u64, skipped: bool) -> Stamp {
    Stamp { producer: ProducerId::from_u128(producer), number, prev, skipped }
}

#[test]
fn what_is_in_order_is_only_seen() {
    let mut w = Watched::of_all();
    w.start(1, 0).start(4, 1).start(5, 4).another_right().start(9, 5);
    assert_eq!(w.counts(), SentinelCounts { seen: 4, sessions: 1, ..Default::default() });
    assert!(w.counts().is_in_order() && w.told().is_empty());
}

#[test]
fn a_gap_and_what_fills_it_behind_is_an_inversion() {
    let mut w = Watched::one_of_many();
    w.start(1, 0).start(7, 5);
    assert_eq!(w.told(), ["gap 7 after 1 in s"]);
    w.start(5, 3);
    assert_eq!(w.told(), ["inversion 5 after 7 in s"]);
    w.start(3, 1).start(3, 1).start(8, 7);
    assert_eq!(w.told(), ["inversion 3 after 7 in s", "repeat 3 after 7 in s"]);
    let counts = w.counts();
    assert_eq!((counts.seen, counts.gaps, counts.inversions, counts.repeats), (6, 1, 2, 1));
    assert!(!counts.is_in_order());
}

#[test]
fn neighbours_that_changed_places_are_a_gap_and_an_inversion_also_at_the_beginning() {
    let mut w = Watched::of_all();
    w.start(2, 1).start(1, 0).start(3, 2);
    assert_eq!(w.told(), ["inversion 1 after 2 in s"]);
    assert_eq!((w.counts().joined, w.counts().gaps), (1, 0), "what is before the first may be before its time");
    let mut w = Watched::of_all();
    w.start(1, 0).start(3, 2).start(2, 1).start(4, 3);
    assert_eq!(w.told(), ["gap 3 after 1 in s", "inversion 2 after 3 in s"]);
}

#[test]
fn another_consumer_may_have_handled_what_is_between_two_rights() {
    let mut w = Watched::one_of_many();
    w.start(1, 0).another_right().start(6, 5).start(7, 6);
    assert_eq!((w.counts().moved, w.counts().gaps, w.told().len()), (1, 0, 0));
    w.start(9, 8);
    assert_eq!(w.told(), ["gap 9 after 7 in s"], "nobody else can under this one");
    let mut w = Watched::of_all();
    w.start(1, 0).another_right().start(6, 5);
    assert_eq!(w.told(), ["gap 6 after 1 in s"], "here there is nobody else");
}

#[test]
fn the_next_consumer_of_a_process_numbers_its_rights_anew_and_they_are_others() {
    let mut w = Watched::one_of_many();
    w.another_consumer().start(1, 0).start(2, 1);
    w.another_consumer().start(6, 5).start(7, 6);
    assert_eq!((w.counts().moved, w.counts().gaps), (1, 0), "somebody else had it between the two");
    w.start(9, 8);
    assert_eq!(w.told(), ["gap 9 after 7 in s"]);
}

#[test]
fn a_start_after_a_bad_end_is_no_repeat_and_one_after_a_good_end_is() {
    for how in [EndKind::Failed, EndKind::Panicked, EndKind::Cancelled, EndKind::Returned] {
        let mut w = Watched::of_all();
        w.start(1, 0).end(how).start_again("s", stamp(1, 1, 0, false)).end(EndKind::Done).start(2, 1);
        assert_eq!(w.counts(), SentinelCounts { seen: 3, sessions: 1, ..Default::default() }, "{how:?}");
    }
    let mut w = Watched::of_all();
    w.start(1, 0).start(2, 1).start(3, 2).end(EndKind::Cancelled);
    // 2 was done and comes again all the same; 3 had not been done.
    w.another_right().start(2, 1).end(EndKind::Failed).start_again("s", stamp(1, 2, 1, false)).start(3, 2).start(4, 3);
    assert_eq!(w.told(), ["repeat 2 after 3 in s"]);
    w.start(4, 3);
    assert_eq!(w.told(), ["repeat 4 after 4 in s"]);
}

#[test]
fn the_end_of_an_older_run_says_nothing_of_a_newer_one() {
    let mut w = Watched::of_all();
    w.start(1, 0).another_right().start_again("s", stamp(1, 1, 0, false));
    assert_eq!(w.counts().repeats, 1);
    w.right -= 1;
    w.end(EndKind::Cancelled);
    w.right += 1;
    w.start_again("s", stamp(1, 1, 0, false));
    assert_eq!(w.counts().repeats, 2);
}

#[test]
fn a_declared_skip_is_no_gap_and_what_comes_of_it_is_late() {
    let mut w = Watched::of_all();
    w.start(1, 0).start_of("s", stamp(1, 4, 1, true)).start(5, 4);
    assert_eq!(w.told(), ["skip 4 after 1 in s"]);
    w.start(2, 1);
    assert_eq!(w.told(), ["late 2 after 5 in s"]);
    // Given up, and there before the next one all the same; and the first of a session given up.
    w.start(6, 5)
        .start_of("s", stamp(1, 7, 5, true))
        .start_of("t", stamp(1, 9, 0, true))
        .start_of("t", stamp(1, 8, 0, false));
    assert_eq!(w.told(), ["skip 7 after 6 in s", "skip 9 after 0 in t", "late 8 after 9 in t"]);
    let counts = w.counts();
    assert_eq!((counts.skips, counts.late, counts.repeats, counts.is_in_order()), (3, 2, 0, true));
    // A gap and a skip at once.
    w.start_of("s", stamp(1, 20, 12, true));
    assert_eq!(w.told(), ["gap 20 after 7 in s", "skip 20 after 7 in s"]);
}

#[test]
fn what_no_counter_does_is_a_stray_and_changes_nothing() {
    let mut w = Watched::of_all();
    w.start(1, 0).start(2, 1).start(1_000_002, 1).end(EndKind::Failed).start_again("s", stamp(1, 1_000_002, 1, false));
    w.start(3, 2);
    assert_eq!(w.told(), ["stray 1000002 after 2 in s"]);
    // Nor does what cannot be.
    w.start(u64::MAX, u64::MAX).start(u64::MAX, 0).start_of("t", stamp(1, 0, u64::MAX, true));
    w.start_of("t", stamp(1, u64::MAX, u64::MAX, true)).start_of("t", stamp(1, 0, 0, true));
    assert_eq!(w.counts().seen, 10);
}

#[test]
fn a_message_that_is_set_aside_unstarted_is_not_missing() {
    for answer in [Answer::Ok, Answer::Unknown] {
        let mut w = Watched::of_all();
        w.start(1, 0).aside(2, 1, answer).aside(2, 1, Answer::Ok).start(3, 2);
        assert_eq!((w.told().len(), w.counts().seen), (0, 2));
    }
    let mut w = Watched::of_all();
    w.start(1, 0).aside(2, 1, Answer::Refused).start(3, 2);
    assert_eq!(w.told(), ["gap 3 after 1 in s"], "a copy that was not taken is none");
    let mut w = Watched::of_all();
    w.aside(1, 0, Answer::Ok).start(3, 2);
    assert_eq!(w.told(), ["gap 3 after 1 in s"]);
    let mut w = Watched::of_all();
    w.start(1, 0).end(EndKind::Failed).aside(1, 0, Answer::Ok).start(2, 1);
    assert!(w.told().is_empty(), "one that had started is nothing new");
}

#[test]
fn producers_of_a_session_are_watched_each_by_itself() {
    let mut w = Watched::of_all();
    for number in 1..=3 {
        for producer in 1..=4 {
            w.start_of("s", stamp(producer, number, number - 1, false));
        }
    }
    assert_eq!(w.counts(), SentinelCounts { seen: 12, sessions: 1, ..Default::default() });
    w.start_of("s", stamp(2, 6, 5, false));
    assert_eq!(w.told(), ["gap 6 after 3 in s"]);
    for producer in 10..20 {
        w.start_of("s", stamp(producer, 1, 0, false));
    }
    assert_eq!(w.counts().forgotten, 6, "of fourteen producers eight are remembered");
    w.start_of("s", stamp(1, 4, 3, false));
    assert_eq!((w.counts().joined, w.told().len()), (1, 0), "one that was forgotten is taken up where it is");
}

#[test]
fn the_least_recently_used_sessions_are_forgotten_and_that_is_said() {
    let mut w = Watched::with(SentinelOptions::new().sessions(3).whole_group());
    let start = |w: &mut Watched, session: &str, number: u64| {
        w.start_of(session, stamp(1, number, number - 1, false));
    };
    for session in ["a", "b", "c"] {
        start(&mut w, session, 1);
    }
    start(&mut w, "a", 2);
    start(&mut w, "d", 1);
    assert_eq!((w.counts().forgotten, w.counts().sessions), (1, 3));
    start(&mut w, "a", 3);
    start(&mut w, "c", 2);
    assert_eq!(w.counts().joined, 0, "a and c are remembered");
    start(&mut w, "b", 2);
    assert_eq!((w.counts().joined, w.counts().forgotten), (1, 2), "b was not, and d is not any more");
    start(&mut w, "d", 2);
    assert_eq!((w.counts().joined, w.counts().forgotten), (2, 3));
    assert!(w.told().is_empty(), "what is forgotten makes no deviation");
    for number in 0..100_000 {
        start(&mut w, &format!("session {number}"), 1);
    }
    assert_eq!((w.counts().sessions, w.counts().forgotten), (3, 100_003));
}

#[test]
fn foreign_messages_and_those_without_a_session_are_not_judged() {
    let mut w = Watched::of_all();
    w.start(1, 0).start_content("s", Content::new("foreign")).start(2, 1);
    let mut content = Content::new("lone");
    content.set_stamp(stamp(1, 9, 4, false));
    w.on(&Note::Started {
        grant: w.grant(),
        session: SessionId::lone(0, 9),
        position: Position::new(9),
        content: Arc::new(content),
        attempt: 1,
        checked_at: Moment::ORIGIN,
        deadline: Moment::NEVER,
    });
    assert_eq!(w.counts(), SentinelCounts { seen: 2, unnumbered: 1, sessions: 1, ..Default::default() });
}

#[test]
fn many_threads_count_together() {
    let sentinel = Sentinel::with(SentinelOptions::new().whole_group().on_deviation(|of| {
        assert_eq!(of.kind, DeviationKind::Gap);
    }));
    std::thread::scope(|scope| {
        for thread in 0..4_u64 {
            let sentinel = sentinel.clone();
            scope.spawn(move || {
                let mut w = Watched { sentinel, told: Arc::default(), position: 0, right: thread };
                for number in 1..=1_000 {
                    for session in 0..10 {
                        // Every hundredth is missing.
                        if number % 100 != 0 {
                            w.start_of(&format!("{thread} {session}"), stamp(1, number, number - 1, false));
                        }
                    }
                }
            });
        }
    });
    let counts = sentinel.counts();
    assert_eq!((counts.seen, counts.gaps, counts.sessions), (4 * 9_900, 4 * 9 * 10, 40));
}

#[test]
fn against_sets_that_forget_nothing() {
    // One producer, a dozen messages, any starts of them under any rights: gaps, inversions and repeats are those of plain sets.
    let mut random = 0x9e37_79b9_7f4a_7c15_u64;
    let mut draw = |most: u64| {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        random % most
    };
    for _ in 0..5_000 {
        let mut w = Watched::of_all();
        let mut started = Vec::new();
        let (mut gaps, mut inversions, mut repeats) = (0, 0, 0);
        let mut next = 1;
        for _ in 0..30 {
            // Mostly the next one; now and then one too many is left out, or one of before.
            let number = match draw(10) {
                0 => next + 1,
                1 | 2 if next > 1 => 1 + draw(next),
                _ => next,
            };
            let top = started.iter().max().copied().unwrap_or(0);
            // More than sixteen holes are not remembered; so many are not made here.
            if number > top {
                gaps += u64::from(number > top + 1 && top > 0);
                next = number + 1;
            } else if started.contains(&number) {
                repeats += 1;
            } else {
                inversions += 1;
            }
            started.push(number);
            if draw(3) == 0 {
                w.another_right();
            }
            w.start(number, number - 1);
        }
        let counts = w.counts();
        let sets = (gaps, inversions, repeats);
        assert_eq!((counts.gaps, counts.inversions, counts.repeats), sets, "{started:?}");
    }
}
