//! Watermarks, what is done above them, when the broker is told, and what follows from its answers.

use super::*;
use crate::backend::SettleStyle;

fn open(most: u32) -> World {
    World::new(config(), Limits { settle: SettleStyle::Open { most }, ..Limits::lanes() })
}

#[test]
fn a_quiet_lane_is_settled_at_once() {
    let mut w = World::lanes();
    let lane = w.lane(0);
    w.deliver_all(lane, &[("a", 0), ("b", 1)]);
    w.starts();
    w.done("a@0");
    assert_eq!(w.commands(), NOTHING, "there is more to come");
    w.done("b@1");
    assert_eq!(w.commands(), ["settle 1 2/2"]);
    w.answer(Answer::Ok);
    assert_eq!((w.engine.counts().sessions, w.commands()), (0, vec![]));
}

#[test]
fn a_lane_that_is_quiet_again_and_again_is_settled_now_and_then() {
    let mut w = World::lanes();
    let lane = w.lane(0);
    for position in 0..3 {
        w.deliver(lane, "a", position);
        w.handle_all();
        if position == 0 {
            assert_eq!(w.commands(), ["settle 1 1/1"]);
            w.answer(Answer::Ok);
        }
        w.advance(10 * MS);
        assert_eq!(w.commands(), NOTHING, "it was settled a moment ago");
    }
    w.advance(20 * MS - Duration::from_nanos(1));
    assert_eq!(w.commands(), NOTHING);
    w.advance(Duration::from_nanos(1));
    assert_eq!(w.commands(), ["settle 1 3/3"], "a fifth of the interval after the last");
    w.answer(Answer::Ok);
    w.advance(50 * MS);
    w.deliver(lane, "a", 3);
    w.handle_all();
    assert_eq!(w.commands(), ["settle 1 4/4"], "at once");
}

#[test]
fn the_watermark_never_passes_a_gap() {
    let mut w = World::lanes();
    let lane = w.lane(0);
    w.deliver_all(lane, &[("a", 0), ("b", 1), ("c", 2), ("d", 5), ("e", 6)]);
    w.starts();
    for run in ["d@5", "b@1", "a@0"] {
        w.done(run);
    }
    w.advance(250 * MS);
    assert_eq!(w.commands(), ["settle 1 2/7 done [5]"], "what is done above is told one by one");
    w.answer(Answer::Ok);
    w.done("e@6");
    w.advance(250 * MS);
    assert_eq!(w.commands(), ["settle 1 2/7 done [6]"], "and once");
    w.answer(Answer::Ok);
    w.done("c@2");
    w.advance(50 * MS);
    assert_eq!(w.commands(), ["settle 1 7/7"], "holes are complete");
}

#[test]
fn what_is_done_above_is_told_ascending() {
    let mut w = World::lanes();
    let lane = w.lane(0);
    w.deliver_all(lane, &[("a", 0), ("b", 1), ("c", 2), ("d", 3)]);
    w.starts();
    for run in ["d@3", "b@1", "c@2"] {
        w.done(run);
    }
    w.advance(250 * MS);
    assert_eq!(w.commands(), ["settle 1 0/4 done [1, 2, 3]"]);
}

#[test]
fn a_lane_is_settled_by_count() {
    let mut w = World::new(config(), Limits { settle_count: 3, ..Limits::lanes() });
    let lane = w.lane(0);
    w.deliver_all(lane, &[("a", 0), ("b", 1), ("c", 2), ("d", 3)]);
    w.starts();
    w.done("a@0");
    w.done("b@1");
    assert_eq!(w.commands(), NOTHING);
    w.done("c@2");
    assert_eq!(w.commands(), ["settle 1 3/4"]);
}

