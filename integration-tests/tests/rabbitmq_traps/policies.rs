//! Policies on a group's queues: the protocol shows none of them, the HTTP API does, and what would lose messages is found, as an argument would be.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Instant;

use convoy_core::{Broker, ErrorKind, Finding, Severity};
use convoy_rabbitmq::Options;

use crate::stage::{PATIENCE, Stage, connect, consumer, topology};

crate::traps![
    a_policy_that_would_lose_messages_is_found,
    an_operators_policy_is_found,
    a_policy_of_an_entry_is_found,
    who_cannot_ask_is_told,
];

const LANES: u32 = 2;

fn managed(stage: &Stage) -> Options {
    stage.options(LANES).management(stage.http())
}

/// What is found, once it is what is waited for: older releases tell of a policy with their next statistics.
async fn found(broker: &Broker, until: impl Fn(&[Finding]) -> bool) -> Vec<Finding> {
    let give_up = Instant::now() + PATIENCE;
    loop {
        let found = broker.check(&topology()).await.expect("checked");
        if until(&found) {
            return found;
        }
        assert!(Instant::now() < give_up, "not what was waited for: {found:#?}");
        tokio::time::sleep(std::time::Duration::from_millis(500)).await;
    }
}

fn put(stage: &Stage, kind: &str, name: &str, definition: serde_json::Value, of: &str) {
    let body = serde_json::json!({ "pattern": "^orders", "definition": definition, "apply-to": of });
    stage.ask("PUT", &format!("{kind}/{}/{name}", stage.vhost()), &body.to_string());
}

fn take_off(stage: &Stage, kind: &str, name: &str) {
    stage.ask("DELETE", &format!("{kind}/{}/{name}", stage.vhost()), "");
}

async fn a_policy_that_would_lose_messages_is_found(stage: Arc<Stage>) {
    let broker = stage.provisioned(managed(&stage)).await;
    assert_eq!(found(&broker, <[Finding]>::is_empty).await, [], "nothing is wrong without a policy");
    let mut harmful = serde_json::json!({
        "max-length": 10_000, "max-length-bytes": 1 << 30, "overflow": "reject-publish", "expires": 3_600_000,
        "message-ttl": 3_600_000, "delivery-limit": 20, "dead-letter-exchange": "elsewhere",
    });
    // In the order in which they are named.
    let mut settings = vec![
        ("dead-letter-exchange", "dead-letter-exchange"),
        ("delivery-limit", "delivery-limit"),
        ("expires", "expires"),
        ("max-length", "max-length"),
        ("max-length", "max-length-bytes"),
        ("message-ttl", "message-ttl"),
        ("overflow", "overflow"),
    ];
    if stage.is_from(4, 3) {
        harmful["consumer-disconnected-timeout"] = 1_000.into();
        settings.insert(0, ("node-timeout", "consumer-disconnected-timeout"));
    }
    put(&stage, "policies", "hasty", harmful, "queues");
    let findings = found(&broker, |found| !found.is_empty()).await;
    let named: Vec<&str> = findings.iter().map(|finding| finding.code).collect();
    assert_eq!(named, settings.iter().map(|(code, _)| *code).collect::<Vec<_>>(), "{findings:#?}");
    for (finding, (_, setting)) in findings.iter().zip(&settings) {
        // Two lanes, the pin and the store.
        let says = [format!("`{setting}`"), "`hasty`".to_owned(), "4 queues".to_owned(), "orders.workers.".to_owned()];
        assert_eq!(finding.severity, Severity::Breaks, "{finding}");
        assert!(says.iter().all(|word| finding.what.contains(word)), "{finding} does not say {says:?}");
    }
    let refused = consumer(&broker).open().await.expect_err("a consumer does not start");
    assert_eq!(refused.kind(), ErrorKind::Topology, "{refused:?}");
    assert!(refused.to_string().contains("`hasty`"), "{refused}");
    // Without the option nothing is seen of it.
    let blind = connect(stage.options(LANES)).await;
    assert_eq!(blind.check(&topology()).await.expect("checked"), []);
    take_off(&stage, "policies", "hasty");
    // What changes nothing is none.
    let harmless = serde_json::json!({ "delivery-limit": 1_000_000, "queue-leader-locator": "balanced" });
    put(&stage, "policies", "calm", harmless, "queues");
    found(&broker, <[Finding]>::is_empty).await;
    let started = consumer(&broker).open().await.expect("nothing is wrong any more");
    started.close(PATIENCE).await.expect("close");
}

async fn an_operators_policy_is_found(stage: Arc<Stage>) {
    let broker = stage.provisioned(managed(&stage)).await;
    put(&stage, "operator-policies", "house", serde_json::json!({ "max-length": 5_000 }), "queues");
    let findings = found(&broker, |found| !found.is_empty()).await;
    assert_eq!(findings.len(), 1, "{findings:#?}");
    assert!(findings[0].what.contains("operator policy `house`") && findings[0].what.contains("5000"), "{findings:#?}");
    let refused = consumer(&broker).open().await.expect_err("a consumer does not start");
    assert_eq!(refused.kind(), ErrorKind::Topology, "{refused:?}");
    let allowed = consumer(&broker).allow("max-length").open().await.expect("allowed by name");
    allowed.close(PATIENCE).await.expect("close");
    take_off(&stage, "operator-policies", "house");
}

async fn a_policy_of_an_entry_is_found(stage: Arc<Stage>) {
    if !stage.is_from(4, 3) {
        // Older brokers have no such exchange.
        return;
    }
    let broker = stage.provisioned(managed(&stage).entry(convoy_rabbitmq::Entry::ModulusHash)).await;
    found(&broker, <[Finding]>::is_empty).await;
    put(&stage, "policies", "aside", serde_json::json!({ "alternate-exchange": "elsewhere" }), "exchanges");
    let findings = found(&broker, |found| !found.is_empty()).await;
    let codes: BTreeSet<&str> = findings.iter().map(|finding| finding.code).collect();
    assert_eq!(codes, BTreeSet::from(["alternate-exchange"]), "{findings:#?}");
    assert!(findings[0].what.contains("`aside`") && findings[0].what.contains("elsewhere"), "{findings:#?}");
}

async fn who_cannot_ask_is_told(stage: Arc<Stage>) {
    let user = format!("{}-plain", stage.vhost());
    stage.ask("PUT", &format!("users/{user}"), r#"{"password":"s3cret","tags":""}"#);
    let port = stage.http().rsplit(':').next().expect("a port").to_owned();
    for address in [
        format!("http://{user}:s3cret@127.0.0.1:{port}"),
        format!("http://nobody:s3cret@127.0.0.1:{port}"),
        // The broker itself speaks no HTTP, and nobody listens on the last.
        format!("http://127.0.0.1:{}", stage.amqp()),
        "http://127.0.0.1:9".to_owned(),
    ] {
        let broker = stage.provisioned(stage.options(LANES).management(&address)).await;
        let findings = broker.check(&topology()).await.expect("checked");
        assert_eq!(findings.len(), 1, "{address}: {findings:#?}");
        let finding = &findings[0];
        assert_eq!((finding.code, finding.severity), ("management", Severity::Warning), "{address}: {finding}");
        assert!(finding.remedy.contains("monitoring") && !finding.to_string().contains("s3cret"), "{finding}");
        // It says nothing of the lanes: consumers start.
        let started = consumer(&broker).open().await.unwrap_or_else(|e| panic!("{address}: {e:?}"));
        started.close(PATIENCE).await.expect("close");
    }
    stage.ask("DELETE", &format!("users/{user}"), "");
}
