//! Leaving: one place that is taken back in good order, or all of them.

use super::*;

#[test]
fn a_drain_waits_for_what_runs_and_settles_it() {
    let mut w = World::lanes();
    let (lane, other) = (w.lane(0), w.lane(1));
    w.deliver_all(lane, &[("a", 0), ("a", 1), ("b", 2)]);
    w.deliver(other, "c", 0);
    assert_eq!(w.start().unwrap(), "a@0");
    assert_eq!(w.start().unwrap(), "b@2");
    w.input(Input::Drain { until: w.now + 10 * SEC });
    assert_eq!(w.commands(), ["leave", "release 2"], "a place where nothing runs is given back at once");
    assert_eq!(w.starts(), NOTHING);
    assert!(!w.engine.has_ready());
    w.done("a@0");
    assert_eq!(w.commands(), ["settle 1 1/3"]);
    assert_eq!(w.starts(), NOTHING);
    w.done("b@2");
    assert_eq!(w.commands(), NOTHING, "one settlement at a time");
    w.answer(Answer::Ok);
    assert_eq!(w.commands(), ["settle 1 1/3 done [2]"]);
    assert!(!w.engine.is_drained());
    w.answer(Answer::Ok);
    assert_eq!(w.commands(), ["release 1"]);
    assert!(w.engine.is_drained());
    assert_eq!((w.notices(), w.engine.next_deadline().is_some_and(|at| at <= w.now)), (vec![], false));
}

#[test]
fn an_engine_that_does_not_drain_is_not_drained() {
    let mut w = World::lanes();
    assert!(!w.engine.is_drained());
    w.input(Input::Drain { until: w.now + SEC });
    assert!(w.engine.is_drained(), "with nothing held it is at once");
    assert_eq!(w.engine.next_deadline(), Some(w.now + SEC));
    w.advance(SEC);
    assert_eq!(w.engine.next_deadline(), None);
}

#[test]
fn what_is_granted_while_draining_is_given_back() {
    let mut w = World::lanes();
    w.input(Input::Drain { until: w.now + SEC });
    let lane = w.granted(Place::Lane(0));
    assert_eq!(w.commands(), ["leave", "release 1"]);
    w.deliver(lane, "a", 0);
    assert_eq!(w.engine.counts(), super::super::Counts::default());
    assert!(w.engine.is_drained());
}

#[test]
fn a_wait_does_not_hold_up_a_drain() {
    let mut w = World::lanes();
    let lane = w.lane(0);
    w.deliver(lane, "a", 0);
    w.starts();
    w.fail("a@0");
    w.input(Input::Drain { until: w.now + SEC });
    assert_eq!(w.commands(), ["leave", "release 1"]);
}

#[test]
fn a_copy_under_way_holds_up_a_drain() {
    let mut w = World::lanes();
    let lane = w.lane(0);
    w.deliver(lane, "a", 0);
    w.starts();
    w.end("a@0", failed(Then::DeadLetter));
    w.input(Input::Drain { until: w.now + 10 * SEC });
    assert_eq!(w.commands(), ["aside 1 a@0 handler x1", "leave"]);
    w.copied(lane, 0, Answer::Ok);
    assert_eq!(w.commands(), ["settle 1 1/1"]);
    w.answer(Answer::Ok);
    assert!(w.engine.is_drained());
}

#[test]
fn before_the_deadline_of_a_drain_handlers_are_told_to_end_and_then_dropped() {
    let mut w = World::lanes();
    let lane = w.lane(0);
    w.deliver_all(lane, &[("a", 0), ("b", 1)]);
    w.starts();
    w.input(Input::Drain { until: w.now + 10 * SEC });
    w.done("b@1");
    w.commands.clear();
    w.advance(8 * SEC - Duration::from_nanos(1));
    assert_eq!(w.notices(), NOTHING);
    w.advance(Duration::from_nanos(1));
    assert_eq!(w.notices(), ["cancel a@0 Leaving"], "by the grace time earlier");
    w.advance(2 * SEC);
    assert_eq!(
        (w.notices(), w.commands()),
        (vec!["drop a@0".to_owned()], vec![]),
        "no right is given up under a handler"
    );
    assert!(!w.engine.is_drained());
    w.end("a@0", End::Cancelled);
    assert_eq!(w.commands(), ["release 1"], "though the broker has not answered");
    assert!(w.engine.is_drained());
}

#[test]
fn at_the_deadline_of_a_drain_a_place_without_an_answer_is_given_back() {
    let mut w = World::lanes();
    let lane = w.lane(0);
    w.deliver(lane, "a", 0);
    w.handle_all();
    assert_eq!(w.commands(), ["settle 1 1/1"]);
    w.input(Input::Drain { until: w.now + 5 * SEC });
    w.advance(5 * SEC - Duration::from_nanos(1));
    assert_eq!(w.commands(), ["leave"]);
    w.advance(Duration::from_nanos(1));
    assert_eq!(w.commands(), ["release 1"]);
    assert_eq!(lane.epoch(), 1);
}

