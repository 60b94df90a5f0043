//! Links that are slow, narrow, silent, or in pieces.

use std::time::{Duration, Instant};

use convoy_conformance::faults::proxy::{Blackhole, Proxy, Way};
use convoy_conformance::history::{Fault, Phase, Side};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::stage::{Stage, connect, end, expect, expect_closed, expect_reset, limited, noise, quiet, send};

const MIB: usize = 1 << 20;

/// Sends all of it and reads as much back, at the same time.
async fn there_and_back(socket: TcpStream, bytes: Vec<u8>) {
    let (mut read, mut write) = socket.into_split();
    let sent = bytes.clone();
    let sender = tokio::spawn(async move {
        write.write_all(&sent).await?;
        write.shutdown().await
    });
    let mut back = Vec::new();
    limited(read.read_to_end(&mut back)).await.expect("bytes");
    assert!(back == bytes, "{} of {} bytes came back, or others", back.len(), bytes.len());
    limited(sender).await.expect("a task").expect("sent");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_good_link_changes_nothing_and_passes_the_end_of_each_side() {
    let stage = Stage::new(1).await;
    let (mut client, mut broker) = stage.pair().await;
    send(&mut client, b"ask").await;
    limited(client.shutdown()).await.expect("half closed");
    expect(&mut broker, b"ask").await;
    expect_closed(&mut broker).await;
    send(&mut broker, b"answer").await;
    drop(broker);
    expect(&mut client, b"answer").await;
    expect_closed(&mut client).await;
    stage.until_living(0).await;
    assert!(stage.told.lock().expect("a log").is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mebibyte_arrives_as_it_was_sent_in_pieces_and_late() {
    for (seed, slice, delay, jitter) in [(1, 0, 0, 0), (2, 700, 0, 0), (3, 0, 20, 15), (4, 3000, 20, 15)] {
        let (proxy, _broker) = Stage::new(seed).await.echo();
        proxy.all().slice(Way::Both, slice);
        proxy.all().delay(Way::Both, Duration::from_millis(delay), Duration::from_millis(jitter));
        let begun = Instant::now();
        let client = connect(proxy.address()).await.expect("a connection");
        there_and_back(client, noise(seed, MIB)).await;
        assert!(begun.elapsed() >= 2 * Duration::from_millis(delay.saturating_sub(jitter)));
        limited(proxy.stop(Duration::from_secs(5))).await.expect("stopped");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn settings_that_change_under_way_change_no_byte() {
    let (proxy, _broker) = Stage::new(5).await.echo();
    let client = connect(proxy.address()).await.expect("a connection");
    let exchange = tokio::spawn(there_and_back(client, noise(5, 8 * MIB)));
    let mut chance = fastrand::Rng::with_seed(5);
    while !exchange.is_finished() {
        let all = proxy.all();
        match chance.u8(0..6) {
            0 => all.slice(Way::Both, chance.usize(0..20_000)),
            1 => all.delay(Way::ToBroker, Duration::from_millis(chance.u64(0..4)), Duration::from_millis(2)),
            2 => all.rate(Way::ToClient, chance.u64(20_000_000..100_000_000)),
            3 => all.blackhole(Way::Both, Blackhole::Hold),
            _ => all.heal(),
        };
        tokio::time::sleep(Duration::from_millis(3)).await;
    }
    limited(exchange).await.expect("all bytes, as they were sent");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_link_is_as_late_as_was_said_on_the_way_that_was_said() {
    let stage = Stage::new(6).await;
    let (mut client, mut broker) = stage.pair().await;
    let base = Duration::from_millis(60);
    assert_eq!(stage.proxy.connection(0).delay(Way::ToClient, base, Duration::from_millis(10)), 1);
    let begun = Instant::now();
    send(&mut client, b"a").await;
    expect(&mut broker, b"a").await;
    assert!(begun.elapsed() < Duration::from_millis(50), "{:?} for the way that is good", begun.elapsed());
    let begun = Instant::now();
    send(&mut broker, b"b").await;
    expect(&mut client, b"b").await;
    let took = begun.elapsed();
    assert!((Duration::from_millis(50)..Duration::from_millis(170)).contains(&took), "{took:?}");
    stage.proxy.connection(0).heal();
    assert_eq!(stage.told(0), [(Fault::Slow, Side::Client, Phase::Begin), (Fault::Slow, Side::Client, Phase::End)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_narrow_link_has_the_rate_that_was_said() {
    let stage = Stage::new(7).await;
    let (client, mut broker) = stage.pair().await;
    let (rate, bytes) = (400_000, 240_000);
    stage.proxy.all().rate(Way::ToBroker, rate);
    let begun = Instant::now();
    let sender = tokio::spawn(async move {
        let mut client = client;
        send(&mut client, &noise(7, bytes)).await;
        client
    });
    expect(&mut broker, &noise(7, bytes)).await;
    let measured = bytes as f64 / begun.elapsed().as_secs_f64();
    let said = rate as f64;
    assert!((said * 0.75..said * 1.25).contains(&measured), "{measured} bytes a second instead of {said}");
    drop(limited(sender).await.expect("sent"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_black_hole_takes_one_way_and_leaves_the_other() {
    for kind in [Blackhole::Drop, Blackhole::Hold] {
        let stage = Stage::new(8).await;
        let (mut client, mut broker) = stage.pair().await;
        stage.proxy.all().blackhole(Way::ToBroker, kind);
        send(&mut client, b"lost?").await;
        quiet(&mut broker).await;
        send(&mut broker, b"heard").await;
        expect(&mut client, b"heard").await;
        let living = stage.proxy.connections();
        assert_eq!(living.iter().map(|c| (c.number, c.to_broker, c.to_client)).collect::<Vec<_>>(), [(0, 0, 5)]);
        assert_eq!(living[0].client, client.local_addr().expect("an address"));
        assert_eq!(stage.told(0), [(Fault::Blackhole, Side::Broker, Phase::Begin)]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_held_arrives_in_order_after_healing() {
    let stage = Stage::new(9).await;
    let (client, mut broker) = stage.pair().await;
    stage.proxy.all().slice(Way::Both, 5000);
    stage.proxy.all().blackhole(Way::Both, Blackhole::Hold);
    // More than all the buffers take: the sender comes to feel it, and nothing is lost.
    let bytes = noise(9, 16 * MIB);
    let sent = bytes.clone();
    let sender = tokio::spawn(async move {
        let mut client = client;
        send(&mut client, &sent).await;
        client
    });
    quiet(&mut broker).await;
    assert!(!sender.is_finished());
    stage.proxy.heal().await.expect("healed");
    expect(&mut broker, &bytes).await;
    let mut client = limited(sender).await.expect("sent");
    send(&mut broker, b"back").await;
    expect(&mut client, b"back").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_link_that_lost_something_is_reset_when_it_is_healed() {
    let stage = Stage::new(10).await;
    let (mut client, mut broker) = stage.pair().await;
    let (mut other, mut others) = stage.pair().await;
    stage.proxy.all().blackhole(Way::ToBroker, Blackhole::Drop);
    send(&mut client, b"gone").await;
    quiet(&mut broker).await;
    stage.proxy.all().heal();
    expect_reset(&mut client).await;
    expect_reset(&mut broker).await;
    // Nothing was lost here, so it goes on.
    send(&mut other, b"whole").await;
    expect(&mut others, b"whole").await;
    stage.until_living(1).await;
    assert_eq!(stage.told(0)[2..], [(Fault::Reset, Side::Both, Phase::Begin), (Fault::Reset, Side::Both, Phase::End)]);
    let on = [(Fault::Blackhole, Side::Broker, Phase::Begin), (Fault::Blackhole, Side::Broker, Phase::End)];
    assert_eq!((&stage.told(0)[..2], &stage.told(1)[..]), (&on[..], &on[..]));
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_hears_of_an_end_behind_a_black_hole() {
    for kind in [Blackhole::Drop, Blackhole::Hold] {
        let stage = Stage::new(11).await;
        let (client, mut broker) = stage.pair().await;
        stage.proxy.all().blackhole(Way::ToBroker, kind);
        drop(client);
        quiet(&mut broker).await;
        // What it writes goes to a socket that is gone; the word of that is swallowed as well.
        send(&mut broker, b"anyone?").await;
        quiet(&mut broker).await;
        send(&mut broker, b"still there?").await;
        quiet(&mut broker).await;
        stage.proxy.all().heal();
        expect_reset(&mut broker).await;
        stage.until_living(0).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_made_in_the_dark_is_led_on_or_reset() {
    let stage = Stage::new(12).await;
    stage.proxy.future().blackhole(Way::ToClient, Blackhole::Hold);
    let mut held = stage.client().await.expect("a connection");
    assert!(stage.proxy.until_accepted(1, Duration::from_secs(5)).await);
    send(&mut held, b"patient").await;
    assert!(!stage.reaches_broker().await);
    stage.proxy.all().heal();
    expect(&mut stage.broker().await, b"patient").await;

    stage.proxy.all().blackhole(Way::Both, Blackhole::Drop);
    let mut dropped = stage.client().await.expect("a connection");
    assert!(!stage.reaches_broker().await);
    stage.proxy.all().heal();
    expect_reset(&mut dropped).await;
    assert!(!stage.reaches_broker().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_connection_is_spoilt_and_the_others_are_not() {
    let stage = Stage::new(13).await;
    let (mut good, mut goods) = stage.pair().await;
    let (mut bad, mut bads) = stage.pair().await;
    assert_eq!(stage.proxy.connection(1).blackhole(Way::Both, Blackhole::Hold), 1);
    assert_eq!(stage.proxy.connection(2).blackhole(Way::Both, Blackhole::Hold), 0, "there is none yet");
    let (mut next, mut nexts) = stage.pair().await;
    for (client, broker) in [(&mut good, &mut goods), (&mut next, &mut nexts)] {
        send(client, b"there").await;
        expect(broker, b"there").await;
        send(broker, b"back").await;
        expect(client, b"back").await;
    }
    send(&mut bad, b"there").await;
    quiet(&mut bads).await;
    assert_eq!(stage.proxy.connection(1).reset(Side::Both), 1);
    expect_reset(&mut bad).await;
    expect_reset(&mut bads).await;
    send(&mut good, b"on").await;
    expect(&mut goods, b"on").await;
}

/// The sizes of the pieces in which a broker sees a message.
async fn pieces(seed: u64) -> Vec<usize> {
    let stage = Stage::new(seed).await;
    let (mut client, mut broker) = stage.pair().await;
    stage.proxy.all().slice(Way::ToBroker, 64);
    // Each piece takes as long as its bytes at this rate, so it arrives by itself.
    stage.proxy.all().rate(Way::ToBroker, 6400);
    send(&mut client, &noise(1, 640)).await;
    let (mut pieces, mut all, mut buffer) = (Vec::new(), 0, [0; 640]);
    while all < 640 {
        let read = limited(broker.read(&mut buffer)).await.expect("bytes");
        pieces.push(read);
        all += read;
    }
    pieces
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_seed_cuts_the_same_pieces() {
    let cuts = |pieces: &[usize]| {
        let mut at = 0;
        pieces
            .iter()
            .map(|piece| {
                at += piece;
                at
            })
            .collect::<Vec<_>>()
    };
    let (first, again, other) = tokio::join!(pieces(14), pieces(14), pieces(15));
    assert!(first.len() > 5, "{first:?}");
    // A reader that was late has seen two pieces as one, so not every cut is seen in both runs; but hardly one of another seed is.
    let (first, again, other) = (cuts(&first), cuts(&again), cuts(&other));
    let shared = |a: &[usize], b: &[usize]| a.iter().filter(|cut| b.contains(cut)).count();
    assert!(shared(&first, &again) > 2 * shared(&first, &other), "{first:?} {again:?} {other:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_buffer_is_cut_in_its_middle_and_the_link_with_it() {
    let stage = Stage::new(16).await;
    let (mut client, mut broker) = stage.pair().await;
    send(&mut client, b"whole").await;
    expect(&mut broker, b"whole").await;
    stage.proxy.living().cut_mid_frame(Way::ToBroker);
    send(&mut broker, b"the other way").await;
    expect(&mut client, b"the other way").await;
    send(&mut client, &[7; 1000]).await;
    let (part, ended) = end(&mut broker).await;
    assert!((1..1000).contains(&part), "{part}");
    assert_eq!(ended.expect_err("a reset").kind(), std::io::ErrorKind::ConnectionReset);
    expect_reset(&mut client).await;
    let (mut next, mut nexts) = stage.pair().await;
    send(&mut next, b"not meant").await;
    expect(&mut nexts, b"not meant").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_left_of_a_proxy_that_ends() {
    let stage = Stage::new(17).await;
    let (mut client, mut broker) = stage.pair().await;
    let (mut dark, mut darks) = stage.pair().await;
    stage.proxy.connection(1).blackhole(Way::Both, Blackhole::Hold);
    let Stage { proxy, told, .. } = stage;
    let address = proxy.address();
    limited(Proxy::stop(proxy, Duration::from_secs(5))).await.expect("stopped");
    for socket in [&mut client, &mut broker, &mut dark, &mut darks] {
        end(socket).await.1.ok();
    }
    assert!(connect(address).await.is_err());
    let told: Vec<_> = told.lock().expect("a log").iter().map(|told| told.phase).collect();
    assert_eq!(told, [Phase::Begin, Phase::End]);
}
