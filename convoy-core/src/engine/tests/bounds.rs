//! How much is buffered, and when reading stops and goes on. Nothing is dropped.

use super::*;
use crate::policy::{Bound, Bounds};

fn with(session: usize, lane: usize, total: usize) -> World {
    let bound = |messages| Bound::new(messages, usize::MAX);
    let bounds = Bounds { session: bound(session), lane: bound(lane), total: bound(total) };
    World::new(Config { bounds, ..config() }, Limits::lanes())
}

const MUCH: usize = 1 << 20;

#[test]
fn a_full_lane_stops_and_goes_on_a_quarter_below() {
    let mut w = with(MUCH, 8, MUCH);
    let (lane, other) = (w.lane(0), w.lane(1));
    for position in 0..7 {
        w.deliver(lane, &format!("s{position}"), position);
    }
    assert_eq!(w.commands(), NOTHING);
    w.deliver(lane, "s7", 7);
    assert_eq!(w.commands(), ["hold 1"]);
    w.deliver_all(lane, &[("s8", 8), ("s9", 9)]);
    w.deliver(other, "o", 0);
    assert_eq!((w.commands(), w.engine.counts().messages), (vec![], 11), "what is on its way is kept");
    assert_eq!(w.starts().len(), 11);
    for position in 0..3 {
        w.done(&format!("s{position}@{position}"));
    }
    assert_eq!(w.commands(), NOTHING);
    w.done("s3@3");
    assert_eq!(w.commands(), ["read 1"], "with room for a quarter");
    w.done("s4@4");
    assert_eq!(w.commands(), NOTHING, "once");
}

#[test]
fn bytes_bound_as_messages_do() {
    let bytes = |bytes| Bound::new(usize::MAX, bytes);
    let bounds = Bounds { session: bytes(usize::MAX), lane: bytes(4 * SIZE), total: bytes(6 * SIZE) };
    let mut w = World::new(Config { bounds, ..config() }, Limits::lanes());
    let (lane, other) = (w.lane(0), w.lane(1));
    w.deliver_all(lane, &[("a", 0), ("b", 1), ("c", 2)]);
    assert_eq!(w.commands(), NOTHING);
    w.deliver(lane, "d", 3);
    assert_eq!(w.commands(), ["hold 1"]);
    w.deliver_all(other, &[("e", 0), ("f", 1)]);
    assert_eq!(w.commands(), ["hold 2"]);
    assert_eq!((w.engine.counts().bytes, w.engine.counts().messages), (6 * SIZE, 6));
    w.starts();
    w.done("a@0");
    assert_eq!(w.commands(), NOTHING);
    w.done("e@0");
    assert_eq!(w.commands(), ["read 1", "read 2"]);
}

#[test]
fn a_session_that_meets_its_bound_stops_its_lane() {
    let mut w = with(4, MUCH, MUCH);
    let lane = w.lane(0);
    w.deliver_all(lane, &[("a", 0), ("a", 1), ("b", 2), ("b", 3), ("a", 4)]);
    assert_eq!(w.commands(), NOTHING);
    w.deliver(lane, "a", 5);
    assert_eq!(w.commands(), ["hold 1"]);
    w.deliver_all(lane, &[("b", 6), ("b", 7)]);
    assert_eq!(w.starts(), ["a@0", "b@2"]);
    w.done("a@0");
    assert_eq!(w.commands(), NOTHING, "b is full");
    w.done("b@2");
    assert_eq!(w.commands(), ["read 1"], "when no session of it is full any more");
}

#[test]
fn a_session_that_is_forgotten_while_full_is_no_burden() {
    let mut w = with(2, MUCH, MUCH);
    let lane = w.lane(0);
    w.deliver_all(lane, &[("a", 0), ("a", 1)]);
    assert_eq!(w.commands(), ["hold 1"]);
    w.lost(lane, Loss::Revoked);
    let lane = w.lane(0);
    w.deliver(lane, "a", 0);
    assert_eq!(w.commands(), NOTHING);
    w.deliver(lane, "a", 1);
    assert_eq!(w.commands(), ["hold 2"]);
}

#[test]
fn the_bound_of_the_whole_stops_every_lane() {
    let mut w = with(MUCH, MUCH, 8);
    let lanes = [w.lane(0), w.lane(1)];
    for position in 0..4 {
        for lane in lanes {
            w.deliver(lane, &format!("s{position}"), position);
        }
    }
    assert_eq!(w.commands(), ["hold 1", "hold 2"]);
    w.granted(Place::Lane(2));
    assert_eq!(w.commands(), ["renew 3", "hold 3"], "a new one waits too");
    w.deliver(lanes[0], "s9", 9);
    assert_eq!(w.starts().len(), 9);
    w.done("s9@9");
    w.done("s0@0");
    assert_eq!(w.commands(), NOTHING);
    w.done("s1@1");
    assert_eq!(w.commands(), ["read 1", "read 2", "read 3"]);
}

#[test]
fn a_lane_that_is_full_itself_stays_held_when_the_whole_has_room() {
    let mut w = with(MUCH, 4, 8);
    let (full, other) = (w.lane(0), w.lane(1));
    for position in 0..4 {
        w.deliver(full, &format!("f{position}"), position);
    }
    assert_eq!(w.commands(), ["hold 1"]);
    for position in 0..4 {
        w.deliver(other, &format!("o{position}"), position);
    }
    assert_eq!(w.commands(), ["hold 2"]);
    w.starts();
    w.done("o0@0");
    w.done("o1@1");
    assert_eq!(w.commands(), ["read 2"]);
    w.done("f0@0");
    assert_eq!(w.commands(), ["read 1"]);
}

#[test]
fn the_loss_of_a_lane_makes_room_for_the_others() {
    let mut w = with(MUCH, MUCH, 4);
    let (lane, other) = (w.lane(0), w.lane(1));
    w.deliver_all(lane, &[("a", 0), ("b", 1), ("c", 2)]);
    w.deliver(other, "d", 0);
    assert_eq!(w.commands(), ["hold 1", "hold 2"]);
    w.lost(lane, Loss::Revoked);
    assert_eq!(w.commands(), ["read 2"]);
    assert_eq!((w.engine.counts().messages, w.engine.counts().bytes), (1, SIZE));
}

#[test]
fn a_dead_letter_makes_room_as_well() {
    let mut w = with(MUCH, 1, MUCH);
    let lane = w.lane(0);
    w.deliver(lane, "a", 0);
    assert_eq!(w.commands(), ["hold 1"]);
    w.starts();
    w.end("a@0", failed(Then::DeadLetter));
    w.copied(lane, 0, Answer::Ok);
    assert_eq!(w.commands(), ["aside 1 a@0 handler x1", "read 1", "settle 1 1/1"]);
}

#[test]
fn a_failing_session_keeps_its_messages_and_the_others_go_on() {
    let mut w = with(MUCH, 100, MUCH);
    let lane = w.lane(0);
    for position in 0..50 {
        w.deliver(lane, "stuck", position);
    }
    w.starts();
    w.fail("stuck@0");
    for position in 50..1_000 {
        w.deliver(lane, "other", position);
        w.handle_all();
        w.answer_all();
    }
    assert_eq!((w.engine.totals().completed, w.engine.counts().messages), (950, 50));
}
