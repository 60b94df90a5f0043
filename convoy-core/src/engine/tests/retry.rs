//! What follows a failed attempt: waits in place, limits, dead letters, stops.

use super::*;
use crate::policy::Exhausted;

fn with(retry: Retry, limits: Limits) -> World {
    World::new(Config { retry, ..config() }, limits)
}

fn attempts(most: u32, then: Exhausted) -> Retry {
    Retry::exponential(100 * MS..SEC).at_most(most).then(then)
}

/// Lets the head of the only session fail once, after its wait.
fn fail_again(w: &mut World) -> Option<String> {
    w.advance(100 * MS);
    let run = w.start()?;
    w.fail(run.split(' ').next().unwrap());
    Some(run)
}

#[test]
fn a_failed_message_stays_the_head_and_its_session_waits() {
    let mut w = World::lanes();
    let lane = w.lane(0);
    w.deliver_all(lane, &[("a", 0), ("a", 1), ("b", 2), ("b", 3)]);
    assert_eq!(w.starts(), ["a@0", "b@2"]);
    w.fail("a@0");
    w.done("b@2");
    assert_eq!(w.starts(), ["b@3"], "other sessions go on");
    w.deliver(lane, "a", 4);
    w.advance(50 * MS - Duration::from_nanos(1));
    assert_eq!(w.starts(), NOTHING);
    w.advance(Duration::from_nanos(1));
    assert_eq!(w.starts(), ["a@0 #2"]);
    w.done("a@0");
    assert_eq!(w.starts(), ["a@1"], "the next message begins anew");
    assert_eq!((w.engine.totals().failed, w.engine.totals().retried), (1, 1));
}

#[test]
fn waits_double_and_are_spread_by_the_argument() {
    let mut w = World::lanes();
    let lane = w.lane(0);
    w.deliver(lane, "a", 0);
    for (jitter, wait) in [(0, 50), (0, 100), (0, 200), (0, 400), (0, 500), (250_000_000, 750), (500_000_000, 1_000)] {
        assert_eq!(w.starts().len(), 1);
        let failed_at = w.now;
        w.end_with("a@0", failed(Then::Retry), jitter);
        let due = w.engine.timers.due(w.engine.sessions[0].timer.unwrap());
        assert_eq!(due.since(failed_at), wait * MS);
        w.advance(wait * MS);
        w.prove(lane);
    }
}

#[test]
fn attempts_are_unlimited_until_the_user_says_otherwise() {
    let mut w = World::lanes();
    let lane = w.lane(0);
    w.deliver(lane, "a", 0);
    for attempt in 1..=200 {
        let run = w.start().unwrap();
        assert!(attempt == 1 || run.ends_with(&format!("#{attempt}")));
        w.fail("a@0");
        w.advance(500 * MS);
        w.prove(lane);
    }
    assert!(w.notices().is_empty());
}

#[test]
fn a_panic_is_a_failed_attempt() {
    let mut w = World::lanes();
    let lane = w.lane(0);
    w.deliver(lane, "a", 0);
    w.starts();
    w.end("a@0", End::Panicked { detail: "boom".to_owned() });
    assert_eq!(w.starts(), NOTHING);
    w.advance(50 * MS);
    assert_eq!(w.starts(), ["a@0 #2"]);
}

#[test]
fn a_handler_may_name_the_wait() {
    let mut w = with(attempts(2, Exhausted::DeadLetter), Limits::lanes());
    let lane = w.lane(0);
    w.deliver(lane, "a", 0);
    for _ in 0..5 {
        w.starts();
        w.end("a@0", failed(Then::RetryIn(7 * MS)));
        w.advance(7 * MS - Duration::from_nanos(1));
        assert_eq!(w.starts(), NOTHING);
        w.advance(Duration::from_nanos(1));
    }
    assert_eq!(w.starts(), ["a@0 #6"], "whatever the policy says");
    w.end("a@0", failed(Then::RetryIn(Duration::MAX)));
    w.prove(lane);
    w.advance(SEC);
    assert_eq!(w.engine.counts().messages, 1);
    assert!(w.engine.next_deadline().unwrap() < Moment::NEVER);
}