#[test]
fn what_is_done_above_is_told_when_it_is_due_itself() {
    let mut w = World::new(config(), Limits { settle_count: 4, ..Limits::lanes() });
    let lane = w.lane(0);
    w.deliver_all(lane, &[("a", 0), ("b", 1), ("c", 2), ("d", 3), ("e", 4), ("f", 5), ("g", 6)]);
    w.starts();
    for run in ["a@0", "b@1", "d@3", "e@4"] {
        w.done(run);
    }
    assert_eq!(w.commands(), ["settle 1 2/7"], "most of it is below the watermark, and the rest may be soon");
    w.answer(Answer::Ok);
    assert_eq!(w.engine.oldest_untold(w.now), Some(Duration::ZERO));
    w.advance(250 * MS - Duration::from_nanos(1));
    assert_eq!(w.commands(), NOTHING);
    w.advance(Duration::from_nanos(1));
    assert_eq!(w.commands(), ["settle 1 2/7 done [3, 4]"]);
    w.answer(Answer::Ok);
    for run in ["f@5", "g@6"] {
        w.done(run);
    }
    w.advance(100 * MS);
    w.done("c@2");
    w.advance(50 * MS);
    assert_eq!(w.commands(), ["settle 1 7/7"]);
}

#[test]
fn what_is_done_above_is_told_at_once_when_it_is_nearly_all_of_it() {
    let mut w = World::new(config(), Limits { settle_count: 9, ..Limits::lanes() });
    let lane = w.lane(0);
    let names = ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k"];
    w.deliver_all(lane, &names.into_iter().zip(0..).collect::<Vec<_>>());
    w.starts();
    for (name, position) in names.into_iter().zip(0..).filter(|(_, position)| *position != 1 && *position < 10) {
        w.done(&format!("{name}@{position}"));
    }
    assert_eq!(w.commands(), ["settle 1 1/11 done [2, 3, 4, 5, 6, 7, 8, 9]"]);
}

#[test]
fn a_lane_is_settled_by_the_age_of_what_is_not_told() {
    let mut w = World::lanes();
    let lane = w.lane(0);
    w.deliver_all(lane, &[("a", 0), ("b", 1), ("c", 2)]);
    w.starts();
    w.advance(SEC);
    assert_eq!(w.engine.oldest_untold(w.now), None);
    w.done("a@0");
    w.advance(100 * MS);
    w.done("b@1");
    assert_eq!(w.engine.oldest_untold(w.now), Some(100 * MS));
    w.advance(150 * MS - Duration::from_nanos(1));
    assert_eq!(w.commands(), NOTHING);
    w.advance(Duration::from_nanos(1));
    assert_eq!((w.commands(), w.engine.oldest_untold(w.now)), (vec!["settle 1 2/3".to_owned()], None));
}

#[test]
fn one_settlement_is_out_at_a_time() {
    let mut w = World::lanes();
    let lane = w.lane(0);
    w.deliver_all(lane, &[("a", 0), ("b", 1), ("c", 2)]);
    w.starts();
    w.done("a@0");
    w.advance(250 * MS);
    assert_eq!(w.commands(), ["settle 1 1/3"]);
    w.done("b@1");
    w.done("c@2");
    w.advance(SEC);
    assert_eq!(w.commands(), NOTHING, "until the first is answered");
    w.answer(Answer::Ok);
    assert_eq!(w.commands(), ["settle 1 3/3"]);
}

#[test]
fn what_is_settled_again_waits_and_is_told_again() {
    for answer in [Answer::NotApplied, Answer::Unknown] {
        let mut w = World::lanes();
        let lane = w.lane(0);
        w.deliver_all(lane, &[("a", 0), ("b", 1), ("c", 2)]);
        w.starts();
        w.done("b@1");
        w.advance(250 * MS);
        assert_eq!(w.commands(), ["settle 1 0/3 done [1]"]);
        w.answer(answer);
        w.done("c@2");
        w.advance(250 * MS - Duration::from_nanos(1));
        assert_eq!(w.commands(), NOTHING);
        w.advance(Duration::from_nanos(1));
        assert_eq!(w.commands(), ["settle 1 0/3 done [1, 2]"], "a later one covers one whose answer was lost");
        w.answer(Answer::Ok);
        w.done("a@0");
        w.advance(50 * MS);
        assert_eq!(w.commands(), ["settle 1 3/3"]);
        assert_eq!(w.engine.counts().grants, 1);
    }
}

