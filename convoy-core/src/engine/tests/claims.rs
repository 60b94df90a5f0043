//! Sessions held by a pull loop.

use super::super::NotClaimed;
use super::*;
use crate::policy::{Bound, Bounds};

fn place(name: &str) -> Place {
    Place::Session(id(name))
}

const LANE: Place = Place::Lane(0);

#[test]
fn the_session_that_waited_longest_is_claimed() {
    let mut w = World::lanes();
    let lane = w.lane(0);
    assert!(w.claim_any().is_none());
    w.deliver_all(lane, &[("a", 0), ("b", 1), ("a", 2)]);
    assert_eq!(w.claim_any().unwrap().1, "a");
    assert_eq!(w.claim_any().unwrap().1, "b");
    assert_eq!(w.notices(), ["wake a", "wake b"]);
}

#[test]
fn a_claimed_session_hands_out_one_message_at_a_time() {
    let mut w = World::lanes();
    let lane = w.lane(0);
    w.deliver_all(lane, &[("a", 0), ("a", 1)]);
    let (a, _) = w.claim_any().unwrap();
    assert_eq!(w.engine.grant_of(a), Some(lane));
    assert_eq!(w.starts(), NOTHING, "the processor does not see it");
    assert_eq!(w.next(a), "a@0");
    assert_eq!(w.next(a), "wait", "while its delivery is out");
    w.notices.clear();
    w.done("a@0");
    assert_eq!(w.notices(), ["wake a"]);
    assert_eq!(w.next(a), "a@1");
    w.done("a@1");
    assert_eq!(w.next(a), "wait");
    w.deliver(lane, "a", 5);
    w.deliver(lane, "a", 6);
    assert_eq!(w.notices(), ["wake a"], "once");
    assert_eq!(w.next(a), "a@5");
}

#[test]
fn a_delivery_that_was_given_back_is_offered_by_the_next_next() {
    let mut w = World::lanes();
    let lane = w.lane(0);
    w.deliver_all(lane, &[("a", 0), ("a", 1)]);
    let (a, _) = w.claim_any().unwrap();
    assert_eq!(w.next(a), "a@0");
    w.end("a@0", End::Returned);
    assert_eq!(w.next(a), "a@0", "uncharged");
    w.fail("a@0");
    assert_eq!(w.next(a), "wait");
    w.notices.clear();
    w.advance(50 * MS);
    assert_eq!((w.notices(), w.next(a)), (vec!["wake a".to_owned()], "a@0 #2".to_owned()));
}

#[test]
fn claims_of_two_sessions_do_not_meet() {
    let mut w = World::lanes();
    let lane = w.lane(0);
    w.deliver_all(lane, &[("a", 0), ("b", 1)]);
    let (a, b) = (w.claim_any().unwrap().0, w.claim_any().unwrap().0);
    assert!(w.claim_any().is_none());
    assert_ne!(a.serial(), b.serial());
    assert_eq!((w.next(b), w.next(a)), ("b@1".to_owned(), "a@0".to_owned()));
    w.unclaim(a);
    let c = w.claim(LANE, "c").unwrap();
    assert_eq!(
        (w.next(a), w.flush(a), w.engine.grant_of(a)),
        ("lost".to_owned(), false, None),
        "its place is used again"
    );
    w.unclaim(a);
    assert_eq!(w.next(c), "wait");
}

#[test]
fn a_session_is_claimed_by_name_before_it_has_a_message() {
    let mut w = World::lanes();
    assert_eq!(w.claim(LANE, "a"), Err(NotClaimed::NotHeld));
    let lane = w.granted(LANE);
    assert_eq!(w.claim(LANE, "a"), Err(NotClaimed::NotYet));
    w.prove(lane);
    let a = w.claim(LANE, "a").unwrap();
    assert_eq!(w.claim(LANE, "a"), Err(NotClaimed::Taken));
    assert_eq!((w.next(a), w.notices()), ("wait".to_owned(), vec![]));
    w.deliver(lane, "a", 0);
    assert_eq!((w.notices(), w.next(a)), (vec!["wake a".to_owned()], "a@0".to_owned()));
    w.now = w.lease.deadline();
    assert_eq!(w.claim(LANE, "b"), Err(NotClaimed::NotYet));
}

