//! One handler a session, sessions in turn, and the gate that outlives a grant.

use super::*;

#[test]
fn a_session_runs_one_message_at_a_time_in_order() {
    let mut w = World::lanes();
    let lane = w.lane(0);
    w.deliver_all(lane, &[("a", 0), ("a", 1), ("a", 2)]);
    assert!(w.engine.has_ready());
    assert_eq!(w.starts(), ["a@0"]);
    assert!(!w.engine.has_ready());
    w.done("a@0");
    assert_eq!(w.starts(), ["a@1"]);
    w.deliver(lane, "a", 3);
    assert_eq!(w.starts(), NOTHING, "its handler still runs");
    w.done("a@1");
    assert_eq!(w.starts(), ["a@2"]);
    w.done("a@2");
    assert_eq!(w.starts(), ["a@3"]);
}

#[test]
fn sessions_run_side_by_side_and_take_turns() {
    let mut w = World::lanes();
    let lane = w.lane(0);
    w.deliver_all(lane, &[("a", 0), ("a", 1), ("a", 2), ("b", 3), ("c", 4)]);
    assert_eq!(w.start().unwrap(), "a@0");
    w.done("a@0");
    assert_eq!(w.start().unwrap(), "b@3", "a session with more to do goes behind the others");
    assert_eq!(w.starts(), ["c@4", "a@1"]);
    assert_eq!(w.engine.counts().running, 3);
}

#[test]
fn a_start_carries_what_a_handler_needs() {
    let mut w = World::lanes();
    let lane = w.lane(3);
    w.deliver(lane, "a", 7);
    let start = w.engine.start(w.now).unwrap();
    assert_eq!((start.grant, start.attempt, start.checked_at), (lane, 1, w.now));
    assert_eq!((start.message.session.clone(), start.message.position), (id("a"), Position::new(7)));
    assert_eq!(start.lease.deadline(), w.now + VALID - 500 * MS);
    assert!(Arc::ptr_eq(&start.lease, &w.lease));
}

#[test]
fn every_run_has_a_number_of_its_own() {
    let mut w = World::lanes();
    let lane = w.lane(0);
    w.deliver_all(lane, &[("a", 0), ("b", 1), ("a", 2)]);
    w.starts();
    let old = w.runs["a@0"];
    w.done("a@0");
    w.starts();
    assert_ne!(old.serial(), w.runs["a@2"].serial());
    assert_ne!(w.runs["b@1"].serial(), w.runs["a@2"].serial());
    assert!(!w.engine.ended(w.now, old, End::Done, 0), "an end is told once, though its place is used again");
    assert_eq!(w.engine.counts().running, 2);
    w.collect();
}

#[test]
fn the_gate_outlives_the_grant() {
    let mut w = World::lanes();
    let first = w.lane(0);
    w.deliver_all(first, &[("a", 0), ("b", 1)]);
    assert_eq!(w.starts(), ["a@0", "b@1"]);
    w.lost(first, Loss::Revoked);
    assert_eq!(w.notices(), ["cancel a@0 Revoked", "cancel b@1 Revoked"]);
    assert_eq!((w.engine.counts().grants, w.engine.counts().sessions, w.engine.counts().messages), (0, 2, 0));

    let second = w.lane(0);
    let old = w.runs["a@0"];
    w.deliver_all(second, &[("a", 0), ("b", 1), ("c", 2)]);
    assert_eq!(w.starts(), ["c@2"], "the handlers of the old grant still run");
    assert!(!w.done("b@1"), "an end after the grant does not count");
    assert_eq!(w.starts(), ["b@1"]);
    assert!(!w.end("a@0", End::Cancelled));
    assert_eq!(w.starts(), ["a@0"], "and nothing is charged for it");
    assert_ne!(w.runs["a@0"], old);
    assert!(w.done("a@0"));
}

#[test]
fn a_gate_that_nobody_came_back_for_is_forgotten() {
    let mut w = World::lanes();
    let lane = w.lane(0);
    w.deliver_all(lane, &[("a", 0), ("a", 1)]);
    w.starts();
    w.lost(lane, Loss::Disconnected);
    assert_eq!(w.engine.counts().sessions, 1);
    w.end("a@0", End::Cancelled);
    assert_eq!(w.engine.counts(), super::super::Counts::default());
}

