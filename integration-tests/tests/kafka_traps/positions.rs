//! Where a group goes on: commits, their metadata, and positions that are not there.

use std::sync::Arc;
use std::time::Duration;

use convoy_core::{ErrorKind, Failure, Received, with_state};
use convoy_kafka::Start;
use rdkafka::admin::AdminOptions;
use rdkafka::{Offset, TopicPartitionList};
use tokio::sync::Semaphore;

use crate::stage::{GROUP, Log, PATIENCE, Stage, bodies, connect, note, until};

crate::traps![
    a_new_group_starts_where_it_is_told,
    the_starting_position_is_committed_before_anything_runs,
    one_stuck_session_makes_a_restart_repeat_nothing,
    foreign_metadata_is_ignored,
    a_position_that_is_gone_names_what_is_lost,
];

async fn a_new_group_starts_where_it_is_told(stage: Arc<Stage>) {
    let broker = stage.provisioned(1).await;
    stage.send(&broker, &bodies(1, 3)).await;
    let latest = connect(stage.options(stage.port).start(Start::Latest)).await;
    let log = Log::default();
    let processor = stage.noting(&latest, &log).await;
    until("it is ready", || processor.is_ready()).await;
    until("its position is committed", || stage.committed(0).0 == Offset::Offset(3)).await;
    stage.send(&broker, &["s0/new".to_owned()]).await;
    until("the new one", || !log.lock().is_empty()).await;
    assert_eq!(*log.lock(), ["s0/new"]);
    processor.drain().await.expect("drain");
}

async fn the_starting_position_is_committed_before_anything_runs(stage: Arc<Stage>) {
    let broker = stage.provisioned(1).await;
    stage.send(&broker, &bodies(1, 1)).await;
    let (seen, of) = (Log::default(), Arc::clone(&stage));
    let handler = |(seen, of): (Log, Arc<Stage>), _: Received<String>| async move {
        let committed = tokio::task::spawn_blocking(move || format!("{:?}", of.committed(0).0)).await?;
        seen.lock().push(committed);
        Ok::<_, Failure>(())
    };
    let consumer = broker.consumer(&stage.channel).group(GROUP);
    let processor = consumer.processor().start(with_state((seen.clone(), of), handler)).await.expect("a processor");
    until("it ran", || !seen.lock().is_empty()).await;
    assert_eq!(*seen.lock(), [format!("{:?}", Offset::Offset(0))]);
    processor.drain().await.expect("drain");
}

async fn one_stuck_session_makes_a_restart_repeat_nothing(stage: Arc<Stage>) {
    let broker = stage.provisioned(1).await;
    stage.send(&broker, &["stuck/0".to_owned()]).await;
    stage.send(&broker, &bodies(50, 20)).await;
    let (log, shut) = (Log::default(), Arc::new(Semaphore::new(0)));
    let handler = |(log, shut): (Log, Arc<Semaphore>), message: Received<String>| async move {
        if message.body == "stuck/0" {
            let _opened = shut.acquire().await?;
        }
        log.lock().push(message.body.clone());
        Ok::<_, Failure>(())
    };
    let builder = broker.consumer(&stage.channel).group(GROUP).processor().drain_within(Duration::from_secs(3));
    let processor = builder.start(with_state((log.clone(), shut), handler)).await.expect("a processor");
    until("all but one are done", || log.lock().len() == 1_000).await;
    processor.drain().await.expect("drain");
    let (offset, metadata) = stage.committed(0);
    assert_eq!(offset, Offset::Offset(0), "the watermark stands at the stuck one");
    assert!(metadata.starts_with("cv1") && metadata.chars().count() < 64, "{} characters", metadata.chars().count());
    // Another process, which knows nothing but what was committed; it commits itself while it still passes what is done.
    let (again, other) = (Log::default(), connect(stage.options(stage.port)).await);
    let processor = stage.noting(&other, &again).await;
    stage.send(&broker, &["s0/20".to_owned()]).await;
    until("the stuck one and the new one", || again.lock().len() == 2).await;
    processor.drain().await.expect("drain");
    assert_eq!(*again.lock(), ["stuck/0", "s0/20"]);
    assert_eq!(stage.committed(0).0, Offset::Offset(1_002));
}

async fn foreign_metadata_is_ignored(stage: Arc<Stage>) {
    let broker = stage.provisioned(1).await;
    stage.send(&broker, &bodies(1, 3)).await;
    stage.commit(0, 1, "somebody's \u{1f980} own");
    let log = Log::default();
    let processor = stage.noting(&broker, &log).await;
    until("what is behind the offset", || log.lock().len() == 2).await;
    processor.drain().await.expect("drain");
    assert_eq!(*log.lock(), ["s0/1", "s0/2"]);
}

async fn a_position_that_is_gone_names_what_is_lost(stage: Arc<Stage>) {
    let broker = stage.provisioned(1).await;
    stage.send(&broker, &bodies(1, 10)).await;
    stage.commit(0, 2, "");
    {
        let mut below = TopicPartitionList::new();
        below.add_partition_offset(&stage.channel, 0, Offset::Offset(6)).expect("an offset");
        let limit = AdminOptions::new().operation_timeout(Some(PATIENCE));
        stage.admin().delete_records(&below, &limit).await.expect("records deleted");
    }
    let consumer = broker.consumer(&stage.channel).group(GROUP);
    let ends = consumer.processor().run_until(tokio::time::sleep(PATIENCE), with_state(Log::default(), note)).await;
    let error = ends.expect_err("it must not go on in silence");
    assert_eq!((error.kind(), error.context("lane")), (ErrorKind::NotFound, Some("0")), "{error:?}");
    assert!(error.to_string().contains("records 2 to 5 of lane 0"), "{error}");
    let log = Log::default();
    let allowed = broker.consumer(&stage.channel).group(GROUP).allow("lost-range");
    let processor = allowed.processor().start(with_state(log.clone(), note)).await.expect("a processor");
    until("what is left", || log.lock().len() == 4).await;
    processor.drain().await.expect("drain");
    assert_eq!(*log.lock(), ["s0/6", "s0/7", "s0/8", "s0/9"]);
}