#[test]
fn a_session_that_runs_or_waits_can_be_claimed_and_is_handed_out_afterwards() {
    let mut w = World::lanes();
    let lane = w.lane(0);
    w.deliver_all(lane, &[("a", 0), ("a", 1), ("b", 2), ("c", 3)]);
    assert_eq!((w.start().unwrap(), w.start().unwrap()), ("a@0".to_owned(), "b@2".to_owned()));
    w.fail("b@2");
    let (a, b, c) = (w.claim(LANE, "a").unwrap(), w.claim(LANE, "b").unwrap(), w.claim(LANE, "c").unwrap());
    assert_eq!(w.notices(), ["wake c"]);
    assert_eq!((w.next(a), w.next(b), w.next(c)), ("wait".to_owned(), "wait".to_owned(), "c@3".to_owned()));
    assert_eq!((w.starts(), w.engine.counts().ready), (vec![], 0));
    w.done("a@0");
    w.advance(50 * MS);
    assert_eq!(w.notices(), ["wake a", "wake b"]);
    assert_eq!((w.next(a), w.next(b)), ("a@1".to_owned(), "b@2 #2".to_owned()));
}

#[test]
fn a_place_that_is_given_back_is_not_claimed() {
    let mut w = World::lanes();
    let lane = w.lane(0);
    w.deliver_all(lane, &[("a", 0), ("b", 1), ("c", 2)]);
    assert_eq!(w.start().unwrap(), "a@0");
    let (b, _) = w.claim_any().unwrap();
    w.event(Event::Revoking { grant: lane, until: w.now + 10 * SEC });
    assert_eq!(w.claim(LANE, "c"), Err(NotClaimed::NotHeld));
    assert!(w.claim_any().is_none());
    assert_eq!(w.next(b), "wait");
    w.notices.clear();
    w.done("a@0");
    w.answer_all();
    assert_eq!(w.notices(), ["claim lost b Released"]);
    assert_eq!(w.next(b), "lost");
}

#[test]
fn nothing_is_claimed_after_the_deadline() {
    let mut w = World::lanes();
    let lane = w.lane(0);
    w.deliver_all(lane, &[("a", 0), ("b", 1)]);
    let (a, _) = w.claim_any().unwrap();
    w.now = w.lease.deadline();
    assert!(w.claim_any().is_none());
    w.notices.clear();
    assert_eq!(w.next(a), "lost", "its right has run out, and is surrendered");
    assert_eq!(w.notices(), ["claim lost a Expired"]);
    assert_eq!(w.engine.counts().grants, 0);
}

#[test]
fn a_suspended_claim_waits_and_is_woken_by_the_proof() {
    let mut w = World::new(config(), Limits { surrender_after: 10 * SEC, ..Limits::sessions() });
    let grant = w.session("a");
    let a = w.claim(place("a"), "a").unwrap();
    w.deliver(grant, "a", 0);
    w.now = w.lease.deadline();
    assert_eq!(w.next(a), "wait");
    w.notices.clear();
    w.prove(grant);
    assert!(w.notices().contains(&"wake a".to_owned()));
    assert_eq!(w.next(a), "a@0");
}

#[test]
fn a_claim_is_void_when_its_right_is_lost_with_or_without_a_message() {
    let mut w = World::lanes();
    let lane = w.lane(0);
    w.deliver(lane, "a", 0);
    let (a, b) = (w.claim_any().unwrap().0, w.claim(LANE, "b").unwrap());
    assert_eq!(w.next(a), "a@0");
    w.notices.clear();
    w.lost(lane, Loss::Disconnected);
    assert_eq!(w.notices(), ["cancel a@0 Disconnected", "claim lost a Disconnected", "claim lost b Disconnected"]);
    assert_eq!((w.next(a), w.next(b), w.flush(b)), ("lost".to_owned(), "lost".to_owned(), false));
    assert!(!w.done("a@0"));
    w.unclaim(a);
    assert_eq!(w.engine.counts(), super::super::Counts::default());
    assert_eq!(w.engine.claims.len(), 0);
}