#[test]
fn a_settlement_that_may_be_asked_for_again_is_not_hurried() {
    let mut w = World::new(config(), Limits { settle_interval: Duration::ZERO, ..Limits::lanes() });
    let lane = w.lane(0);
    w.deliver(lane, "a", 0);
    w.handle_all();
    assert_eq!(w.commands(), ["settle 1 1/1"]);
    w.answer(Answer::NotApplied);
    assert_eq!(w.commands(), NOTHING, "a quiet lane waits too");
    w.advance(MS - Duration::from_nanos(1));
    assert_eq!(w.commands(), NOTHING);
    w.advance(Duration::from_nanos(1));
    assert_eq!(w.commands(), ["settle 1 1/1"]);
}

#[test]
fn a_lost_answer_ends_the_grant_where_no_later_one_covers_it() {
    let mut w = World::sessions();
    let grant = w.session("a");
    w.deliver_all(grant, &[("a", 0), ("a", 1)]);
    assert_eq!(w.start().unwrap(), "a@0");
    w.done("a@0");
    assert_eq!(w.start().unwrap(), "a@1");
    w.commands.clear();
    w.answer(Answer::Unknown);
    assert_eq!(w.commands(), ["surrender 1"]);
    assert_eq!(w.notices(), ["cancel a@1 Unknown"]);
}

#[test]
fn a_refused_settlement_ends_the_grant() {
    for mut w in [World::sessions(), World::lanes()] {
        let grant = w.session("a");
        w.deliver_all(grant, &[("a", 0), ("a", 1), ("a", 2)]);
        w.start();
        w.done("a@0");
        w.start();
        w.advance(250 * MS);
        w.commands.clear();
        w.answer(Answer::Refused);
        assert_eq!(w.commands(), NOTHING, "the broker has ended it already");
        assert_eq!(w.notices(), ["cancel a@1 Refused"]);
        assert_eq!((w.engine.counts().grants, w.engine.counts().messages), (0, 0));
    }
}

#[test]
fn message_by_message_one_is_settled_after_the_other() {
    let mut w = World::sessions();
    let grant = w.session("a");
    w.deliver_all(grant, &[("a", 3), ("a", 5), ("a", 9)]);
    for run in ["a@3", "a@5"] {
        assert_eq!(w.start().unwrap(), run);
        w.done(run);
    }
    assert_eq!(w.commands(), ["settle 1 4/10"], "were the next one applied and this one not, there would be a gap");
    assert_eq!(w.start(), None, "two are done that the broker is not known to have");
    w.answer(Answer::Ok);
    assert_eq!(w.commands(), ["settle 1 6/10"]);
    assert_eq!(w.start().unwrap(), "a@9");
    w.done("a@9");
    assert_eq!(w.commands(), NOTHING);
    w.answer(Answer::Ok);
    assert_eq!((w.commands(), w.engine.grants[0].ring.len()), (vec!["settle 1 10/10".to_owned()], 1));
    w.answer(Answer::Ok);
    assert_eq!((w.engine.grants[0].ring.len(), w.engine.counts().sessions), (0, 0));
}

#[test]
fn message_by_message_one_that_was_not_applied_is_asked_for_again_after_a_wait() {
    let mut w = World::sessions();
    let grant = w.session("a");
    w.deliver_all(grant, &[("a", 0), ("a", 1)]);
    w.handle_all();
    w.commands.clear();
    w.answer(Answer::NotApplied);
    assert_eq!(w.commands(), NOTHING, "not at once: the broker may be busy");
    w.advance(MS - Duration::from_nanos(1));
    assert_eq!(w.commands(), NOTHING);
    w.advance(Duration::from_nanos(1));
    assert_eq!(w.commands(), ["settle 1 1/2"]);
    w.answer(Answer::Ok);
    assert_eq!(w.commands(), ["settle 1 2/2"]);
    w.answer(Answer::Ok);
    assert_eq!(w.engine.counts().sessions, 0);
}

