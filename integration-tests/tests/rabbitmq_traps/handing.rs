//! Lanes that go from member to member with messages in hand that nobody has handled.

use std::sync::Arc;

use convoy_core::{ErrorKind, Redelivered};

use crate::members::{Gate, idle};
use crate::seen::Seen;
use crate::stage::{CHANNEL, GROUP, PATIENCE, Stage, bodies, connect, consumer, send, until};

crate::traps![
    two_hand_overs_in_a_row_stay_in_order,
    another_prefetch_or_lane_count_is_refused_by_name,
    a_prefetched_message_survives_25_hand_overs,
];

async fn two_hand_overs_in_a_row_stay_in_order(stage: Arc<Stage>) {
    let broker = stage.provisioned(stage.options(1)).await;
    let sent = bodies(4, 50);
    send(&broker, &sent).await;
    let (first, second, third) = (Seen::default(), Seen::default(), Seen::default());
    let one = idle(&broker, &first).await;
    until("the first has all", || first.delivered().len() == sent.len()).await;
    let two = idle(&connect(stage.options(1)).await, &second).await;
    one.close(PATIENCE).await.expect("close");
    until("the second has all", || second.delivered().len() >= sent.len()).await;
    // Handles nothing before it has all: what it was delivered, and in which order, is then all that counts.
    let gate = Gate::of(0);
    let three = gate.start(&connect(stage.options(1)).await, &third).await;
    two.close(PATIENCE).await.expect("close");
    until("the third has all", || third.delivered().len() >= sent.len()).await;
    assert_eq!(first.delivered(), sent, "as it was sent");
    assert_eq!(second.delivered(), sent, "after one hand-over");
    assert_eq!(third.delivered(), sent, "after two");
    gate.let_through(sent.len());
    until("all is settled", || third.settled() == sent.len()).await;
    assert!(three.drain().await.expect("drained").drained);
    for session in 0..4 {
        let of = |body: &&String| body.starts_with(&format!("s{session}/"));
        let handled: Vec<String> = gate.handled().iter().filter(of).cloned().collect();
        assert_eq!(handled, sent.iter().filter(of).cloned().collect::<Vec<_>>(), "session {session}");
    }
}

async fn another_prefetch_or_lane_count_is_refused_by_name(stage: Arc<Stage>) {
    stage.provisioned(stage.options(8)).await;
    for (options, own, pinned) in [(stage.options(8).prefetch(20), "20", "500"), (stage.options(4), "4", "8")] {
        let other = connect(options).await;
        let refused = consumer(&other).open().await.expect_err("it is refused");
        assert_eq!(refused.kind(), ErrorKind::Topology, "{refused:?}");
        let said = format!("{refused:?}");
        for named in [own, pinned] {
            let words: Vec<&str> = said.split(|c: char| !c.is_ascii_digit()).collect();
            assert!(words.contains(&named), "{named} is not named: {said}");
        }
        let refused = other.provision(&crate::stage::topology()).await.expect_err("it is not made again");
        assert_eq!(refused.kind(), ErrorKind::Topology, "{refused:?}");
    }
}

async fn a_prefetched_message_survives_25_hand_overs(stage: Arc<Stage>) {
    const HAND_OVERS: usize = 25;
    let broker = stage.provisioned(stage.options(1)).await;
    let sent = bodies(2, 2);
    send(&broker, &sent).await;
    let mut holder: Option<convoy_core::Consumer> = None;
    for hand_over in 0..HAND_OVERS {
        let seen = Seen::default();
        let next = idle(&broker, &seen).await;
        if let Some(before) = holder.replace(next) {
            assert!(before.close(PATIENCE).await.expect("close").drained);
        }
        until("the next has it", || seen.delivered().len() >= sent.len()).await;
        assert_eq!(seen.delivered()[..sent.len()], sent, "hand-over {hand_over}");
    }
    let (gate, seen) = (Gate::open(), Seen::default());
    let processor = gate.start(&broker, &seen).await;
    holder.expect("a holder").close(PATIENCE).await.expect("close");
    until("it is handled", || seen.settled() == sent.len()).await;
    assert!(processor.drain().await.expect("drained").drained);
    let mut handled = gate.handled();
    handled.sort();
    let mut wanted = sent.clone();
    wanted.sort();
    assert_eq!(handled, wanted, "each once");
    // The broker did count them, up to far beyond what it allows by itself.
    for redelivered in gate.redelivered() {
        assert!(matches!(redelivered, Redelivered::Count(count) if count > 20), "{redelivered:?}");
    }
    let dead = broker.dead_letters(CHANNEL, GROUP).await.expect("the store");
    assert!(dead.list(0, 10).await.expect("listed").is_empty(), "nothing is dead-lettered");
}
