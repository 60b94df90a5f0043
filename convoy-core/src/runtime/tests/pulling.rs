//! The pull side.

use bytes::Bytes;

use super::script::Script;
use super::{MS, SECOND, until};
use crate::ErrorKind;
use crate::backend::{Limits, Place};

#[tokio::test(start_paused = true)]
async fn a_session_is_pulled_one_delivery_at_a_time() {
    let script = Script::new(Limits::lanes());
    let consumer = script.consumer().open().await.unwrap();
    assert!(consumer.accept_next(SECOND).await.unwrap().is_none(), "nothing yet");
    let lane = script.lane();
    script.deliver(lane, 0, "s", "1");
    script.deliver(lane, 1, "s", "2");
    script.deliver(lane, 2, "other", "1");
    let mut session = consumer.accept_next(SECOND).await.unwrap().unwrap();
    assert_eq!(session.id().as_bytes(), b"s");
    let first = session.next::<String>(SECOND).await.unwrap().unwrap();
    assert_eq!((first.body.as_str(), first.attempt()), ("1", 1));
    drop(first);
    let again = session.next::<String>(SECOND).await.unwrap().unwrap();
    assert_eq!((again.body.as_str(), again.attempt()), ("1", 1), "offered again, uncharged");
    again.retry_in(SECOND).await.unwrap();
    assert!(session.next::<String>(500 * MS).await.unwrap().is_none(), "it waits");
    let retried = session.next::<String>(SECOND).await.unwrap().unwrap();
    assert_eq!((retried.body.as_str(), retried.attempt()), ("1", 2));
    retried.complete().await.unwrap();
    session.next::<String>(SECOND).await.unwrap().unwrap().dead_letter("unwanted").await.unwrap();
    session.flush(SECOND).await.unwrap();
    script.said(|said| assert_eq!((said.settled_below, said.dead.len()), (2, 1)));
    assert!(session.next::<String>(SECOND).await.unwrap().is_none());
    session.release(SECOND).await.unwrap();
    let other = consumer.accept_next(SECOND).await.unwrap().unwrap();
    assert_eq!(other.id().as_bytes(), b"other");
    drop(other);
    assert!(consumer.close(SECOND).await.unwrap().drained);
}

#[tokio::test(start_paused = true)]
async fn an_undecodable_body_stays_the_head_and_can_be_taken_raw() {
    let script = Script::new(Limits::lanes());
    let consumer = script.consumer().open().await.unwrap();
    let lane = script.lane();
    script.deliver(lane, 0, "s", "no number");
    let mut session = consumer.accept_next(SECOND).await.unwrap().unwrap();
    let error = session.next::<crate::Json<u32>>(SECOND).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Codec);
    let raw = session.next::<Bytes>(SECOND).await.unwrap().unwrap();
    assert_eq!(&raw.body[..], b"no number");
    raw.complete().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_lost_session_says_so_and_settles_nothing() {
    let script = Script::new(Limits::lanes());
    let consumer = script.consumer().open().await.unwrap();
    let lane = script.lane();
    script.deliver(lane, 0, "s", "1");
    let mut session = consumer.accept_next(SECOND).await.unwrap().unwrap();
    let delivery = session.next::<String>(SECOND).await.unwrap().unwrap();
    let lease = delivery.lease().clone();
    assert!(lease.is_live());
    script.lose(lane);
    lease.ended().await;
    let error = delivery.complete().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::LockLost);
    assert_eq!(error.outcome(), crate::Outcome::NotApplied);
    assert!(!session.is_held());
    session.lost().await;
    assert_eq!(session.next::<String>(SECOND).await.unwrap_err().kind(), ErrorKind::LockLost);
    assert_eq!(script.said(|said| said.settled_below), 0);
}

#[tokio::test(start_paused = true)]
async fn a_named_session_of_a_lane() {
    let script = Script::new(Limits::lanes());
    let consumer = script.consumer().open().await.unwrap();
    let not_ours = consumer.accept("s", SECOND).await.unwrap_err();
    assert_eq!(not_ours.kind(), ErrorKind::NotOwner);
    let lane = script.lane();
    until("the lane is proved", || consumer.snapshot().held == 1).await;
    let mut session = consumer.accept("s", SECOND).await.unwrap();
    let taken = consumer.accept("s", SECOND).await.unwrap_err();
    assert_eq!(taken.kind(), ErrorKind::NotOwner);
    script.deliver(lane, 0, "s", "1");
    session.next::<String>(SECOND).await.unwrap().unwrap().complete().await.unwrap();
    drop(session);
    consumer.accept("s", SECOND).await.unwrap();
    assert_eq!(consumer.accept("", SECOND).await.unwrap_err().kind(), ErrorKind::InvalidSession);
}

#[tokio::test(start_paused = true)]
async fn on_a_session_broker_completing_waits_for_the_broker() {
    let script = Script::new(Limits::sessions());
    let consumer = script.consumer().open().await.unwrap();
    let grant = script.grant(Place::Session(crate::SessionId::new("s").unwrap()));
    script.deliver(grant, 0, "s", "1");
    script.deliver(grant, 1, "s", "2");
    let mut session = consumer.accept_next(SECOND).await.unwrap().unwrap();
    session.next::<String>(SECOND).await.unwrap().unwrap().complete().await.unwrap();
    script.said(|said| assert_eq!(said.settled_below, 1));
    script.mute();
    let delivery = session.next::<String>(SECOND).await.unwrap().unwrap();
    let error = delivery.complete().await.unwrap_err();
    assert_eq!((error.kind(), error.outcome()), (ErrorKind::LockLost, crate::Outcome::Unknown), "it ran out meanwhile");
    assert_eq!(script.said(|said| (said.surrendered, said.released)), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn a_closed_consumer_says_so() {
    let script = Script::new(Limits::lanes());
    let consumer = script.consumer().open().await.unwrap();
    let lane = script.lane();
    script.deliver(lane, 0, "s", "1");
    let session = consumer.accept_next(SECOND).await.unwrap().unwrap();
    drop(consumer);
    assert!(!session.is_held());
}
