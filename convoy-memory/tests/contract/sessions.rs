//! Session mode.

use std::time::Duration;

use convoy_core::backend::{Answer, Backend, Command, Event, Loss, Place};
use convoy_core::runtime::now;
use convoy_core::{ErrorKind, Moment};

use crate::support::{CHANNEL, Consumer, GROUP, Producer, broker, count, group, id, text};

const SECOND: Duration = Duration::from_secs(1);

#[tokio::test(start_paused = true)]
async fn a_session_is_delivered_in_order_settled_each_and_forgotten() {
    let broker = broker("");
    let mut consumer = Consumer::open(&broker).await;
    let mut producer = Producer::open(&broker).await;
    producer.send("a", &["1", "2"]).await;
    producer.send("a", &["3"]).await;
    consumer.accept(1);
    let won = consumer.won().await;
    assert_eq!((won.place.clone(), won.unclean), (Place::Session(id("a")), false));
    let messages = consumer.messages(won.grant, 3).await;
    assert_eq!(messages.iter().map(text).collect::<Vec<_>>(), ["1", "2", "3"]);
    assert!(messages.windows(2).all(|w| w[0].position < w[1].position) && won.start == messages[0].position.value);
    for message in &messages {
        assert_eq!(consumer.settled(won.grant, message.position.value + 1, &[]).await, Answer::Ok);
    }
    consumer.tell(Command::Release { grant: won.grant });
    let stats = broker.stats(CHANNEL).unwrap();
    assert_eq!((stats.messages, stats.bytes, stats.sessions, group(&broker).locks), (0, 0, 0, 0));
    assert!(won.lease.is_ended());
    let later = producer.send("a", &["4"]).await;
    assert!(later > messages[2].position.value, "positions grow although the session was forgotten");
}

#[tokio::test(start_paused = true)]
async fn a_lock_that_runs_out_is_offered_again_from_the_first_unsettled_message() {
    let broker = broker("lock=30s");
    let (mut old, mut new) = (Consumer::open(&broker).await, Consumer::open(&broker).await);
    let mut producer = Producer::open(&broker).await;
    producer.send("a", &["1", "2", "3"]).await;
    old.accept(1);
    let first = old.won().await;
    let messages = old.messages(first.grant, 3).await;
    old.settled(first.grant, messages[0].position.value + 1, &[]).await;
    old.accept(0);
    new.accept(1);
    let before = now();
    let second = new.won().await;
    assert_eq!(now().since(before), 30 * SECOND);
    assert!(second.unclean && second.start == messages[1].position.value && first.lease.is_ended());
    assert_eq!(old.lost(first.grant).await, Loss::Expired);
    let again = new.messages(second.grant, 2).await;
    assert_eq!(again.iter().map(|m| (text(m), count(m))).collect::<Vec<_>>(), [("2".into(), 2), ("3".into(), 2)]);
    old.settle(first.grant, messages[2].position.value + 1, &[]);
    assert_eq!((group(&broker).unsettled, group(&broker).stale_settlements), (2, 1));
    assert!(old.is_quiet(SECOND).await, "a settlement of a right that is gone was answered by its loss");
}

#[tokio::test(start_paused = true)]
async fn renewal_keeps_a_lock_and_is_evidence() {
    let broker = broker("lock=30s");
    let mut consumer = Consumer::open(&broker).await;
    Producer::open(&broker).await.send("a", &["1"]).await;
    consumer.accept(1);
    let won = consumer.won().await;
    for _ in 0..5 {
        tokio::time::advance(20 * SECOND).await;
        let asked = now();
        consumer.tell(Command::Renew { grant: won.grant });
        let proved = consumer.find(|event| match event {
            Event::Proved { grant, asked_at, valid_for } => Some((*grant, *asked_at, *valid_for)),
            _ => None,
        });
        assert_eq!(proved.await, (won.grant, asked, 30 * SECOND));
    }
    assert_eq!(group(&broker).locks, 1);
}

