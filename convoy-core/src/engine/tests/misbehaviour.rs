//! A backend that breaks the rules does no harm: nothing panics, and what came under an old grant changes nothing.

use super::*;

#[test]
fn what_nobody_knows_is_ignored() {
    let mut w = World::lanes();
    let held = w.lane(0);
    let unknown = Grant::new(99, &Place::Lane(0));
    w.deliver(unknown, "a", 0);
    w.event(Event::Passed { grant: unknown, below: 5 });
    w.prove(unknown);
    w.event(Event::Settled { grant: unknown, ticket: Ticket(1), answer: Answer::Ok });
    w.copied(unknown, 0, Answer::Ok);
    w.event(Event::Revoking { grant: unknown, until: w.now });
    w.lost(unknown, Loss::Revoked);
    assert_eq!((w.commands(), w.notices()), (vec![], vec![]));
    assert_eq!(w.engine.counts(), super::super::Counts { grants: 1, ..Default::default() });
    w.deliver(held, "a", 0);
    assert_eq!(w.starts(), ["a@0"]);
}

#[test]
fn nothing_of_an_old_grant_changes_the_new_one() {
    for limits in [Limits::lanes(), Limits::sessions()] {
        let mut w = World::new(config(), limits);
        let old = w.session("a");
        w.deliver_all(old, &[("a", 0), ("a", 1), ("a", 2)]);
        w.start();
        w.done("a@0");
        w.start();
        w.end("a@1", failed(Then::DeadLetter));
        w.advance(250 * MS);
        let (_, ticket) = w.tickets[0];
        w.lost(old, Loss::Disconnected);

        let new = w.session("a");
        w.deliver_all(new, &[("a", 0), ("a", 1)]);
        let deadline = w.lease.deadline();
        w.now = w.now + SEC;
        w.deliver(old, "a", 3);
        w.event(Event::Passed { grant: old, below: 9 });
        w.prove(old);
        for answer in [Answer::Refused, Answer::Unknown, Answer::Ok] {
            w.event(Event::Settled { grant: old, ticket, answer });
            w.copied(old, 0, answer);
            w.copied(old, 1, answer);
        }
        w.event(Event::Revoking { grant: old, until: w.now });
        w.lost(old, Loss::Revoked);
        assert_eq!((w.commands(), w.lease.deadline()), (vec!["release 1".to_owned()][1..].to_vec(), deadline));
        assert_eq!((w.engine.counts().messages, w.engine.counts().grants), (2, 1));
        assert_eq!(w.starts(), ["a@0"]);
    }
}

#[test]
fn a_number_that_was_used_wins_nothing() {
    let mut w = World::lanes();
    let lane = w.lane(0);
    w.deliver(lane, "a", 0);
    w.epoch = 0;
    w.granted(Place::Lane(1));
    assert_eq!((w.commands(), w.engine.counts().grants), (vec![], 1));
    w.lost(lane, Loss::Revoked);
    w.epoch = 0;
    w.granted(Place::Lane(0));
    assert_eq!((w.commands(), w.engine.counts().grants), (vec![], 0), "not even when it is gone");
}

#[test]
fn a_position_that_comes_again_ends_the_grant() {
    for second in [3, 2] {
        let mut w = World::lanes();
        let lane = w.lane(0);
        w.deliver_all(lane, &[("a", 3), ("b", second)]);
        assert_eq!(w.commands(), ["surrender 1"]);
        assert_eq!(w.engine.counts(), super::super::Counts::default());
    }
}

#[test]
fn a_position_below_the_start_ends_the_grant() {
    let mut w = World::lanes();
    w.epoch = 1;
    let grant = Grant::new(1, &Place::Lane(0));
    let start = Position { generation: 2, value: 10 };
    let (place, recovered) = (Place::Lane(0), Recovered::default());
    w.event(Event::Granted { grant, place, start, recovered, lease: Arc::default() });
    w.commands.clear();
    w.deliver(grant, "a", 10);
    assert_eq!(w.commands(), NOTHING);
    let mut w = World::lanes();
    let (place, recovered) = (Place::Lane(0), Recovered::default());
    w.event(Event::Granted { grant, place, start, recovered, lease: Arc::default() });
    w.commands.clear();
    w.deliver(grant, "a", 9);
    assert_eq!(w.commands(), ["surrender 1"]);
}

#[test]
fn a_position_that_was_passed_ends_the_grant() {
    let mut w = World::lanes();
    let lane = w.lane(0);
    w.event(Event::Passed { grant: lane, below: 10 });
    w.deliver(lane, "a", 9);
    assert_eq!(w.commands(), ["surrender 1"]);
}

#[test]
fn the_highest_number_there_is_is_no_position() {
    let mut w = World::lanes();
    let lane = w.lane(0);
    w.deliver(lane, "a", u64::MAX - 1);
    w.handle_all();
    assert_eq!(w.commands(), [format!("settle 1 {0}/{0}", u64::MAX)]);
    w.event(Event::Passed { grant: lane, below: u64::MAX });
    w.deliver(lane, "b", u64::MAX);
    assert_eq!(w.commands(), ["surrender 1"]);
}

