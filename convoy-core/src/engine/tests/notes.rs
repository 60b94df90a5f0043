//! What observers are told.

use super::super::{EndKind, How};
use super::*;
use crate::policy::Exhausted;

fn observed(retry: Retry, limits: Limits) -> World {
    World::new(Config { observe: true, retry, ..config() }, limits)
}

/// The notes since the last look, as text.
fn notes(w: &mut World) -> Vec<String> {
    w.notes.drain(..).map(|note| text(&note)).collect()
}

fn text(note: &Note) -> String {
    match note {
        Note::Granted { grant, place } => format!("granted {} {place}", grant.epoch()),
        Note::Proved { grant, asked_at, deadline } => {
            format!("proved {} {:?}", grant.epoch(), deadline.since(*asked_at))
        }
        Note::Lost { grant, place, why } => format!("lost {} {place} {why:?}", grant.epoch()),
        Note::Delivered { grant, session, position, content } => {
            format!("delivered {} {session}@{position} {}", grant.epoch(), content.size())
        }
        Note::Started { grant, session, position, content, attempt, checked_at, deadline } => {
            let left = deadline.since(*checked_at);
            format!("started {} {session}@{position} {} #{attempt} {left:?}", grant.epoch(), content.size())
        }
        Note::Ended { grant, session, position, attempt, how, counted } => {
            format!("ended {} {session}@{position} #{attempt} {how:?} {counted}", grant.epoch())
        }
        Note::SettleRequested { grant, session, position, how, reason } => {
            format!("settle {} {session}@{position} {how:?} {}", grant.epoch(), reason.unwrap_or("-"))
        }
        Note::SetAside { grant, session, position, content, answer } => {
            format!("aside {} {session}@{position} {} {answer:?}", grant.epoch(), content.size())
        }
        Note::Settled { grant, session, position, answer } => {
            format!("settled {} {session}@{position} {answer:?}", grant.epoch())
        }
        Note::Retrying { grant, session, position, attempt, wait } => {
            format!("retrying {} {session}@{position} #{attempt} {wait:?}", grant.epoch())
        }
        Note::HeldBack { grant, session } => format!("{grant:?} holds {session} back"),
        Note::Reading { grant, place, on, hottest } => {
            let hottest = hottest.as_ref().map_or("-".to_owned(), ToString::to_string);
            format!("reading {} {place} {on} {hottest}", grant.epoch())
        }
    }
}

#[test]
fn the_life_of_a_message() {
    let mut w = observed(config().retry, Limits::lanes());
    let lane = w.lane(4);
    assert_eq!(notes(&mut w), ["granted 1 lane 4", "proved 1 29.5s"]);
    w.deliver(lane, "a", 7);
    w.starts();
    w.fail("a@7");
    w.advance(50 * MS);
    w.starts();
    w.done("a@7");
    w.answer(Answer::Ok);
    assert_eq!(
        notes(&mut w),
        [
            "delivered 1 a@7 10",
            "started 1 a@7 10 #1 29.5s",
            "ended 1 a@7 #1 Failed true",
            "retrying 1 a@7 #1 50ms",
            "started 1 a@7 10 #2 29.45s",
            "ended 1 a@7 #2 Done true",
            "settle 1 a@7 Completed -",
            "settled 1 a@7 Ok",
        ]
    );
    w.lost(lane, Loss::Gone);
    assert_eq!(notes(&mut w), ["lost 1 lane 4 Gone"]);
}

#[test]
fn the_life_of_a_dead_letter() {
    let retry = Retry::fixed(SEC).at_most(1).then(Exhausted::DeadLetter);
    let mut w = observed(retry.clone(), Limits::lanes());
    let lane = w.lane(0);
    w.deliver(lane, "a", 0);
    w.starts();
    w.notes.clear();
    w.end("a@0", End::Panicked { detail: "boom".to_owned() });
    w.copied(lane, 0, Answer::Ok);
    w.answer(Answer::Unknown);
    let expected = [
        "ended 1 a@0 #1 Panicked true",
        "settle 1 a@0 DeadLettered attempts-exhausted",
        "aside 1 a@0 10 Ok",
        "settled 1 a@0 Unknown",
    ];
    assert_eq!(notes(&mut w), expected);

    let mut w = observed(retry, Limits::sessions());
    let grant = w.session("a");
    w.deliver(grant, "a", 3);
    w.starts();
    w.fail("a@3");
    w.notes.clear();
    w.copied(grant, 3, Answer::Ok);
    assert_eq!(notes(&mut w), ["aside 1 a@3 10 Ok", "settled 1 a@3 Ok"]);
}

