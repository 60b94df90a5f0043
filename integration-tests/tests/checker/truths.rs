//! Correct histories that a naive rule would have flagged, each named in its test: brokers' own ways, sinks, state and the end.

#![allow(non_snake_case, reason = "a double underscore parts the case from the naive rule")]

use convoy_conformance::checker::{Liveness, Options, Reported};
use convoy_conformance::history::{Answer, Cause, Ended, Fault, GrantId, Phase, Place, Reason, Side, What};

use crate::story::*;

truths! {
    pairs_of_two_producers_in_the_order_of_the_queue__not_reorder_first, partial: |h| {
        h.send([m(1), of(2, 1), m(2), of(2, 2)]);
        h.grant(A);
        h.handle(A, [of(2, 1), m(1), of(2, 2), m(2)]);
    };

    an_acked_one_comes_back_after_the_loss_of_a_node__not_duplicate_after_settle, partial: |h| {
        h.send((1..=4).map(m));
        h.grant(A);
        h.handle(A, (1..=3).map(m));
        h.fault(Fault::NodeLoss, Side::Both, Phase::Begin, 1);
        h.lose(A, Cause::Connection);
        h.grant(B);
        h.deliver(B, [m(2), m(3), m(4)]);
        for message in [m(2), m(3), m(4)] {
            h.run(B, message);
            h.settle(B, message);
        }
    } => |v| v.count(Reported::Returned) == 2;

    what_an_old_grant_gets_out_of_a_buffer_while_a_node_is_lost__not_returned_and_not_skip, partial: |h| {
        h.send((1..=3).map(m));
        h.grant(A);
        h.fault(Fault::NodeLoss, Side::Both, Phase::Begin, 9);
        h.grant(B);
        h.handle(B, [m(1), m(2)]);
        h.deliver(A, [m(1), m(2)]);
        h.lose(A, Cause::Expired);
        h.handle(B, [m(3)]);
    } => |v| v.count(Reported::Returned) == 0;

    what_is_in_a_buffer_under_a_right_that_is_told_when_it_is_over__not_returned_and_not_skip, partial: |h| {
        h.send((1..=3).map(m));
        h.fault(Fault::NodeLoss, Side::Both, Phase::Begin, 9);
        h.grant(B);
        h.handle(B, [m(1), m(2)]);
        let sent_at = h.now;
        h.tell(1, What::Grant { place: Place::Lane(0), grant: A, sent_at, lock: 0 });
        h.wait(1);
        h.deliver(A, [m(1), m(2)]);
        h.lose(A, Cause::Expired);
        h.handle(B, [m(3)]);
    } => |v| v.count(Reported::Returned) == 0;

    a_drain_that_finished_leaves_nothing__bound_zero_holds, total: |h| {
        h.send([m(1), m(2)]);
        h.grant(A);
        h.handle(A, [m(1)]);
        h.lose(A, Cause::Drained);
        h.grant(B);
        h.handle(B, [m(2)]);
    } => |v| v.count(Reported::Duplicate) == 0;

    a_message_brought_back__not_duplicate_after_settle, total: |h| {
        h.send([m(1), m(2)]);
        h.grant(A);
        h.deliver(A, [m(1), m(2)]);
        h.fail(A, m(1));
        h.bury(A, m(1), Reason::Explicit);
        h.run(A, m(2));
        h.settle(A, m(2));
        h.tell(0, What::Redrive { session: S, message: m(1) });
        h.handle(A, [m(1)]);
    };

    a_purged_one__not_lost, total: |h| {
        h.send([m(1), m(2)]);
        h.grant(A);
        h.deliver(A, [m(1), m(2)]);
        h.fail(A, m(1));
        h.tell(0, What::Purge { session: S, message: m(1) });
        h.run(A, m(2));
        h.settle(A, m(2));
    };

    a_group_that_came_after_the_send_owes_nothing__not_lost, total: |h| {
        h.send([m(1)]);
        h.grant(A);
        h.handle(A, [m(1)]);
        h.group = 8;
        h.tell(0, What::GroupStart);
    };

    each_of_two_groups_sees_every_message__not_duplicate_after_settle, total: |h| {
        h.group = 8;
        h.tell(0, What::GroupStart);
        h.send([m(1), m(2)]);
        h.grant(A);
        h.handle(A, [m(1), m(2)]);
        h.group = GROUP;
        h.grant(B);
        h.handle(B, [m(1), m(2)]);
    };

    two_sessions_of_a_lane_side_by_side__not_overlap_live, total: |h| {
        h.send([m(1)]);
        h.session = 2;
        h.send([m(2)]);
        h.grant(A);
        h.deliver(A, [m(2)]);
        h.start(A, m(2));
        h.session = S;
        h.handle(A, [m(1)]);
        h.session = 2;
        h.end(A, m(2), Ended::Ok);
        h.settle(A, m(2));
    };

    an_equal_position_refused_as_applied__not_fence_violation, total: |h| {
        h.effect(m(1), true);
        h.effect(m(1), false);
        h.effect(m(3), true);
        h.effect(m(2), false);
    };

    effects_of_two_producers_have_a_row_each__not_fence_violation, partial: |h| {
        h.effect(m(5), true);
        h.effect(of(2, 1), true);
        h.effect(m(6), true);
    };

    a_state_write_of_unknown_outcome_is_read_or_not__not_state_stale, total: |h| {
        h.grant(A);
        h.write(A, 1, Answer::Ok);
        h.write(A, 2, Answer::Unknown);
        h.lose(A, Cause::Connection);
        h.grant(B);
        h.read(B, 2);
        h.session = 2;
        h.grant(GrantId { consumer: 1, n: 2 });
        h.write(GrantId { consumer: 1, n: 2 }, 1, Answer::Ok);
        h.write(GrantId { consumer: 1, n: 2 }, 2, Answer::Unknown);
        h.grant(C);
        h.read(C, 1);
    };

    a_zombies_state_write_refused__not_state_stale, total: |h| {
        h.grant(A);
        h.write(A, 1, Answer::Ok);
        h.grant(B);
        h.read(B, 1);
        h.write(A, 2, Answer::Refused);
        h.write(B, 3, Answer::Ok);
    };

    a_session_given_back_to_the_same_process_after_the_old_run_ended__not_overlap_live, total: |h| {
        let again = GrantId { consumer: 1, n: 2 };
        h.send([m(1)]);
        h.grant(A);
        h.deliver(A, [m(1)]);
        h.start(A, m(1));
        h.lose(A, Cause::Revoked);
        h.grant(again);
        h.deliver(again, [m(1)]);
        h.end(A, m(1), Ended::Cancelled);
        h.run(again, m(1));
        h.settle(again, m(1));
    };
}