#[test]
fn a_flush_settles_at_once_and_tells_when_the_broker_has_it() {
    let mut w = World::lanes();
    let lane = w.lane(0);
    w.deliver_all(lane, &[("a", 0), ("a", 1), ("b", 2)]);
    let (a, _) = w.claim_any().unwrap();
    w.notices.clear();
    assert!(w.flush(a));
    assert_eq!(w.notices(), ["flushed a"], "nothing is done yet");
    w.next(a);
    w.done("a@0");
    w.notices.clear();
    assert_eq!(w.commands(), NOTHING);
    assert!(w.flush(a));
    assert_eq!((w.commands(), w.notices()), (vec!["settle 1 1/3".to_owned()], vec![]));
    w.answer(Answer::Ok);
    assert_eq!(w.notices(), ["flushed a"]);
    w.next(a);
    w.done("a@1");
    w.advance(250 * MS);
    w.notices.clear();
    w.answer(Answer::Ok);
    assert_eq!(w.notices(), NOTHING, "nobody asked");
}

#[test]
fn a_flush_waits_for_a_settlement_that_is_on_its_way_and_for_the_next() {
    let mut w = World::lanes();
    let lane = w.lane(0);
    w.deliver_all(lane, &[("a", 0), ("a", 1), ("b", 2)]);
    let (a, _) = w.claim_any().unwrap();
    w.next(a);
    w.done("a@0");
    assert!(w.flush(a));
    w.next(a);
    w.done("a@1");
    w.notices.clear();
    w.commands.clear();
    assert!(w.flush(a));
    w.answer(Answer::Ok);
    assert_eq!((w.commands(), w.notices()), (vec!["settle 1 2/3".to_owned()], vec![]));
    w.answer(Answer::Unknown);
    assert_eq!(w.notices(), NOTHING);
    w.advance(250 * MS);
    w.answer(Answer::Ok);
    assert_eq!(w.notices(), ["flushed a"]);
}

#[test]
fn a_flush_waits_for_a_dead_letter() {
    for mut w in [World::lanes(), World::sessions()] {
        let grant = w.session("a");
        w.deliver_all(grant, &[("a", 0), ("a", 1)]);
        let (a, _) = w.claim_any().unwrap();
        w.next(a);
        w.end("a@0", failed(Then::DeadLetter));
        w.notices.clear();
        assert!(w.flush(a));
        assert_eq!(w.notices(), NOTHING, "the copy is on its way");
        w.copied(grant, 0, Answer::Ok);
        w.answer_all();
        let mut notices = w.notices();
        notices.sort();
        assert_eq!(notices, ["flushed a", "wake a"]);
    }
}

#[test]
fn a_lane_that_is_full_of_others_blocks_a_claim() {
    let bounds = Bounds { lane: Bound::new(2, usize::MAX), ..Bounds::default() };
    let mut w = World::new(Config { bounds, ..config() }, Limits::lanes());
    let lane = w.lane(0);
    let a = w.claim(LANE, "a").unwrap();
    assert_eq!(w.next(a), "wait");
    w.deliver_all(lane, &[("b", 0), ("c", 1)]);
    assert_eq!(w.notices(), ["wake a"], "its lane cannot bring one");
    assert_eq!(w.next(a), "blocked");
    assert_eq!(w.claim(LANE, "d"), Err(NotClaimed::LaneBlocked));
    let b = w.claim(LANE, "b").unwrap();
    assert_eq!(w.next(b), "b@0");
    w.done("b@0");
    assert_eq!(w.next(a), "wait", "there is room again");
}

#[test]
fn a_session_that_is_given_back_on_a_lane_is_there_for_others() {
    let mut w = World::lanes();
    let lane = w.lane(0);
    w.deliver_all(lane, &[("a", 0), ("a", 1)]);
    let (a, _) = w.claim_any().unwrap();
    w.unclaim(a);
    assert_eq!(w.starts(), ["a@0"]);
    let a = w.claim(LANE, "a").unwrap();
    w.unclaim(a);
    w.done("a@0");
    assert_eq!((w.starts(), w.commands()), (vec!["a@1".to_owned()], vec![]));
    let b = w.claim(LANE, "b").unwrap();
    w.unclaim(b);
    assert_eq!(w.engine.counts().sessions, 1, "nothing of it is kept");
}

