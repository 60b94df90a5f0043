//! Links that are cut, and doors that are shut.

use std::io::ErrorKind;
use std::time::Duration;

use convoy_conformance::faults::proxy::{Proxy, Refuse, Way};
use convoy_conformance::history::{Fault, Phase, Side};

use crate::stage::{Stage, connect, expect, expect_closed, expect_reset, limited, quiet, send};

#[tokio::test(flavor = "multi_thread")]
async fn a_reset_is_seen_at_both_ends() {
    let stage = Stage::new(1).await;
    let (mut client, mut broker) = stage.pair().await;
    assert_eq!(stage.proxy.living().reset(Side::Both), 1);
    expect_reset(&mut client).await;
    expect_reset(&mut broker).await;
    stage.until_living(0).await;
    assert_eq!(stage.told(0), [(Fault::Reset, Side::Both, Phase::Begin), (Fault::Reset, Side::Both, Phase::End)]);
    assert_eq!(stage.proxy.connection(0).reset(Side::Both), 0, "it is gone");
}

/// The broker has accepted when the proxy does not know it yet: what is reset then was once closed in order at the broker.
#[tokio::test(flavor = "multi_thread")]
async fn a_reset_at_the_very_start_is_a_reset_as_well() {
    let stage = Stage::new(9).await;
    for number in 0..200 {
        let (mut client, mut broker) = stage.pair().await;
        assert!(stage.proxy.until_accepted(number + 1, Duration::from_secs(5)).await);
        assert_eq!(stage.proxy.connection(number).reset(Side::Both), 1);
        expect_reset(&mut broker).await;
        expect_reset(&mut client).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reset_of_one_end_is_not_seen_at_the_other_until_it_is_healed() {
    for side in [Side::Client, Side::Broker] {
        let stage = Stage::new(2).await;
        let (client, broker) = stage.pair().await;
        let (mut reset, mut other) = if side == Side::Client { (client, broker) } else { (broker, client) };
        stage.proxy.connection(0).reset(side);
        expect_reset(&mut reset).await;
        quiet(&mut other).await;
        send(&mut other, b"into the void").await;
        quiet(&mut other).await;
        assert_eq!(stage.told(0), [(Fault::Reset, side, Phase::Begin)]);
        stage.proxy.all().heal();
        expect_reset(&mut other).await;
        stage.until_living(0).await;
        let rest = if side == Side::Client { Side::Broker } else { Side::Client };
        let (begin, end) = (Phase::Begin, Phase::End);
        let told = [(side, begin), (rest, begin), (rest, end), (side, end)];
        assert_eq!(stage.told(0), told.map(|(side, phase)| (Fault::Reset, side, phase)));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_half_that_closes_by_itself_is_gone() {
    let stage = Stage::new(3).await;
    let (mut client, broker) = stage.pair().await;
    stage.proxy.connection(0).reset(Side::Client);
    expect_reset(&mut client).await;
    drop(broker);
    stage.until_living(0).await;
    assert_eq!(stage.told(0).last(), Some(&(Fault::Reset, Side::Client, Phase::End)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reset_by_a_side_is_passed_on_and_is_no_fault_of_the_proxy() {
    let stage = Stage::new(4).await;
    let (client, mut broker) = stage.pair().await;
    client.set_zero_linger().expect("a socket option");
    drop(client);
    expect_reset(&mut broker).await;
    let (mut client, broker) = stage.pair().await;
    broker.set_zero_linger().expect("a socket option");
    drop(broker);
    expect_reset(&mut client).await;
    stage.until_living(0).await;
    assert!(stage.told.lock().expect("a log").is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_side_that_leaves_unread_bytes_behind_is_gone_for_the_other() {
    let stage = Stage::new(5).await;
    let (client, mut broker) = stage.pair().await;
    drop(client);
    expect_closed(&mut broker).await;
    // Nobody reads that: the client's kernel says so, and the broker comes to hear of it.
    limited(async {
        use tokio::io::AsyncWriteExt;
        while broker.write_all(b"anyone?").await.is_ok() {
            tokio::task::yield_now().await;
        }
    })
    .await;
    stage.until_living(0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn new_connections_are_refused_and_old_ones_kept() {
    let stage = Stage::new(6).await;
    let (mut old, mut olds) = stage.pair().await;
    stage.proxy.refuse(Refuse::Closed).await.expect("done");
    assert_eq!(stage.client().await.expect_err("nobody listens").kind(), ErrorKind::ConnectionRefused);
    stage.proxy.refuse(Refuse::Reset).await.expect("done");
    // The reset may come before the connection is seen to stand.
    match stage.client().await {
        Ok(mut refused) => expect_reset(&mut refused).await,
        Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionReset),
    }
    assert!(!stage.reaches_broker().await);
    send(&mut old, b"still").await;
    expect(&mut olds, b"still").await;
    stage.proxy.heal().await.expect("done");
    let (mut new, mut news) = stage.pair().await;
    send(&mut new, b"again").await;
    expect(&mut news, b"again").await;
    assert_eq!(stage.proxy.accepted(), 2, "who is refused gets no number");
    let told: Vec<_> = stage.told.lock().expect("a log").iter().map(|t| (t.fault, t.phase, t.connection)).collect();
    assert_eq!(told, [(Fault::Other, Phase::Begin, None), (Fault::Other, Phase::End, None)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upstream_that_is_down_resets_the_client() {
    // A port of which the listener is gone.
    let free = std::net::TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("an address");
    let proxy = Proxy::start(free, 7).await.expect("a proxy");
    // The reset may come before the connection is seen to stand.
    match connect(proxy.address()).await {
        Ok(mut client) => expect_reset(&mut client).await,
        Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionReset),
    }
    limited(proxy.stop(Duration::from_secs(5))).await.expect("stopped");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fault_of_those_to_come_is_told_of_each_that_comes() {
    let stage = Stage::new(8).await;
    let (_old, _olds) = stage.pair().await;
    assert_eq!(stage.proxy.future().delay(Way::ToBroker, Duration::from_millis(1), Duration::ZERO), 0);
    let (new, news) = stage.pair().await;
    assert_eq!((stage.told(0), stage.told(1)), (vec![], vec![(Fault::Slow, Side::Broker, Phase::Begin)]));
    drop((new, news));
    stage.until_living(1).await;
    assert_eq!(stage.told(1).last(), Some(&(Fault::Slow, Side::Broker, Phase::End)));
    let first = stage.told.lock().expect("a log")[0];
    assert_eq!((first.connection, first.phase), (None, Phase::Begin));
}