#[test]
fn what_is_left_at_the_end_of_an_unhealthy_run_is_named_and_not_fatal() {
    let mut h = Story::new(Options::total());
    h.options.settled_by_end = false;
    h.send((1..=3).map(m));
    h.grant(A);
    h.handle(A, [m(1)]);
    h.deliver(A, [m(2)]);
    let verdict = h.judge();
    assert!(verdict.is_ok() && !verdict.is_live(), "{verdict}");
    assert_eq!((verdict.left(Liveness::Stall), verdict.left(Liveness::Unseen)), (1, 1), "{verdict}");
    assert_eq!(verdict.left(Liveness::StuckLane), 0, "{verdict}");

    h.wait(20 * SECOND);
    h.tell(0, What::GroupStart);
    assert_eq!(h.judge().left(Liveness::StuckLane), 1);
}

#[test]
fn a_checker_that_was_reset_remembers_nothing() {
    let mut h = Story::new(Options::total());
    h.send([m(1), m(2)]);
    h.grant(A);
    h.handle(A, [m(2), m(1)]);
    let mut checker = convoy_conformance::checker::Checker::new(h.options.clone());
    let mut judge = || {
        h.events.iter().for_each(|event| checker.push(event));
        let result = checker.finish().result();
        checker.reset();
        result
    };
    let first = judge();
    assert!(first.contains("fatal=1") && first.contains("reorder_first=1"), "{first}");
    assert_eq!(judge(), first);
}