#[test]
fn exhausted_attempts_dead_letter_the_message() {
    let mut w = with(attempts(3, Exhausted::DeadLetter), Limits::lanes());
    let lane = w.lane(0);
    w.deliver_all(lane, &[("a", 0), ("a", 1)]);
    assert_eq!(fail_again(&mut w).unwrap(), "a@0");
    assert_eq!(fail_again(&mut w).unwrap(), "a@0 #2");
    assert_eq!(w.commands(), NOTHING);
    assert_eq!(fail_again(&mut w).unwrap(), "a@0 #3");
    assert_eq!(w.commands(), ["aside 1 a@0 attempts-exhausted x3"]);
    assert_eq!(fail_again(&mut w), None);
}

#[test]
fn the_copy_is_confirmed_before_the_source_is_settled_and_the_session_waits_for_both() {
    let mut w = with(attempts(1, Exhausted::DeadLetter), Limits::lanes());
    let lane = w.lane(0);
    w.deliver_all(lane, &[("a", 0), ("a", 1), ("b", 2)]);
    w.starts();
    w.fail("a@0");
    w.advance(SEC);
    assert_eq!(w.commands(), ["aside 1 a@0 attempts-exhausted x1"]);
    w.deliver(lane, "a", 3);
    assert_eq!(w.starts(), NOTHING);
    w.copied(lane, 0, Answer::Ok);
    assert_eq!(w.commands(), ["settle 1 1/4"], "at once: a session waits for it");
    assert_eq!(w.starts(), NOTHING, "the session waits for the source's settlement");
    w.deliver(lane, "a", 4);
    w.advance(SEC);
    assert_eq!(w.starts(), NOTHING);
    w.answer(Answer::Ok);
    assert_eq!(w.starts(), ["a@1"]);
    assert_eq!((w.engine.totals().dead_lettered, w.engine.totals().completed), (1, 0));
    w.copied(lane, 0, Answer::Ok);
    assert_eq!(w.engine.totals().dead_lettered, 1, "an answer counts once");
}

#[test]
fn a_copy_waits_until_what_was_done_before_it_is_settled() {
    let mut w = with(attempts(1, Exhausted::DeadLetter), Limits::lanes());
    let lane = w.lane(0);
    w.deliver_all(lane, &[("a", 0), ("a", 1), ("b", 2)]);
    w.starts();
    w.done("a@0");
    w.starts();
    w.fail("a@1");
    assert_eq!(w.commands(), ["settle 1 1/3"], "were a@0 handed out again and set aside, its copy would lie behind");
    w.answer(Answer::NotApplied);
    assert_eq!(w.commands(), NOTHING);
    w.advance(250 * MS);
    w.answer(Answer::Ok);
    assert_eq!(w.commands(), ["settle 1 1/3", "aside 1 a@1 attempts-exhausted x1"]);
    assert_eq!(w.starts(), NOTHING);
    w.copied(lane, 1, Answer::Ok);
    w.answer(Answer::Ok);
    assert_eq!(w.engine.totals().dead_lettered, 1);
}

#[test]
fn a_place_that_is_given_back_makes_no_copy_of_what_waits_for_one() {
    let mut w = with(attempts(1, Exhausted::DeadLetter), Limits::lanes());
    let lane = w.lane(0);
    w.deliver_all(lane, &[("a", 0), ("a", 1)]);
    w.starts();
    w.done("a@0");
    w.starts();
    w.fail("a@1");
    w.event(Event::Revoking { grant: lane, until: w.now + 10 * SEC });
    w.commands();
    w.answer(Answer::Ok);
    assert_eq!(w.commands(), ["release 1"], "it is handled again elsewhere");
}

