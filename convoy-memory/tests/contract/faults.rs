//! Every fault, and that it looks to a client as it does on a real broker.

use std::time::Duration;

use convoy_core::backend::{Answer, Backend, Command, Event, Fate, Loss, Place};
use convoy_core::runtime::now;
use convoy_core::{Defect, ErrorKind, Moment, Outcome};
use convoy_memory::{AnswerFault, ConsumerId, GroupFaults, Landing, MemoryBroker, SendFault, StaleEvent};

use crate::support::{CHANNEL, Consumer, GROUP, Producer, Won, broker, count, group, id, text};

const SECOND: Duration = Duration::from_secs(1);

fn of_group(broker: &MemoryBroker) -> GroupFaults {
    broker.faults().group(CHANNEL, GROUP).unwrap()
}

fn session(name: &str) -> Place {
    Place::Session(id(name))
}

/// A consumer that holds session `a` with two messages out.
async fn holding(options: &str) -> (MemoryBroker, Consumer, Won, Vec<u64>) {
    let broker = broker(options);
    let mut consumer = Consumer::open(&broker).await;
    Producer::open(&broker).await.send("a", &["1", "2"]).await;
    consumer.accept(1);
    let won = consumer.won().await;
    consumer.accept(0);
    let positions = consumer.messages(won.grant, 2).await.iter().map(|m| m.position.value).collect();
    (broker, consumer, won, positions)
}

#[tokio::test(start_paused = true)]
async fn a_lock_is_lost_now() {
    let (broker, mut consumer, won, positions) = holding("").await;
    assert_eq!(of_group(&broker).holder(&won.place), Some(ConsumerId(1)));
    assert!(of_group(&broker).lose(&won.place) && !of_group(&broker).lose(&won.place));
    assert!(won.lease.is_ended());
    assert_eq!(consumer.lost(won.grant).await, Loss::Revoked);
    consumer.settle(won.grant, positions[0] + 1, &[]);
    assert_eq!(group(&broker).stale_settlements, 1);
    consumer.accept(1);
    let again = consumer.won().await;
    assert_eq!(count(&consumer.message(again.grant).await), 2);
}

#[tokio::test(start_paused = true)]
async fn a_lock_moves_to_another_consumer_though_the_first_asks_too() {
    let (broker, mut a, won, _) = holding("").await;
    assert!(!of_group(&broker).hand_to_another(&won.place), "there is no other");
    let mut b = Consumer::open(&broker).await;
    a.accept(1);
    assert!(of_group(&broker).hand_to_another(&won.place));
    assert_eq!(a.lost(won.grant).await, Loss::Revoked);
    assert!(a.is_quiet(SECOND).await, "kept for the other one");
    b.accept(1);
    let heir = b.won().await;
    assert_eq!((heir.place.clone(), heir.unclean), (session("a"), true));
    assert_eq!(text(&b.message(heir.grant).await), "1");
    assert!(of_group(&broker).hand_to_another(&heir.place));
    assert_eq!(a.won().await.place, session("a"));
}

#[tokio::test(start_paused = true)]
async fn what_is_kept_for_a_consumer_that_goes_is_for_all() {
    let (broker, mut a, won, _) = holding("").await;
    let b = Consumer::open(&broker).await;
    assert!(of_group(&broker).hand_to_another(&won.place));
    a.lost(won.grant).await;
    a.accept(1);
    drop(b);
    assert_eq!(a.won().await.place, session("a"));
}

#[tokio::test(start_paused = true)]
async fn a_lock_is_taken_and_given_back() {
    let (broker, mut a, won, _) = holding("").await;
    let mut b = Consumer::open(&broker).await;
    b.accept(1);
    assert!(of_group(&broker).give_back(&won.place));
    assert_eq!(a.lost(won.grant).await, Loss::Revoked);
    a.accept(1);
    let again = a.won().await;
    assert!(again.grant > won.grant && again.place == won.place);
    assert!(b.is_quiet(SECOND).await);
}