#[test]
fn message_by_message_nothing_is_settled_past_a_gap() {
    let mut w = World::new(config(), Limits { settle: SettleStyle::Each, ..Limits::lanes() });
    let lane = w.lane(0);
    w.deliver_all(lane, &[("a", 0), ("b", 1), ("c", 2)]);
    w.starts();
    w.done("b@1");
    w.advance(SEC);
    assert_eq!(w.commands(), NOTHING);
    w.done("a@0");
    assert_eq!(w.commands(), ["settle 1 1/3"]);
    w.answer(Answer::Ok);
    assert_eq!(w.commands(), ["settle 1 2/3"]);
    w.done("c@2");
    assert_eq!(w.commands(), NOTHING);
    w.answer_all();
    assert_eq!(w.commands(), ["settle 1 3/3"]);
    assert_eq!(w.engine.counts().sessions, 0);
}

#[test]
fn nothing_starts_while_twice_the_settle_count_is_done_and_not_known_to_be_settled() {
    let mut w = World::new(config(), Limits { settle_count: 2, ..Limits::lanes() });
    let lane = w.lane(0);
    w.deliver_all(lane, &[("a", 0), ("b", 1), ("c", 2), ("d", 3), ("e", 4), ("f", 5)]);
    for run in ["a@0", "b@1", "c@2", "d@3"] {
        assert_eq!(w.start().unwrap(), run);
        w.done(run);
    }
    assert_eq!(w.commands(), ["settle 1 2/6"], "its answer is waited for");
    assert_eq!(w.starts(), NOTHING);
    w.answer(Answer::Ok);
    assert_eq!(w.commands(), ["settle 1 4/6"]);
    assert_eq!(w.starts(), ["e@4", "f@5"]);
}

/// What is done behind it can only be told once it has ended: held back it would stand still for ever.
#[test]
fn what_everything_waits_for_is_never_held_back() {
    for (settle, told) in [(SettleStyle::Each, "settle 1 1/3"), (SettleStyle::Open { most: 0 }, "settle 1 3/3")] {
        let mut w = World::new(config(), Limits { settle, settle_count: 1, ..Limits::lanes() });
        let lane = w.lane(0);
        w.deliver_all(lane, &[("a", 0), ("b", 1), ("c", 2)]);
        assert_eq!(w.starts(), ["a@0", "b@1", "c@2"]);
        w.done("b@1");
        w.done("c@2");
        w.fail("a@0");
        w.advance(10 * SEC);
        w.commands();
        assert_eq!(w.start().as_deref(), Some("a@0 #2"), "{settle:?}");
        w.done("a@0");
        w.advance(SEC);
        assert_eq!(w.commands(), [told], "{settle:?}");
    }
}

#[test]
fn a_settlement_that_did_not_happen_is_tried_again_soon_however_long_the_interval_is() {
    let limits = Limits { settle_count: 1, settle_interval: 3_600 * SEC, ..Limits::lanes() };
    let mut w = World::new(config(), limits);
    let lane = w.lane(0);
    w.deliver_all(lane, &[("a", 0), ("b", 1), ("c", 2)]);
    assert_eq!(w.start().unwrap(), "a@0");
    w.done("a@0");
    assert_eq!(w.commands(), ["settle 1 1/3"]);
    w.answer(Answer::NotApplied);
    w.advance(250 * MS);
    assert_eq!(w.commands(), ["settle 1 1/3"]);
}

#[test]
fn a_drain_that_leaves_something_unsettled_behind_says_so() {
    for answered in [true, false] {
        let mut w = World::lanes();
        let lane = w.lane(0);
        w.deliver_all(lane, &[("a", 0)]);
        w.start();
        w.done("a@0");
        w.input(Input::Drain { until: w.now + SEC });
        if answered {
            w.answer_all();
        }
        w.advance(2 * SEC);
        assert!(w.engine.is_drained());
        assert_eq!(w.engine.left_nothing_behind(), answered);
    }
}

