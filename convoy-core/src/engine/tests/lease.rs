//! Evidence, deadlines, renewals, expiry, surrender, and how handlers are told.

use super::*;

const MARGIN: Duration = Duration::from_millis(500);

#[test]
fn nothing_starts_before_evidence_that_was_asked_for_after_the_grant() {
    let mut w = World::lanes();
    let asked_before = w.now;
    w.now = w.now + SEC;
    let lane = w.granted(Place::Lane(0));
    assert_eq!(w.commands(), ["renew 1"], "evidence is asked for at once");
    w.deliver_all(lane, &[("a", 0), ("a", 1), ("b", 2)]);
    assert_eq!(w.starts(), NOTHING);
    w.prove_as_of(lane, asked_before);
    assert_eq!((w.starts().len(), w.lease.deadline()), (0, Moment::ORIGIN), "an accept may have waited for its answer");
    let granted_at = w.now;
    w.now = w.now + SEC;
    w.prove_as_of(lane, granted_at);
    assert_eq!(w.lease.deadline(), granted_at + VALID - MARGIN);
    assert_eq!(w.starts(), ["a@0", "b@2"]);
}

#[test]
fn nothing_starts_at_the_deadline() {
    let mut w = World::lanes();
    let lane = w.lane(0);
    let deadline = w.lease.deadline();
    assert_eq!(deadline, w.now + VALID - MARGIN, "counted from the request, less the margin");
    w.deliver_all(lane, &[("a", 0), ("b", 1)]);
    w.now = deadline - Duration::from_nanos(1);
    assert_eq!(w.start().unwrap(), "a@0");
    w.now = deadline;
    assert_eq!(w.start(), None, "the clock is looked at before each start, not at a tick");
}

#[test]
fn evidence_that_is_worth_nothing_any_more_is_ignored() {
    let mut w = World::lanes();
    let lane = w.granted(Place::Lane(0));
    w.deliver(lane, "a", 0);
    let granted_at = w.now;
    w.now = w.now + VALID - MARGIN;
    w.prove_as_of(lane, granted_at);
    assert_eq!((w.starts().len(), w.lease.deadline()), (0, Moment::ORIGIN));
}

#[test]
fn older_evidence_does_not_shorten_a_lease() {
    let mut w = World::lanes();
    let lane = w.lane(0);
    let deadline = w.lease.deadline();
    let first = w.now;
    w.now = w.now + SEC;
    w.prove_as_of(lane, first);
    w.event(Event::Proved { grant: lane, asked_at: w.now, valid_for: 5 * SEC });
    assert_eq!(w.lease.deadline(), deadline);
    w.prove(lane);
    assert_eq!(w.lease.deadline(), deadline + SEC);
}

#[test]
fn a_right_is_asked_for_again_until_it_is_proved() {
    let mut w = World::lanes();
    w.granted(Place::Lane(0));
    w.advance(1_600 * MS);
    assert_eq!(w.commands(), ["renew 1"; 4], "every half second");
}

#[test]
fn a_right_that_is_never_proved_is_surrendered() {
    let mut w = World::lanes();
    let lane = w.granted(Place::Lane(0));
    w.deliver(lane, "a", 0);
    w.advance(30 * SEC - Duration::from_nanos(1));
    assert_eq!(w.engine.counts().grants, 1);
    w.commands.clear();
    w.advance(Duration::from_nanos(1));
    assert_eq!(w.commands(), ["surrender 1"]);
    assert_eq!(w.engine.counts(), super::super::Counts::default());
    assert!(w.lease.is_ended());
}

#[test]
fn a_right_is_renewed_at_half_of_its_time_whatever_runs() {
    let mut w = World::lanes();
    let lane = w.lane(0);
    w.deliver(lane, "a", 0);
    w.starts();
    w.advance(15 * SEC - Duration::from_nanos(1));
    assert_eq!(w.commands(), NOTHING);
    w.advance(Duration::from_nanos(1));
    assert_eq!(w.commands(), ["renew 1"]);
    w.advance(VALID / 16);
    assert_eq!(w.commands(), ["renew 1"], "asked for again when no answer comes");
    w.prove(lane);
    w.advance(15 * SEC - Duration::from_nanos(1));
    assert_eq!(w.commands(), NOTHING);
    w.advance(Duration::from_nanos(1));
    assert_eq!(w.commands(), ["renew 1"]);
    assert_eq!(w.notices(), NOTHING);
}