#[tokio::test(start_paused = true)]
async fn a_lane_moves_is_given_back_and_revoked() {
    let broker = broker("lanes=1&handover=2s");
    let (mut a, mut b) = (Consumer::open(&broker).await, Consumer::open(&broker).await);
    let won = a.won().await;
    assert!(of_group(&broker).give_back(&won.place));
    assert_eq!(a.lost(won.grant).await, Loss::Revoked);
    let won = a.won().await;
    assert!(of_group(&broker).hand_to_another(&won.place));
    assert_eq!(a.lost(won.grant).await, Loss::Revoked);
    let won = b.won().await;
    assert!(of_group(&broker).revoke(&won.place));
    let before = now();
    assert_eq!(b.lost(won.grant).await, Loss::Revoked);
    assert_eq!(now().since(before), 2 * SECOND);
}

#[tokio::test(start_paused = true)]
async fn answers_to_settlements_are_late_refused_missing_or_lost() {
    let (broker, mut consumer, won, positions) = holding("answer_limit=3s&lock=30s").await;
    let (first, second) = (positions[0] + 1, positions[1] + 1);
    let faults = of_group(&broker);
    faults.settlements(1, AnswerFault::NotApplied);
    assert_eq!(consumer.settled(won.grant, first, &[]).await, Answer::NotApplied);
    faults.settlements(1, AnswerFault::Unanswered);
    let before = now();
    assert_eq!(consumer.settled(won.grant, first, &[]).await, Answer::Unknown);
    assert_eq!((now().since(before), group(&broker).unsettled), (3 * SECOND, 2));
    faults.settlements(1, AnswerFault::Delay(SECOND));
    let ticket = consumer.settle(won.grant, first, &[]);
    assert_eq!(group(&broker).unsettled, 1, "it is done, only the answer is late");
    let before = now();
    assert_eq!(consumer.answer(ticket).await, Answer::Ok);
    assert_eq!(now().since(before), SECOND);
    faults.settlements(1, AnswerFault::AnswerLost);
    assert_eq!(consumer.settled(won.grant, second, &[]).await, Answer::Unknown);
    assert_eq!(group(&broker).unsettled, 0);
    faults.settlements(1, AnswerFault::Refuse);
    assert_eq!(consumer.settled(won.grant, second, &[]).await, Answer::Refused);
    assert_eq!(consumer.lost(won.grant).await, Loss::Refused);
    faults.settlements(5, AnswerFault::Refuse);
    faults.clear();
}

#[tokio::test(start_paused = true)]
async fn nothing_is_answered_under_a_right_that_is_gone() {
    let (broker, mut consumer, won, positions) = holding("").await;
    of_group(&broker).settlements(1, AnswerFault::Delay(SECOND));
    consumer.settle(won.grant, positions[0] + 1, &[]);
    assert!(of_group(&broker).lose(&won.place));
    consumer.lost(won.grant).await;
    assert!(consumer.is_quiet(10 * SECOND).await);
}

#[tokio::test(start_paused = true)]
async fn the_store_refuses_and_is_unknown() {
    let (broker, mut consumer, won, _) = holding("").await;
    Producer::open(&broker).await.send("b", &["x"]).await;
    let faults = of_group(&broker);
    consumer.tell(Command::Surrender { grant: won.grant });
    consumer.accept(2);
    let b = consumer.won().await;
    let message = consumer.message(b.grant).await;
    for (fault, answer, stored) in [
        (AnswerFault::Refuse, Answer::Refused, 0),
        (AnswerFault::NotApplied, Answer::NotApplied, 0),
        (AnswerFault::Unanswered, Answer::Unknown, 0),
        (AnswerFault::AnswerLost, Answer::Unknown, 1),
    ] {
        faults.set_asides(1, fault);
        assert_eq!(consumer.set_aside(b.grant, &message).await, answer, "{fault:?}");
        assert_eq!(group(&broker).dead_letters, stored, "{fault:?}");
    }
    assert_eq!(consumer.settled(b.grant, message.position.value + 1, &[]).await, Answer::Ok);
}