#[test]
fn after_a_drain_a_right_under_a_handler_runs_out() {
    let mut w = World::lanes();
    let lane = w.lane(0);
    w.deliver(lane, "a", 0);
    w.starts();
    w.input(Input::Drain { until: w.now + 5 * SEC });
    w.advance(5 * SEC);
    w.commands.clear();
    w.prove(lane);
    assert_eq!(w.lease.deadline(), w.now - 5 * SEC + VALID - 500 * MS, "evidence that comes unasked is not taken");
    w.advance(24_500 * MS - Duration::from_nanos(1));
    assert_eq!(w.commands(), NOTHING, "no renewal");
    w.advance(Duration::from_nanos(1));
    assert_eq!(w.commands(), ["surrender 1"]);
    assert!(!w.engine.is_drained(), "its handler still runs");
    w.end("a@0", End::Cancelled);
    assert!(w.engine.is_drained());
}

#[test]
fn a_drain_whose_time_is_over_tells_everybody_at_once() {
    let mut w = World::lanes();
    let lane = w.lane(0);
    w.deliver(lane, "a", 0);
    w.starts();
    w.input(Input::Drain { until: w.now });
    w.advance(Duration::ZERO);
    assert_eq!(w.notices(), ["cancel a@0 Leaving"]);
    w.end("a@0", End::Cancelled);
    assert!(w.engine.is_drained());
}

#[test]
fn a_second_drain_may_shorten_the_time_and_says_so_again() {
    let mut w = World::lanes();
    let lane = w.lane(0);
    w.deliver(lane, "a", 0);
    w.starts();
    w.input(Input::Drain { until: w.now + 60 * SEC });
    w.input(Input::Drain { until: w.now + 3 * SEC });
    w.input(Input::Drain { until: w.now + 30 * SEC });
    assert_eq!(w.commands(), ["leave", "leave", "leave"]);
    w.advance(SEC);
    assert_eq!(w.notices(), ["cancel a@0 Leaving"]);
}

#[test]
fn a_place_that_is_taken_back_is_released_when_its_work_is_settled() {
    let mut w = World::lanes();
    let (lane, other) = (w.lane(0), w.lane(1));
    w.deliver_all(lane, &[("a", 0), ("a", 1)]);
    w.deliver(other, "b", 0);
    assert_eq!(w.start().unwrap(), "a@0");
    w.event(Event::Revoking { grant: lane, until: w.now + 10 * SEC });
    assert_eq!(w.starts(), ["b@0"], "the other places go on");
    w.deliver(lane, "c", 2);
    assert_eq!(w.starts(), NOTHING);
    w.done("a@0");
    w.answer(Answer::Ok);
    assert_eq!(w.commands(), ["settle 1 1/3", "release 1"]);
    assert_eq!((w.engine.counts().grants, w.engine.counts().messages), (1, 1));
    w.event(Event::Revoking { grant: lane, until: w.now });
    assert_eq!(w.commands(), NOTHING);
}

#[test]
fn a_place_that_is_taken_back_and_given_again_waits_for_the_old_handler() {
    let mut w = World::lanes();
    let lane = w.lane(0);
    w.deliver_all(lane, &[("a", 0), ("b", 1)]);
    w.starts();
    w.event(Event::Revoking { grant: lane, until: w.now + 3 * SEC });
    w.advance(SEC);
    assert_eq!(w.notices(), ["cancel a@0 Leaving", "cancel b@1 Leaving"]);
    w.end("b@1", End::Cancelled);
    // The broker does not wait for ever.
    w.lost(lane, Loss::Revoked);
    let lane = w.lane(0);
    w.deliver_all(lane, &[("a", 0), ("b", 1)]);
    assert_eq!(w.starts(), ["b@1"]);
    assert!(!w.done("a@0"), "what it did is not settled by anybody");
    assert_eq!(w.starts(), ["a@0"]);
}

#[test]
fn renewal_goes_on_while_a_place_is_taken_back() {
    let mut w = World::lanes();
    let lane = w.lane(0);
    w.deliver(lane, "a", 0);
    w.starts();
    w.event(Event::Revoking { grant: lane, until: w.now + 60 * SEC });
    w.advance(15 * SEC);
    assert_eq!(w.commands(), ["renew 1"]);
    w.prove(lane);
    w.advance(15 * SEC);
    assert_eq!((w.commands(), w.notices()), (vec!["renew 1".to_owned()], vec![]));
}

#[test]
fn a_place_that_is_taken_back_is_released_in_time_though_the_broker_does_not_answer() {
    let mut w = World::lanes();
    let lane = w.lane(0);
    w.deliver(lane, "a", 0);
    w.starts();
    w.event(Event::Revoking { grant: lane, until: w.now + 5 * SEC });
    w.done("a@0");
    assert_eq!(w.commands(), ["settle 1 1/1"]);
    w.advance(5 * SEC - Duration::from_nanos(1));
    assert_eq!(w.commands(), NOTHING);
    w.advance(Duration::from_nanos(1));
    assert_eq!(w.commands(), ["release 1"]);
}