#[test]
fn a_session_that_is_given_back_is_released_when_it_is_settled() {
    let mut w = World::sessions();
    let grant = w.session("a");
    w.deliver_all(grant, &[("a", 0), ("a", 1)]);
    let (a, _) = w.claim_any().unwrap();
    w.next(a);
    w.done("a@0");
    w.unclaim(a);
    assert_eq!(w.commands(), ["settle 1 1/2"]);
    assert_eq!((w.starts(), w.claim_any().is_none()), (vec![], true));
    w.answer(Answer::Ok);
    assert_eq!(w.commands(), ["release 1"]);
    assert_eq!(w.engine.counts(), super::super::Counts::default());
}

#[test]
fn a_session_that_is_given_back_with_a_delivery_out_runs_out() {
    let mut w = World::sessions();
    let grant = w.session("a");
    w.deliver_all(grant, &[("a", 0), ("a", 1)]);
    let (a, _) = w.claim_any().unwrap();
    w.next(a);
    w.unclaim(a);
    assert_eq!(w.commands(), NOTHING, "its delivery lives");
    w.advance(VALID - 500 * MS - Duration::from_nanos(1));
    assert_eq!((w.commands(), w.notices().len()), (vec![], 1), "no renewal");
    w.advance(Duration::from_nanos(1));
    assert_eq!((w.commands(), w.notices()), (vec!["surrender 1".to_owned()], vec!["cancel a@0 Expired".to_owned()]));
}

#[test]
fn a_session_that_is_given_back_is_released_with_its_last_delivery() {
    let mut w = World::sessions();
    let grant = w.session("a");
    w.deliver_all(grant, &[("a", 0), ("a", 1)]);
    let (a, _) = w.claim_any().unwrap();
    w.next(a);
    w.unclaim(a);
    w.end("a@0", End::Returned);
    assert_eq!((w.commands(), grant.epoch()), (vec!["release 1".to_owned()], 1));
}

#[test]
fn a_session_that_is_taken_back_keeps_its_time_when_it_is_given_back() {
    let mut w = World::sessions();
    let grant = w.session("a");
    w.deliver(grant, "a", 0);
    let (a, _) = w.claim_any().unwrap();
    w.next(a);
    w.event(Event::Revoking { grant, until: w.now + 5 * SEC });
    w.unclaim(a);
    w.notices.clear();
    w.advance(3 * SEC);
    assert_eq!(w.notices(), ["cancel a@0 Leaving"]);
}

#[test]
fn a_claimed_session_is_not_idle() {
    let mut w = World::sessions();
    w.session("a");
    let a = w.claim(place("a"), "a").unwrap();
    w.input(Input::Pressure(true));
    w.advance(10 * SEC);
    assert_eq!((w.commands(), w.next(a)), (vec![], "wait".to_owned()));
    w.engine.release_unclaimed(w.now, |_| false);
    w.collect();
    assert_eq!(w.engine.counts().grants, 1);
    w.unclaim(a);
    assert_eq!(w.commands(), ["release 1"]);
}

#[test]
fn what_nobody_claimed_is_given_back() {
    let mut w = World::sessions();
    let (a, b, _c, d) = (w.session("a"), w.session("b"), w.session("c"), w.session("d"));
    w.deliver(a, "a", 0);
    w.deliver(b, "b", 0);
    w.deliver(d, "d", 0);
    let (claim, _) = w.claim_any().unwrap();
    assert_eq!(w.start().unwrap(), "b@0");
    assert_eq!(w.start().unwrap(), "d@0");
    w.done("d@0");
    w.commands.clear();
    w.engine.release_unclaimed(w.now, |_| false);
    w.collect();
    assert_eq!(w.commands(), ["release 3"], "not what is claimed, runs or is not settled");
    w.answer_all();
    w.engine.release_unclaimed(w.now, |_| false);
    w.collect();
    assert_eq!(w.commands(), ["release 4"]);
    w.unclaim(claim);
    let mut w = World::lanes();
    w.lane(0);
    w.engine.release_unclaimed(w.now, |_| false);
    w.collect();
    assert_eq!(w.commands(), NOTHING, "lanes are not asked for");
}

