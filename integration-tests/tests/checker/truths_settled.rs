//! Correct histories that a naive rule would have flagged, each named in its test: what was done and what comes again.

#![allow(non_snake_case, reason = "a double underscore parts the case from the naive rule")]

use convoy_conformance::checker::{Options, Reported};
use convoy_conformance::history::{Answer, Cause, Ended, Fault, GrantId, Phase, SettleKind, Side};

use crate::story::*;

truths! {
    a_retry_is_no_duplicate__nor_nonmonotonic, total: |h| {
        h.send([m(1), m(2)]);
        h.grant(A);
        h.deliver(A, [m(1), m(2)]);
        h.fail(A, m(1));
        h.start(A, m(1));
        h.end(A, m(1), Ended::Panic);
        h.run(A, m(1));
        h.run(A, m(2));
        h.settle(A, m(1));
        h.settle(A, m(2));
    } => |v| v.count(Reported::Duplicate) == 0;

    a_refusal_does_not_say_what_became_of_an_unknown_one_before_it__not_skip, total: |h| {
        h.send([m(1), m(2)]);
        h.grant(A);
        h.deliver(A, [m(1), m(2)]);
        h.run(A, m(1));
        h.ask(A, m(1), SettleKind::Complete);
        h.answer(A, m(1), Answer::Unknown);
        h.answer(A, m(1), Answer::Refused);
        h.lose(A, Cause::Refused);
        h.grant(B);
        h.handle(B, [m(2)]);
    } => |v| v.count(Reported::Duplicate) == 0;

    a_start_after_a_cancelled_run_is_no_duplicate__not_duplicate_excess, total: |h| {
        h.send([m(1)]);
        h.grant(A);
        h.deliver(A, [m(1)]);
        h.start(A, m(1));
        h.end(A, m(1), Ended::Cancelled);
        h.lose(A, Cause::Drained);
        h.grant(B);
        h.handle(B, [m(1)]);
    } => |v| v.count(Reported::Duplicate) == 0;

    a_retry_of_a_duplicate_counts_once__not_duplicate_excess, total: |h| {
        h.send([m(1)]);
        h.grant(A);
        h.deliver(A, [m(1)]);
        h.start(A, m(1));
        h.kill(1);
        h.grant(B);
        h.deliver(B, [m(1)]);
        (0..5).for_each(|_| h.fail(B, m(1)));
        h.run(B, m(1));
        h.settle(B, m(1));
    } => |v| v.count(Reported::Duplicate) == 1;

    a_repeat_that_fails_and_goes_on_in_a_later_grant_is_a_retry__not_duplicate_excess, total: |h| {
        h.send([m(1)]);
        h.grant(A);
        h.deliver(A, [m(1)]);
        h.run(A, m(1));
        h.lose(A, Cause::Connection);
        for n in 2..6 {
            let grant = GrantId { consumer: 2, n };
            h.grant(grant);
            h.deliver(grant, [m(1)]);
            h.fail(grant, m(1));
            h.lose(grant, Cause::Drained);
        }
        h.grant(C);
        h.handle(C, [m(1)]);
    } => |v| v.count(Reported::Duplicate) == 1;

    what_finished_and_was_not_settled_may_come_again__not_duplicate_excess, total: |h| {
        h.send((1..=5).map(m));
        h.grant(A);
        h.deliver(A, (1..=5).map(m));
        (1..=4).for_each(|n| h.run(A, m(n)));
        h.start(A, m(5));
        h.kill(1);
        h.grant(B);
        h.handle(B, (1..=5).map(m));
    } => |v| v.count(Reported::Duplicate) == 5;

    two_crashes_in_a_row_add_their_bounds__not_duplicate_excess, total: |h| {
        h.send((1..=3).map(m));
        for grant in [A, B] {
            h.grant(grant);
            h.deliver(grant, (1..=3).map(m));
            (1..=2).for_each(|n| h.run(grant, m(n)));
            h.start(grant, m(3));
            h.kill(grant.consumer);
        }
        h.grant(C);
        h.handle(C, (1..=3).map(m));
    } => |v| v.count(Reported::Duplicate) == 6;

    a_new_grant_starts_at_a_maybe_settled_one__not_duplicate_after_settle, total: |h| {
        h.send([m(1), m(2)]);
        h.grant(A);
        h.deliver(A, [m(1), m(2)]);
        h.run(A, m(1));
        h.ask(A, m(1), SettleKind::Complete);
        h.answer(A, m(1), Answer::Unknown);
        h.lose(A, Cause::Surrendered);
        h.grant(B);
        h.handle(B, [m(1), m(2)]);
    };

    a_new_grant_starts_behind_a_maybe_settled_one__not_skip_nor_lost, total: |h| {
        h.send([m(1), m(2)]);
        h.grant(A);
        h.deliver(A, [m(1), m(2)]);
        h.run(A, m(1));
        h.ask(A, m(1), SettleKind::Complete);
        h.lose(A, Cause::Connection);
        h.grant(B);
        h.handle(B, [m(2)]);
    };

    the_last_of_a_session_stays_maybe_settled__not_lost, total: |h| {
        h.send([m(1)]);
        h.grant(A);
        h.deliver(A, [m(1)]);
        h.run(A, m(1));
        h.ask(A, m(1), SettleKind::Complete);
        h.kill(1);
        h.grant(B);
    };

    settled_in_the_order_of_answers_with_others_maybe_settled__not_skip, total: |h| {
        h.send([m(1), m(2)]);
        h.grant(A);
        h.deliver(A, [m(1), m(2)]);
        h.run(A, m(1));
        h.ask(A, m(1), SettleKind::Complete);
        h.run(A, m(2));
        h.settle(A, m(2));
        h.answer(A, m(1), Answer::Ok);
    };

    an_answer_that_comes_after_the_newer_grant_started__not_stale_settle, total: |h| {
        h.send([m(1), m(2)]);
        h.grant(A);
        h.deliver(A, [m(1), m(2)]);
        h.run(A, m(1));
        h.ask(A, m(1), SettleKind::Complete);
        h.fault(Fault::Reset, Side::Broker, Phase::Begin, 1);
        h.grant(B);
        h.deliver(B, [m(2)]);
        h.start(B, m(2));
        h.answer(A, m(1), Answer::Ok);
        h.lose(A, Cause::Connection);
        h.end(B, m(2), Ended::Ok);
        h.settle(B, m(2));
    };

    a_zombies_settlement_refused__not_stale_settle, total: |h| {
        h.send([m(1)]);
        h.grant(A);
        h.deliver(A, [m(1)]);
        h.run(A, m(1));
        h.fault(Fault::Detach, Side::Broker, Phase::Begin, 1);
        h.grant(B);
        h.deliver(B, [m(1)]);
        h.start(B, m(1));
        h.ask(A, m(1), SettleKind::Complete);
        h.answer(A, m(1), Answer::Refused);
        h.lose(A, Cause::Refused);
        h.end(B, m(1), Ended::Ok);
        h.settle(B, m(1));
    } => |v| v.count(Reported::Duplicate) == 1;

    completed_on_the_strength_of_an_older_grants_run__not_settle_unhandled, total: |h| {
        h.send([m(1)]);
        h.grant(A);
        h.deliver(A, [m(1)]);
        h.run(A, m(1));
        h.lose(A, Cause::Connection);
        h.grant(B);
        h.deliver(B, [m(1)]);
        h.settle(B, m(1));
    };
}