#[tokio::test(start_paused = true)]
async fn requests_for_the_next_session_are_a_standing_demand_served_in_turn() {
    let broker = broker("");
    let (mut a, mut b) = (Consumer::open(&broker).await, Consumer::open(&broker).await);
    a.accept(2);
    b.accept(1);
    let mut producer = Producer::open(&broker).await;
    for session in ["1", "2", "3", "4", "5"] {
        producer.send(session, &["x"]).await;
    }
    assert_eq!(group(&broker).locks, 3, "as many as were asked for, before anybody could say otherwise");
    assert_eq!(a.won().await.place, Place::Session(id("1")));
    assert_eq!(b.won().await.place, Place::Session(id("2")));
    assert_eq!(a.won().await.place, Place::Session(id("3")));
    a.accept(0);
    assert!(matches!(b.message(b.seen.front().and_then(Event::grant).unwrap()).await.session, _));
    assert_eq!(b.won().await.place, Place::Session(id("4")), "the demand stands until another number is told");
    b.accept(0);
    assert!(a.seen.iter().all(|event| !matches!(event, Event::Granted { .. })));
    assert_eq!(group(&broker).free_sessions, 1);
    assert!(tokio::time::timeout(SECOND, a.won()).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn a_released_session_goes_behind_those_that_wait() {
    let broker = broker("");
    let mut consumer = Consumer::open(&broker).await;
    let mut producer = Producer::open(&broker).await;
    for session in ["a", "b"] {
        producer.send(session, &["x"]).await;
    }
    consumer.accept(1);
    let a = consumer.won().await;
    consumer.accept(1);
    consumer.tell(Command::Release { grant: a.grant });
    assert_eq!(consumer.won().await.place, Place::Session(id("b")));
    let a = consumer.won().await;
    assert_eq!((a.place, a.unclean), (Place::Session(id("a")), false));
}

#[tokio::test(start_paused = true)]
async fn a_named_session_is_waited_for_and_denied_at_the_limit() {
    let broker = broker("");
    let (mut a, mut b, mut c) =
        (Consumer::open(&broker).await, Consumer::open(&broker).await, Consumer::open(&broker).await);
    a.accept_named("s", SECOND);
    let held = a.won().await;
    assert_eq!(held.place, Place::Session(id("s")), "a session without messages can be had too");
    b.accept_named("s", SECOND);
    let asked = now();
    assert_eq!(b.denied().await, ErrorKind::Timeout);
    assert_eq!(now().since(asked), SECOND);
    b.accept_named("s", Duration::ZERO);
    assert_eq!(b.denied().await, ErrorKind::Timeout);
    c.accept(1);
    b.accept_named("s", 20 * SECOND);
    Producer::open(&broker).await.send("s", &["1"]).await;
    assert_eq!(text(&a.message(held.grant).await), "1");
    a.tell(Command::Release { grant: held.grant });
    let won = b.won().await;
    assert_eq!(text(&b.message(won.grant).await), "1", "whoever waits by name comes before whoever takes any");
    b.tell(Command::Release { grant: won.grant });
    assert_eq!(c.won().await.place, Place::Session(id("s")));
}

#[tokio::test(start_paused = true)]
async fn a_consumer_that_waits_by_name_leaves_nothing_behind() {
    let broker = broker("");
    let mut a = Consumer::open(&broker).await;
    a.accept_named("s", SECOND);
    let held = a.won().await;
    let b = Consumer::open(&broker).await;
    b.accept_named("s", 20 * SECOND);
    assert_eq!(group(&broker).waiting_by_name, 1);
    drop(b);
    assert_eq!(group(&broker).waiting_by_name, 0);
    a.tell(Command::Release { grant: held.grant });
    assert_eq!(broker.stats(CHANNEL).unwrap().sessions, 0);
}

#[tokio::test(start_paused = true)]
async fn a_dropped_consumer_frees_its_locks_at_once_and_a_closed_one_lets_them_run_out() {
    let broker = broker("lock=30s");
    let mut producer = Producer::open(&broker).await;
    producer.send("a", &["1"]).await;
    let mut dropped = Consumer::open(&broker).await;
    dropped.accept(1);
    let won = dropped.won().await;
    drop(dropped);
    assert!(won.lease.is_ended());
    let mut closed = Consumer::open(&broker).await;
    closed.accept(1);
    let won = closed.won().await;
    assert!(won.unclean);
    closed.source.close(Moment::NEVER).await.unwrap();
    closed.source.close(Moment::NEVER).await.unwrap();
    let mut events = Vec::new();
    let error = loop {
        if let Err(error) = closed.source.next(&mut events).await {
            break error;
        }
    };
    assert_eq!(error.kind(), ErrorKind::Closed);
    drop(closed);
    let mut heir = Consumer::open(&broker).await;
    heir.accept(1);
    let before = now();
    let again = heir.won().await;
    assert_eq!(now().since(before), 30 * SECOND);
    assert_eq!(broker.stats(CHANNEL).unwrap().consumers, 1);
    assert!(again.unclean && won.lease.is_ended());
}

#[tokio::test(start_paused = true)]
async fn leaving_wins_nothing_more() {
    let broker = broker("");
    let mut consumer = Consumer::open(&broker).await;
    consumer.accept(4);
    consumer.tell(Command::Leave);
    consumer.tell(Command::Leave);
    Producer::open(&broker).await.send("a", &["1"]).await;
    consumer.accept_named("a", SECOND);
    assert_eq!(consumer.denied().await, ErrorKind::Closed);
    assert!(consumer.is_quiet(SECOND).await);
}

#[tokio::test(start_paused = true)]
async fn prefetch_bounds_what_is_out_and_reading_can_be_stopped() {
    let broker = broker("prefetch=2");
    let mut consumer = Consumer::open(&broker).await;
    Producer::open(&broker).await.send("a", &["1", "2", "3", "4"]).await;
    consumer.accept(1);
    let won = consumer.won().await;
    consumer.accept(0);
    let first = consumer.messages(won.grant, 2).await;
    assert!(consumer.is_quiet(SECOND).await);
    consumer.tell(Command::Read { grant: won.grant, on: false });
    consumer.settled(won.grant, first[1].position.value + 1, &[]).await;
    assert!(consumer.is_quiet(SECOND).await);
    consumer.tell(Command::Read { grant: won.grant, on: true });
    assert_eq!(text(&consumer.message(won.grant).await), "3");
}

#[tokio::test(start_paused = true)]
async fn setting_aside_settles_in_one_step_and_only_the_head() {
    let broker = broker("dead_letters=1");
    let mut consumer = Consumer::open(&broker).await;
    Producer::open(&broker).await.send("a", &["1", "2"]).await;
    consumer.accept(1);
    let won = consumer.won().await;
    let messages = consumer.messages(won.grant, 2).await;
    assert_eq!(consumer.set_aside(won.grant, &messages[1]).await, Answer::Refused, "it is not its turn");
    assert_eq!(consumer.set_aside(won.grant, &messages[0]).await, Answer::Ok);
    assert_eq!((group(&broker).unsettled, group(&broker).dead_letters), (1, 1));
    assert_eq!(consumer.set_aside(won.grant, &messages[1]).await, Answer::Refused, "the store is full");
    assert_eq!(group(&broker).unsettled, 1);
    let store = broker.dead_letters(CHANNEL, GROUP).await.unwrap();
    let listed = store.list(0, 10).await.unwrap();
    assert_eq!((listed.len(), &*listed[0].code, &*listed[0].detail), (1, "handler", "does not fit"));
    assert_eq!((listed[0].attempts, listed[0].content.body().as_ref()), (3, b"1".as_slice()));
    assert!(store.remove(listed[0].at).await.unwrap() && !store.remove(listed[0].at).await.unwrap());
    assert_eq!(consumer.set_aside(won.grant, &messages[1]).await, Answer::Ok);
    assert!(store.list(listed[0].at + 2, 10).await.unwrap().is_empty());
}

#[tokio::test(start_paused = true)]
async fn state_is_fenced_by_the_lock_bounded_and_outlives_it() {
    let broker = broker("state_limit=8&lock=10s");
    let (mut a, mut b) = (Consumer::open(&broker).await, Consumer::open(&broker).await);
    a.accept_named("s", SECOND);
    let won = a.won().await;
    let states = a.source.session_state().unwrap();
    states.set_state(won.grant, &id("s"), Some("one".into())).await.unwrap();
    let large = states.set_state(won.grant, &id("s"), Some(vec![0; 9].into())).await.unwrap_err();
    assert_eq!(large.kind(), ErrorKind::TooLarge);
    let other = states.state(won.grant, &id("other")).await.unwrap_err();
    assert_eq!(other.kind(), ErrorKind::LockLost, "a grant opens its own session only");
    b.accept_named("s", 60 * SECOND);
    let heir = b.won().await;
    let stale = states.set_state(won.grant, &id("s"), Some("late".into())).await.unwrap_err();
    assert_eq!(stale.kind(), ErrorKind::LockLost);
    let states = b.source.session_state().unwrap();
    assert_eq!(states.state(heir.grant, &id("s")).await.unwrap().unwrap(), "one");
    assert_eq!(broker.session_state(CHANNEL, GROUP, &id("s")).unwrap(), "one");
    states.set_state(heir.grant, &id("s"), None).await.unwrap();
    b.tell(Command::Release { grant: heir.grant });
    assert_eq!((group(&broker).states, broker.stats(CHANNEL).unwrap().sessions), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn each_group_sees_every_session_from_its_making_on_and_the_first_from_the_beginning() {
    let broker = broker("");
    let mut producer = Producer::open(&broker).await;
    producer.send("a", &["1"]).await;
    let mut first = Consumer::open(&broker).await;
    let mut second = Consumer::of_group(&broker, "audit").await;
    producer.send("a", &["2"]).await;
    first.accept(1);
    second.accept(1);
    let (one, two) = (first.won().await, second.won().await);
    let of_first = first.messages(one.grant, 2).await;
    let of_second = second.message(two.grant).await;
    assert_eq!((text(&of_first[0]), text(&of_first[1]), text(&of_second)), ("1".into(), "2".into(), "2".into()));
    assert_eq!(second.settled(two.grant, of_second.position.value + 1, &[]).await, Answer::Ok);
    assert_eq!(broker.stats(CHANNEL).unwrap().messages, 2, "kept until every group has settled it");
    first.settled(one.grant, of_first[1].position.value + 1, &[]).await;
    assert_eq!(broker.stats(CHANNEL).unwrap().messages, 0);
}

#[tokio::test(start_paused = true)]
async fn a_cancelled_next_loses_nothing() {
    let broker = broker("");
    let mut consumer = Consumer::open(&broker).await;
    consumer.accept(1);
    for _ in 0..3 {
        let mut events = Vec::new();
        assert!(tokio::time::timeout(SECOND, consumer.source.next(&mut events)).await.is_err());
    }
    Producer::open(&broker).await.send("a", &["1"]).await;
    let won = consumer.won().await;
    assert_eq!(text(&consumer.message(won.grant).await), "1");
}