#[test]
fn a_backend_that_names_no_count_and_no_interval_is_handled_all_the_same() {
    let limits = Limits { settle_count: 0, settle_interval: Duration::ZERO, ..Limits::lanes() };
    for limits in [limits.clone(), Limits { settle: SettleStyle::Each, ..limits }] {
        let mut w = World::new(config(), limits);
        let lane = w.lane(0);
        w.event(Event::Passed { grant: lane, below: 1 });
        w.deliver_all(lane, &[("a", 1), ("a", 2), ("b", 3), ("b", 4)]);
        while w.engine.counts().messages > 0 {
            let before = w.engine.counts().messages;
            w.handle_all();
            w.answer_all();
            assert!(w.engine.counts().messages < before, "it stands still");
        }
    }
}

#[test]
fn nothing_starts_while_a_settlement_has_no_answer_for_too_long() {
    for answer in [Answer::Ok, Answer::NotApplied] {
        let mut w = World::lanes();
        let lane = w.lane(0);
        w.deliver_all(lane, &[("a", 0), ("a", 1), ("a", 2), ("b", 3)]);
        assert_eq!(w.start().unwrap(), "a@0");
        w.done("a@0");
        w.advance(500 * MS - Duration::from_nanos(1));
        assert_eq!(w.commands(), ["settle 1 1/4"], "after an interval");
        assert_eq!(w.start().unwrap(), "b@3");
        w.advance(Duration::from_nanos(1));
        assert_eq!(w.start(), None, "after another one");
        w.advance(SEC);
        assert_eq!(w.start(), None);
        w.answer(answer);
        if answer == Answer::NotApplied {
            assert_eq!(w.start(), None, "it is as old as before");
            w.advance(250 * MS);
            w.answer(Answer::Ok);
        }
        assert_eq!(w.start().unwrap(), "a@1");
    }
}

#[test]
fn what_makes_room_for_the_next_settlement_goes_on() {
    let mut w = open(1);
    let lane = w.lane(0);
    w.deliver_all(lane, &[("a", 0), ("b", 1), ("b", 2), ("c", 3), ("c", 4)]);
    assert_eq!(w.starts(), ["a@0", "b@1", "c@3"]);
    w.done("c@3");
    w.advance(500 * MS);
    assert_eq!(w.commands(), NOTHING, "only a can be listed, and b is open as well");
    assert_eq!(w.start(), None, "c@4 would be one more that cannot be told");
    w.end("a@0", End::Returned);
    assert_eq!(w.starts(), ["a@0"]);
    w.done("a@0");
    w.advance(250 * MS);
    assert_eq!(w.commands(), ["settle 1 1/4 open b@1"], "now c is the only one behind it");
    assert_eq!(w.start(), None, "until it is answered");
    w.answer(Answer::Ok);
    assert_eq!(w.starts(), ["c@4"]);
}

#[test]
fn open_sessions_are_listed_with_their_first_open_message() {
    let mut w = open(10);
    let lane = w.lane(0);
    w.deliver_all(lane, &[("a", 0), ("b", 1), ("a", 2), ("c", 3), ("b", 4), ("d", 5)]);
    w.starts();
    w.done("b@1");
    w.advance(250 * MS);
    assert_eq!(w.commands(), ["settle 1 0/6 open a@0 c@3 b@4 d@5"]);
    w.answer(Answer::Ok);
    for run in ["a@0", "c@3", "d@5"] {
        w.done(run);
    }
    w.handle_all();
    w.advance(50 * MS);
    assert_eq!(w.commands(), ["settle 1 6/6"], "nothing is open");
}

#[test]
fn a_list_of_open_sessions_that_is_too_long_covers_less() {
    let mut w = open(2);
    let lane = w.lane(0);
    w.deliver_all(lane, &[("a", 0), ("x", 1), ("b", 2), ("a", 3), ("c", 4), ("d", 5)]);
    w.starts();
    w.done("x@1");
    w.done("d@5");
    w.advance(250 * MS);
    assert_eq!(w.commands(), ["settle 1 0/4 open a@0 b@2"], "the end is the first position that is not covered");
    w.answer(Answer::Ok);
    w.advance(SEC);
    assert_eq!(w.commands(), NOTHING, "there is no room to speak of d@5");
    assert!(w.engine.oldest_untold(w.now).is_some(), "which is not settled");
    w.done("b@2");
    w.advance(250 * MS);
    assert_eq!(w.commands(), ["settle 1 0/6 open a@0 c@4"]);
    w.answer(Answer::Ok);
    assert_eq!(w.engine.oldest_untold(w.now), None);
}

