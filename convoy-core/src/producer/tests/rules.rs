//! Every rule of the pipeline, by itself.

use std::time::Duration;

use super::*;
use crate::backend::Fate;
use crate::producer::Resume;

/// Three messages of a session, the first of them out.
fn three(pipeline: &mut Pipeline) -> Run {
    for body in ["1", "2", "3"] {
        send(pipeline, "s", body).unwrap();
    }
    only(pipeline)
}

fn kept(pipeline: &Pipeline, session: &str) -> Vec<(u64, ErrorKind, Fate)> {
    pipeline.halted_messages(&id(session)).into_iter().map(|m| (m.number, m.kind, m.fate)).collect()
}

#[test]
fn one_run_of_a_session_is_out_and_sessions_do_not_wait_for_each_other() {
    let mut p = pipeline(|_| {});
    for (session, body) in [("a", "a1"), ("a", "a2"), ("b", "b1")] {
        send(&mut p, session, body).unwrap();
    }
    let out = runs(&mut p);
    assert_eq!(out.iter().map(bodies).collect::<Vec<_>>(), [["a1"], ["b1"]]);
    assert!(runs(&mut p).is_empty());
    p.on_sent(at(1), ok(out[0].ticket, 9));
    let (_, receipt) = outcomes(&mut p).remove(0);
    let receipt = receipt.unwrap();
    assert_eq!((receipt.number, receipt.position), (1, Some(Position::new(9))));
    assert_eq!(bodies(&only(&mut p)), ["a2"]);
}

#[test]
fn a_message_carries_its_number_and_that_of_the_one_before() {
    let mut p = pipeline(|o| o.max_run = 8);
    for session in ["a", "b", "a"] {
        send(&mut p, session, "x").unwrap();
    }
    let out = runs(&mut p);
    let stamps = out.iter().flat_map(|r| r.messages.iter()).map(|c| c.stamp().unwrap());
    let stamps = stamps.map(|s| (s.number, s.prev, s.skipped)).collect::<Vec<_>>();
    assert_eq!(stamps, [(1, 0, false), (3, 1, false), (2, 0, false)]);
}

#[test]
fn a_run_is_bounded_in_messages_and_bytes() {
    let mut p = pipeline(|o| (o.max_run, o.max_message) = (3, 10));
    for body in ["1234", "1234", "1234", "1", "1", "1", "1"] {
        send(&mut p, "s", body).unwrap();
    }
    for (position, expected) in [(1, vec!["1234", "1234"]), (2, vec!["1234", "1", "1"]), (3, vec!["1", "1"])] {
        let run = only(&mut p);
        assert_eq!(bodies(&run), expected);
        p.on_sent(at(1), ok(run.ticket, position));
        // Only the last message of a run has the position that the broker told.
        let positions = outcomes(&mut p).into_iter().map(|(_, r)| r.unwrap().position).collect::<Vec<_>>();
        assert_eq!(positions.last().unwrap(), &Some(Position::new(position)));
        assert!(positions.iter().rev().skip(1).all(Option::is_none));
    }
}

#[test]
fn what_is_queued_behind_a_failure_fails_as_not_applied_and_is_given_back_in_order() {
    let mut p = pipeline(|_| {});
    let run = three(&mut p);
    p.on_sent(at(1), refused(run.ticket));
    assert!(runs(&mut p).is_empty());
    let errors = outcomes(&mut p).into_iter().map(|(_, r)| r.unwrap_err()).collect::<Vec<_>>();
    let told = errors.iter().map(|e| (e.kind(), e.outcome(), e.place())).collect::<Vec<_>>();
    assert_eq!(
        told,
        [
            (ErrorKind::Refused, Outcome::NotApplied, Some(0)),
            (ErrorKind::Halted, Outcome::NotApplied, Some(1)),
            (ErrorKind::Halted, Outcome::NotApplied, Some(2)),
        ]
    );
    assert!(errors.iter().all(|e| e.cause().kind() == ErrorKind::Refused));
    let bodies = errors.into_iter().map(|e| e.into_message().content().body().clone());
    assert_eq!(bodies.collect::<Vec<_>>(), ["1", "2", "3"]);
    assert_eq!(
        kept(&p, "s"),
        [
            (1, ErrorKind::Refused, Fate::Never),
            (2, ErrorKind::Halted, Fate::Never),
            (3, ErrorKind::Halted, Fate::Never)
        ]
    );
    assert_eq!((p.halted()[0].messages, p.halted()[0].since), (3, at(1)));
}