#[test]
fn a_settlement_of_a_dead_letter_whose_answer_is_lost_keeps_the_session_waiting() {
    let mut w = with(attempts(1, Exhausted::DeadLetter), Limits::lanes());
    let lane = w.lane(0);
    w.deliver_all(lane, &[("a", 0), ("a", 1)]);
    w.starts();
    w.fail("a@0");
    w.copied(lane, 0, Answer::Ok);
    w.answer(Answer::Unknown);
    assert_eq!(w.starts(), NOTHING);
    w.advance(250 * MS);
    w.answer(Answer::Ok);
    assert_eq!(w.starts(), ["a@1"]);
}

#[test]
fn a_handler_may_wait_as_the_policy_does_and_beyond_its_limits() {
    let retry = Retry::exponential(100 * MS..SEC).at_most(2).within(SEC).then(Exhausted::DeadLetter);
    let mut w = with(retry, Limits::lanes());
    let lane = w.lane(0);
    w.deliver_all(lane, &[("a", 0), ("a", 1)]);
    for wait in [50, 100, 200, 400, 500, 500, 500] {
        assert_eq!(w.starts().len(), 1);
        w.end("a@0", failed(Then::Wait));
        w.advance(wait * MS - Duration::from_nanos(1));
        assert_eq!(w.starts(), NOTHING);
        w.advance(Duration::from_nanos(1));
        w.prove(lane);
    }
    assert_eq!(w.starts(), ["a@0 #8"], "neither the attempts nor the time are limited");
    assert_eq!(w.engine.totals().dead_lettered, 0);
    w.done("a@0");
    assert_eq!(w.starts(), ["a@1"], "the limits hold again for the next");
    w.fail("a@1");
    w.advance(100 * MS);
    w.starts();
    w.fail("a@1");
    w.answer(Answer::Ok);
    assert_eq!(w.commands().last().map(String::as_str), Some("aside 1 a@1 attempts-exhausted x2"));
}

#[test]
fn a_dead_letter_may_have_a_code_of_its_own() {
    let mut w = World::sessions();
    let grant = w.session("a");
    w.deliver(grant, "a", 0);
    w.starts();
    w.end("a@0", failed(Then::DeadLetterAs("unknown-type")));
    assert_eq!(w.commands(), ["aside 1 a@0 unknown-type x1"]);
    w.copied(grant, 0, Answer::Ok);
    assert_eq!(w.engine.totals().dead_lettered, 1);
}

#[test]
fn where_the_copy_settles_too_nothing_else_is_asked_for() {
    let mut w = World::sessions();
    let grant = w.session("a");
    w.deliver_all(grant, &[("a", 0), ("a", 1)]);
    w.starts();
    w.end("a@0", failed(Then::DeadLetter));
    assert_eq!(w.commands(), ["aside 1 a@0 handler x1"]);
    w.advance(10 * SEC);
    assert_eq!((w.starts().len(), w.engine.counts().grants), (0, 1), "no idle session");
    w.copied(grant, 0, Answer::Ok);
    assert_eq!(w.commands(), NOTHING);
    assert_eq!(w.starts(), ["a@1"]);
    w.end("a@1", failed(Then::DeadLetter));
    w.copied(grant, 1, Answer::Ok);
    assert_eq!((w.engine.counts().sessions, w.engine.counts().grants), (0, 1));
}

#[test]
fn a_copy_that_was_not_taken_is_tried_again() {
    for (answer, limits) in [
        (Answer::Refused, Limits::lanes()),
        (Answer::NotApplied, Limits::sessions()),
        (Answer::Refused, Limits::sessions()),
        (Answer::Unknown, Limits::lanes()),
    ] {
        let mut w = World::new(config(), limits);
        let grant = w.session("a");
        w.deliver_all(grant, &[("a", 0), ("a", 1)]);
        w.starts();
        w.end("a@0", failed(Then::DeadLetter));
        for _ in 0..3 {
            assert_eq!(w.commands(), ["aside 1 a@0 handler x1"]);
            w.copied(grant, 0, answer);
            assert_eq!((w.commands(), w.starts(), w.engine.counts().messages), (vec![], vec![], 2));
            w.advance(99 * MS);
            assert_eq!(w.commands(), NOTHING);
            w.advance(101 * MS);
        }
        w.copied(grant, 0, Answer::Ok);
        w.answer_all();
        assert_eq!(w.starts(), ["a@1"]);
    }
}