#[tokio::test(start_paused = true)]
async fn renewals_are_late_missing_or_refused() {
    let (broker, mut consumer, won, _) = holding("lock=30s").await;
    let faults = of_group(&broker);
    let proved = |event: &Event| matches!(event, Event::Proved { .. }).then_some(now());
    faults.renewals(1, AnswerFault::Delay(SECOND));
    let before = now();
    consumer.tell(Command::Renew { grant: won.grant });
    assert_eq!(consumer.find(proved).await.since(before), SECOND);
    tokio::time::advance(20 * SECOND).await;
    faults.renewals(1, AnswerFault::Unanswered);
    consumer.tell(Command::Renew { grant: won.grant });
    assert!(consumer.is_quiet(8 * SECOND).await);
    assert_eq!(consumer.lost(won.grant).await, Loss::Expired, "it was not renewed");
    consumer.accept(1);
    let won = consumer.won().await;
    faults.renewals(1, AnswerFault::Refuse);
    consumer.tell(Command::Renew { grant: won.grant });
    assert_eq!(consumer.lost(won.grant).await, Loss::Refused);
}

#[tokio::test(start_paused = true)]
async fn a_cut_connection_frees_the_locks_at_once_and_comes_back() {
    let (broker, mut a, won, _) = holding("").await;
    let mut b = Consumer::open(&broker).await;
    b.accept(1);
    a.accept(1);
    let faults = of_group(&broker);
    assert_eq!(faults.consumers(), [ConsumerId(1), ConsumerId(2)]);
    assert!(faults.cut(ConsumerId(1), Some(5 * SECOND)));
    assert!(won.lease.is_ended() && !a.source.is_ready());
    assert_eq!(a.lost(won.grant).await, Loss::Disconnected);
    let heir = b.won().await;
    assert_eq!(heir.place, session("a"));
    b.accept(0);
    a.accept_named("z", SECOND);
    assert_eq!(a.denied().await, ErrorKind::Disconnected);
    Producer::open(&broker).await.send("b", &["x"]).await;
    let before = now();
    assert_eq!(a.won().await.place, session("b"), "its standing demand outlives the connection");
    assert_eq!(now().since(before), 5 * SECOND);
    assert!(a.source.is_ready());
    assert!(faults.cut(ConsumerId(2), None));
    assert_eq!(b.lost(heir.grant).await, Loss::Disconnected);
    b.accept(1);
    b.seen.clear();
    assert!(b.is_quiet(SECOND).await && faults.reconnect(ConsumerId(2)));
    assert_eq!(b.won().await.place, session("a"));
    assert!(!faults.cut(ConsumerId(3), None));
}

#[tokio::test(start_paused = true)]
async fn a_half_open_connection_hears_nothing_while_the_lock_moves() {
    let (broker, mut a, won, _) = holding("lock=30s").await;
    let mut b = Consumer::open(&broker).await;
    b.accept(1);
    let faults = of_group(&broker);
    assert!(faults.silence(ConsumerId(1)));
    a.tell(Command::Renew { grant: won.grant });
    let before = now();
    let heir = b.won().await;
    assert_eq!((heir.place, now().since(before)), (session("a"), 30 * SECOND));
    assert!(a.is_quiet(60 * SECOND).await && !won.lease.is_ended());
    a.accept_named("q", SECOND);
    assert!(faults.reconnect(ConsumerId(1)));
    assert_eq!(a.denied().await, ErrorKind::Disconnected);
    assert_eq!(a.lost(won.grant).await, Loss::Disconnected);
    assert!(won.lease.is_ended());
}

#[tokio::test(start_paused = true)]
async fn a_half_open_member_loses_its_lanes_and_shares_again_when_back() {
    let broker = broker("lanes=2&lock=30s");
    let mut a = Consumer::open(&broker).await;
    let (one, two) = (a.won().await, a.won().await);
    assert!(of_group(&broker).silence(ConsumerId(1)));
    let mut b = Consumer::open(&broker).await;
    b.won().await;
    b.won().await;
    assert!(of_group(&broker).reconnect(ConsumerId(1)));
    assert_eq!(a.lost(one.grant).await, Loss::Disconnected);
    assert_eq!(a.lost(two.grant).await, Loss::Disconnected);
    a.won().await;
}

