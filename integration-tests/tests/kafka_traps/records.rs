//! Records that foreign producers write: other partitioners, keys that are no text, names of headers that are none, offsets that are nobody's.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use convoy_core::{Defective, ErrorKind, with_state};
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};

use crate::stage::{GROUP, Log, PATIENCE, Stage, note, until};

crate::traps![
    keys_are_bytes_and_go_where_jvm_producers_put_them,
    another_partitioner_beside_ours_is_found,
    a_channel_of_another_partitioner_alone_is_in_order,
    aborted_records_are_not_seen_and_their_offsets_stop_nobody,
];

/// A raw producer with this partitioner.
fn producer(stage: &Stage, partitioner: &str) -> BaseProducer {
    stage.raw().set("partitioner", partitioner).set("enable.idempotence", "true").create().expect("a producer")
}

fn write(on: &BaseProducer, channel: &str, key: &[u8], body: &str) {
    let headers = OwnedHeaders::new().insert(Header { key: "tenant", value: Some("acme") });
    on.send(BaseRecord::to(channel).key(key).payload(body).headers(headers)).map_err(|(e, _)| e).expect("a record");
}

async fn keys_are_bytes_and_go_where_jvm_producers_put_them(stage: Arc<Stage>) {
    let broker = stage.provisioned(8).await;
    let foreign = producer(&stage, "murmur2_random");
    // A `Long` of a JVM producer has eight bytes.
    for n in 0..40_i64 {
        write(&foreign, &stage.channel, &n.to_be_bytes(), &format!("{n}"));
    }
    for (key, _) in [("foobar", 6), ("21", 4), ("a-little-bit-long-string", 0), ("a-little-bit-longer-string", 3)] {
        write(&foreign, &stage.channel, key.as_bytes(), key);
    }
    foreign.flush(PATIENCE).expect("flush");
    let log = Log::default();
    let processor = stage.noting(&broker, &log).await;
    until("all of them, none misrouted", || log.lock().len() == 44).await;
    processor.drain().await.expect("drain");
}

async fn another_partitioner_beside_ours_is_found(stage: Arc<Stage>) {
    let broker = stage.provisioned(8).await;
    let (ours, theirs) = (producer(&stage, "murmur2_random"), producer(&stage, "consistent_random"));
    for n in 0..60 {
        write(&ours, &stage.channel, format!("ours-{n}").as_bytes(), "ours");
    }
    ours.flush(PATIENCE).expect("flush");
    for n in 0..60 {
        write(&theirs, &stage.channel, format!("theirs-{n}").as_bytes(), &format!("theirs-{n}"));
    }
    theirs.flush(PATIENCE).expect("flush");
    let consumer = broker.consumer(&stage.channel).group(GROUP);
    let log = Log::default();
    let ends = consumer.processor().run_until(tokio::time::sleep(PATIENCE), with_state(log.clone(), note)).await;
    assert_eq!(ends.expect_err("two hashes on one channel").kind(), ErrorKind::Misrouted);
    // Those that both put into the same lane may have been handled by then.
    let allowed = broker.consumer(&stage.channel).group(GROUP).misrouted(Defective::Allow);
    let processor = allowed.processor().start(with_state(log.clone(), note)).await.expect("a processor");
    let theirs = || log.lock().iter().filter(|body| body.starts_with("theirs")).cloned().collect::<HashSet<_>>().len();
    until("all of theirs, where that is allowed", || theirs() == 60).await;
    processor.drain().await.expect("drain");
}

async fn a_channel_of_another_partitioner_alone_is_in_order(stage: Arc<Stage>) {
    let broker = stage.provisioned(8).await;
    let theirs = producer(&stage, "consistent_random");
    for n in 0..5 {
        for session in 0..30 {
            write(&theirs, &stage.channel, format!("s{session}").as_bytes(), &format!("s{session}/{n}"));
        }
    }
    theirs.flush(PATIENCE).expect("flush");
    let log = Log::default();
    let processor = stage.noting(&broker, &log).await;
    until("all of them", || log.lock().len() == 150).await;
    for session in 0..30 {
        let of_it: Vec<String> =
            log.lock().iter().filter(|body| body.starts_with(&format!("s{session}/"))).cloned().collect();
        assert_eq!(of_it, (0..5).map(|n| format!("s{session}/{n}")).collect::<Vec<_>>());
    }
    processor.drain().await.expect("drain");
}

async fn aborted_records_are_not_seen_and_their_offsets_stop_nobody(stage: Arc<Stage>) {
    let broker = stage.provisioned(1).await;
    let sends: BaseProducer =
        stage.raw().set("partitioner", "murmur2_random").set("transactional.id", &stage.channel).create().expect("it");
    let of = Arc::clone(&stage);
    let wrote = tokio::task::spawn_blocking(move || {
        sends.init_transactions(PATIENCE).expect("init");
        for (body, commits) in [("a/0", true), ("a/never", false), ("a/1", true)] {
            sends.begin_transaction().expect("begin");
            write(&sends, &of.channel, b"a", body);
            match commits {
                true => sends.commit_transaction(PATIENCE).expect("commit"),
                false => {
                    sends.flush(PATIENCE).expect("flush");
                    sends.abort_transaction(PATIENCE).expect("abort");
                }
            }
        }
    });
    wrote.await.expect("written");
    let log = Log::default();
    let processor = stage.noting(&broker, &log).await;
    until("what was committed", || log.lock().len() == 2).await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    let report = processor.drain().await.expect("drain");
    assert!(report.drained, "{report:?}");
    assert_eq!(*log.lock(), ["a/0", "a/1"]);
}