#[test]
fn a_copy_that_settles_and_whose_answer_is_lost_ends_the_grant() {
    let mut w = World::sessions();
    let grant = w.session("a");
    w.deliver_all(grant, &[("a", 0), ("a", 1)]);
    w.starts();
    w.end("a@0", failed(Then::DeadLetter));
    w.commands.clear();
    w.copied(grant, 0, Answer::Unknown);
    assert_eq!(w.commands(), ["surrender 1"]);
    assert_eq!(w.engine.counts(), super::super::Counts::default());
}

#[test]
fn exhausted_attempts_stop_the_consumer_and_keep_the_message() {
    let mut w = with(attempts(2, Exhausted::Stop), Limits::lanes());
    let lane = w.lane(0);
    w.deliver_all(lane, &[("a", 0), ("b", 1)]);
    assert_eq!(w.start().unwrap(), "a@0");
    w.fail("a@0");
    assert_eq!(w.notices(), NOTHING);
    w.advance(50 * MS);
    assert_eq!(w.starts(), ["b@1", "a@0 #2"]);
    w.fail("a@0");
    assert_eq!(w.notices(), ["stop a@0 attempts-exhausted x2"]);
    assert_eq!((w.commands(), w.starts(), w.engine.counts().messages), (vec![], vec![], 2));
}

#[test]
fn the_time_from_the_first_failure_is_limited() {
    let mut w = with(Retry::fixed(200 * MS).within(250 * MS).then(Exhausted::DeadLetter), Limits::lanes());
    let lane = w.lane(0);
    w.deliver(lane, "a", 0);
    w.advance(SEC);
    w.starts();
    w.advance(SEC);
    w.fail("a@0");
    w.advance(100 * MS);
    assert_eq!(w.starts(), ["a@0 #2"], "the time before the first failure does not count");
    w.advance(50 * MS);
    w.fail("a@0");
    w.advance(100 * MS);
    assert_eq!(w.starts(), ["a@0 #3"], "exactly in time");
    w.fail("a@0");
    assert_eq!(w.commands(), ["aside 1 a@0 time-exhausted x3"]);
}

#[test]
fn both_limits_hold_and_the_attempts_are_named_first() {
    let retry = Retry::fixed(200 * MS).within(50 * MS).at_most(2).then(Exhausted::Stop);
    let mut w = with(retry, Limits::lanes());
    let lane = w.lane(0);
    w.deliver(lane, "a", 0);
    w.starts();
    w.fail("a@0");
    assert_eq!(w.notices(), ["stop a@0 time-exhausted x1"]);
}

#[test]
fn attempts_are_not_charged_when_the_right_was_lost() {
    let mut w = with(attempts(2, Exhausted::DeadLetter), Limits::lanes());
    let lane = w.lane(0);
    w.deliver(lane, "a", 0);
    w.starts();
    w.lost(lane, Loss::Revoked);
    w.fail("a@0");
    let lane = w.lane(0);
    w.deliver(lane, "a", 0);
    w.starts();
    w.fail("a@0");
    assert_eq!((w.commands(), w.engine.totals().failed), (vec![], 1));
    w.lost(lane, Loss::Revoked);
    assert_eq!(w.engine.counts(), super::super::Counts::default());
    assert_eq!(w.engine.next_deadline(), None, "the wait went with its session");
    let lane = w.lane(0);
    w.deliver(lane, "a", 0);
    assert_eq!(w.starts(), ["a@0"], "attempts count within a grant");
}

#[test]
fn attempts_are_not_charged_when_the_place_is_given_back() {
    let mut w = with(attempts(1, Exhausted::DeadLetter), Limits::lanes());
    let lane = w.lane(0);
    w.deliver_all(lane, &[("a", 0), ("b", 1), ("c", 2)]);
    w.starts();
    w.event(Event::Revoking { grant: lane, until: w.now + SEC });
    w.advance(Duration::ZERO);
    assert_eq!(w.notices(), ["cancel a@0 Leaving", "cancel b@1 Leaving", "cancel c@2 Leaving"]);
    w.fail("a@0");
    w.end("b@1", End::Panicked { detail: String::new() });
    w.end("c@2", End::Cancelled);
    assert_eq!((w.commands(), w.engine.totals().failed), (vec!["release 1".to_owned()], 0));
}