#[test]
fn a_short_lease_is_not_renewed_all_the_time() {
    let limits = Limits { margin: Duration::ZERO, ..Limits::lanes() };
    let mut w = World::new(config(), limits);
    let lane = w.granted(Place::Lane(0));
    w.commands.clear();
    w.event(Event::Proved { grant: lane, asked_at: w.now, valid_for: 8 * MS });
    w.advance(7 * MS);
    assert_eq!(w.commands(), ["renew 1"; 4], "at 4, 5, 6 and 7 ms");
}

#[test]
fn a_right_that_ran_out_is_surrendered_and_its_handlers_told() {
    let mut w = World::lanes();
    let lane = w.lane(0);
    w.deliver_all(lane, &[("a", 0), ("a", 1), ("b", 2)]);
    assert_eq!(w.start().unwrap(), "a@0");
    w.advance(VALID - MARGIN - Duration::from_nanos(1));
    w.commands.clear();
    assert!(!w.lease.is_ended());
    w.advance(Duration::from_nanos(1));
    assert_eq!(w.commands(), ["surrender 1"]);
    assert_eq!(w.notices(), ["cancel a@0 Expired"]);
    assert!(w.lease.is_ended());
    assert_eq!((w.engine.counts().grants, w.engine.counts().messages, w.engine.totals().lost), (0, 0, 1));
    w.advance(2 * SEC - Duration::from_nanos(1));
    assert_eq!(w.notices(), NOTHING);
    w.advance(Duration::from_nanos(1));
    assert_eq!(w.notices(), ["drop a@0"], "after the grace time");
    w.advance(60 * SEC);
    assert_eq!(w.notices(), NOTHING, "once");
    assert!(!w.end("a@0", End::Cancelled));
    assert_eq!(w.engine.counts(), super::super::Counts::default());
}

#[test]
fn a_handler_that_ends_in_its_grace_time_is_not_dropped() {
    let mut w = World::lanes();
    let lane = w.lane(0);
    w.deliver(lane, "a", 0);
    w.starts();
    w.lost(lane, Loss::Disconnected);
    w.advance(SEC);
    assert!(!w.done("a@0"));
    w.advance(60 * SEC);
    assert_eq!(w.notices(), ["cancel a@0 Disconnected"]);
}

/// A broker that holds back every answer for a while though nothing is lost.
fn patient() -> World {
    World::new(config(), Limits { surrender_after: 10 * SEC, ..Limits::lanes() })
}

#[test]
fn a_suspended_right_starts_nothing_and_a_later_proof_revives_it() {
    let mut w = patient();
    let lane = w.lane(0);
    w.deliver_all(lane, &[("a", 0), ("b", 1), ("c", 2)]);
    assert_eq!(w.start().unwrap(), "a@0");
    w.advance(VALID - MARGIN);
    assert_eq!(w.notices(), ["cancel a@0 Expired"]);
    assert_eq!(w.starts(), NOTHING);
    assert_eq!(w.engine.counts().grants, 1);
    assert!(!w.commands().contains(&"surrender 1".to_owned()));
    w.advance(5 * SEC);
    assert_eq!(w.starts(), NOTHING);
    w.end("a@0", End::Cancelled);
    w.prove_as_of(lane, w.now - SEC);
    assert_eq!(w.lease.deadline(), w.now - SEC + VALID - MARGIN);
    assert_eq!(w.starts(), ["a@0", "b@1", "c@2"], "in the order in which they came");
    w.advance(VALID - MARGIN - SEC);
    let told = ["cancel a@0 Expired", "cancel b@1 Expired", "cancel c@2 Expired"];
    assert_eq!(w.notices().into_iter().filter(|n| n.starts_with("cancel")).collect::<Vec<_>>(), told);
}

#[test]
fn sessions_that_were_forgotten_meanwhile_are_not_revived() {
    let mut w = patient();
    let lane = w.lane(0);
    w.deliver_all(lane, &[("a", 0), ("b", 1)]);
    w.starts();
    w.done("b@1");
    w.advance(250 * MS);
    w.answer(Answer::Ok);
    assert_eq!(w.engine.counts().sessions, 1);
    w.advance(VALID);
    w.prove(lane);
    w.end("a@0", End::Cancelled);
    assert_eq!(w.starts(), ["a@0"]);
    w.copied(lane, 1, Answer::Ok);
}

#[test]
fn a_suspended_right_is_surrendered_in_the_end() {
    let mut w = patient();
    let lane = w.lane(0);
    w.deliver(lane, "a", 0);
    w.advance(VALID - MARGIN + 10 * SEC - Duration::from_nanos(1));
    assert_eq!(w.engine.counts().grants, 1);
    assert!(w.commands().iter().filter(|c| *c == "renew 1").count() > 5, "it asks on");
    w.advance(Duration::from_nanos(1));
    assert_eq!(w.commands().last().unwrap(), "surrender 1");
    assert_eq!(w.engine.counts().grants, 0);
}