#[tokio::test(start_paused = true)]
async fn a_frozen_broker_answers_and_moves_nothing_and_then_goes_on() {
    let (broker, mut a, won, positions) = holding("lock=30s&answer_limit=5s").await;
    let mut producer = Producer::open(&broker).await;
    let mut b = Consumer::open(&broker).await;
    b.accept(1);
    broker.faults().freeze();
    assert!(!a.source.is_ready());
    let kept = producer.submit("k", &["kept"]);
    let given_up = producer.submit_until("g", &["given up"], now() + SECOND);
    let ticket = a.settle(won.grant, positions[0] + 1, &[]);
    let asked = now();
    a.tell(Command::Renew { grant: won.grant });
    let states = a.source.session_state().unwrap();
    assert_eq!(states.state(won.grant, &id("a")).await.unwrap_err().kind(), ErrorKind::Timeout);
    assert_eq!(broker.producer(CHANNEL).await.unwrap_err().kind(), ErrorKind::Timeout);
    let fate = producer.sink.fate(kept, now() + SECOND).await.unwrap_err();
    assert_eq!(fate.kind(), ErrorKind::Timeout);
    assert!(a.is_quiet(60 * SECOND).await && b.is_quiet(SECOND).await);
    a.tell(Command::Surrender { grant: won.grant });
    broker.faults().thaw();
    assert_eq!(a.answer(ticket).await, Answer::Ok);
    let asked_at = a.find(|event| match event {
        Event::Proved { asked_at, .. } => Some(*asked_at),
        _ => None,
    });
    assert_eq!(asked_at.await, asked, "evidence counts from when it was asked for");
    let heir = b.won().await;
    assert_eq!((heir.place, text(&b.message(heir.grant).await)), (session("a"), "2".into()));
    assert_eq!(producer.sink.fate(kept, Moment::NEVER).await.unwrap(), Fate::Landed);
    assert_eq!(producer.sink.fate(given_up, Moment::NEVER).await.unwrap(), Fate::Never);
    let error = producer.outcome(given_up).await.unwrap_err();
    assert_eq!((error.kind(), error.outcome()), (ErrorKind::Timeout, Outcome::NotApplied));
    producer.outcome(kept).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_consumer_dropped_under_a_frozen_broker_is_noticed_after_it() {
    let (broker, a, won, _) = holding("").await;
    broker.faults().freeze();
    drop(a);
    assert_eq!(group(&broker).locks, 1);
    broker.faults().thaw();
    assert_eq!((group(&broker).locks, broker.stats(CHANNEL).unwrap().consumers), (0, 0));
    assert!(won.lease.is_ended());
}

#[tokio::test(start_paused = true)]
async fn sends_are_refused_late_or_unknown() {
    let broker = broker("");
    let mut producer = Producer::open(&broker).await;
    let faults = broker.faults().channel(CHANNEL).unwrap();
    let messages = || broker.stats(CHANNEL).unwrap().messages;
    for (fault, kind, landed) in [
        (SendFault::Refuse, ErrorKind::Refused, 0),
        (SendFault::Full, ErrorKind::Backpressure, 0),
        (SendFault::NeverLands, ErrorKind::OutcomeUnknown, 0),
        (SendFault::Landed, ErrorKind::OutcomeUnknown, 1),
    ] {
        faults.sends(1, fault);
        let ticket = producer.submit("a", &["x"]);
        assert_eq!(producer.outcome(ticket).await.unwrap_err().kind(), kind);
        assert_eq!(messages(), landed, "{fault:?}");
        let fate = producer.sink.fate(ticket, Moment::NEVER).await.unwrap();
        let known = [Fate::Unknown, Fate::Unknown, Fate::Never, Fate::Landed];
        assert!(known.contains(&fate) && (kind != ErrorKind::OutcomeUnknown || fate != Fate::Unknown));
    }
    faults.sends(1, SendFault::Delay(SECOND));
    let ticket = producer.submit("a", &["x"]);
    let before = now();
    assert_eq!(messages(), 2);
    producer.outcome(ticket).await.unwrap();
    assert_eq!(now().since(before), SECOND);
    faults.sends(9, SendFault::Refuse);
    faults.clear();
    producer.send("a", &["x"]).await;
}

#[tokio::test(start_paused = true)]
async fn late_runs_land_when_they_should_unless_their_fate_is_asked_for() {
    let broker = broker("");
    let mut producer = Producer::open(&broker).await;
    let faults = broker.faults().channel(CHANNEL).unwrap();
    let messages = || broker.stats(CHANNEL).unwrap().messages;
    for landing in [Landing::OnCommand, Landing::After(5 * SECOND), Landing::AfterSends(2)] {
        let before = messages();
        faults.sends(1, SendFault::LandsLate(landing));
        let late = producer.submit("a", &["late"]);
        assert_eq!(producer.outcome(late).await.unwrap_err().kind(), ErrorKind::OutcomeUnknown);
        producer.send("a", &["x"]).await;
        assert_eq!(messages(), before + 1);
        match landing {
            Landing::OnCommand => assert_eq!(faults.land(), 1),
            Landing::After(_) => tokio::time::advance(5 * SECOND).await,
            _ => drop(producer.send("b", &["x"]).await),
        }
        assert_eq!(producer.sink.fate(late, Moment::NEVER).await.unwrap(), Fate::Landed);
        assert_eq!(messages() - before, if landing == Landing::AfterSends(2) { 3 } else { 2 });
    }
    faults.sends(1, SendFault::LandsLate(Landing::OnCommand));
    let late = producer.submit("a", &["late"]);
    assert_eq!(producer.sink.fate(late, Moment::NEVER).await.unwrap(), Fate::Never);
    assert_eq!(faults.land(), 0, "whoever knows its fate is sure of it");
    faults.hide_fates(true);
    faults.sends(1, SendFault::LandsLate(Landing::OnCommand));
    let late = producer.submit("a", &["late"]);
    assert_eq!(producer.sink.fate(late, Moment::NEVER).await.unwrap(), Fate::Unknown);
    assert_eq!(faults.land(), 1);
}

#[tokio::test(start_paused = true)]
async fn stale_events_come_under_the_right_that_was_lost_last() {
    let (broker, mut consumer, won, _) = holding("").await;
    let faults = of_group(&broker);
    assert!(!faults.stale(ConsumerId(1), StaleEvent::Delivered), "nothing was lost yet");
    assert!(faults.lose(&won.place));
    consumer.lost(won.grant).await;
    for event in [StaleEvent::Delivered, StaleEvent::Settled, StaleEvent::Proved] {
        assert!(faults.stale(ConsumerId(1), event));
        assert_eq!(consumer.find(|event| Some(event.grant())).await, Some(won.grant));
    }
}

#[tokio::test(start_paused = true)]
async fn foreign_messages_have_their_defects() {
    let broker = broker("lanes=4");
    let mut consumer = Consumer::open(&broker).await;
    let mut won = Vec::new();
    for _ in 0..4 {
        won.push(consumer.won().await);
    }
    let faults = broker.faults().channel(CHANNEL).unwrap();
    let lane = |place| won.iter().find(|w: &&Won| w.place == place).unwrap().grant;
    let Place::Lane(own) = consumer.source.place(&id("a")) else { panic!("no lane") };
    faults.foreign(Defect::Misrouted, &id("a"), "x").unwrap();
    let message = consumer.message(lane(Place::Lane((own + 1) % 4))).await;
    assert_eq!((message.defect, message.session), (Some(Defect::Misrouted), id("a")));
    faults.foreign(Defect::NoSession, &id("a"), "x").unwrap();
    let message = consumer.message(lane(Place::Lane(own))).await;
    assert!(message.session.is_lone() && message.defect == Some(Defect::NoSession));
}

#[tokio::test(start_paused = true)]
async fn foreign_messages_without_a_session_are_sessions_of_their_own() {
    let broker = broker("");
    let mut consumer = Consumer::open(&broker).await;
    let faults = broker.faults().channel(CHANNEL).unwrap();
    assert_eq!(faults.foreign(Defect::Misrouted, &id("a"), "x").unwrap_err().kind(), ErrorKind::Unsupported);
    faults.foreign(Defect::SessionTooLong, &id("a"), "x").unwrap();
    faults.foreign(Defect::Headers, &id("a"), "y").unwrap();
    consumer.accept(2);
    let (lone, named) = (consumer.won().await, consumer.won().await);
    assert_ne!(lone.place, named.place);
    assert!(consumer.message(lone.grant).await.session.is_lone());
    assert_eq!(consumer.message(named.grant).await.defect, Some(Defect::Headers));
}
