//! Lane mode.

use std::collections::BTreeSet;
use std::time::Duration;

use convoy_core::ErrorKind;
use convoy_core::backend::{Answer, Command, Event, Grant, Loss, Place};
use convoy_core::runtime::now;
use convoy_memory::{ConsumerId, MemoryBroker};

use crate::support::{CHANNEL, Consumer, GROUP, Producer, Won, broker, count, group, id, text};

const SECOND: Duration = Duration::from_secs(1);

async fn all_lanes(consumer: &mut Consumer, n: usize) -> Vec<Won> {
    let mut won = Vec::new();
    for _ in 0..n {
        won.push(consumer.won().await);
    }
    won
}

async fn revoked(consumer: &mut Consumer) -> (Grant, convoy_core::Moment) {
    consumer
        .find(|event| match event {
            Event::Revoking { grant, until } => Some((*grant, *until)),
            _ => None,
        })
        .await
}

async fn one_lane(options: &str) -> (MemoryBroker, Consumer, Producer, Won) {
    let broker = broker(&format!("lanes=1&{options}"));
    let mut consumer = Consumer::open(&broker).await;
    let producer = Producer::open(&broker).await;
    let won = consumer.won().await;
    (broker, consumer, producer, won)
}

#[tokio::test(start_paused = true)]
async fn sessions_are_pinned_to_lanes_and_a_lane_is_in_order() {
    let broker = broker("lanes=4");
    let mut consumer = Consumer::open(&broker).await;
    let mut producer = Producer::open(&broker).await;
    let lanes = all_lanes(&mut consumer, 4).await;
    for session in ["a", "b", "a", "b", "a"] {
        producer.send(session, &[session]).await;
    }
    for session in ["a", "b"] {
        let Place::Lane(lane) = consumer.source.place(&id(session)) else { panic!("no lane") };
        assert_eq!(u64::from(lane), id(session).stable_hash() % 4);
        let won = lanes.iter().find(|won| won.place == Place::Lane(lane)).unwrap();
        let of_lane = consumer.messages(won.grant, if session == "a" { 3 } else { 2 }).await;
        assert!(
            of_lane.iter().all(|m| m.session == id(session))
                && of_lane.windows(2).all(|w| w[0].position < w[1].position)
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_hand_over_repeats_only_what_is_not_done() {
    let (broker, mut old, mut producer, won) = one_lane("").await;
    producer.send("a", &["1", "2", "3", "4", "5", "6"]).await;
    let first = won.start;
    old.messages(won.grant, 5).await;
    assert_eq!(old.settled(won.grant, first + 1, &[first + 2, first + 4]).await, Answer::Ok);
    assert_eq!(group(&broker).unsettled, 3);
    assert_eq!(broker.stats(CHANNEL).unwrap().messages, 5, "kept above the watermark until it moves");
    drop(old);
    let mut new = Consumer::open(&broker).await;
    let won = new.won().await;
    assert_eq!((won.start, won.unclean), (first + 1, true));
    let again = new.messages(won.grant, 3).await;
    let shown: Vec<_> = again.iter().map(|m| (text(m), count(m))).collect();
    assert_eq!(shown, [("2".into(), 2), ("4".into(), 2), ("6".into(), 2)]);
    new.settled(won.grant, first + 6, &[]).await;
    assert_eq!((group(&broker).unsettled, broker.stats(CHANNEL).unwrap().messages), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_hole_behind_the_last_delivery_is_told() {
    let (broker, mut old, mut producer, won) = one_lane("").await;
    producer.send("a", &["1", "2", "3"]).await;
    old.messages(won.grant, 3).await;
    old.settled(won.grant, won.start, &[won.start + 1, won.start + 2]).await;
    drop(old);
    let mut new = Consumer::open(&broker).await;
    let won = new.won().await;
    assert_eq!(text(&new.message(won.grant).await), "1");
    let passed = new.find(|event| match event {
        Event::Passed { below, .. } => Some(*below),
        _ => None,
    });
    assert_eq!(passed.await, won.start + 3);
    new.settled(won.grant, won.start + 3, &[]).await;
    assert_eq!(broker.stats(CHANNEL).unwrap().messages, 0);
}

#[tokio::test(start_paused = true)]
async fn nothing_undelivered_is_settled() {
    let (broker, mut consumer, mut producer, won) = one_lane("prefetch=1").await;
    producer.send("a", &["1", "2"]).await;
    consumer.message(won.grant).await;
    consumer.settled(won.grant, won.start + 2, &[won.start + 1, u64::MAX]).await;
    assert_eq!(group(&broker).unsettled, 1);
    assert_eq!(text(&consumer.message(won.grant).await), "2");
}

#[tokio::test(start_paused = true)]
async fn joining_and_leaving_balances_the_lanes() {
    let broker = broker("lanes=4&handover=5s&lock=60s");
    let mut a = Consumer::open(&broker).await;
    let of_a = all_lanes(&mut a, 4).await;
    let mut b = Consumer::open(&broker).await;
    let (first, until) = revoked(&mut a).await;
    let (second, _) = revoked(&mut a).await;
    assert_eq!(until.since(now()), 5 * SECOND);
    assert!(b.is_quiet(SECOND).await, "nobody gets a lane before its holder gave it back");
    a.tell(Command::Release { grant: first });
    let given = b.won().await;
    assert!(!given.unclean && of_a.iter().any(|won| won.grant == first && won.place == given.place));
    let taken = b.won().await;
    assert!(taken.unclean, "the time for the other one was over");
    assert_eq!(a.lost(second).await, Loss::Revoked);
    drop(a);
    let mut places: BTreeSet<Place> = [given.place, taken.place].into();
    places.extend(all_lanes(&mut b, 2).await.into_iter().map(|won| won.place));
    assert_eq!(places.len(), 4);
}

#[tokio::test(start_paused = true)]
async fn a_holder_that_cannot_be_told_keeps_its_lanes_until_they_run_out() {
    let broker = broker("lanes=4&handover=1s&lock=20s");
    let mut a = Consumer::open(&broker).await;
    let of_a = all_lanes(&mut a, 4).await;
    assert!(broker.faults().group(CHANNEL, GROUP).unwrap().silence(ConsumerId(1)));
    let mut b = Consumer::open(&broker).await;
    assert!(b.is_quiet(19 * SECOND).await, "what was promised to the first holds");
    assert!(of_a.iter().all(|won| !won.lease.is_ended()), "and it knows of nothing");
    assert_eq!(all_lanes(&mut b, 4).await.len(), 4);
}

#[tokio::test(start_paused = true)]
async fn a_revoked_lane_brings_nothing_new_and_takes_settlements() {
    let (broker, mut a, mut producer, won) = one_lane("").await;
    producer.send("a", &["1"]).await;
    a.message(won.grant).await;
    let _b = Consumer::open(&broker).await;
    let c = Consumer::open(&broker).await;
    assert!(a.is_quiet(SECOND).await, "one lane stays where it is");
    drop(c);
    let broker = crate::support::broker("lanes=2");
    let mut a = Consumer::open(&broker).await;
    all_lanes(&mut a, 2).await;
    let mut producer = Producer::open(&broker).await;
    let mut b = Consumer::open(&broker).await;
    let (grant, _) = revoked(&mut a).await;
    for session in ["a", "b", "c", "d", "e", "f"] {
        producer.send(session, &[session]).await;
    }
    let heir = {
        assert!(a.find(|e| matches!(e, Event::Delivered { .. }).then_some(e.grant())).await != Some(grant));
        assert_eq!(a.settled(grant, 1, &[]).await, Answer::Ok);
        a.tell(Command::Release { grant });
        b.won().await
    };
    b.message(heir.grant).await;
}

#[tokio::test(start_paused = true)]
async fn a_lease_that_runs_out_goes_to_who_shows_life() {
    let broker = broker("lanes=2&lock=30s");
    let mut silent = Consumer::open(&broker).await;
    let of_silent = all_lanes(&mut silent, 2).await;
    let mut alive = Consumer::open(&broker).await;
    let (grant, _) = revoked(&mut silent).await;
    silent.tell(Command::Release { grant });
    let mine = alive.won().await;
    let before = now();
    let heir = loop {
        alive.tell(Command::Renew { grant: mine.grant });
        if let Ok(won) = tokio::time::timeout(5 * SECOND, alive.won()).await {
            break won;
        }
    };
    assert!(now().since(before) >= 29 * SECOND && heir.unclean);
    let last = of_silent.iter().find(|won| won.place == heir.place).unwrap();
    assert_eq!(silent.lost(last.grant).await, Loss::Expired);
    assert!(last.lease.is_ended());
    let (back, _) = revoked(&mut alive).await;
    alive.tell(Command::Release { grant: back });
    silent.won().await;
}

#[tokio::test(start_paused = true)]
async fn a_surrendered_lane_is_granted_anew_and_a_released_one_after_a_pause() {
    let (broker, mut consumer, mut producer, won) = one_lane("").await;
    producer.send("a", &["1"]).await;
    consumer.message(won.grant).await;
    consumer.tell(Command::Surrender { grant: won.grant });
    let before = now();
    let again = consumer.won().await;
    assert!(again.unclean && again.grant > won.grant && now() == before);
    assert_eq!(count(&consumer.message(again.grant).await), 2);
    consumer.tell(Command::Release { grant: again.grant });
    let third = consumer.won().await;
    assert_eq!(now().since(before), Duration::from_millis(100));
    consumer.tell(Command::Leave);
    consumer.tell(Command::Release { grant: third.grant });
    consumer.seen.clear();
    assert!(consumer.is_quiet(10 * SECOND).await, "who leaves wins nothing");
    drop(broker);
}

#[tokio::test(start_paused = true)]
async fn setting_aside_copies_and_leaves_settling_to_the_engine() {
    let (broker, mut consumer, mut producer, won) = one_lane("").await;
    producer.send("a", &["1"]).await;
    let message = consumer.message(won.grant).await;
    assert_eq!(consumer.set_aside(won.grant, &message).await, Answer::Ok);
    assert_eq!(consumer.set_aside(won.grant, &message).await, Answer::Ok);
    assert_eq!((group(&broker).unsettled, group(&broker).dead_letters), (1, 1), "one copy of one origin");
    consumer.settled(won.grant, won.start + 1, &[]).await;
    assert_eq!(group(&broker).unsettled, 0);
}

#[tokio::test(start_paused = true)]
async fn lanes_have_no_named_sessions_and_no_state() {
    let (_broker, mut consumer, _producer, _won) = one_lane("").await;
    consumer.accept_named("a", SECOND);
    assert_eq!(consumer.denied().await, ErrorKind::Unsupported);
    assert!(consumer.source.session_state().is_none());
}

#[tokio::test(start_paused = true)]
async fn groups_move_independently() {
    let (broker, mut first, mut producer, one) = one_lane("").await;
    producer.send("a", &["1"]).await;
    let mut second = Consumer::of_group(&broker, "audit").await;
    let two = second.won().await;
    producer.send("a", &["2"]).await;
    assert_eq!(text(&second.message(two.grant).await), "2");
    let of_first = first.messages(one.grant, 2).await;
    assert_eq!(text(&of_first[0]), "1");
    first.settled(one.grant, one.start + 2, &[]).await;
    assert_eq!(broker.stats(CHANNEL).unwrap().messages, 1);
    second.settled(two.grant, two.start + 1, &[]).await;
    assert_eq!(broker.stats(CHANNEL).unwrap().messages, 0);
}
