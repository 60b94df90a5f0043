//! Ends that a consumer must notice: of its connection, with messages in hand, and of a lane.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use convoy_conformance::faults::proxy::Proxy;
use convoy_conformance::history::Side;
use convoy_core::{ErrorKind, Received, Scope, with_state};
use parking_lot::Mutex;

use crate::members::{Gate, idle};
use crate::seen::{Entry, Seen};
use crate::stage::{PATIENCE, Stage, bodies, consumer, lane, send, session, until};

crate::traps![
    nothing_of_a_cut_connection_is_started_any_more,
    a_deleted_lane_is_noticed_and_named,
    a_deleted_lane_ends_a_pulling_consumer,
];

/// How often the connection is cut.
const CUTS: usize = 5;

async fn nothing_of_a_cut_connection_is_started_any_more(stage: Arc<Stage>) {
    let random = Mutex::new(stage.random());
    let seed = random.lock().u64(..);
    let proxy = Proxy::start(SocketAddr::from(([127, 0, 0, 1], stage.amqp())), seed).await.expect("a proxy");
    let broker = stage.provisioned(stage.options(2)).await;
    let sent = bodies(16, 50);
    send(&broker, &sent).await;
    let seen = Seen::default();
    // Whatever starts has a right that holds; each looks at it itself.
    let handled: Arc<Mutex<Vec<(String, bool)>>> = Arc::default();
    let note = with_state(
        Arc::clone(&handled),
        |handled: Arc<Mutex<Vec<(String, bool)>>>, message: Received<String>| async move {
            let live = message.lease().is_live();
            handled.lock().push((message.body.clone(), live));
            tokio::time::sleep(Duration::from_millis(20)).await;
            Ok(())
        },
    );
    let cut_off = crate::stage::connect(stage.options(2).port(proxy.address().port())).await;
    let processor = consumer(&cut_off).observer(seen.clone()).processor().max_concurrent_sessions(4);
    let processor = processor.start(note).await.expect("a processor");
    for cut in 0..CUTS {
        let more = random.lock().usize(20..80);
        let before = seen.started().len();
        until("it works", || seen.started().len() >= before + more).await;
        let lost = seen.lost().len();
        let left = sent.len() - seen.settled();
        assert!(left > 100, "cut {cut}: much was prefetched");
        assert!(proxy.living().reset(Side::Both) > 0, "cut {cut}");
        until("the rights are lost", || seen.lost().len() > lost).await;
    }
    until("all is handled in the end", || {
        let handled = handled.lock();
        sent.iter().all(|body| handled.iter().any(|(other, _)| other == body))
    })
    .await;
    until("nothing waits any more", || processor.snapshot().active_sessions == 0).await;
    assert!(processor.drain().await.expect("drained").drained);

    assert_eq!(handled.lock().iter().find(|(_, live)| !live), None, "started under a right that was gone");
    let mut gone = Vec::new();
    for entry in seen.all() {
        match entry {
            Entry::Lost(epoch, ..) => gone.push(epoch),
            Entry::Started(epoch, body, _) => assert!(!gone.contains(&epoch), "{body} of the lost right {epoch}"),
            Entry::Delivered(epoch, body) => assert!(!gone.contains(&epoch), "{body} of the lost right {epoch}"),
            _ => {}
        }
    }
    for (epoch, _, at) in seen.lost() {
        let late = |entry: &&Entry| matches!(entry, Entry::Started(of, _, checked) if *of == epoch && *checked > at);
        assert_eq!(seen.all().iter().find(late), None);
    }
    // In order: each session from where it stood, again and again.
    let firsts = first_times(&seen.started());
    for s in 0..16 {
        let name = format!("s{s}");
        let of: Vec<&String> = firsts.iter().filter(|body| session(body) == name).collect();
        assert_eq!(of, sent.iter().filter(|body| session(body) == name).collect::<Vec<_>>());
    }
}

fn first_times(bodies: &[String]) -> Vec<String> {
    let mut seen = std::collections::HashSet::new();
    bodies.iter().filter(|body| seen.insert((*body).clone())).cloned().collect()
}

async fn a_deleted_lane_is_noticed_and_named(stage: Arc<Stage>) {
    let broker = stage.provisioned(stage.options(4)).await;
    send(&broker, &bodies(8, 2)).await;
    let (gate, seen) = (Gate::open(), Seen::default());
    let processor = gate.start(&broker, &seen).await;
    until("it works", || seen.settled() == 16).await;
    stage.delete_queue(&lane(4, 2));
    let failed = tokio::time::timeout(PATIENCE, processor.failed()).await.expect("it is noticed").expect("an error");
    assert_eq!((failed.kind(), failed.scope()), (ErrorKind::NotFound, Scope::Client), "{failed:?}");
    assert_eq!(failed.context("queue"), Some(lane(4, 2).as_str()), "{failed:?}");
    // It does not start again before that is put right, and says why.
    let refused = consumer(&broker).open().await.expect_err("it is refused");
    assert_eq!(refused.kind(), ErrorKind::Topology, "{refused:?}");
    assert!(refused.to_string().contains(&lane(4, 2)), "{refused}");
}

async fn a_deleted_lane_ends_a_pulling_consumer(stage: Arc<Stage>) {
    let broker = stage.provisioned(stage.options(2)).await;
    // One that was never used, and so never delivered from.
    let seen = Seen::default();
    let pulling = idle(&broker, &seen).await;
    until("it is registered", || pulling.is_ready()).await;
    stage.delete_queue(&lane(2, 1));
    let ended = pulling.accept_next(PATIENCE).await.expect_err("an error, and no waiting");
    assert_eq!(ended.kind(), ErrorKind::NotFound, "{ended:?}");
    assert_eq!(ended.context("queue"), Some(lane(2, 1).as_str()), "{ended:?}");
}
