#![allow(non_snake_case, reason = "a double underscore parts the case from the naive rule")]

//! Correct histories that a naive rule would have flagged. Each name says which.

use convoy_conformance::checker::{Liveness, Options, Reported};
use convoy_conformance::history::{
    Answer, Cause, Ended, Fault, GrantId, Phase, Position, Reason, SettleKind, Side, What,
};

use crate::story::*;

macro_rules! truths {
    ($($name:ident, $options:ident: |$h:ident| $tell:block $(=> |$v:ident| $check:expr)?;)+) => {
        $(
            #[test]
            fn $name() {
                let _verdict = truth(Options::$options(), |$h: &mut Story| $tell);
                $(
                    let $v = &_verdict;
                    assert!($check, "{}", $v);
                )?
            }
        )+
    };
}

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
        let number = h.events.len() as u64;
        h.events.push(convoy_conformance::history::Event {
            time: h.now + 1,
            process: 0,
            number,
            group: 8,
            what: What::GroupStart,
        });
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
