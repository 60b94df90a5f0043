//! Turns: a session that has had its own gives its place to the next one.

use super::*;
use crate::policy::Turn;

/// Sessions that have a turn.
fn world(turn: Turn) -> World {
    World::new(Config { turn: Some(turn), ..config() }, Limits::sessions())
}

/// A session with messages at these positions; after it all places of the consumer are taken.
fn held(w: &mut World, name: &str, positions: std::ops::Range<u64>) -> Grant {
    w.input(Input::Pressure(false));
    let grant = w.session(name);
    positions.for_each(|position| w.deliver(grant, name, position));
    w.input(Input::Pressure(true));
    grant
}

#[test]
fn a_session_that_has_had_its_turn_is_settled_and_given_back_though_it_has_more() {
    let mut w = world(Turn::messages(2));
    held(&mut w, "a", 0..3);
    assert_eq!(w.starts(), ["a@0"]);
    w.done("a@0");
    w.answer(Answer::Ok);
    assert_eq!(w.starts(), ["a@1"], "one of two");
    w.commands.clear();
    w.done("a@1");
    assert_eq!(w.starts(), NOTHING, "its turn is over");
    assert_eq!(w.commands(), ["settle 1 2/3"], "what it did is settled first");
    w.answer(Answer::Ok);
    assert_eq!(w.commands(), ["release 1"]);
    assert_eq!(
        (w.engine.counts().grants, w.engine.counts().messages),
        (0, 0),
        "the rest comes again, to whoever is next"
    );
    assert_eq!(w.engine.totals().lost, 0);

    held(&mut w, "a", 2..5);
    assert_eq!(w.starts(), ["a@2"], "with a turn of its own");
    w.done("a@2");
    w.answer(Answer::Ok);
    assert_eq!(w.starts(), ["a@3"]);
}

#[test]
fn a_turn_by_time_ends_with_the_message_that_runs() {
    let mut w = world(Turn::time(SEC));
    held(&mut w, "a", 0..3);
    // The clock of a turn begins with its first message.
    w.advance(5 * SEC);
    assert_eq!(w.starts(), ["a@0"]);
    w.advance(999 * MS);
    w.done("a@0");
    w.answer(Answer::Ok);
    assert_eq!(w.starts(), ["a@1"]);
    w.advance(3 * SEC);
    assert_eq!(w.notices(), NOTHING, "no handler is told to end for it");
    w.commands.clear();
    w.done("a@1");
    w.answer(Answer::Ok);
    assert_eq!(w.commands(), ["settle 1 2/3", "release 1"]);
}

#[test]
fn without_somebody_who_may_wait_a_session_keeps_its_place() {
    let mut w = world(Turn::messages(1));
    held(&mut w, "a", 0..3);
    w.input(Input::Pressure(false));
    for run in ["a@0", "a@1"] {
        assert_eq!(w.starts(), [run]);
        w.done(run);
        w.answer(Answer::Ok);
    }
    w.input(Input::Pressure(true));
    assert_eq!(w.starts(), ["a@2"]);
    w.commands.clear();
    w.done("a@2");
    w.answer(Answer::Ok);
    assert_eq!(w.commands(), ["settle 1 3/3", "release 1"]);
}

#[test]
fn a_message_that_is_tried_again_keeps_its_attempts_and_so_its_place() {
    let mut w = world(Turn::messages(1).or_time(MS));
    held(&mut w, "a", 0..2);
    assert_eq!(w.starts(), ["a@0"]);
    w.advance(SEC);
    w.fail("a@0");
    w.commands.clear();
    w.advance(100 * MS);
    assert_eq!((w.starts(), w.commands()), (vec!["a@0 #2".to_owned()], vec![]));
    w.done("a@0");
    w.answer(Answer::Ok);
    assert_eq!(w.commands(), ["settle 1 1/2", "release 1"]);
}

#[test]
fn a_dead_letter_counts_and_is_safe_before_the_turn_ends() {
    let mut w = world(Turn::messages(1));
    let a = held(&mut w, "a", 0..2);
    assert_eq!(w.starts(), ["a@0"]);
    w.end("a@0", failed(Then::DeadLetter));
    assert_eq!(w.commands().len(), 1, "the copy");
    w.copied(a, 0, Answer::Ok);
    w.answer_all();
    assert_eq!(w.commands().last().unwrap(), "release 1");
    assert_eq!(w.starts(), NOTHING);
}

#[test]
fn a_pulled_session_is_held_for_as_long_as_it_is_wanted_and_a_lane_has_no_turn() {
    let mut w = world(Turn::messages(1));
    held(&mut w, "a", 0..2);
    let (claim, _) = w.claim_any().unwrap();
    assert_eq!(w.next(claim), "a@0");
    w.done("a@0");
    w.answer(Answer::Ok);
    assert_eq!(w.next(claim), "a@1");

    let mut w = World::new(Config { turn: Some(Turn::messages(1)), ..config() }, Limits::lanes());
    w.input(Input::Pressure(true));
    let lane = w.lane(0);
    w.deliver_all(lane, &[("a", 0), ("a", 1)]);
    w.handle_all();
    assert_eq!(w.engine.totals().completed, 2);
}
