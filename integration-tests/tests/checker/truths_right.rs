//! Correct histories that a naive rule would have flagged, each named in its test: who may run, and until when.

#![allow(non_snake_case, reason = "a double underscore parts the case from the naive rule")]

use convoy_conformance::checker::{Options, Reported};
use convoy_conformance::history::{Cause, Ended, Fault, Phase, Side, What};

use crate::story::*;

truths! {
    a_blocking_handler_outlives_its_right__not_late_cancel, total: |h| {
        h.send([m(1)]);
        h.grant(A);
        h.deliver(A, [m(1)]);
        h.start_blocking(A, m(1));
        h.lose(A, Cause::Connection);
        h.wait(5 * SECOND);
        h.end(A, m(1), Ended::Ok);
        h.grant(B);
        h.handle(B, [m(1)]);
    };

    a_frozen_process_ends_its_run_after_it_thaws__not_late_cancel, total: |h| {
        h.send([m(1)]);
        h.grant(A);
        h.deliver(A, [m(1)]);
        h.start(A, m(1));
        h.fault(Fault::Freeze, Side::Client, Phase::Begin, 1);
        h.wait(LOCK);
        h.grant(B);
        h.handle(B, [m(1)]);
        h.wait(LOCK);
        h.fault(Fault::Freeze, Side::Client, Phase::End, 1);
        h.wait(SECOND / 2);
        h.lose(A, Cause::Expired);
        h.end(A, m(1), Ended::Cancelled);
    } => |v| v.count(Reported::ZombieOverlap) == 1 && v.spread(Reported::ZombieOverlap).is_some();

    a_process_thaws_before_the_history_says_so__not_late_cancel, total: |h| {
        h.send([m(1)]);
        h.grant(A);
        h.deliver(A, [m(1)]);
        h.start(A, m(1));
        h.fault(Fault::Freeze, Side::Client, Phase::Begin, 1);
        h.wait(LOCK);
        h.grant(B);
        h.handle(B, [m(1)]);
        h.wait(LOCK);
        h.end(A, m(1), Ended::Cancelled);
        h.lose(A, Cause::Expired);
        // Who thaws it is slower than it is.
        h.wait(SECOND / 2);
        h.fault(Fault::Freeze, Side::Client, Phase::End, 1);
    };

    frozen_to_the_end__not_late_cancel, total: |h| {
        h.send([m(1)]);
        h.grant(A);
        h.deliver(A, [m(1)]);
        h.start(A, m(1));
        h.fault(Fault::Freeze, Side::Client, Phase::Begin, 1);
        h.wait(LOCK);
        h.grant(B);
        h.handle(B, [m(1)]);
        h.wait(LOCK);
        h.send([m(2)]);
        h.renew(B);
        h.handle(B, [m(2)]);
    };

    overlap_after_the_olders_deadline__not_overlap_live, total: |h| {
        h.send([m(1)]);
        h.grant(A);
        h.deliver(A, [m(1)]);
        h.start(A, m(1));
        h.wait(LOCK);
        h.grant(B);
        h.deliver(B, [m(1)]);
        h.start(B, m(1));
        h.end(A, m(1), Ended::Cancelled);
        h.end(B, m(1), Ended::Ok);
        h.settle(B, m(1));
    } => |v| v.count(Reported::ZombieOverlap) == 1;

    overlap_after_the_loss_was_seen__not_overlap_live, total: |h| {
        h.send([m(1)]);
        h.grant(A);
        h.deliver(A, [m(1)]);
        h.start(A, m(1));
        h.lose(A, Cause::Revoked);
        h.grant(B);
        h.deliver(B, [m(1)]);
        h.start(B, m(1));
        h.end(A, m(1), Ended::Cancelled);
        h.end(B, m(1), Ended::Ok);
        h.settle(B, m(1));
    };

    overlap_after_a_cut_that_only_the_broker_sees__not_overlap_live, total: |h| {
        h.send([m(1), m(2)]);
        h.grant(A);
        h.deliver(A, [m(1), m(2)]);
        h.start(A, m(1));
        h.fault(Fault::Blackhole, Side::Broker, Phase::Begin, 1);
        h.wait(SECOND);
        h.grant(B);
        h.deliver(B, [m(1), m(2)]);
        h.start(B, m(1));
        h.end(A, m(1), Ended::Ok);
        h.end(B, m(1), Ended::Ok);
        h.settle(B, m(1));
        h.run(B, m(2));
        h.settle(B, m(2));
        h.start(A, m(2));
        h.lose(A, Cause::Connection);
        h.end(A, m(2), Ended::Cancelled);
    } => |v| v.count(Reported::ZombieOverlap) == 1 && v.count(Reported::Duplicate) == 1;

    a_zombie_that_goes_on_in_order_before_it_knows__not_skip_nor_duplicate_after_settle, total: |h| {
        h.send((1..=4).map(m));
        h.grant(A);
        h.deliver(A, (1..=4).map(m));
        h.run(A, m(1));
        h.fault(Fault::NodeLoss, Side::Broker, Phase::Begin, 1);
        h.grant(B);
        h.handle(B, (1..=3).map(m));
        (2..=3).for_each(|n| h.run(A, m(n)));
        h.lose(A, Cause::Connection);
        h.handle(B, [m(4)]);
    } => |v| v.count(Reported::Duplicate) == 3;

    a_run_beside_one_that_is_being_killed__not_overlap_live_and_one_duplicate, total: |h| {
        h.send([m(1)]);
        h.grant(A);
        h.deliver(A, [m(1)]);
        h.start(A, m(1));
        h.tell(0, What::KillSent { target: 1 });
        h.grant(B);
        h.deliver(B, [m(1)]);
        h.start(B, m(1));
        h.tell(0, What::Reaped { target: 1 });
        h.end(B, m(1), Ended::Error);
        h.run(B, m(1));
        h.settle(B, m(1));
    } => |v| v.count(Reported::Duplicate) == 1;

    a_run_beside_one_whose_process_aborted_and_is_not_reaped_yet__not_overlap_live, total: |h| {
        h.send([m(1)]);
        h.grant(A);
        h.deliver(A, [m(1)]);
        h.start(A, m(1));
        h.grant(B);
        h.handle(B, [m(1)]);
        h.tell(0, What::Reaped { target: 1 });
    };

    checked_in_time_and_stopped_before_the_first_instruction__not_start_after_expiry, total: |h| {
        h.send([m(1)]);
        h.grant(A);
        h.deliver(A, [m(1)]);
        let (checked_at, position) = (h.now, h.at(m(1)));
        h.fault(Fault::Freeze, Side::Client, Phase::Begin, 1);
        h.wait(LOCK);
        h.grant(B);
        h.handle(B, [m(1)]);
        h.fault(Fault::Freeze, Side::Client, Phase::End, 1);
        h.start_at(A, m(1), position, checked_at);
        h.lose(A, Cause::Expired);
        h.end(A, m(1), Ended::Cancelled);
    } => |v| v.count(Reported::LateFirstInstruction) == 1;

    a_deadline_that_renewals_moved__not_start_after_expiry, total: |h| {
        h.send([m(1)]);
        h.grant(A);
        h.wait(LOCK / 2);
        h.renew(A);
        h.wait(LOCK / 2);
        h.handle(A, [m(1)]);
    };
}