#[test]
fn a_halted_session_refuses_and_gives_the_message_back() {
    let mut p = pipeline(|_| {});
    let run = three(&mut p);
    p.on_sent(at(1), unknown(run.ticket));
    let error = send(&mut p, "s", "4").unwrap_err();
    assert_eq!((error.kind(), error.outcome(), error.place()), (ErrorKind::Halted, Outcome::NotApplied, None));
    assert_eq!(error.into_message().content().body(), "4");
    assert!(send(&mut p, "t", "1").is_ok(), "only that session is halted");
}

#[test]
fn resend_sends_all_again_in_order_with_their_numbers() {
    let mut p = pipeline(|_| {});
    let run = three(&mut p);
    p.on_sent(at(1), refused(run.ticket));
    let before = outcomes(&mut p);
    let again = p.resume(at(2), &id("s"), Resume::Resend, at(40));
    assert_eq!(again.len(), 3);
    assert!(before.iter().all(|(id, _)| !again.contains(id)), "a new send each");
    for number in 1..=3 {
        let run = only(&mut p);
        assert_eq!(run.messages[0].stamp().map(|s| (s.number, s.prev)), Some((number, number - 1)));
        p.on_sent(at(3), ok(run.ticket, number));
    }
    let told = outcomes(&mut p);
    assert_eq!(told.iter().map(|(id, _)| *id).collect::<Vec<_>>(), again);
    assert!(p.halted().is_empty() && p.pending() == 0 && p.kept_messages() == 0);
}

#[test]
fn skip_gives_up_what_failed_itself_and_marks_it() {
    let mut p = pipeline(|_| {});
    let run = three(&mut p);
    p.on_sent(at(1), refused(run.ticket));
    assert_eq!(p.resume(at(2), &id("s"), Resume::Skip, at(40)).len(), 2);
    let run = only(&mut p);
    let stamp = run.messages[0].stamp().unwrap();
    assert_eq!((bodies(&run), stamp.number, stamp.prev, stamp.skipped), (vec!["2"], 2, 0, true));
    p.on_sent(at(3), ok(run.ticket, 1));
    let stamp = only(&mut p).messages[0].stamp().unwrap();
    assert_eq!((stamp.number, stamp.prev, stamp.skipped), (3, 2, false));
}

#[test]
fn discard_gives_up_all_and_the_next_send_says_so() {
    let mut p = pipeline(|_| {});
    send(&mut p, "s", "0").unwrap();
    let run = only(&mut p);
    p.on_sent(at(1), ok(run.ticket, 1));
    let run = three(&mut p);
    p.on_sent(at(1), refused(run.ticket));
    assert!(p.resume(at(2), &id("s"), Resume::Discard, at(40)).is_empty());
    assert_eq!((p.pending(), p.kept_messages()), (0, 0));
    send(&mut p, "s", "5").unwrap();
    let stamp = only(&mut p).messages[0].stamp().unwrap();
    assert_eq!((stamp.number, stamp.prev, stamp.skipped), (5, 1, true));
}

#[test]
fn out_of_time_in_the_queue_is_not_applied_and_at_the_broker_unknown() {
    let mut p = pipeline(|_| {});
    send(&mut p, "s", "1").unwrap();
    let run = only(&mut p);
    p.enqueue(at(0), id("s"), Content::new("2"), at(10)).unwrap();
    assert_eq!(p.next_deadline(), at(10));
    p.tick(at(10));
    let (_, error) = outcomes(&mut p).remove(0);
    let error = error.unwrap_err();
    assert_eq!((error.kind(), error.outcome()), (ErrorKind::Timeout, Outcome::NotApplied));
    assert_eq!(send(&mut p, "s", "3").unwrap_err().kind(), ErrorKind::Halted);

    p.tick(at(30));
    let (_, error) = outcomes(&mut p).remove(0);
    let error = error.unwrap_err();
    assert_eq!((error.kind(), error.outcome()), (ErrorKind::OutcomeUnknown, Outcome::Unknown));
    assert_eq!(p.unsettled(&id("s")).unwrap().ticket, Some(run.ticket));
    assert_eq!(kept(&p, "s"), [(1, ErrorKind::OutcomeUnknown, Fate::Unknown), (2, ErrorKind::Timeout, Fate::Never)]);
}