#[test]
fn pause_holds_for_claims_too() {
    let mut w = World::lanes();
    let lane = w.lane(0);
    w.deliver_all(lane, &[("a", 0), ("b", 1)]);
    let (a, _) = w.claim_any().unwrap();
    w.input(Input::Pause);
    assert_eq!((w.next(a), w.claim_any().is_none()), ("wait".to_owned(), true));
    assert_eq!(w.claim(LANE, "b"), Err(NotClaimed::NotHeld));
    w.notices.clear();
    w.input(Input::Resume);
    assert_eq!(w.notices(), ["wake a"]);
    assert_eq!(w.next(a), "a@0");
}

#[test]
fn a_claim_behind_an_old_handler_waits_for_it() {
    let mut w = World::lanes();
    let lane = w.lane(0);
    w.deliver(lane, "a", 0);
    w.starts();
    w.lost(lane, Loss::Revoked);
    let lane = w.lane(0);
    let a = w.claim(LANE, "a").unwrap();
    w.unclaim(a);
    w.lost(lane, Loss::Revoked);
    let lane = w.lane(0);
    let a = w.claim(LANE, "a").unwrap();
    w.deliver(lane, "a", 0);
    assert_eq!(w.next(a), "wait");
    w.notices.clear();
    w.end("a@0", End::Cancelled);
    assert_eq!((w.notices(), w.next(a)), (vec!["wake a".to_owned()], "a@0".to_owned()));
}

#[test]
fn claiming_and_giving_back_does_not_lengthen_the_line() {
    let mut w = World::lanes();
    let lane = w.lane(0);
    w.deliver(lane, "a", 0);
    for _ in 0..10_000 {
        let a = w.claim(LANE, "a").unwrap();
        w.unclaim(a);
    }
    assert!(w.engine.ready.len() < 100);
    assert_eq!((w.engine.counts().ready, w.starts()), (1, vec!["a@0".to_owned()]));
}

#[test]
fn only_who_waits_in_a_blocked_lane_is_woken() {
    let bounds = Bounds { lane: Bound::new(3, usize::MAX), ..Bounds::default() };
    let mut w = World::new(Config { bounds, ..config() }, Limits::lanes());
    let (lane, _other) = (w.lane(0), w.lane(1));
    w.deliver(lane, "has-one", 0);
    for name in ["has-one", "has-none"] {
        w.claim(LANE, name).unwrap();
    }
    w.claim(Place::Lane(1), "elsewhere").unwrap();
    w.notices.clear();
    w.deliver_all(lane, &[("b", 1), ("c", 2)]);
    assert_eq!(w.notices(), ["wake has-none"]);
}

#[test]
fn a_locked_session_is_not_blocked_by_others() {
    let bounds = Bounds { total: Bound::new(1, usize::MAX), ..Bounds::default() };
    let mut w = World::new(Config { bounds, ..config() }, Limits::sessions());
    let (_, b) = (w.session("a"), w.session("b"));
    let a = w.claim(place("a"), "a").unwrap();
    w.deliver(b, "b", 0);
    assert_eq!(w.commands(), ["hold 1", "hold 2"]);
    assert_eq!((w.notices(), w.next(a)), (vec![], "wait".to_owned()));
}

#[test]
fn nothing_is_offered_of_a_place_that_is_given_back() {
    let mut w = World::lanes();
    let lane = w.lane(0);
    let a = w.claim(LANE, "a").unwrap();
    w.deliver(lane, "b", 0);
    w.starts();
    w.event(Event::Revoking { grant: lane, until: w.now + 10 * SEC });
    w.deliver(lane, "a", 1);
    assert_eq!((w.notices(), w.next(a)), (vec![], "wait".to_owned()));
}
