//! Turns with far more sessions than places: none waits for more than twice the ideal round.

#![cfg(feature = "memory")]

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use convoy::memory::MemoryBroker;
use convoy::{Broker, Failure, Message, Received, Turn, with_state};

const SESSIONS: usize = 10_000;
const AT_ONCE: usize = 8;
const TURN: u32 = 2;
const TURNS: u32 = 3;

/// When each session was handled last, counted in messages of all, and how long one waited at most.
struct Seen {
    clock: AtomicU64,
    last: Vec<AtomicU64>,
    messages: Vec<AtomicU32>,
    longest: AtomicU64,
}

async fn watch(seen: Arc<Seen>, message: Received<String>) -> Result<(), Failure> {
    let session: usize = message.body.parse()?;
    let now = seen.clock.fetch_add(1, Ordering::Relaxed);
    let before = seen.last[session].swap(now, Ordering::Relaxed);
    seen.messages[session].fetch_add(1, Ordering::Relaxed);
    seen.longest.fetch_max(now - before, Ordering::Relaxed);
    // It goes on elsewhere, so that the places are taken.
    tokio::task::yield_now().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_session_of_ten_thousand_waits_for_more_than_twice_the_ideal_round() {
    let broker = Broker::new(MemoryBroker::new());
    let producer = broker.producer("orders").await.expect("producer");
    let mut sendings = Vec::new();
    for _ in 0..TURN * TURNS {
        for session in 0..SESSIONS {
            let message = Message::new(format!("s{session}"), session.to_string()).expect("a message");
            sendings.push(producer.send(message));
        }
        // Within what a producer has in hand at once.
        for sending in sendings.drain(..) {
            sending.await.expect("sent");
        }
    }
    let seen = Arc::new(Seen {
        clock: AtomicU64::new(0),
        last: (0..SESSIONS).map(|_| AtomicU64::new(0)).collect(),
        messages: (0..SESSIONS).map(|_| AtomicU32::new(0)).collect(),
        longest: AtomicU64::new(0),
    });
    let all = u64::try_from(SESSIONS).expect("fits") * u64::from(TURN * TURNS);
    let handler = with_state(Arc::clone(&seen), watch);
    let builder = broker.consumer("orders").processor().max_concurrent_sessions(AT_ONCE).turn(Turn::messages(TURN));
    let processor = builder.start(handler).await.expect("start");
    tokio::time::timeout(Duration::from_secs(120), async {
        while processor.snapshot().completed < all {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await
    .expect("all is handled");
    processor.drain().await.expect("drain");
    assert!(seen.messages.iter().all(|messages| messages.load(Ordering::Relaxed) == TURN * TURNS), "each once");
    // In the ideal round every other session has one turn before one's own comes again.
    let ideal = u64::try_from(SESSIONS).expect("fits") * u64::from(TURN);
    let longest = seen.longest.load(Ordering::Relaxed);
    println!("RESULT sessions={SESSIONS} at_once={AT_ONCE} ideal_round={ideal} longest_wait={longest}");
    assert!(longest <= 2 * ideal, "a session waited for {longest} messages of others; a round is {ideal}");
    // Without a turn the first ones would be handled to their end before the last ones begin.
    assert!(longest > ideal / 2, "nobody had to wait: {longest}");
}