#[test]
fn what_a_handler_says_after_its_right_was_suspended_is_not_charged() {
    let mut w = patient();
    let lane = w.lane(0);
    w.deliver_all(lane, &[("a", 0), ("b", 1)]);
    w.starts();
    w.advance(VALID - MARGIN);
    assert!(w.fail("a@0"), "its right is still held");
    w.end("b@1", End::Panicked { detail: String::new() });
    assert_eq!((w.starts().len(), w.engine.totals().failed), (0, 0));
    w.prove(lane);
    assert_eq!(w.starts(), ["a@0", "b@1"], "as the first attempt");
}

#[test]
fn what_was_done_while_a_right_was_suspended_counts() {
    let mut w = patient();
    let lane = w.lane(0);
    w.deliver_all(lane, &[("a", 0), ("a", 1)]);
    w.starts();
    w.advance(VALID - MARGIN);
    assert!(w.done("a@0"));
    w.prove(lane);
    assert_eq!(w.starts(), ["a@1"]);
}

#[test]
fn a_right_that_the_backend_ended_starts_nothing() {
    let mut w = World::lanes();
    let lane = w.lane(0);
    w.deliver_all(lane, &[("a", 0), ("b", 1)]);
    w.lease.end();
    assert_eq!(w.starts(), NOTHING, "though the news is still on its way");
    w.prove(lane);
    assert_eq!(w.starts(), NOTHING);
    w.lost(lane, Loss::Disconnected);
    assert_eq!(w.engine.counts(), super::super::Counts::default());
}

#[test]
fn a_handler_timeout_is_a_failed_attempt() {
    let mut w = World::new(Config { handler_timeout: Some(10 * SEC), ..config() }, Limits::lanes());
    let lane = w.lane(0);
    w.deliver_all(lane, &[("a", 0), ("b", 1), ("c", 2)]);
    assert_eq!(w.start().unwrap(), "a@0");
    w.advance(3 * SEC);
    assert_eq!(w.starts(), ["b@1", "c@2"]);
    w.done("b@1");
    w.advance(7 * SEC - Duration::from_nanos(1));
    w.answer_all();
    assert_eq!(w.notices(), NOTHING);
    w.advance(Duration::from_nanos(1));
    assert_eq!(w.notices(), ["cancel a@0 TimedOut"]);
    w.end("a@0", End::Cancelled);
    assert_eq!(w.engine.totals().failed, 1);
    w.advance(3 * SEC);
    assert_eq!(w.notices(), ["cancel c@2 TimedOut"], "each from its own start");
    assert_eq!(w.starts(), ["a@0 #2"]);
    w.advance(2 * SEC);
    assert_eq!(w.notices(), ["drop c@2"]);
}

#[test]
fn a_handler_that_ends_in_time_after_a_timeout_counts_as_it_says() {
    let mut w = World::new(Config { handler_timeout: Some(SEC), ..config() }, Limits::lanes());
    let lane = w.lane(0);
    w.deliver_all(lane, &[("a", 0), ("b", 1), ("c", 2)]);
    w.starts();
    w.advance(SEC);
    assert_eq!(w.notices().len(), 3);
    w.done("a@0");
    w.fail("b@1");
    w.end("c@2", End::Returned);
    assert_eq!((w.engine.totals().completed, w.engine.totals().failed), (1, 1));
    assert_eq!(w.starts(), ["c@2"]);
}

#[test]
fn a_run_is_told_to_end_once() {
    let mut w = World::new(Config { handler_timeout: Some(SEC), ..config() }, Limits::lanes());
    let lane = w.lane(0);
    w.deliver(lane, "a", 0);
    w.starts();
    w.advance(SEC);
    assert_eq!(w.notices(), ["cancel a@0 TimedOut"]);
    w.lost(lane, Loss::Revoked);
    assert_eq!(w.notices(), NOTHING);
    let lane = w.lane(0);
    w.deliver(lane, "a", 0);
    w.end("a@0", End::Cancelled);
    assert_eq!((w.starts(), w.engine.totals().failed), (vec!["a@0".to_owned()], 0), "the loss came after all");
}

#[test]
fn a_cancelled_attempt_that_was_not_timed_out_is_offered_again() {
    let mut w = World::lanes();
    let lane = w.lane(0);
    w.deliver(lane, "a", 0);
    w.starts();
    w.end("a@0", End::Cancelled);
    assert_eq!((w.starts(), w.engine.totals().failed), (vec!["a@0".to_owned()], 0));
}

