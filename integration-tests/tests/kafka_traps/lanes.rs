//! Lanes that move, come back, or are of another number.

use std::sync::Arc;
use std::time::Duration;

use convoy_core::producer::ProducerOptions;
use convoy_core::{Defective, ErrorKind, Message, with_state};
use rdkafka::admin::{AdminOptions, NewPartitions};

use crate::kafka_wire::Wire;
use crate::stage::{GROUP, Log, PATIENCE, Stage, bodies, connect, note, until};

crate::traps![
    partitions_that_are_added_end_consumers_and_producers,
    a_lane_that_was_lost_while_it_was_paused_is_read_again,
    a_channel_of_another_number_of_lanes_is_refused,
];

async fn partitions_that_are_added_end_consumers_and_producers(stage: Arc<Stage>) {
    let broker = stage.provisioned(2).await;
    stage.send(&broker, &bodies(4, 1)).await;
    let log = Log::default();
    let processor = stage.noting(&broker, &log).await;
    until("all are done", || log.lock().len() == 4).await;
    let producer = broker.producer(&stage.channel).await.expect("a producer");
    let limit = AdminOptions::new().operation_timeout(Some(PATIENCE));
    stage.admin().create_partitions(&[NewPartitions::new(&stage.channel, 3)], &limit).await.expect("a partition more");
    let failed = tokio::time::timeout(PATIENCE, processor.failed()).await.expect("it did not notice");
    let error = failed.expect("an error");
    assert_eq!(error.kind(), ErrorKind::Topology, "{error:?}");
    assert!(error.to_string().contains("had 2 partitions and has 3"), "{error}");
    processor.drain().await.ok();
    let mut refused = None;
    for _ in 0..200 {
        let sent = producer.send(Message::new("s0", "late").expect("a message")).await;
        refused = sent.err().map(|error| error.kind());
        if refused.is_some() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(refused, Some(ErrorKind::Topology), "what the producer says");
    // Whoever comes later finds what the group wrote down.
    let ends = broker.consumer(&stage.channel).group(GROUP).processor();
    let ends = ends.run_until(tokio::time::sleep(PATIENCE), with_state(Log::default(), note)).await;
    assert_eq!(ends.expect_err("it must not go on").kind(), ErrorKind::Topology);
    let log = Log::default();
    // What the producer still sent is where two lanes put it.
    let allowed = broker.consumer(&stage.channel).group(GROUP).allow("lane-count").misrouted(Defective::Allow);
    let processor = allowed.processor().start(with_state(log.clone(), note)).await.expect("a processor");
    until("it is ready", || processor.is_ready()).await;
    processor.drain().await.expect("drain");
    producer.close(PATIENCE).await.ok();
}

/// A lease that ran out has its lane paused; the group gives it back to the same client, which is paused there still.
async fn a_lane_that_was_lost_while_it_was_paused_is_read_again(stage: Arc<Stage>) {
    let broker = stage.provisioned(4).await;
    let wire = Wire::start(stage.port).await.expect("a wire");
    let held_up = connect(stage.options(wire.port)).await;
    let log = Log::default();
    let processor = stage.noting(&held_up, &log).await;
    stage.send(&broker, &bodies(16, 1)).await;
    until("all are done", || log.lock().len() == 16).await;
    wire.freeze(true);
    until("every right ran out", || processor.snapshot().held == 0).await;
    // The broker lets the member go, too.
    tokio::time::sleep(Duration::from_secs(6)).await;
    wire.freeze(false);
    stage.send(&broker, &bodies(16, 1)).await;
    until("all are done again", || log.lock().len() >= 32).await;
    processor.drain().await.expect("drain");
}

async fn a_channel_of_another_number_of_lanes_is_refused(stage: Arc<Stage>) {
    stage.provisioned(3).await;
    let other = connect(stage.options(stage.port).lanes(4)).await;
    let refused = other.producer_with(&stage.channel, ProducerOptions::default()).await;
    assert_eq!(refused.expect_err("a producer of it").kind(), ErrorKind::Topology);
    let refused = other.consumer(&stage.channel).group(GROUP).processor().start(with_state(Log::default(), note)).await;
    let error = refused.expect_err("a consumer of it");
    assert!(error.kind() == ErrorKind::Topology && error.to_string().contains("has 3 partitions, not 4"), "{error:?}");
}