#[test]
fn a_grant_of_a_held_place_ends_the_one_before() {
    let mut w = World::lanes();
    let first = w.lane(0);
    w.deliver_all(first, &[("a", 0), ("b", 1)]);
    assert_eq!(w.start().unwrap(), "a@0");
    let lease = Arc::clone(&w.lease);
    let second = w.lane(0);
    assert!(lease.is_ended());
    assert_eq!(w.notices(), ["cancel a@0 Revoked"]);
    w.deliver(first, "b", 5);
    assert_eq!((w.engine.counts().grants, w.engine.counts().messages), (1, 0), "the old grant's messages are gone");
    w.deliver_all(second, &[("b", 1), ("b", 2)]);
    assert_eq!(w.starts(), ["b@1"]);
}

#[test]
fn a_delivery_that_was_given_back_is_offered_again_uncharged() {
    let mut w = World::lanes();
    let lane = w.lane(0);
    w.deliver_all(lane, &[("a", 0), ("b", 1)]);
    assert_eq!(w.start().unwrap(), "a@0");
    assert!(w.end("a@0", End::Returned));
    assert_eq!(w.starts(), ["b@1", "a@0"], "behind who waited, as the first attempt");
}

#[test]
fn pause_starts_nothing_and_keeps_every_right() {
    let mut w = World::lanes();
    let lane = w.lane(0);
    w.deliver_all(lane, &[("a", 0), ("b", 1)]);
    assert_eq!(w.start().unwrap(), "a@0");
    w.input(Input::Resume);
    w.input(Input::Pause);
    assert!(!w.engine.has_ready());
    assert_eq!(w.starts(), NOTHING);
    w.deliver(lane, "c", 2);
    w.done("a@0");
    assert_eq!((w.starts().len(), w.engine.counts().grants), (0, 1));
    w.input(Input::Pause);
    w.input(Input::Resume);
    assert!(w.engine.has_ready());
    assert_eq!(w.starts(), ["b@1", "c@2"]);
}

#[test]
fn a_stop_is_for_good() {
    let mut w = World::lanes();
    let lane = w.lane(0);
    w.deliver_all(lane, &[("a", 0), ("b", 1), ("c", 2)]);
    assert_eq!((w.start().unwrap(), w.start().unwrap()), ("a@0".to_owned(), "b@1".to_owned()));
    w.end("a@0", failed(Then::Stop));
    assert_eq!(w.notices(), ["stop a@0 handler-stop x1"]);
    w.input(Input::Pause);
    w.input(Input::Resume);
    assert!(!w.engine.has_ready());
    assert_eq!(w.starts(), NOTHING);
    assert!(w.done("b@1"), "what runs may end well");
    assert!(!w.engine.is_drained());
    assert_eq!(w.engine.counts().grants, 1, "the driver drains");
}

#[test]
fn a_released_session_leaves_nothing() {
    let mut w = World::sessions();
    let grant = w.session("a");
    w.deliver_all(grant, &[("a", 0), ("a", 1)]);
    w.handle_all();
    w.answer_all();
    w.advance(SEC);
    assert_eq!(w.commands().last().unwrap(), "release 1");
    assert_eq!(w.engine.counts(), super::super::Counts::default());
    assert_eq!((w.engine.nodes.len(), w.engine.claims.len(), w.engine.ready.len()), (0, 0, 0));
}

#[test]
fn counts_say_what_is_held() {
    let mut w = World::lanes();
    let lane = w.lane(0);
    w.deliver_all(lane, &[("a", 0), ("a", 1), ("b", 2), ("c", 3)]);
    w.start();
    let counts = w.engine.counts();
    assert_eq!((counts.grants, counts.sessions, counts.ready, counts.running), (1, 3, 2, 1));
    assert_eq!((counts.messages, counts.bytes), (4, 4 * SIZE));
}

