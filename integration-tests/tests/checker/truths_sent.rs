//! Correct histories that a naive rule would have flagged, each named in its test: what producers do, and what is set aside.

#![allow(non_snake_case, reason = "a double underscore parts the case from the naive rule")]

use convoy_conformance::checker::{Options, Reported};
use convoy_conformance::history::{Answer, Cause, Ended, Fault, Phase, Position, Reason, SettleKind, Side};

use crate::story::*;

truths! {
    an_unknown_send_lands_late_without_positions__not_reorder_first_nor_producer_reorder, partial: |h| {
        h.request(m(1));
        h.sent(m(1), Answer::Unknown);
        h.resume(1);
        h.send([m(2)]);
        h.grant(A);
        h.handle(A, [m(2), m(1)]);
    } => |v| v.count(Reported::UnknownPresent) == 1;

    an_unknown_send_lands_late_by_position__not_producer_reorder, total: |h| {
        let at = |value| Some(Position { generation: 1, value });
        h.request(m(1));
        h.sent(m(1), Answer::Unknown);
        h.resume(1);
        h.request(m(2));
        h.sent_at(m(2), Answer::Ok, at(1));
        h.grant(A);
        for (message, position) in [(m(2), at(1)), (m(1), at(2))] {
            h.deliver_at(A, message, position);
            h.start_at(A, message, position, h.now);
            h.end(A, message, Ended::Ok);
            h.settle(A, message);
        }
    };

    an_unknown_send_never_lands__not_lost, total: |h| {
        h.request(m(1));
        h.sent(m(1), Answer::Unknown);
        h.resume(1);
        h.send([m(2)]);
        h.grant(A);
        h.handle(A, [m(2)]);
    } => |v| v.count(Reported::UnknownAbsent) == 1;

    an_unknown_send_resent_lies_in_the_log_twice__not_duplicate_after_settle, total: |h| {
        let at = |value| Some(Position { generation: 1, value });
        h.request(m(1));
        h.sent_at(m(1), Answer::Unknown, None);
        h.resume(1);
        h.request(m(1));
        h.sent_at(m(1), Answer::Ok, at(2));
        h.request(m(2));
        h.sent_at(m(2), Answer::Ok, at(3));
        h.grant(A);
        for (message, position) in [(m(1), at(1)), (m(1), at(2)), (m(2), at(3))] {
            h.deliver_at(A, message, position);
            h.start_at(A, message, position, h.now);
            h.end(A, message, Ended::Ok);
            h.settle(A, message);
        }
    };

    a_resent_one_comes_back_after_the_loss_of_a_node_before_its_neighbour__not_skip, partial: |h| {
        h.request(m(1));
        h.sent(m(1), Answer::Unknown);
        h.resume(1);
        h.send([m(1), of(2, 1)]);
        h.grant(A);
        h.handle(A, [m(1), of(2, 1)]);
        h.fault(Fault::NodeLoss, Side::Both, Phase::Begin, 9);
        h.lose(A, Cause::Connection);
        h.grant(B);
        h.deliver(B, [m(1), of(2, 1)]);
        for message in [m(1), of(2, 1)] {
            h.run(B, message);
            h.settle(B, message);
        }
    } => |v| v.count(Reported::Returned) == 2;

    the_second_copy_of_a_resent_one_is_found_behind_another_after_the_loss_of_a_node__not_skip, partial: |h| {
        h.request(m(1));
        h.sent(m(1), Answer::Unknown);
        h.resume(1);
        h.grant(A);
        h.request(m(1));
        h.handle(A, [m(1)]);
        h.fault(Fault::NodeLoss, Side::Both, Phase::Begin, 9);
        h.lose(A, Cause::Connection);
        h.send([of(2, 1)]);
        h.sent(m(1), Answer::Ok);
        h.grant(B);
        h.deliver(B, [of(2, 1), m(1)]);
        for message in [of(2, 1), m(1)] {
            h.run(B, message);
            h.settle(B, message);
        }
    } => |v| v.count(Reported::Returned) == 0;

    both_copies_of_a_resent_one_are_fetched_ahead__not_nonmonotonic, partial: |h| {
        h.request(m(1));
        h.sent(m(1), Answer::Unknown);
        h.resume(1);
        h.send([m(1), m(2)]);
        h.grant(A);
        h.deliver(A, [m(1), m(1), m(2)]);
        for message in [m(1), m(1), m(2)] {
            h.run(A, message);
            h.settle(A, message);
        }
    };

    a_failed_send_resent_well__not_aborted_read, total: |h| {
        h.request(m(1));
        h.sent(m(1), Answer::Refused);
        h.sent(m(2), Answer::Refused);
        h.resume(1);
        h.send([m(1), m(2)]);
        h.grant(A);
        h.handle(A, [m(1), m(2)]);
    };

    a_failed_send_skipped__not_lost, total: |h| {
        h.request(m(1));
        h.sent(m(1), Answer::Refused);
        h.resume(1);
        h.send([m(2)]);
        h.grant(A);
        h.handle(A, [m(2)]);
    };

    a_producer_killed_in_a_send__not_phantom_nor_lost, total: |h| {
        h.request(m(1));
        h.kill(101);
        h.grant(A);
        h.handle(A, [m(1)]);
    } => |v| v.count(Reported::UnknownPresent) == 1;

    delivered_before_the_send_is_confirmed__not_phantom, total: |h| {
        h.request(m(1));
        h.grant(A);
        h.handle(A, [m(1)]);
        h.sent(m(1), Answer::Ok);
    };

    malformed_ones_set_aside_out_of_turn__not_skip_nor_reorder_first, total: |h| {
        h.send((1..=3).map(m));
        h.grant(A);
        h.malformed(A, m(1));
        h.deliver(A, [m(2), m(3)]);
        h.run(A, m(2));
        h.ask(A, m(1), SettleKind::Dead(Reason::Malformed));
        h.settle(A, m(2));
        h.run(A, m(3));
        h.copied(A, m(1));
        h.answer(A, m(1), Answer::Ok);
        h.settle(A, m(3));
    };

    a_ghost_copy_whose_source_completed_elsewhere__not_dead_lost_nor_dead_reorder, total: |h| {
        h.options.dead_read = true;
        h.send([m(1), m(2)]);
        h.grant(A);
        h.deliver(A, [m(1), m(2)]);
        h.fail(A, m(1));
        h.ask(A, m(1), SettleKind::Dead(Reason::Explicit));
        h.fault(Fault::Reset, Side::Broker, Phase::Begin, 1);
        h.lose(A, Cause::Connection);
        h.grant(B);
        h.handle(B, [m(1)]);
        h.deliver(B, [m(2)]);
        h.fail(B, m(2));
        h.bury(B, m(2), Reason::Explicit);
        h.copied(A, m(1));
        h.stored([m(2), m(1)]);
    } => |v| v.count(Reported::Ghost) == 1;

    a_second_copy_of_a_dead_letter__not_dead_reorder, total: |h| {
        h.options.dead_read = true;
        h.send([m(1), m(2)]);
        h.grant(A);
        h.deliver(A, [m(1), m(2)]);
        h.fail(A, m(1));
        h.ask(A, m(1), SettleKind::Dead(Reason::Explicit));
        h.copied(A, m(1));
        h.kill(1);
        h.grant(B);
        h.deliver(B, [m(1), m(2)]);
        for message in [m(1), m(2)] {
            h.fail(B, message);
            h.bury(B, message, Reason::Explicit);
        }
        h.stored([m(1), m(2), m(1)]);
    };

    attempts_that_kill_the_process_count__not_dead_early, total: |h| {
        h.options.max_attempts = 2;
        h.send([m(1), m(2)]);
        for grant in [A, B] {
            h.grant(grant);
            h.deliver(grant, [m(1), m(2)]);
            h.start(grant, m(1));
            h.kill(grant.consumer);
        }
        h.grant(C);
        h.deliver(C, [m(1), m(2)]);
        h.bury(C, m(1), Reason::Exhausted);
        h.run(C, m(2));
        h.settle(C, m(2));
    };
}