#[test]
fn an_answer_to_nothing_is_ignored() {
    for limits in [Limits::lanes(), Limits::sessions()] {
        let mut w = World::new(config(), limits);
        let grant = w.session("a");
        w.deliver_all(grant, &[("a", 0), ("a", 1)]);
        for answer in [Answer::Ok, Answer::Refused, Answer::NotApplied, Answer::Unknown] {
            w.event(Event::Settled { grant, ticket: Ticket(0), answer });
            w.event(Event::Settled { grant, ticket: Ticket(u64::MAX), answer });
            w.copied(grant, 0, answer);
            w.copied(grant, 7, answer);
        }
        w.start();
        w.copied(grant, 0, Answer::Ok);
        w.done("a@0");
        w.input(Input::Drain { until: w.now + SEC });
        w.commands.clear();
        w.event(Event::Settled { grant, ticket: Ticket(u64::MAX), answer: Answer::Ok });
        assert_eq!((w.engine.counts().grants, w.commands()), (1, vec![]), "it still waits for its own answer");
        let (_, ticket) = w.tickets[0];
        w.answer(Answer::Ok);
        assert_eq!(w.commands(), ["release 1"]);
        w.event(Event::Settled { grant, ticket, answer: Answer::Refused });
    }
}

#[test]
fn an_answer_that_comes_twice_counts_once() {
    for limits in [Limits::lanes(), Limits::sessions()] {
        let mut w = World::new(config(), limits);
        let grant = w.session("a");
        w.deliver_all(grant, &[("a", 0), ("a", 1), ("a", 2)]);
        w.start();
        w.done("a@0");
        w.start();
        w.advance(250 * MS);
        let (_, ticket) = w.tickets[0];
        w.answer(Answer::Ok);
        for answer in [Answer::Ok, Answer::Refused, Answer::NotApplied, Answer::Unknown] {
            w.event(Event::Settled { grant, ticket, answer });
        }
        assert_eq!((w.engine.counts().grants, w.engine.counts().messages), (1, 2));
        w.done("a@1");
        w.advance(250 * MS);
        w.event(Event::Settled { grant, ticket, answer: Answer::Ok });
        assert_eq!(w.engine.grants[0].in_flight, 1);
    }
}

#[test]
fn a_copy_that_was_not_asked_for_changes_nothing() {
    let mut w = World::lanes();
    let lane = w.lane(0);
    w.deliver_all(lane, &[("a", 0), ("a", 1), ("b", 2)]);
    w.copied(lane, 0, Answer::Ok);
    w.copied(lane, 1, Answer::Ok);
    assert_eq!(w.starts(), ["a@0", "b@2"]);
    w.end("a@0", failed(Then::DeadLetter));
    w.copied(lane, 1, Answer::Ok);
    w.copied(lane, 2, Answer::Ok);
    assert_eq!((w.engine.counts().messages, w.engine.totals().dead_lettered), (3, 0));
    w.fail("b@2");
    w.copied(lane, 2, Answer::Ok);
    assert_eq!(w.engine.totals().dead_lettered, 0);
    w.copied(lane, 0, Answer::Refused);
    w.copied(lane, 0, Answer::Ok);
    assert_eq!(w.engine.totals().dead_lettered, 0, "the copy is about to be tried again");
    w.copied(lane, u64::MAX, Answer::Ok);
}

#[test]
fn a_session_right_that_brings_others_messages_is_survived() {
    let mut w = World::sessions();
    let grant = w.session("a");
    w.deliver_all(grant, &[("a", 0), ("b", 1), ("c", 2)]);
    let (a, b) = (w.claim_any().unwrap().0, w.claim_any().unwrap().0);
    assert_eq!((w.next(a), w.next(b), w.start()), ("a@0".to_owned(), "b@1".to_owned(), Some("c@2".to_owned())));
    w.done("c@2");
    w.done("b@1");
    w.advance(SEC);
    assert_eq!(w.commands(), NOTHING);
    w.lost(grant, Loss::Revoked);
    assert_eq!((w.next(a), w.next(b)), ("lost".to_owned(), "lost".to_owned()));
    w.done("a@0");
    assert_eq!(w.engine.counts(), super::super::Counts::default());

    let grant = w.session("a");
    w.deliver_all(grant, &[("b", 1)]);
    let (b, _) = w.claim_any().unwrap();
    w.next(b);
    w.done("b@1");
    w.answer_all();
    w.lost(grant, Loss::Revoked);
    assert_eq!(w.next(b), "lost");
}

#[test]
fn a_lost_place_is_lost_once() {
    let mut w = World::lanes();
    let lane = w.lane(0);
    w.lost(lane, Loss::Gone);
    w.lost(lane, Loss::Gone);
    assert_eq!(w.engine.totals().lost, 1);
}