#[test]
fn an_idle_session_is_released_after_a_while() {
    let mut w = World::sessions();
    let grant = w.session("a");
    w.advance(999 * MS);
    assert_eq!(w.commands(), NOTHING);
    w.deliver(grant, "a", 0);
    w.advance(10 * SEC);
    assert_eq!((w.commands(), w.engine.counts().grants), (vec![], 1), "it waits for its turn");
    w.handle_all();
    w.advance(10 * SEC);
    assert_eq!(w.engine.counts().grants, 1, "nobody knows yet whether it is settled");
    w.prove(grant);
    w.answer_all();
    w.commands.clear();
    w.advance(SEC - Duration::from_nanos(1));
    assert_eq!(w.commands(), NOTHING);
    w.advance(Duration::from_nanos(1));
    assert_eq!(w.commands(), ["release 1"]);
    assert_eq!(w.engine.totals().lost, 0, "a right given back is none lost");
}

#[test]
fn idle_sessions_are_released_in_the_order_in_which_they_became_idle() {
    let mut w = World::sessions();
    let (a, _b, _c) = (w.session("a"), w.session("b"), w.session("c"));
    w.advance(500 * MS);
    w.deliver(a, "a", 0);
    w.handle_all();
    w.answer_all();
    w.commands.clear();
    w.advance(500 * MS);
    assert_eq!(w.commands(), ["release 2", "release 3"]);
    w.advance(500 * MS);
    assert_eq!(w.commands(), ["release 1"]);
}

#[test]
fn under_pressure_an_idle_session_makes_room_at_once() {
    let mut w = World::sessions();
    let (a, b) = (w.session("a"), w.session("b"));
    w.deliver(a, "a", 0);
    w.input(Input::Pressure(true));
    assert_eq!(w.commands(), ["release 2"]);
    w.handle_all();
    w.answer_all();
    assert_eq!(w.commands(), ["settle 1 1/1", "release 1"]);
    w.session("c");
    assert_eq!(w.engine.counts().grants, 0, "a session that has nothing is not kept either");
    w.input(Input::Pressure(false));
    w.session("d");
    w.advance(999 * MS);
    assert_eq!(w.engine.counts().grants, 1);
    assert!(b.epoch() > a.epoch());
}

#[test]
fn under_pressure_the_shorter_time_holds_for_those_that_are_idle_already() {
    let mut w = World::new(Config { idle_under_pressure: 300 * MS, ..config() }, Limits::sessions());
    w.session("a");
    w.advance(100 * MS);
    w.session("b");
    w.input(Input::Pressure(true));
    assert_eq!(w.commands(), NOTHING);
    w.advance(200 * MS);
    assert_eq!(w.commands(), ["release 1"]);
    w.advance(100 * MS);
    assert_eq!(w.commands(), ["release 2"]);
    w.session("c");
    w.advance(299 * MS);
    assert_eq!(w.commands(), NOTHING);
    w.input(Input::Pressure(false));
    w.advance(100 * MS);
    assert_eq!(w.commands(), NOTHING);
}

#[test]
fn a_lane_is_never_idle() {
    let mut w = World::lanes();
    let lane = w.lane(0);
    w.input(Input::Pressure(true));
    w.advance(10 * SEC);
    w.prove(lane);
    assert_eq!((w.commands(), w.engine.counts().grants), (vec![], 1));
}

#[test]
fn a_session_that_becomes_idle_a_thousand_times_is_remembered_once() {
    let mut w = World::sessions();
    let grant = w.session("a");
    for position in 0..1_000 {
        w.deliver(grant, "a", position);
        w.handle_all();
        w.answer_all();
        w.now = w.now + MS;
        w.prove(grant);
    }
    assert_eq!(w.engine.timers.len(), 1);
    w.commands.clear();
    w.advance(SEC);
    assert_eq!(w.commands(), ["release 1"]);
    assert_eq!((w.engine.timers.len(), w.engine.next_deadline()), (0, None));
}

#[test]
fn evidence_that_lengthens_nothing_does_not_put_off_the_renewal() {
    let mut w = World::lanes();
    let lane = w.lane(0);
    w.advance(10 * SEC);
    w.event(Event::Proved { grant: lane, asked_at: w.now, valid_for: VALID - 10 * SEC });
    w.advance(5 * SEC);
    assert_eq!(w.commands(), ["renew 1"]);
}

#[test]
fn the_memory_of_rights_that_are_gone_is_kept_for_the_next_and_bounded() {
    let mut w = World::lanes();
    let lanes: Vec<Grant> = (0..100).map(|lane| w.lane(lane)).collect();
    for lane in lanes {
        w.lost(lane, Loss::Revoked);
    }
    assert_eq!(w.engine.spare.len(), 64);
    w.lane(0);
    assert_eq!(w.engine.spare.len(), 63, "it is used");
}