#[test]
fn a_failure_in_the_queue_lets_what_is_before_it_go_on() {
    let mut p = pipeline(|o| o.max_message = 3);
    send(&mut p, "s", "1").unwrap();
    send(&mut p, "s", "2").unwrap();
    assert_eq!(send(&mut p, "s", "long").unwrap_err().kind(), ErrorKind::TooLarge);
    assert!(outcomes(&mut p).is_empty(), "told at the call");
    for number in 1..=2 {
        let run = only(&mut p);
        assert_eq!(run.messages[0].stamp().unwrap().number, number);
        p.on_sent(at(1), ok(run.ticket, number));
    }
    assert!(runs(&mut p).is_empty());
    assert_eq!(kept(&p, "s"), [(3, ErrorKind::TooLarge, Fate::Never)]);
    // It is still too large.
    assert_eq!(p.resume(at(2), &id("s"), Resume::Resend, at(40)).len(), 1);
    assert!(outcomes(&mut p).into_iter().skip(2).all(|(_, r)| r.unwrap_err().kind() == ErrorKind::TooLarge));
    assert_eq!(kept(&p, "s").len(), 1);
    assert!(p.resume(at(2), &id("s"), Resume::Skip, at(40)).is_empty());
    assert!(send(&mut p, "s", "4").is_ok());
}

#[test]
fn an_answer_after_the_time_out_is_recorded() {
    for (answer, fate, sent_again) in
        [(ok as fn(Ticket, u64) -> Sent, Fate::Landed, 2), (|t, _| refused(t), Fate::Never, 3)]
    {
        let mut p = pipeline(|_| {});
        let run = three(&mut p);
        p.tick(at(30));
        assert_eq!(outcomes(&mut p).len(), 3);
        p.on_sent(at(31), answer(run.ticket, 1));
        assert!(outcomes(&mut p).is_empty(), "its outcome was told already");
        assert_eq!(kept(&p, "s")[0], (1, ErrorKind::OutcomeUnknown, fate));
        assert_eq!(p.unsettled(&id("s")).unwrap().ticket, None);
        assert_eq!(p.resume(at(32), &id("s"), Resume::Resend, at(60)).len(), sent_again);
        let stamp = only(&mut p).messages[0].stamp().unwrap();
        assert_eq!(stamp.number, 4 - sent_again as u64);
        assert!(!stamp.skipped);
    }
}

#[test]
fn an_answer_after_the_resume_is_ignored() {
    let mut p = pipeline(|_| {});
    let old = three(&mut p);
    p.tick(at(30));
    p.resume(at(31), &id("s"), Resume::Resend, at(60));
    let new = only(&mut p);
    outcomes(&mut p);
    p.on_sent(at(32), ok(old.ticket, 1));
    p.learn(old.ticket, Fate::Landed);
    assert!(outcomes(&mut p).is_empty() && runs(&mut p).is_empty());
    p.on_sent(at(33), ok(new.ticket, 2));
    assert_eq!(outcomes(&mut p).len(), 1);
}

#[test]
fn a_fate_that_the_broker_tells_decides_what_resend_sends() {
    let mut p = pipeline(|_| {});
    let run = three(&mut p);
    p.on_sent(at(1), unknown(run.ticket));
    let unsettled = p.unsettled(&id("s")).unwrap();
    assert_eq!(unsettled.ticket, Some(run.ticket));
    p.learn(run.ticket, Fate::Unknown);
    assert_eq!(kept(&p, "s")[0].2, Fate::Unknown);
    p.learn(run.ticket, Fate::Landed);
    assert_eq!(kept(&p, "s")[0].2, Fate::Landed);
    assert_eq!(p.resume(at(2), &id("s"), Resume::Resend, at(40)).len(), 2);
}

#[test]
fn over_the_bounds_a_send_is_refused_and_halts_its_session() {
    let mut p = pipeline(|o| o.max_queued = 2);
    send(&mut p, "a", "1").unwrap();
    send(&mut p, "a", "2").unwrap();
    let error = send(&mut p, "b", "1").unwrap_err();
    assert_eq!((error.kind(), error.place()), (ErrorKind::Backpressure, Some(0)));
    assert_eq!(error.into_message().content().body(), "1");
    let run = only(&mut p);
    p.on_sent(at(1), ok(run.ticket, 1));
    assert_eq!(send(&mut p, "b", "2").unwrap_err().kind(), ErrorKind::Halted, "the second may not overtake the first");
    assert_eq!(p.resume(at(1), &id("b"), Resume::Resend, at(30)).len(), 1);
    assert_eq!(send(&mut p, "b", "2").unwrap_err().kind(), ErrorKind::Backpressure);
}

#[test]
fn one_message_is_let_in_however_large() {
    let mut p = pipeline(|o| o.max_queued_bytes = 4);
    send(&mut p, "a", "123456").unwrap();
    assert_eq!(send(&mut p, "b", "1").unwrap_err().kind(), ErrorKind::Backpressure);
}

