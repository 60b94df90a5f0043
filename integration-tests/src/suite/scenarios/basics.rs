//! Publish and receive, order, parallelism, payloads.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use convoy_core::{Failure, Headers, Message, Received, SessionId, with_state};

use super::{Act, Scenario, scenario};
use crate::suite::act::{Held, Log, hold, same, say, send};

pub(super) const ALL: &[Scenario] = &[
    scenario!("publish-and-receive", [NoLoss, SessionFifo, NoPhantom], publish_and_receive),
    scenario!("order-over-many-sessions", [NoLoss, SessionFifo, SuffixRedelivery], order_over_many_sessions),
    scenario!("sessions-run-in-parallel", [SessionFifo, LiveExclusion], sessions_run_in_parallel),
    scenario!("one-handler-a-session", [LiveExclusion, SessionFifo], one_handler_a_session),
    scenario!("several-groups-each-see-every-session", [NoLoss, SessionFifo], several_groups),
    scenario!("bodies-ids-and-headers-of-every-kind", [NoPhantom, NoLoss], every_kind),
];

async fn note(log: Log, message: Received<String>) -> Result<(), Failure> {
    log.write(format!("{}:{}", message.session(), message.body));
    Ok(())
}

async fn publish_and_receive(act: Arc<Act>) -> Held {
    let log = Log::default();
    let processor = act.processor().start(with_state(log.clone(), note)).await?;
    let producer = act.producer().await?;
    for body in ["placed", "paid", "shipped"] {
        say(&producer, "order-17", body).await?;
    }
    act.completed(&processor, 3).await?;
    same!(log.of("order-17"), ["placed", "paid", "shipped"], "in order");
    let report = processor.drain().await?;
    hold!(report.drained, "it did not drain: {report:?}");
    let verdict = act.verdict()?;
    same!(verdict.messages(), 3, "messages in the history");
    Ok(())
}

async fn order_over_many_sessions(act: Arc<Act>) -> Held {
    let producer = act.producer().await?;
    act.group_number(crate::suite::GROUP);
    send(&producer, 200, 20).await?;
    let log = Log::default();
    let processor = act.processor().start(with_state(log.clone(), note)).await?;
    act.completed(&processor, 4_000).await?;
    let expected: Vec<String> = (0..20).map(|n| n.to_string()).collect();
    for session in 0..200 {
        same!(log.of(&format!("s{session}")), expected, "session {session}");
    }
    processor.drain().await?;
    act.judge()
}

async fn sessions_run_in_parallel(act: Arc<Act>) -> Held {
    let producer = act.producer().await?;
    act.group_number(crate::suite::GROUP);
    send(&producer, 20, 2).await?;
    let gate = Arc::new(tokio::sync::Barrier::new(20));
    let handler = |gate: Arc<tokio::sync::Barrier>, _: Received<String>| async move {
        // Nobody gets through before all twenty are here.
        gate.wait().await;
        Ok(())
    };
    let processor = act.processor().max_concurrent_sessions(20).start(with_state(gate, handler)).await?;
    act.completed(&processor, 40).await?;
    same!(processor.snapshot().peak, 20, "handlers at once");
    processor.drain().await?;
    act.judge()
}

async fn one_handler_a_session(act: Arc<Act>) -> Held {
    let log = Log::default();
    let handler = |log: Log, message: Received<String>| async move {
        log.write(format!("in {}", message.session()));
        tokio::time::sleep(Duration::from_millis(2)).await;
        log.write(format!("out {}", message.session()));
        Ok(())
    };
    let processor = act.processor().start(with_state(log.clone(), handler)).await?;
    let producer = act.producer().await?;
    send(&producer, 3, 30).await?;
    act.completed(&processor, 90).await?;
    for session in 0..3 {
        let of_it: Vec<String> = log.lines().into_iter().filter(|l| l.ends_with(&format!("s{session}"))).collect();
        hold!(of_it.iter().step_by(2).all(|l| l.starts_with("in")), "two at once in s{session}: {of_it:?}");
    }
    processor.drain().await?;
    act.judge()
}

async fn several_groups(act: Arc<Act>) -> Held {
    let logs = [Log::default(), Log::default(), Log::default()];
    let mut processors = Vec::new();
    for (name, log) in ["billing", "shipping", "audit"].into_iter().zip(&logs) {
        processors.push(act.consumer_in(name).processor().start(with_state(log.clone(), note)).await?);
    }
    let producer = act.producer().await?;
    send(&producer, 10, 10).await?;
    for (processor, log) in processors.into_iter().zip(&logs) {
        act.completed(&processor, 100).await?;
        same!(log.len(), 100, "each group sees each message once");
        processor.drain().await?;
    }
    // The group that the harness provisioned has no consumer here, and is not in the history.
    act.judge()
}

async fn every_kind(act: Arc<Act>) -> Held {
    let bodies = [Bytes::new(), Bytes::from_static(&[0, 0xff, 0x80, b'\n']), Bytes::from(vec![7; 200_000])];
    let ids: [&[u8]; 5] = [b"x", b" a b ", &[0xc3, 0x28, 0x00], &[0xff; SessionId::MAX_LEN], "Grüße".as_bytes()];
    let seen = Log::default();
    let handler = |seen: Log, message: Received<Bytes>| async move {
        let headers: usize = message.headers().iter().map(|(n, v)| n.len() + v.len()).sum();
        seen.write(format!("{} {} {headers} {:?}", message.session(), message.body.len(), message.type_name()));
        Ok(())
    };
    let processor = act.processor().start(with_state(seen.clone(), handler)).await?;
    let producer = act.producer().await?;
    let mut expected = Vec::new();
    for session in ids {
        for body in &bodies {
            let mut message = Message::new(session, body.clone())?.with_type("kind").with_content_type("x/y");
            for header in 0..Headers::MAX_COUNT {
                message = message.with_header(&format!("h{header}"), &"v".repeat(header))?;
            }
            let headers: usize = message.content().headers().size();
            expected.push(format!("{} {} {headers} {:?}", message.session(), body.len(), Some("kind")));
            producer.send(message).await?;
        }
    }
    act.completed(&processor, expected.len()).await?;
    let (mut seen, mut expected) = (seen.lines(), expected);
    seen.sort();
    expected.sort();
    same!(seen, expected, "what arrived");
    processor.drain().await?;
    act.judge()
}
