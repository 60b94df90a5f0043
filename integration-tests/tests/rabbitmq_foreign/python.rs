//! The publisher in Python that convoy-rabbitmq shows, run on a real broker: what it publishes is consumed in order, and what it cannot deliver it says.
//!
//! `CONVOY_PYTHON` names an interpreter that has `pika`; without one this fails, since nothing was shown. `cargo xtask test` brings one.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::PathBuf;
use std::process::{Command, Output};
use std::sync::{Arc, Mutex};

use convoy_core::{ChannelSpec, Failure, Received, SessionId, Topology};
use convoy_rabbitmq::Entry;
use lapin::options::{BasicGetOptions, QueueBindOptions, QueueDeclareOptions};
use lapin::types::FieldTable;
use lapin::{Connection, ConnectionProperties};
use tokio::sync::Notify;

use crate::vhost::{CHANNEL, LIMIT, Vhost};

/// Runs the publisher on lines.
fn publish(vhost: &Vhost, lines: &[Vec<u8>]) -> Output {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("lines");
    std::fs::write(&path, lines.concat()).unwrap();
    python(&[&vhost.url(), CHANNEL]).stdin(File::open(&path).unwrap()).output().expect("python")
}

fn example(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../convoy-rabbitmq").join(name)
}

fn python(args: &[&str]) -> Command {
    let mut command = Command::new(std::env::var("CONVOY_PYTHON").unwrap_or_else(|_| "python3".to_owned()));
    command.arg(example("examples/publish.py")).args(args);
    command
}

fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

#[test]
fn its_hash_holds_on_the_vectors_and_a_wrong_vector_is_noticed() {
    let good = python(&["--check", &example("slots.tsv").display().to_string()]).output().expect("python");
    assert!(good.status.success() && said(&good).contains("held=true"), "{}", said(&good));
    let folder = tempfile::tempdir().unwrap();
    let wrong = folder.path().join("wrong.tsv");
    std::fs::write(&wrong, "666f6f626172\t958\n666f6f626172\t957\n").unwrap();
    let bad = python(&["--check", &wrong.display().to_string()]).output().expect("python");
    assert!(!bad.status.success() && said(&bad).contains("in slot 957, and not 958"), "{}", said(&bad));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_it_publishes_is_consumed_in_order() {
    const SESSIONS: usize = 50;
    const EACH: usize = 20;
    let seed = fastrand::u64(..);
    println!("seed {seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    let ids: Vec<Vec<u8>> = (0..SESSIONS).map(|n| session(n, &mut random)).collect();
    let mut order: Vec<usize> = (0..SESSIONS * EACH).map(|n| n % SESSIONS).collect();
    random.shuffle(&mut order);
    let mut next = [0; SESSIONS];
    let lines: Vec<Vec<u8>> = order
        .iter()
        .map(|at| {
            let n = next[*at];
            next[*at] += 1;
            [&ids[*at][..], format!("\t{n}\n").as_bytes()].concat()
        })
        .collect();

    let vhost = Vhost::new();
    let broker = vhost.broker(Entry::Slots).await;
    broker.provision(&Topology::new().channel(ChannelSpec::new(CHANNEL).group("g"))).await.unwrap();
    let publisher = tokio::task::block_in_place(|| publish(&vhost, &lines));
    assert!(publisher.status.success(), "{}", said(&publisher));
    assert!(said(&publisher).contains(&format!("RESULT sent={}\n", lines.len())), "{}", said(&publisher));

    let seen: Arc<Mutex<BTreeMap<SessionId, Vec<String>>>> = Arc::default();
    let all = Arc::new(Notify::new());
    let handler = {
        let (seen, all, left) = (Arc::clone(&seen), Arc::clone(&all), Arc::new(Mutex::new(lines.len())));
        move |message: Received<String>| {
            let (seen, all, left) = (Arc::clone(&seen), Arc::clone(&all), Arc::clone(&left));
            async move {
                seen.lock().unwrap().entry(message.session().clone()).or_default().push(message.body.clone());
                let mut left = left.lock().unwrap();
                *left = left.saturating_sub(1);
                if *left == 0 {
                    all.notify_one();
                }
                Ok::<(), Failure>(())
            }
        }
    };
    let done = async move { tokio::time::timeout(LIMIT, all.notified()).await.unwrap_or(()) };
    let processor = broker.consumer(CHANNEL).group("g").processor().max_concurrent_sessions(16);
    processor.run_until(done, handler).await.unwrap();
    let seen = seen.lock().unwrap().clone();
    let wanted: Vec<String> = (0..EACH).map(|n| n.to_string()).collect();
    for id in &ids {
        let id = SessionId::new(id.clone()).unwrap();
        assert_eq!(seen.get(&id), Some(&wanted), "session {id}, seed {seed}");
    }
    assert_eq!(seen.len(), SESSIONS, "no other session, seed {seed}");
    broker.close(LIMIT).await.unwrap();
}

/// A session's id: text of any length, or bytes that are none. A line cannot carry every byte.
fn session(n: usize, random: &mut fastrand::Rng) -> Vec<u8> {
    let mut id = format!("{n}-").into_bytes();
    let length = random.usize(..40);
    let text = random.bool();
    id.extend((0..length).map(|_| if text { random.u8(b' '..=b'~') } else { random.u8(0x80..=0xff) }));
    id
}

#[tokio::test(flavor = "multi_thread")]
async fn what_no_lane_takes_is_an_error_and_nothing_goes_out_behind_it() {
    let vhost = Vhost::new();
    let broker = vhost.broker(Entry::Slots).await;
    broker.provision(&Topology::new().channel(ChannelSpec::new(CHANNEL))).await.unwrap();
    // The slot of "foobar", and of nothing else here, has somebody who takes it.
    let connection = Connection::connect(&vhost.url(), ConnectionProperties::default()).await.unwrap();
    let channel = connection.create_channel().await.unwrap();
    let declared = channel.queue_declare("taken".into(), QueueDeclareOptions::durable(), FieldTable::default());
    declared.await.unwrap();
    let (options, none) = (QueueBindOptions::default(), FieldTable::default());
    channel.queue_bind("taken".into(), CHANNEL.into(), "958".into(), options, none).await.unwrap();
    let lines = [b"foobar\t0\n".to_vec(), b"s\t1\n".to_vec(), b"foobar\t2\n".to_vec()];
    let publisher = tokio::task::block_in_place(|| publish(&vhost, &lines));
    let said = said(&publisher);
    assert!(!publisher.status.success() && said.contains("UnroutableError") && !said.contains("RESULT"), "{said}");
    assert!(said.contains("line 2"), "{said}");
    let mut taken = Vec::new();
    while let Some(message) = channel.basic_get("taken".into(), BasicGetOptions { no_ack: true }).await.unwrap() {
        taken.push(message.data.clone());
    }
    assert_eq!(taken, [b"0"], "what came before, and nothing behind");
    connection.close(200, "done".into()).await.unwrap();
    broker.close(LIMIT).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_line_that_is_none_is_named() {
    let vhost = Vhost::new();
    let broker = vhost.broker(Entry::Slots).await;
    broker.provision(&Topology::new().channel(ChannelSpec::new(CHANNEL).group("g"))).await.unwrap();
    let lines = [b"s\t0\n".to_vec(), b"no tab\n".to_vec()];
    let publisher = tokio::task::block_in_place(|| publish(&vhost, &lines));
    let said = said(&publisher);
    assert!(!publisher.status.success() && said.contains("line 2 is no session, a tab and a body"), "{said}");
    assert!(!said.contains("Traceback"), "{said}");
    broker.close(LIMIT).await.unwrap();
}