#[test]
fn what_there_is_no_room_for_does_not_hold_up_a_place_that_is_taken_back() {
    let mut w = open(1);
    let lane = w.lane(0);
    w.deliver_all(lane, &[("a", 0), ("b", 1), ("b", 2), ("c", 3)]);
    w.starts();
    w.done("c@3");
    w.event(Event::Revoking { grant: lane, until: w.now + 60 * SEC });
    w.end("a@0", End::Returned);
    assert_eq!(w.commands(), NOTHING);
    w.done("b@1");
    assert_eq!(w.commands(), NOTHING, "it is done just now, and may be told");
    w.advance(250 * MS);
    assert_eq!(w.commands(), ["settle 1 0/2 open a@0"]);
    w.answer(Answer::Ok);
    w.advance(250 * MS);
    assert_eq!(w.commands(), ["release 1"], "a@0 and b@2 stay open: there is no room for c@3");
}

#[test]
fn positions_that_were_passed_are_told_after_a_while() {
    let mut w = World::lanes();
    let lane = w.lane(0);
    w.event(Event::Passed { grant: lane, below: 10 });
    w.event(Event::Passed { grant: lane, below: 4 });
    w.advance(250 * MS - Duration::from_nanos(1));
    assert_eq!(w.commands(), NOTHING, "nobody waits for it");
    w.advance(Duration::from_nanos(1));
    assert_eq!(w.commands(), ["settle 1 10/10"]);
    w.answer(Answer::Ok);
    w.advance(SEC);
    assert_eq!(w.commands(), NOTHING);
    w.event(Event::Passed { grant: lane, below: 10 });
    w.advance(SEC);
    assert_eq!(w.commands(), NOTHING, "nothing new");
    w.deliver_all(lane, &[("a", 10), ("b", 11)]);
    w.starts();
    w.event(Event::Passed { grant: lane, below: 20 });
    w.advance(100 * MS);
    w.done("b@11");
    w.advance(150 * MS);
    assert_eq!(w.commands(), ["settle 1 10/20 done [11]"], "as old as the older of the two");
}

#[test]
fn what_was_passed_is_told_again_when_it_was_not_applied() {
    let mut w = World::lanes();
    let lane = w.lane(0);
    w.event(Event::Passed { grant: lane, below: 10 });
    w.advance(250 * MS);
    w.commands.clear();
    w.answer(Answer::Unknown);
    w.advance(250 * MS);
    assert_eq!(w.commands(), ["settle 1 10/10"]);
}

#[test]
fn what_was_passed_means_nothing_message_by_message() {
    let mut w = World::sessions();
    let grant = w.session("a");
    w.event(Event::Passed { grant, below: 10 });
    w.advance(500 * MS);
    assert_eq!(w.commands(), NOTHING);
    w.deliver(grant, "a", 10);
    w.handle_all();
    assert_eq!(w.commands(), ["settle 1 11/11"]);
}

#[test]
fn one_message_that_stands_still_does_not_make_the_ring_grow() {
    let mut w = World::lanes();
    let lane = w.lane(0);
    w.deliver(lane, "stuck", 0);
    w.starts();
    for position in 1..2_000 {
        w.deliver(lane, "a", position);
        w.handle_all();
        w.advance(250 * MS);
        w.prove(lane);
        w.answer_all();
        assert!(w.engine.grants[0].ring.len() <= 67, "{}", w.engine.grants[0].ring.len());
    }
    w.commands.clear();
    w.advance(50 * MS);
    w.done("stuck@0");
    assert_eq!(w.commands(), ["settle 1 2000/2000"]);
    w.answer_all();
    assert_eq!((w.engine.counts().sessions, w.engine.grants[0].ring.len()), (0, 0));
}

