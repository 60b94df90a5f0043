//! Messages that came without a session, with a broken envelope, or in the wrong lane.

use super::*;
use crate::policy::{Defective, Foreign};

const DEFECTS: [Defect; 4] = [Defect::NoSession, Defect::SessionTooLong, Defect::Headers, Defect::Misrouted];

#[test]
fn by_default_a_broken_envelope_is_dead_lettered_and_a_misrouted_message_stops() {
    for defect in DEFECTS {
        let mut w = World::lanes();
        let lane = w.lane(0);
        w.deliver_defective(lane, "a", 0, defect);
        w.deliver_all(lane, &[("a", 1), ("b", 2)]);
        let starts = w.starts();
        if defect == Defect::Misrouted {
            assert_eq!((w.notices(), starts, w.commands()), (vec!["stop a@0 misrouted x0".to_owned()], vec![], vec![]));
            continue;
        }
        let foreign = defect != Defect::Headers;
        let name = if foreign { r"(no session) \x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00" } else { "a" };
        assert_eq!(w.commands(), [format!("aside 1 {name}@0 {} x0", defect.code())]);
        let expected: &[&str] = if foreign { &["a@1", "b@2"] } else { &["b@2"] };
        assert_eq!(starts, expected, "in its session's order");
        w.copied(lane, 0, Answer::Ok);
        w.answer_all();
        assert_eq!(w.starts().len(), 2 - expected.len());
    }
}

#[test]
fn what_is_allowed_is_handled_as_if_nothing_were_wrong() {
    for defect in DEFECTS {
        let allow =
            Config { foreign: Foreign::Allow, defective: Defective::Allow, misrouted: Defective::Allow, ..config() };
        let mut w = World::new(allow, Limits::lanes());
        let lane = w.lane(0);
        w.deliver_defective(lane, "a", 7, defect);
        let start = w.engine.start(w.now).unwrap();
        w.collect();
        let foreign = matches!(defect, Defect::NoSession | Defect::SessionTooLong);
        assert_eq!((start.message.session.is_lone(), start.message.defect.is_none()), (foreign, foreign));
        assert_eq!((w.commands(), w.notices()), (vec![], vec![]));
    }
}

#[test]
fn foreign_messages_that_are_allowed_have_a_session_each() {
    let mut w = World::new(Config { foreign: Foreign::Allow, ..config() }, Limits::lanes());
    let (lane, other) = (w.lane(0), w.lane(1));
    for (lane, position) in [(lane, 0), (lane, 1), (other, 0)] {
        w.deliver_defective(lane, "a", position, Defect::NoSession);
    }
    assert_eq!((w.starts().len(), w.engine.counts().sessions), (3, 3));
}

#[test]
fn each_policy_stops_by_choice() {
    let stop = Config { foreign: Foreign::Stop, defective: Defective::Stop, misrouted: Defective::Stop, ..config() };
    for defect in DEFECTS {
        let mut w = World::new(stop.clone(), Limits::lanes());
        let lane = w.lane(0);
        w.deliver_defective(lane, "a", 3, defect);
        w.deliver(lane, "b", 4);
        assert_eq!(w.starts(), NOTHING);
        let notices = w.notices();
        assert!(notices.len() == 1 && notices[0].contains(&format!("@3 {} x0", defect.code())), "{notices:?}");
        assert_eq!((w.commands(), w.engine.counts().messages), (vec![], 2), "it is kept");
    }
}

#[test]
fn misrouted_messages_are_dead_lettered_by_choice() {
    let mut w = World::new(Config { misrouted: Defective::DeadLetter, ..config() }, Limits::lanes());
    let lane = w.lane(0);
    w.deliver_defective(lane, "a", 0, Defect::Misrouted);
    assert_eq!((w.starts(), w.commands()), (vec![], vec!["aside 1 a@0 misrouted x0".to_owned()]));
}

#[test]
fn a_session_in_two_lanes_is_two_sessions() {
    let mut w = World::new(Config { misrouted: Defective::Allow, ..config() }, Limits::lanes());
    let (lane, other) = (w.lane(0), w.lane(1));
    w.deliver_all(lane, &[("a", 0), ("b", 1)]);
    w.deliver_defective(other, "c", 0, Defect::Misrouted);
    w.deliver_defective(other, "a", 1, Defect::Misrouted);
    assert_eq!(w.starts(), ["a@0", "b@1", "c@0", "a@1"]);
    w.done("a@1");
    w.advance(250 * MS);
    assert_eq!(w.commands(), ["settle 2 0/2 done [1]"], "each in its own lane's order");
    w.lost(lane, Loss::Revoked);
    assert_eq!(w.engine.counts().messages, 1);
    w.done("c@0");
    w.answer_all();
    w.advance(50 * MS);
    w.answer_all();
    assert_eq!(w.engine.counts().sessions, 2, "the gates of the lost lane");
}

#[test]
fn a_pulled_session_steps_over_a_broken_envelope() {
    let mut w = World::sessions();
    let grant = w.session("a");
    w.deliver_defective(grant, "a", 0, Defect::Headers);
    w.deliver(grant, "a", 1);
    let (a, _) = w.claim_any().unwrap();
    assert_eq!((w.next(a), w.commands()), ("wait".to_owned(), vec!["aside 1 a@0 invalid-headers x0".to_owned()]));
    w.notices.clear();
    w.copied(grant, 0, Answer::Ok);
    assert_eq!((w.notices(), w.next(a)), (vec!["wake a".to_owned()], "a@1".to_owned()));
}