#[test]
fn a_failure_before_it_was_told_to_end_is_charged_while_leaving() {
    let mut w = with(attempts(1, Exhausted::DeadLetter), Limits::lanes());
    let lane = w.lane(0);
    w.deliver(lane, "a", 0);
    w.starts();
    w.event(Event::Revoking { grant: lane, until: w.now + 10 * SEC });
    w.fail("a@0");
    assert_eq!(w.commands(), ["aside 1 a@0 attempts-exhausted x1"], "its last attempt is over");
    w.copied(lane, 0, Answer::Ok);
    assert_eq!(w.commands(), ["settle 1 1/1"]);
    w.answer(Answer::Ok);
    assert_eq!(w.commands(), ["release 1"]);
}

#[test]
fn a_place_that_is_given_back_tries_no_copy_again() {
    let mut w = World::lanes();
    let lane = w.lane(0);
    w.deliver_all(lane, &[("a", 0), ("b", 1)]);
    w.starts();
    w.end("a@0", failed(Then::DeadLetter));
    w.copied(lane, 0, Answer::Refused);
    w.commands.clear();
    w.event(Event::Revoking { grant: lane, until: w.now + 10 * SEC });
    w.advance(SEC);
    assert_eq!(w.commands(), NOTHING);
    w.done("b@1");
    w.answer_all();
    assert_eq!(w.commands(), ["settle 1 0/2 done [1]", "release 1"]);
}

#[test]
fn the_session_that_stands_still_for_longest_is_named() {
    let mut w = World::lanes();
    let lane = w.lane(0);
    assert!(w.engine.stuck().is_none());
    w.deliver_all(lane, &[("a", 0), ("b", 1), ("c", 2)]);
    w.starts();
    assert!(w.engine.stuck().is_none());
    w.advance(MS);
    w.fail("b@1");
    let since = w.now;
    w.advance(10 * MS);
    w.fail("a@0");
    w.advance(40 * MS);
    assert_eq!(w.starts(), ["b@1 #2"]);
    w.fail("b@1");
    let (session, stuck_since, failures) = w.engine.stuck().unwrap();
    assert_eq!((session, stuck_since, failures), (&id("b"), since, 2));
    w.advance(200 * MS);
    w.starts();
    w.done("b@1");
    assert_eq!(w.engine.stuck().unwrap().0, &id("a"));
}

#[test]
fn attempts_of_a_right_that_was_lost_do_not_count_though_its_handler_kept_the_session() {
    let mut w = World::lanes();
    let lane = w.lane(0);
    w.deliver(lane, "a", 0);
    w.starts();
    w.fail("a@0");
    w.advance(50 * MS);
    assert_eq!(w.starts(), ["a@0 #2"]);
    w.lost(lane, Loss::Revoked);
    let lane = w.lane(0);
    w.deliver(lane, "a", 0);
    w.end("a@0", End::Cancelled);
    assert_eq!(w.starts(), ["a@0"]);
}

#[test]
fn totals_count_failures_waits_and_dead_letters() {
    let mut w = World::lanes();
    let lane = w.lane(0);
    w.deliver(lane, "a", 0);
    for _ in 0..2 {
        w.starts();
        w.fail("a@0");
        w.advance(SEC);
    }
    w.starts();
    w.end("a@0", failed(Then::DeadLetter));
    w.copied(lane, 0, Answer::Ok);
    w.answer_all();
    w.deliver(lane, "b", 1);
    w.handle_all();
    w.lost(lane, Loss::Gone);
    let expected = super::super::Totals { completed: 1, failed: 3, retried: 2, dead_lettered: 1, lost: 1 };
    assert_eq!(w.engine.totals(), expected);
}