#[test]
fn what_was_denied_is_told() {
    let mut w = World::sessions();
    let error = crate::Error::new(crate::ErrorKind::Timeout, "accept");
    w.event(Event::Denied { session: id("a"), error });
    assert_eq!(w.notices(), ["denied a"]);
}

#[test]
fn counts_and_totals_of_several_engines_add_up() {
    let (mut w, mut other) = (World::lanes(), World::lanes());
    for (w, lanes, messages) in [(&mut w, 2, 5), (&mut other, 3, 7)] {
        for lane in 0..lanes {
            let grant = w.lane(lane);
            for position in 0..messages {
                w.deliver(grant, &format!("s{position}"), position);
            }
            w.deliver(grant, "s0", 99);
        }
        w.start();
    }
    let mut sum = w.engine.counts();
    sum += other.engine.counts();
    let expected =
        super::super::Counts { grants: 5, sessions: 31, ready: 29, running: 2, messages: 36, bytes: 36 * SIZE };
    assert_eq!(sum, expected);

    let totals =
        |n| super::super::Totals { completed: n, failed: 2 * n, retried: 3 * n, dead_lettered: 4 * n, lost: 5 * n };
    let mut sum = totals(3);
    sum += totals(7);
    assert_eq!(sum, totals(10));
}

#[test]
fn thousands_of_sessions_of_a_lane_are_told_apart() {
    let mut w = World::lanes();
    let lane = w.lane(0);
    for position in 0..2_000 {
        let content = Arc::clone(&message("x", 0).content);
        let message = Inbound { content, ..message(&format!("s{position}"), position) };
        w.engine.handle(w.now, Input::Event(Event::Delivered { grant: lane, message }));
    }
    w.collect();
    assert_eq!((w.engine.counts().sessions, w.engine.counts().ready), (2_000, 2_000));
    for position in 0..2_000 {
        let start = w.engine.start(w.now).unwrap();
        assert_eq!(start.message.session, id(&format!("s{position}")));
    }
}

#[test]
fn nothing_is_ready_before_its_right_is_proved() {
    let mut w = World::lanes();
    let lane = w.granted(Place::Lane(0));
    w.deliver(lane, "a", 0);
    assert!(!w.engine.has_ready());
    w.prove(lane);
    assert!(w.engine.has_ready());
    w.starts();
    w.event(Event::Revoking { grant: lane, until: w.now + SEC });
    w.deliver(lane, "b", 1);
    assert!(!w.engine.has_ready());
}

#[test]
fn turns_of_many_sessions_that_left_the_line_at_once_are_cleared_by_the_next() {
    let mut w = World::lanes();
    let lane = w.lane(0);
    for position in 0..200 {
        w.deliver(lane, &format!("s{position}"), position);
    }
    for position in 0..200 {
        w.engine.claim_named(w.now, &Place::Lane(0), &id(&format!("s{position}"))).unwrap();
    }
    assert_eq!(w.engine.counts().ready, 0);
    w.deliver(lane, "next", 200);
    assert_eq!((w.engine.ready.len(), w.starts()), (1, vec!["next@200".to_owned()]));
}

#[test]
fn a_burst_gives_its_memory_back_and_what_waits_goes_on() {
    let mut w = World::lanes();
    let lane = w.lane(0);
    w.deliver(lane, "kept", 0);
    w.starts();
    w.end("kept@0", failed(Then::RetryIn(10 * SEC)));
    for position in 1..200 {
        w.deliver(lane, &format!("s{position}"), position);
    }
    w.handle_all();
    w.advance(250 * MS);
    w.answer_all();
    w.engine.shrink();
    w.collect();
    assert_eq!((w.engine.counts().sessions, w.engine.counts().messages), (1, 1));
    let e = &w.engine;
    let kept = [e.sessions.capacity(), e.nodes.capacity(), e.runs.capacity(), e.ready.capacity(), e.spare.capacity()];
    assert!(kept.iter().all(|kept| *kept < 10), "{kept:?}");
    w.advance(10 * SEC);
    assert_eq!(w.starts(), ["kept@0 #2"]);
}
