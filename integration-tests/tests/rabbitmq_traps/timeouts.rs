//! A message that stays unacknowledged for longer than the broker waits.

use std::sync::Arc;

use convoy_core::backend::Answer;
use futures_util::StreamExt;
use lapin::options::{BasicConsumeOptions, BasicQosOptions};
use lapin::types::FieldTable;

use crate::members::Gate;
use crate::seen::{Entry, Seen};
use crate::stage::{Stage, bodies, lane, send, until};
use crate::tap::{Said, Tap};

crate::traps![a_consumer_that_timed_out_has_lost_its_lane];

/// So long the broker waits here.
const WAITS_MS: u32 = 2_000;

async fn a_consumer_that_timed_out_has_lost_its_lane(stage: Arc<Stage>) {
    let tap = Tap::before(stage.amqp()).await;
    let broker = stage.provisioned(stage.options(1).port(tap.port())).await;
    // A consumer has the timeout that its queue had when it was registered.
    if stage.is_from(4, 3) {
        let policy = format!(
            r#"{{"pattern":"\\.lane\\.","definition":{{"consumer-timeout":{WAITS_MS}}},"apply-to":"quorum_queues","priority":1}}"#
        );
        stage.ask("PUT", &format!("policies/{}/timeout", stage.vhost()), &policy);
    }
    let sent = bodies(3, 10);
    send(&broker, &sent).await;
    let (gate, seen) = (Gate::of(0), Seen::default());
    let processor = gate.start(&broker, &seen).await;
    until("it has all", || seen.delivered().len() == sent.len()).await;

    // A client that is next in line, and knows nothing of convoy: it sees what the broker hands out, and in which order.
    let next = stage.raw().await;
    next.channel.basic_qos(500, BasicQosOptions::default()).await.expect("qos");
    let options = BasicConsumeOptions::default();
    let standby = next.channel.basic_consume(lane(1, 0).as_str().into(), "next".into(), options, FieldTable::default());
    let mut standby = standby.await.expect("registered");

    if !stage.is_from(4, 3) {
        stage.note(
            "before 4.3 the broker looks for timeouts once a minute, and 3.10 knows none by queue; it closes the channel then with a 406, so that is what was made to happen, by another wrong",
        );
        let it = tap.registrations().into_iter().find(|it| it.unsettled > 0).expect("a holder");
        tap.spoil(it.number);
    }
    until("the right is lost", || !seen.lost().is_empty()).await;
    let first = seen.granted()[0];

    // Who is next has everything, in order.
    for body in &sent {
        let delivery = tokio::time::timeout(crate::stage::PATIENCE, standby.next()).await;
        let delivery = delivery.expect("in time").expect("a delivery").expect("no error");
        assert_eq!(String::from_utf8_lossy(&delivery.data), *body);
    }
    // The old handlers end now. That is no settlement: nothing is told as settled, and nothing is acknowledged on the old channel, which a 4.3 broker would take in silence.
    gate.let_through(3);
    until("the old handlers ended", || processor.snapshot().running == 0).await;
    next.channel.close(200, "given back".into()).await.expect("closed");
    gate.let_through(sent.len() * 2);
    until("all is settled", || seen.settled() == sent.len()).await;
    assert!(processor.drain().await.expect("drained").drained);
    let stale = |entry: &Entry| matches!(entry, Entry::Settled(epoch, _, Answer::Ok) if *epoch == first);
    assert!(!seen.all().iter().any(stale), "settled under the right that was lost");
    let old = tap.registrations().remove(0);
    let said = &tap.channels()[&old.number];
    assert!(!said.iter().any(|said| matches!(said, Said::Ack { delivery, .. } if *delivery != u64::MAX)), "{said:?}");
    // And all of it is handled by whoever has the lane, in order, although some was handled before.
    let again: Vec<String> = seen
        .all()
        .into_iter()
        .filter_map(|entry| match entry {
            Entry::Started(epoch, body, _) if epoch != first => Some(body),
            _ => None,
        })
        .collect();
    for session in 0..3 {
        let of = |body: &&String| body.starts_with(&format!("s{session}/"));
        assert_eq!(again.iter().filter(of).collect::<Vec<_>>(), sent.iter().filter(of).collect::<Vec<_>>());
    }
}
