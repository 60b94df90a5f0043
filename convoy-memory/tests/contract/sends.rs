//! The producer's side.

use std::sync::Arc;
use std::time::Duration;

use convoy_core::backend::{Run, Sink};
use convoy_core::runtime::now;
use convoy_core::{Content, ErrorKind, Moment, Outcome};

use crate::support::{CHANNEL, Consumer, Producer, broker, group, id, ticket};

#[tokio::test(start_paused = true)]
async fn a_full_channel_refuses_a_run_whole_and_nothing_is_lost() {
    let broker = broker("capacity=3");
    let mut producer = Producer::open(&broker).await;
    producer.send("a", &["1", "2"]).await;
    let refused = producer.submit("a", &["3", "4"]);
    let error = producer.outcome(refused).await.unwrap_err();
    assert_eq!((error.kind(), error.outcome()), (ErrorKind::Backpressure, Outcome::NotApplied));
    assert!(error.is_retryable());
    assert_eq!(broker.stats(CHANNEL).unwrap().messages, 2);
    producer.send("a", &["3"]).await;
    let mut consumer = Consumer::open(&broker).await;
    consumer.accept(1);
    let won = consumer.won().await;
    let head = consumer.message(won.grant).await;
    consumer.settled(won.grant, head.position.value + 1, &[]).await;
    producer.send("a", &["4"]).await;
    assert_eq!(group(&broker).unsettled, 3);
}

#[tokio::test(start_paused = true)]
async fn no_run_is_larger_than_the_channel() {
    let broker = broker("capacity=3&capacity_bytes=4");
    let mut producer = Producer::open(&broker).await;
    assert_eq!(producer.sink.max_run(), 3);
    producer.send("a", &["1234567"]).await;
    let full = producer.submit("a", &["8"]);
    assert_eq!(producer.outcome(full).await.unwrap_err().kind(), ErrorKind::Backpressure);
    let mut consumer = Consumer::open(&broker).await;
    consumer.accept(1);
    let won = consumer.won().await;
    let head = consumer.message(won.grant).await;
    consumer.settled(won.grant, head.position.value + 1, &[]).await;
    producer.send("a", &["8"]).await;
}

#[tokio::test(start_paused = true)]
async fn bytes_and_sizes_are_bounded() {
    let broker = broker("capacity_bytes=10&max_message=6");
    let mut producer = Producer::open(&broker).await;
    let large = producer.submit("a", &["1234567"]);
    assert_eq!(producer.outcome(large).await.unwrap_err().kind(), ErrorKind::TooLarge);
    producer.send("a", &["123456"]).await;
    let full = producer.submit("b", &["12345"]);
    assert_eq!(producer.outcome(full).await.unwrap_err().kind(), ErrorKind::Backpressure);
    assert_eq!(broker.stats(CHANNEL).unwrap().bytes, 6);
}

#[tokio::test(start_paused = true)]
async fn what_its_sender_gave_up_does_not_land() {
    let broker = broker("");
    let mut producer = Producer::open(&broker).await;
    tokio::time::advance(Duration::from_secs(1)).await;
    let late = producer.submit_until("a", &["1"], now());
    let error = producer.outcome(late).await.unwrap_err();
    assert_eq!((error.kind(), error.outcome()), (ErrorKind::Timeout, Outcome::NotApplied));
    assert_eq!(broker.stats(CHANNEL).unwrap().messages, 0);
}

#[tokio::test(start_paused = true)]
async fn outcomes_come_once_each_and_the_last_position_of_a_run() {
    let broker = broker("");
    let mut producer = Producer::open(&broker).await;
    let (one, two) = (producer.submit("a", &["1", "2", "3"]), producer.submit("b", &["1"]));
    assert_eq!(producer.outcome(two).await.unwrap(), Some(4));
    assert_eq!(producer.outcome(one).await.unwrap(), Some(3));
    let mut more = Vec::new();
    assert!(tokio::time::timeout(Duration::from_secs(1), producer.sink.next(&mut more)).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn a_closed_producer_answers_and_ends() {
    let broker = broker("");
    let mut producer = Producer::open(&broker).await;
    let before = producer.submit("a", &["1"]);
    producer.sink.close(Moment::NEVER).await.unwrap();
    let after = producer.submit("a", &["2"]);
    assert_eq!(producer.outcome(before).await.unwrap(), Some(1));
    assert_eq!(producer.outcome(after).await.unwrap_err().kind(), ErrorKind::Closed);
    assert_eq!(producer.sink.next(&mut Vec::new()).await.unwrap_err().kind(), ErrorKind::Closed);
}

#[tokio::test]
async fn two_producers_share_a_channel_from_many_threads() {
    let broker = broker("capacity=100000");
    let sinks: Vec<Arc<dyn Sink>> = vec![Producer::open(&broker).await.sink, Producer::open(&broker).await.sink];
    std::thread::scope(|scope| {
        for sink in &sinks {
            scope.spawn(move || {
                for n in 0..1000 {
                    let messages = vec![Arc::new(Content::new(vec![1_u8]))];
                    let session = id(&format!("s{}", n % 7));
                    sink.submit(&mut vec![Run { ticket: ticket(), session, messages, until: Moment::NEVER }]);
                }
            });
        }
    });
    assert_eq!(broker.stats(CHANNEL).unwrap().messages, 2000);
}