#[test]
fn what_halted_sessions_keep_is_bounded_too() {
    let mut p = pipeline(|o| o.max_queued = 3);
    let run = three(&mut p);
    p.on_sent(at(1), refused(run.ticket));
    let error = send(&mut p, "t", "1").unwrap_err();
    assert_eq!((error.kind(), error.place()), (ErrorKind::Backpressure, None));
    assert_eq!(p.halted().len(), 1, "there is no room to remember it");
    p.resume(at(2), &id("s"), Resume::Discard, at(30));
    assert!(send(&mut p, "t", "1").is_ok());
}

#[test]
fn idle_sessions_are_remembered_for_a_while_and_then_forgotten() {
    let mut p = pipeline(|o| (o.remember, o.remember_for) = (2, Duration::from_secs(60)));
    let prev = |p: &mut Pipeline, session: &str| {
        send(p, session, "x").unwrap();
        let run = only(p);
        p.on_sent(at(0), ok(run.ticket, 1));
        run.messages[0].stamp().unwrap().prev
    };
    assert_eq!([prev(&mut p, "a"), prev(&mut p, "b"), prev(&mut p, "a")], [0, 0, 1]);
    assert_eq!(prev(&mut p, "c"), 0);
    assert_eq!(p.known_sessions(), 2, "b was idle for longest");
    assert_eq!([prev(&mut p, "b"), prev(&mut p, "c")], [0, 4]);
    assert_eq!(p.next_deadline(), at(60));
    p.tick(at(60));
    assert_eq!((p.known_sessions(), p.next_deadline()), (0, Moment::NEVER));
}

#[test]
fn a_million_sessions_leave_nothing() {
    let mut p = pipeline(|o| o.remember = 100);
    for i in 0..1_000_000u32 {
        let session = SessionId::new(i.to_be_bytes().to_vec()).unwrap();
        p.enqueue(at(0), session, Content::new("x"), at(30)).unwrap();
        let run = only(&mut p);
        p.on_sent(at(0), ok(run.ticket, 1));
        p.take_outcomes();
    }
    assert_eq!(p.known_sessions(), 100);
    assert!(p.sessions.items.len() <= 102 && p.nodes.items.len() == 1);
}

#[test]
fn closed_refuses_and_what_is_queued_goes_on() {
    let mut p = pipeline(|_| {});
    let run = three(&mut p);
    p.close();
    assert_eq!(send(&mut p, "t", "1").unwrap_err().kind(), ErrorKind::Closed);
    p.on_sent(at(1), ok(run.ticket, 1));
    assert_eq!(bodies(&only(&mut p)), ["2"]);
}

#[test]
fn stopped_everything_has_an_outcome() {
    let mut p = pipeline(|_| {});
    three(&mut p);
    send(&mut p, "t", "1").unwrap();
    p.stop(at(1), "the producer was closed");
    let told = outcomes(&mut p).into_iter().map(|(_, r)| r.unwrap_err()).map(|e| (e.kind(), e.outcome()));
    assert_eq!(
        told.collect::<Vec<_>>(),
        [
            (ErrorKind::OutcomeUnknown, Outcome::Unknown),
            (ErrorKind::Halted, Outcome::NotApplied),
            (ErrorKind::Halted, Outcome::NotApplied),
            (ErrorKind::Closed, Outcome::NotApplied),
        ]
    );
    assert_eq!((p.pending(), p.kept_messages()), (0, 4));
    assert!(runs(&mut p).is_empty());
}

#[test]
fn a_run_must_have_left_before_its_sender_stops_waiting() {
    let mut p = pipeline(|o| o.answer_margin = Duration::from_secs(1));
    send(&mut p, "s", "1").unwrap();
    assert_eq!(only(&mut p).until, at(29));
}

#[test]
fn an_error_shows_one_layer_and_no_body() {
    let mut p = pipeline(|_| {});
    send(&mut p, "s", "secret").unwrap();
    send(&mut p, "s", "secret").unwrap();
    let run = only(&mut p);
    p.on_sent(at(1), refused(run.ticket));
    let errors = outcomes(&mut p).into_iter().map(|(_, r)| r.unwrap_err()).collect::<Vec<_>>();
    let shown = errors.iter().map(|e| format!("{e} {e:?}")).collect::<String>();
    assert!(!shown.contains("secret"), "{shown}");
    assert!(shown.starts_with("send: the broker refused (session=s, message="), "{shown}");
    let source = std::error::Error::source(&errors[1]).unwrap();
    assert_eq!(source.to_string(), "send: the broker refused");
    let error = errors.into_iter().map(Error::from).next_back().unwrap();
    assert_eq!(
        (error.kind(), error.outcome(), error.context("session")),
        (ErrorKind::Halted, Outcome::NotApplied, Some("s"))
    );
}
