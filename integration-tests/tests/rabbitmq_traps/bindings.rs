//! Bindings that are taken away under a group at work.

use std::sync::Arc;
use std::time::Duration;

use convoy_core::{ChannelSpec, ErrorKind, Topology};

use crate::members::Gate;
use crate::seen::Seen;
use crate::stage::{CHANNEL, PATIENCE, SLOTS, Stage, connect, lane, message, send, slot, until};

crate::traps![a_binding_that_is_gone_ends_the_consumer_by_name, a_binding_that_is_gone_is_made_again];

const LANES: u32 = 16;
/// Of the slots of a lane, one in so many goes.
const ONE_IN: usize = 4;

/// Another group of the channel, which nobody consumes from.
const OTHER: &str = "archive";

/// Takes some bindings of a lane away, and gives the lane and their slots.
async fn unbind(stage: &Stage) -> (String, Vec<u32>) {
    let (mut random, raw) = (stage.random(), stage.raw().await);
    let (its, first) = (random.u32(..LANES), random.usize(..ONE_IN));
    let (queue, of_lane) = (lane(LANES, its), its * SLOTS / LANES..(its + 1) * SLOTS / LANES);
    let gone: Vec<u32> = of_lane.skip(first).step_by(ONE_IN).collect();
    for slot in &gone {
        raw.unbind(&queue, *slot).await;
    }
    (queue, gone)
}

/// A session of this slot.
fn session_of(of: u32) -> String {
    (0..).map(|n| format!("s{n}")).find(|name| slot(name) == of).expect("one")
}

async fn a_binding_that_is_gone_ends_the_consumer_by_name(stage: Arc<Stage>) {
    let options = stage.options(LANES).binding_check(Duration::from_millis(200));
    let broker = stage.provisioned(options).await;
    // With another group the broker returns nothing: somebody takes it still.
    broker.provision(&Topology::new().channel(ChannelSpec::new(CHANNEL).group(OTHER))).await.expect("provision");
    let sent: Vec<String> = (0..20).map(|n| format!("s{n}/0")).collect();
    send(&broker, &sent).await;
    let (gate, seen) = (Gate::open(), Seen::default());
    let processor = gate.start(&broker, &seen).await;
    until("all is settled", || seen.settled() == sent.len()).await;
    until("every lane is held", || processor.snapshot().held == LANES as usize).await;
    // While all is as it should be nothing is told.
    let nothing = tokio::time::timeout(Duration::from_secs(2), processor.failed()).await;
    assert!(nothing.is_err(), "{nothing:?}");

    let (queue, gone) = unbind(&stage).await;
    let failed = tokio::time::timeout(PATIENCE, processor.failed()).await.expect("it is noticed").expect("an error");
    assert_eq!(failed.kind(), ErrorKind::Topology, "{failed:?}");
    assert_eq!(failed.context("queue"), Some(queue.as_str()), "{failed:?}");
    let slot = failed.context("slot").and_then(|slot| slot.parse().ok());
    assert!(slot.is_some_and(|slot| gone.contains(&slot)), "{failed:?}");
    processor.drain().await.expect("drained");

    // Probes are no messages, and whoever consumes from the other group sees none.
    let (gate, seen) = (Gate::open(), Seen::default());
    let archive = broker.consumer(CHANNEL).group(OTHER).observer(seen.clone()).processor();
    let archive = archive.start(convoy_core::with_state(gate.clone(), Gate::handle)).await.expect("a processor");
    until("all is settled there", || seen.settled() == sent.len()).await;
    assert!(archive.drain().await.expect("drained").drained);
    let mut handled = gate.handled();
    handled.sort();
    let mut wanted = sent;
    wanted.sort();
    assert_eq!(handled, wanted);
}

async fn a_binding_that_is_gone_is_made_again(stage: Arc<Stage>) {
    let options = stage.options(LANES).binding_check(Duration::from_millis(200)).auto_create(true);
    let broker = stage.provisioned(options.clone()).await;
    let (gate, seen) = (Gate::open(), Seen::default());
    let processor = gate.start(&broker, &seen).await;
    until("every lane is held", || processor.snapshot().held == LANES as usize).await;
    let (_, gone) = unbind(&stage).await;
    let session = session_of(gone[0]);
    let failed = processor.failed();
    let both = async {
        again(&connect(options.clone()).await, &session, 0).await;
        until("it is settled", || seen.settled() == 1).await;
        // The channel itself, with all that was bound to it.
        stage.delete_exchange(CHANNEL);
        again(&connect(options).await, &session, 1).await;
        until("it is settled", || seen.settled() == 2).await;
    };
    tokio::select! {
        () = both => {}
        failed = failed => panic!("the consumer ended: {failed:?}"),
    }
    assert_eq!(gate.handled(), [format!("{session}/0"), format!("{session}/1")]);
    assert!(processor.drain().await.expect("drained").drained);
}

/// Sends until it is taken.
async fn again(broker: &convoy_core::Broker, session: &str, number: usize) {
    let give_up = std::time::Instant::now() + PATIENCE;
    loop {
        // A producer of its own each time: one that failed holds its session.
        let producer = broker.producer(CHANNEL).await;
        let sent = match producer {
            Ok(producer) => {
                producer.send(message(&format!("{session}/{number}"))).await.map(|_| ()).map_err(|e| e.to_string())
            }
            Err(why) => Err(why.to_string()),
        };
        let Err(why) = sent else { return };
        assert!(std::time::Instant::now() < give_up, "nothing takes {session}/{number}: {why}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
