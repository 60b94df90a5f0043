//! Lanes that somebody declared otherwise: each setting that breaks a guarantee is found, and named with its queue.

use std::sync::Arc;

use convoy_core::{ErrorKind, Severity};
use lapin::options::QueueDeclareOptions;
use lapin::types::{AMQPValue, FieldTable, LongString};

use crate::stage::{Stage, consumer, lane, topology};

crate::traps![a_lane_that_was_declared_otherwise_is_found];

/// The arguments of a lane, with one of them left out, and others put in.
fn arguments(without: &str, with: &[(&str, AMQPValue)]) -> FieldTable {
    let text = |text: &str| AMQPValue::LongString(LongString::from(text));
    let own = [
        ("x-queue-type", text("quorum")),
        ("x-delivery-limit", AMQPValue::LongLongInt(1_000_000)),
        ("x-single-active-consumer", AMQPValue::Boolean(true)),
        ("x-consumer-disconnected-timeout", AMQPValue::LongLongInt(20_000)),
    ];
    let mut table = FieldTable::default();
    let own = own.into_iter().filter(|(name, _)| *name != without);
    for (name, value) in own.chain(with.iter().cloned()) {
        table.insert(name.into(), value);
    }
    table
}

async fn a_lane_that_was_declared_otherwise_is_found(stage: Arc<Stage>) {
    const LANES: u32 = 2;
    let broker = stage.provisioned(stage.options(LANES)).await;
    assert_eq!(broker.check(&topology()).await.expect("checked"), [], "nothing is wrong as it was provisioned");
    let (raw, queue) = (stage.raw().await, lane(LANES, 1));
    let text = |text: &str| AMQPValue::LongString(LongString::from(text));
    let number = AMQPValue::LongLongInt;
    // It knows no delivery limit.
    let mut classic = FieldTable::default();
    classic.insert("x-queue-type".into(), text("classic"));
    // What is declared, how it is found, and which word names the setting.
    let cases = [
        (classic, "not-quorum", "type"),
        (arguments("x-single-active-consumer", &[]), "not-single-active-consumer", "x-single-active-consumer"),
        (arguments("x-delivery-limit", &[]), "delivery-limit", "x-delivery-limit"),
        (arguments("", &[("x-delivery-limit", number(20))]), "delivery-limit", "x-delivery-limit"),
        (arguments("x-consumer-disconnected-timeout", &[]), "node-timeout", "x-consumer-disconnected-timeout"),
        (
            arguments("", &[("x-consumer-disconnected-timeout", number(60_000))]),
            "node-timeout",
            "x-consumer-disconnected-timeout",
        ),
        (arguments("", &[("x-max-length", number(100))]), "max-length", "x-max-length"),
        (arguments("", &[("x-max-length-bytes", number(100_000))]), "max-length", "x-max-length-bytes"),
        (arguments("", &[("x-message-ttl", number(60_000))]), "message-ttl", "x-message-ttl"),
        (arguments("", &[("x-overflow", text("drop-head"))]), "overflow", "x-overflow"),
        (arguments("", &[("x-overflow", text("reject-publish"))]), "overflow", "x-overflow"),
        (arguments("", &[("x-expires", number(600_000))]), "expires", "x-expires"),
        (
            arguments("", &[("x-dead-letter-exchange", text("elsewhere"))]),
            "dead-letter-exchange",
            "x-dead-letter-exchange",
        ),
    ];
    // A broker that does not know an argument does not compare it either.
    let is_compared = |code: &str| code != "node-timeout" || stage.is_from(4, 3);
    for (table, code, setting) in cases.into_iter().filter(|(_, code, _)| is_compared(code)) {
        let declared = format!("{:?}", table.inner());
        stage.delete_queue(&queue);
        let durable = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
        raw.channel.queue_declare(queue.as_str().into(), durable, table).await.expect("declared by hand");
        let found = broker.check(&topology()).await.expect("checked");
        // A classic queue lacks other things as well.
        assert!(found.len() == 1 || code == "not-quorum", "{declared}: {found:#?}");
        let finding = found.iter().find(|finding| finding.code == code);
        let finding = finding.unwrap_or_else(|| panic!("{declared}: {code} is not found: {found:#?}"));
        assert_eq!((finding.code, finding.severity), (code, Severity::Breaks), "{declared}: {finding}");
        assert!(finding.what.contains(&queue) && finding.what.contains(setting), "{declared}: {finding}");
        let refused = consumer(&broker).open().await.err().unwrap_or_else(|| panic!("{declared}: it starts"));
        assert_eq!(refused.kind(), ErrorKind::Topology, "{refused:?}");
        assert!(refused.to_string().contains(&queue) && refused.to_string().contains(setting), "{refused}");
    }
    // Who says that it is meant gets it, by name.
    let allowed = consumer(&broker).allow("dead-letter-exchange").open().await.expect("allowed by name");
    allowed.close(crate::stage::PATIENCE).await.expect("close");
}
