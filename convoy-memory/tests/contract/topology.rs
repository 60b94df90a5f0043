//! Provisioning, checking, opening, closing.

use convoy_core::backend::{Backend, ConsumerSpec};
use convoy_core::{ChannelSpec, ErrorKind, Guarantee, Moment, Severity, Support, Topology};
use convoy_memory::MemoryBroker;

use crate::support::{CHANNEL, Consumer, Producer, broker, group};

fn orders() -> ChannelSpec {
    ChannelSpec::new(CHANNEL).group("billing").group("audit")
}

async fn codes(broker: &MemoryBroker, channel: ChannelSpec) -> Vec<(Severity, &'static str)> {
    let findings = broker.check(&Topology::new().channel(channel)).await.unwrap();
    findings.into_iter().map(|finding| (finding.severity, finding.code)).collect()
}

#[tokio::test(start_paused = true)]
async fn what_is_missing_is_found_then_made_then_fine() {
    let broker = broker("auto_create=false&lanes=8");
    assert_eq!(codes(&broker, orders()).await, [(Severity::Breaks, "channel-missing")]);
    broker.provision(&Topology::new().channel(ChannelSpec::new(CHANNEL).group("billing").lanes(4))).await.unwrap();
    assert_eq!(codes(&broker, orders().lanes(4)).await, [(Severity::Breaks, "group-missing")]);
    assert_eq!(codes(&broker, orders()).await, [(Severity::Breaks, "group-missing"), (Severity::Breaks, "lane-count")]);
    broker.provision(&Topology::new().channel(orders())).await.unwrap();
    assert_eq!(codes(&broker, orders().lanes(4)).await, []);
    assert_eq!(codes(&broker, orders().lanes(4).option("lock", "9s")).await, [(Severity::Warning, "options")]);
    assert_eq!(codes(&broker, orders()).await, [(Severity::Breaks, "lane-count")], "nothing that exists is changed");
}

#[tokio::test(start_paused = true)]
async fn a_broker_of_sessions_has_no_lanes_to_pin() {
    let broker = broker("");
    broker.provision(&Topology::new().channel(orders().lanes(4))).await.unwrap();
    assert_eq!(codes(&broker, orders().lanes(4)).await, []);
}

#[tokio::test(start_paused = true)]
async fn without_making_on_first_use_what_is_missing_is_not_found() {
    let broker = broker("auto_create=false");
    let missing = ConsumerSpec::new(CHANNEL, "billing");
    assert_eq!(broker.consumer(&missing).await.unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(broker.producer(CHANNEL).await.unwrap_err().kind(), ErrorKind::NotFound);
    broker.provision(&Topology::new().channel(ChannelSpec::new(CHANNEL))).await.unwrap();
    let error = broker.consumer(&missing).await.unwrap_err();
    assert_eq!((error.kind(), error.context("group")), (ErrorKind::NotFound, Some("billing")));
    assert_eq!(broker.dead_letters(CHANNEL, "billing").await.unwrap_err().kind(), ErrorKind::NotFound);
    broker.producer(CHANNEL).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_finding_that_breaks_a_guarantee_stops_a_consumer_unless_allowed_by_code() {
    let broker = broker("lock=5ms");
    let spec = ConsumerSpec::new(CHANNEL, "billing");
    let error = broker.consumer(&spec).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Topology);
    assert!(error.to_string().contains("lock-too-short"), "{error}");
    broker.consumer(&spec.allowing("lock-too-short")).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn wrong_options_of_a_channel_are_named() {
    let broker = broker("");
    for (name, value) in [("lok", "9s"), ("lock", "soon"), ("auto_create", "true"), ("handover", "1s")] {
        let topology = Topology::new().channel(orders().option(name, value));
        let error = broker.provision(&topology).await.unwrap_err();
        assert_eq!((error.kind(), error.context("option")), (ErrorKind::InvalidOption, Some(name)));
        assert_eq!(broker.check(&topology).await.unwrap_err().kind(), ErrorKind::InvalidOption);
    }
    assert!(broker.stats(CHANNEL).is_none());
}

#[tokio::test(start_paused = true)]
async fn one_name_is_one_broker_and_other_options_are_refused() {
    let one = MemoryBroker::from_url("memory://one-name?lanes=2").unwrap();
    let two = MemoryBroker::from_url("memory://one-name").unwrap();
    let _consumer = Consumer::open(&one).await;
    Producer::open(&two).await.send("a", &["1"]).await;
    assert_eq!(group(&one).unsettled, 1);
    let error = MemoryBroker::from_url("memory://one-name?lanes=3").unwrap_err();
    assert_eq!((error.kind(), error.context("option")), (ErrorKind::InvalidOption, Some("lanes")));
    assert!(MemoryBroker::from_url("memory://another").unwrap().stats(CHANNEL).is_none());
}

#[tokio::test(start_paused = true)]
async fn closing_a_connection_ends_what_was_opened_through_it() {
    let broker = MemoryBroker::from_url("memory://closing").unwrap();
    let other = MemoryBroker::from_url("memory://closing").unwrap();
    let (mine, theirs) = (Consumer::open(&broker).await, Producer::open(&other).await);
    broker.close(Moment::NEVER).await.unwrap();
    assert_eq!(mine.source.next(&mut Vec::new()).await.unwrap_err().kind(), ErrorKind::Closed);
    assert_eq!(broker.producer(CHANNEL).await.unwrap_err().kind(), ErrorKind::Closed);
    theirs.submit("a", &["1"]);
    assert_eq!(other.stats(CHANNEL).unwrap().messages, 1);
}

#[test]
fn claims_are_honest_about_the_two_shapes() {
    let (sessions, lanes) = (broker("").guarantees(), broker("lanes=2").guarantees());
    assert_eq!(sessions.of(Guarantee::StateFencing).support, Support::Native);
    assert_eq!(lanes.of(Guarantee::StateFencing).support, Support::Unsupported);
    assert_eq!(sessions.of(Guarantee::DurableAttempts).support, Support::Unsupported);
}