#[test]
fn what_did_not_happen_is_told_before_what_was_done_since() {
    for (answer, said) in [(Answer::NotApplied, "NotApplied"), (Answer::Unknown, "Unknown")] {
        let limits = Limits { settle: crate::backend::SettleStyle::Open { most: 8 }, ..Limits::lanes() };
        let mut w = observed(config().retry, limits);
        let lane = w.lane(0);
        w.deliver_all(lane, &[("a", 0), ("a", 1), ("b", 2)]);
        w.starts();
        w.done("a@0");
        w.advance(250 * MS);
        w.starts();
        w.done("a@1");
        w.notes.clear();
        w.answer(answer);
        w.advance(250 * MS);
        w.answer(Answer::Ok);
        let told: Vec<String> = notes(&mut w).into_iter().filter(|note| note.starts_with("settled")).collect();
        assert_eq!(told, [&format!("settled 1 a@0 {said}"), "settled 1 a@0 Ok", "settled 1 a@1 Ok"]);
    }
}

#[test]
fn an_end_after_the_grant_does_not_count() {
    let mut w = observed(config().retry, Limits::lanes());
    let lane = w.lane(0);
    w.deliver(lane, "a", 0);
    w.starts();
    w.lost(lane, Loss::Revoked);
    w.notes.clear();
    w.done("a@0");
    assert_eq!(notes(&mut w), ["ended 1 a@0 #1 Done false"]);
}

#[test]
fn positions_carry_their_generation() {
    let mut w = observed(config().retry, Limits::lanes());
    let grant = Grant::new(1, &Place::Lane(0));
    let start = Position { generation: 3, value: 0 };
    let (place, recovered) = (Place::Lane(0), Recovered::default());
    w.event(Event::Granted { grant, place, start, recovered, lease: Arc::default() });
    w.prove(grant);
    w.deliver(grant, "a", 5);
    w.handle_all();
    w.notes.clear();
    w.answer(Answer::Ok);
    assert_eq!(notes(&mut w), ["settled 1 a@3.5 Ok"]);
}

#[test]
fn a_place_that_is_held_names_its_hottest_session() {
    let bounds = crate::policy::Bounds { lane: crate::policy::Bound::new(4, usize::MAX), ..Default::default() };
    let mut w = World::new(Config { observe: true, bounds, ..config() }, Limits::lanes());
    let lane = w.lane(0);
    w.deliver_all(lane, &[("a", 0), ("hot", 1), ("hot", 2)]);
    w.starts();
    w.notes.clear();
    w.deliver(lane, "b", 3);
    assert_eq!(notes(&mut w), ["delivered 1 b@3 10", "reading 1 lane 0 false hot"]);
    w.done("a@0");
    assert_eq!(notes(&mut w).last().unwrap(), "reading 1 lane 0 true -");
}

#[test]
fn nothing_is_noted_when_nobody_watches() {
    let mut w = World::lanes();
    let lane = w.lane(0);
    w.deliver(lane, "a", 0);
    w.handle_all();
    w.answer_all();
    w.lost(lane, Loss::Gone);
    assert!(w.notes.is_empty());
}

#[test]
fn every_end_has_its_kind() {
    let detail = String::new();
    for (end, kind) in [
        (End::Done, EndKind::Done),
        (failed(Then::Retry), EndKind::Failed),
        (End::Panicked { detail }, EndKind::Panicked),
        (End::Cancelled, EndKind::Cancelled),
        (End::Returned, EndKind::Returned),
    ] {
        assert_eq!(end.kind(), kind);
    }
    assert_ne!(How::Completed, How::DeadLettered);
}
