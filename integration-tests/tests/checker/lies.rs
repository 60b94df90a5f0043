//! For each fatal name the histories that make it, and only it, fire.

use std::collections::BTreeSet;

use convoy_conformance::checker::{Fatal, Options};
use convoy_conformance::history::{
    Answer, Cause, Ended, Fault, GrantId, Phase, Position, Reason, SettleKind, Side, What,
};

use crate::story::*;

macro_rules! lies {
    ($($name:ident, $options:ident, $fatal:ident: |$h:ident| $tell:block)+) => {
        $(
            #[test]
            fn $name() {
                lie(Options::$options(), Fatal::$fatal, |$h: &mut Story| $tell);
            }
        )+

        #[test]
        fn each_fatal_name_has_a_lie() {
            let lied: BTreeSet<_> = [$(Fatal::$fatal),+].into();
            let all: BTreeSet<_> = Fatal::ALL.iter().copied().collect();
            assert_eq!(lied, all);
        }
    };
}

lies! {
    lost_in_the_middle, total, Lost: |h| {
        h.send([m(1), m(2), m(3)]);
        h.grant(A);
        h.handle(A, [m(1), m(3)]);
    }

    lost_in_the_middle_of_one_producer, partial, Lost: |h| {
        h.send([m(1), m(2), m(3)]);
        h.grant(A);
        h.handle(A, [m(1), m(3)]);
    }

    lost_at_the_end, total, Lost: |h| {
        h.send([m(1), m(2)]);
        h.grant(A);
        h.handle(A, [m(1)]);
    }

    lost_with_its_grant, total, Lost: |h| {
        h.send([m(1), m(2)]);
        h.grant(A);
        h.handle(A, [m(1)]);
        h.deliver(A, [m(2)]);
        h.lose(A, Cause::Connection);
    }

    lost_in_one_of_two_groups, total, Lost: |h| {
        h.group = 8;
        h.tell(0, What::GroupStart);
        h.send([m(1)]);
        h.grant(A);
        h.handle(A, [m(1)]);
    }

    phantom, total, Phantom: |h| {
        h.send([m(1)]);
        h.grant(A);
        h.handle(A, [m(1), m(2)]);
    }

    phantom_of_another_producer, partial, Phantom: |h| {
        h.send([m(1)]);
        h.grant(A);
        h.handle(A, [m(1), of(2, 1)]);
    }

    misroute, total, Misroute: |h| {
        h.send([m(1), m(2)]);
        h.grant(A);
        h.handle(A, [m(1)]);
        h.session = 2;
        h.handle(A, [m(2)]);
    }

    corrupt, total, Corrupt: |h| {
        h.send([m(1)]);
        h.grant(A);
        let position = h.at(m(1));
        h.tell(1, What::Deliver { session: S, message: m(1), grant: A, hash: 99, position, malformed: false });
        h.run(A, m(1));
        h.settle(A, m(1));
    }

    aborted_read, total, AbortedRead: |h| {
        h.request(m(1));
        h.sent(m(1), Answer::Refused);
        h.grant(A);
        h.handle(A, [m(1)]);
    }

    aborted_read_seen_before_the_failure, total, AbortedRead: |h| {
        h.request(m(1));
        h.grant(A);
        h.deliver(A, [m(1)]);
        h.sent(m(1), Answer::Refused);
        h.run(A, m(1));
        h.settle(A, m(1));
    }

    aborted_read_of_one_queued_behind_a_halt, total, AbortedRead: |h| {
        h.request(m(1));
        h.sent(m(1), Answer::Refused);
        h.sent(m(2), Answer::Refused);
        h.grant(A);
        h.handle(A, [m(2)]);
    }

    producer_goes_on_behind_an_unknown_send, total, ProducerReorder: |h| {
        h.request(m(1));
        h.sent(m(1), Answer::Unknown);
        h.send([m(2)]);
        h.grant(A);
        h.handle(A, [m(2)]);
    }

    producer_hands_over_out_of_the_order_of_calls, partial, ProducerReorder: |h| {
        h.send([m(2), m(1)]);
        h.grant(A);
        h.handle(A, [m(1), m(2)]);
    }

    producer_order_broken_in_the_log, total, ProducerReorder: |h| {
        let [first, second] = [1, 2].map(|value| Some(Position { generation: 1, value }));
        h.request(m(1));
        h.request(m(2));
        h.sent_at(m(2), Answer::Ok, first);
        h.sent_at(m(1), Answer::Ok, second);
        h.grant(A);
        for (message, position) in [(m(2), first), (m(1), second)] {
            h.deliver_at(A, message, position);
            h.start_at(A, message, position, h.now);
            h.end(A, message, Ended::Ok);
            h.settle(A, message);
        }
    }

    start_after_the_deadline, total, StartAfterExpiry: |h| {
        h.send([m(1)]);
        h.grant(A);
        h.deliver(A, [m(1)]);
        h.wait(LOCK);
        h.run(A, m(1));
        h.settle(A, m(1));
    }

    start_after_the_loss_was_seen, total, StartAfterExpiry: |h| {
        h.send([m(1)]);
        h.grant(A);
        h.deliver(A, [m(1)]);
        h.lose(A, Cause::Revoked);
        h.wait(MS);
        h.run(A, m(1));
        h.settle(A, m(1));
    }

    start_without_a_grant, total, StartAfterExpiry: |h| {
        h.send([m(1)]);
        h.handle(A, [m(1)]);
    }

    overlap_of_two_live_grants, total, OverlapLive: |h| {
        h.send([m(1)]);
        h.grant(A);
        h.deliver(A, [m(1)]);
        h.start(A, m(1));
        h.grant(B);
        h.deliver(B, [m(1)]);
        h.start(B, m(1));
        h.end(A, m(1), Ended::Cancelled);
        h.end(B, m(1), Ended::Ok);
        h.settle(B, m(1));
    }

    overlap_with_a_process_that_lived_until_it_was_killed, total, OverlapLive: |h| {
        h.send([m(1)]);
        h.grant(A);
        h.deliver(A, [m(1)]);
        h.start(A, m(1));
        h.grant(B);
        h.handle(B, [m(1)]);
        h.kill(1);
    }

    overlap_within_a_grant, total, OverlapLive: |h| {
        h.send([m(1), m(2)]);
        h.grant(A);
        h.deliver(A, [m(1), m(2)]);
        h.start(A, m(1));
        h.start(A, m(2));
        h.end(A, m(1), Ended::Ok);
        h.end(A, m(2), Ended::Ok);
        h.settle(A, m(1));
        h.settle(A, m(2));
    }

    overlap_after_a_cut_of_the_client_side_alone, total, OverlapLive: |h| {
        h.send([m(1)]);
        h.grant(A);
        h.deliver(A, [m(1)]);
        h.start(A, m(1));
        h.fault(convoy_conformance::history::Fault::Reset, Side::Client, Phase::Begin, 1);
        h.grant(B);
        h.deliver(B, [m(1)]);
        h.start(B, m(1));
        h.end(A, m(1), Ended::Cancelled);
        h.end(B, m(1), Ended::Ok);
        h.settle(B, m(1));
    }

    late_cancel, total, LateCancel: |h| {
        h.send([m(1)]);
        h.grant(A);
        h.deliver(A, [m(1)]);
        h.start(A, m(1));
        h.lose(A, Cause::Revoked);
        h.wait(2 * SECOND);
        h.end(A, m(1), Ended::Cancelled);
        h.grant(B);
        h.handle(B, [m(1)]);
    }

    late_cancel_of_a_run_that_never_ended, total, LateCancel: |h| {
        h.send([m(1)]);
        h.grant(A);
        h.deliver(A, [m(1)]);
        h.start(A, m(1));
        h.lose(A, Cause::Revoked);
        h.grant(B);
        h.handle(B, [m(1)]);
        h.wait(2 * SECOND);
        h.send([m(2)]);
        h.handle(B, [m(2)]);
    }

    stale_settle, total, StaleSettle: |h| {
        h.send([m(1)]);
        h.grant(A);
        h.deliver(A, [m(1)]);
        h.run(A, m(1));
        h.lose(A, Cause::Connection);
        h.grant(B);
        h.deliver(B, [m(1)]);
        h.start(B, m(1));
        h.settle(A, m(1));
        h.end(B, m(1), Ended::Ok);
        h.ask(B, m(1), SettleKind::Complete);
        h.answer(B, m(1), Answer::Refused);
    }

    settle_unhandled, total, SettleUnhandled: |h| {
        h.send([m(1), m(2)]);
        h.grant(A);
        h.deliver(A, [m(1), m(2)]);
        h.fail(A, m(1));
        h.settle(A, m(1));
        h.run(A, m(2));
        h.settle(A, m(2));
    }

    reordered_deliveries, total, ReorderFirst: |h| {
        h.send([m(1), m(2)]);
        h.grant(A);
        h.handle(A, [m(2), m(1)]);
    }

    reordered_starts, total, ReorderFirst: |h| {
        h.send([m(1), m(2)]);
        h.grant(A);
        h.deliver(A, [m(1), m(2)]);
        h.run(A, m(2));
        h.run(A, m(1));
        h.settle(A, m(1));
        h.settle(A, m(2));
    }

    reordered_deliveries_of_one_producer, partial, ReorderFirst: |h| {
        h.send([m(1), m(2)]);
        h.grant(A);
        h.handle(A, [m(2), m(1)]);
    }

    a_pair_of_two_producers_in_the_other_order, partial, ReorderFirst: |h| {
        h.send([m(1), of(2, 1)]);
        h.grant(A);
        h.deliver(A, [m(1), of(2, 1)]);
        h.lose(A, Cause::Connection);
        h.grant(B);
        h.deliver(B, [of(2, 1), m(1)]);
        h.run(B, of(2, 1));
        h.run(B, m(1));
        h.settle(B, m(1));
        h.settle(B, of(2, 1));
    }

    duplicate_after_settle, total, DuplicateAfterSettle: |h| {
        h.send([m(1)]);
        h.grant(A);
        h.handle(A, [m(1)]);
        h.lose(A, Cause::Connection);
        h.grant(B);
        h.deliver(B, [m(1)]);
        h.run(B, m(1));
    }

    an_ack_forgotten_without_the_loss_of_a_node, partial, DuplicateAfterSettle: |h| {
        h.send([m(1)]);
        h.grant(A);
        h.handle(A, [m(1)]);
        h.deliver(A, [m(1)]);
        h.run(A, m(1));
    }

    a_resent_one_that_came_back_after_the_loss_of_a_node_is_passed, partial, Skip: |h| {
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
        h.run(B, of(2, 1));
    }

    an_ack_forgotten_long_after_the_loss_of_a_node, partial, DuplicateAfterSettle: |h| {
        h.fault(Fault::NodeLoss, Side::Both, Phase::Begin, 1);
        h.fault(Fault::NodeLoss, Side::Both, Phase::End, 1);
        h.send([m(1)]);
        h.grant(A);
        h.handle(A, [m(1)]);
        h.lose(A, Cause::Connection);
        h.wait(20 * SECOND);
        h.grant(B);
        h.deliver(B, [m(1)]);
        h.run(B, m(1));
    }

    dead_with_attempts_left, total, DeadEarly: |h| {
        h.options.max_attempts = 3;
        h.send([m(1)]);
        h.grant(A);
        h.deliver(A, [m(1)]);
        h.fail(A, m(1));
        h.fail(A, m(1));
        h.bury(A, m(1), Reason::Exhausted);
    }

    dead_with_a_cancelled_attempt_charged, total, DeadEarly: |h| {
        h.options.max_attempts = 2;
        h.send([m(1)]);
        h.grant(A);
        h.deliver(A, [m(1)]);
        h.start(A, m(1));
        h.lose(A, Cause::Revoked);
        h.end(A, m(1), Ended::Cancelled);
        h.grant(B);
        h.deliver(B, [m(1)]);
        h.fail(B, m(1));
        h.bury(B, m(1), Reason::Exhausted);
    }

    dead_with_a_neighbour_charged_for_a_crash, total, DeadEarly: |h| {
        h.options.max_attempts = 1;
        h.send([m(1), m(2)]);
        h.grant(A);
        h.deliver(A, [m(1), m(2)]);
        h.start(A, m(1));
        h.kill(1);
        h.grant(B);
        h.deliver(B, [m(1), m(2)]);
        h.bury(B, m(1), Reason::Exhausted);
        h.bury(B, m(2), Reason::Exhausted);
    }

    dead_as_malformed_and_is_not, total, DeadEarly: |h| {
        h.send([m(1)]);
        h.grant(A);
        h.deliver(A, [m(1)]);
        h.bury(A, m(1), Reason::Malformed);
    }

    dead_on_a_wish_that_nobody_had, total, DeadEarly: |h| {
        h.send([m(1)]);
        h.grant(A);
        h.deliver(A, [m(1)]);
        h.bury(A, m(1), Reason::Explicit);
    }

    dead_without_a_confirmed_copy, total, DeadLost: |h| {
        h.send([m(1)]);
        h.grant(A);
        h.deliver(A, [m(1)]);
        h.fail(A, m(1));
        h.ask(A, m(1), SettleKind::Dead(Reason::Explicit));
        h.answer(A, m(1), Answer::Ok);
    }

    dead_and_not_in_the_store, total, DeadLost: |h| {
        h.options.dead_read = true;
        h.send([m(1), m(2)]);
        h.grant(A);
        for message in [m(1), m(2)] {
            h.deliver(A, [message]);
            h.fail(A, message);
            h.bury(A, message, Reason::Explicit);
        }
        h.stored([m(2)]);
    }

    dead_out_of_order, total, DeadReorder: |h| {
        h.send([m(1), m(2)]);
        h.grant(A);
        for message in [m(1), m(2)] {
            h.deliver(A, [message]);
            h.fail(A, message);
            h.bury(A, message, Reason::Explicit);
        }
        h.stored([m(2), m(1)]);
    }

    dead_and_the_next_did_not_wait, total, DeadReorder: |h| {
        h.send([m(1), m(2)]);
        h.grant(A);
        h.deliver(A, [m(1), m(2)]);
        h.fail(A, m(1));
        h.ask(A, m(1), SettleKind::Dead(Reason::Explicit));
        h.copied(A, m(1));
        h.start(A, m(2));
        h.answer(A, m(1), Answer::Ok);
        h.end(A, m(2), Ended::Ok);
        h.settle(A, m(2));
    }

    skip_by_a_new_grant, total, Skip: |h| {
        h.send([m(1), m(2)]);
        h.grant(A);
        h.deliver(A, [m(1), m(2)]);
        h.fail(A, m(1));
        h.lose(A, Cause::Connection);
        h.grant(B);
        h.deliver(B, [m(1), m(2)]);
        h.run(B, m(2));
        h.settle(B, m(2));
    }

    skip_between_two_attempts, total, Skip: |h| {
        h.send([m(1), m(2)]);
        h.grant(A);
        h.deliver(A, [m(1), m(2)]);
        h.fail(A, m(1));
        h.run(A, m(2));
        h.run(A, m(1));
        h.settle(A, m(1));
        h.settle(A, m(2));
    }

    skip_by_a_settlement, total, Skip: |h| {
        h.send([m(1), m(2)]);
        h.grant(A);
        h.deliver(A, [m(1), m(2)]);
        h.run(A, m(1));
        h.run(A, m(2));
        h.settle(A, m(2));
        h.settle(A, m(1));
    }

    skip_behind_a_refused_settlement, total, Skip: |h| {
        h.send([m(1), m(2)]);
        h.grant(A);
        h.deliver(A, [m(1), m(2)]);
        h.run(A, m(1));
        h.run(A, m(2));
        h.ask(A, m(1), SettleKind::Complete);
        h.answer(A, m(1), Answer::Refused);
        h.settle(A, m(2));
    }

    nonmonotonic, total, Nonmonotonic: |h| {
        h.send([m(1), m(2)]);
        h.grant(A);
        h.deliver(A, [m(1), m(2)]);
        h.run(A, m(1));
        h.run(A, m(2));
        h.run(A, m(1));
        h.settle(A, m(1));
        h.settle(A, m(2));
    }

    run_again_in_one_grant_after_it_ended_well, total, Nonmonotonic: |h| {
        h.send([m(1)]);
        h.grant(A);
        h.deliver(A, [m(1)]);
        h.run(A, m(1));
        h.run(A, m(1));
        h.settle(A, m(1));
    }

    duplicate_after_a_drain_that_finished, total, DuplicateExcess: |h| {
        h.send([m(1)]);
        h.grant(A);
        h.deliver(A, [m(1)]);
        h.run(A, m(1));
        h.lose(A, Cause::Drained);
        h.grant(B);
        h.handle(B, [m(1)]);
    }

    duplicates_that_the_settle_interval_does_not_explain, total, DuplicateExcess: |h| {
        h.send((1..=4).map(m));
        h.grant(A);
        h.deliver(A, (1..=4).map(m));
        (1..=4).for_each(|n| {
            h.run(A, m(n));
            h.wait(SECOND);
        });
        h.lose(A, Cause::Connection);
        h.grant(B);
        h.handle(B, (1..=4).map(m));
    }

    duplicates_that_the_settle_count_does_not_explain, total, DuplicateExcess: |h| {
        h.options.settle_count = 2;
        h.send((1..=4).map(m));
        h.grant(A);
        h.deliver(A, (1..=4).map(m));
        (1..=4).for_each(|n| h.run(A, m(n)));
        h.lose(A, Cause::Connection);
        h.grant(B);
        h.handle(B, (1..=4).map(m));
    }

    fence_taken_twice, total, FenceViolation: |h| {
        h.effect(m(1), true);
        h.effect(m(1), true);
    }

    fence_taken_behind_a_later_one, total, FenceViolation: |h| {
        h.effect(m(2), true);
        h.effect(m(1), true);
    }

    fence_refused_in_its_turn, total, FenceViolation: |h| {
        h.effect(m(1), true);
        h.effect(m(2), false);
    }

    fence_of_one_producer, partial, FenceViolation: |h| {
        h.effect(m(2), true);
        h.effect(of(2, 1), true);
        h.effect(m(1), true);
    }

    state_of_a_zombie_taken, total, StateStale: |h| {
        h.grant(A);
        h.write(A, 1, Answer::Ok);
        h.lose(A, Cause::Connection);
        h.grant(B);
        h.read(B, 1);
        h.write(B, 2, Answer::Ok);
        h.write(A, 3, Answer::Ok);
    }

    state_before_the_last_write_read, total, StateStale: |h| {
        h.grant(A);
        h.write(A, 1, Answer::Ok);
        h.write(A, 2, Answer::Ok);
        h.lose(A, Cause::Connection);
        h.grant(B);
        h.read(B, 1);
    }

    state_of_a_zombie_read, total, StateStale: |h| {
        h.grant(A);
        h.tell(1, What::StateReq { session: S, grant: A, version: 1 });
        h.grant(B);
        h.read(B, 0);
        h.read(GrantId { consumer: 2, n: 1 }, 1);
    }
}