#[test]
fn message_by_message_too_the_ring_does_not_grow() {
    // Answers in any order: the first one stays without an answer.
    let mut w = World::sessions();
    let grant = w.session("a");
    w.deliver(grant, "a", 0);
    w.handle_all();
    for position in 1..500 {
        w.deliver(grant, "a", position);
        w.handle_all();
        w.tickets.rotate_left(1);
        w.answer(Answer::Ok);
    }
    assert!(w.engine.grants[0].ring.len() <= 67);
    w.answer_all();
    assert_eq!(w.engine.counts().sessions, 0);
}

#[test]
fn a_session_is_forgotten_when_the_broker_knows_what_was_done() {
    let mut w = World::lanes();
    let lane = w.lane(0);
    w.deliver_all(lane, &[("a", 0), ("b", 1), ("c", 2)]);
    w.starts();
    w.done("a@0");
    assert_eq!(w.engine.counts().sessions, 3);
    w.advance(250 * MS);
    assert_eq!(w.engine.counts().sessions, 3);
    w.answer(Answer::Ok);
    assert_eq!(w.engine.counts().sessions, 2);
}

#[test]
fn totals_count_what_was_handled() {
    let mut w = World::lanes();
    let lane = w.lane(0);
    w.deliver_all(lane, &[("a", 0), ("b", 1)]);
    w.handle_all();
    w.lost(lane, Loss::Gone);
    assert_eq!((w.engine.totals().completed, w.engine.totals().lost), (2, 1));
}

#[test]
fn what_is_passed_later_does_not_make_what_is_done_younger() {
    let mut w = World::lanes();
    let lane = w.lane(0);
    w.deliver_all(lane, &[("a", 0), ("b", 1)]);
    w.starts();
    w.done("a@0");
    w.advance(200 * MS);
    w.event(Event::Passed { grant: lane, below: 9 });
    w.advance(50 * MS);
    assert_eq!(w.commands(), ["settle 1 1/9"]);
}

#[test]
fn message_by_message_an_answer_is_for_the_settlement_that_it_names() {
    let mut w = World::sessions();
    let grant = w.session("a");
    w.deliver_all(grant, &[("a", 0), ("a", 1)]);
    w.handle_all();
    w.commands.clear();
    let (_, ticket) = w.tickets[0];
    w.event(Event::Settled { grant, ticket: crate::backend::Ticket(ticket.0 + 1), answer: Answer::Ok });
    assert_eq!((w.commands(), w.engine.grants[0].ring.len()), (vec![], 2), "nobody asked for that one");
    w.answer(Answer::Ok);
    assert_eq!((w.commands(), w.engine.grants[0].ring.len()), (vec!["settle 1 2/2".to_owned()], 1));
}

#[test]
fn message_by_message_what_is_done_behind_a_gap_stays_untold() {
    let mut w = World::new(config(), Limits { settle: SettleStyle::Each, ..Limits::lanes() });
    let lane = w.lane(0);
    w.deliver_all(lane, &[("a", 0), ("b", 1), ("c", 2), ("d", 3)]);
    w.starts();
    w.done("b@1");
    w.done("d@3");
    w.done("a@0");
    w.answer(Answer::Ok);
    w.answer(Answer::Ok);
    assert_eq!(w.commands(), ["settle 1 1/4", "settle 1 2/4"]);
    assert_eq!(w.engine.grants[0].untold, [3]);
    w.done("c@2");
    w.answer(Answer::Ok);
    assert_eq!(w.commands(), ["settle 1 3/4", "settle 1 4/4"]);
}

#[test]
fn while_a_settlement_is_out_the_age_of_what_follows_asks_for_no_tick() {
    let mut w = World::lanes();
    let lane = w.lane(0);
    w.deliver_all(lane, &[("a", 0), ("b", 1), ("c", 2)]);
    w.starts();
    w.done("a@0");
    w.advance(250 * MS);
    w.done("b@1");
    w.prove(lane);
    assert_eq!(w.engine.next_deadline(), Some(w.now + 14_750 * MS), "but for the renewal of before");
    w.advance(SEC);
    w.answer(Answer::Ok);
    assert_eq!(w.commands(), ["settle 1 1/3", "settle 1 2/3"]);
}
