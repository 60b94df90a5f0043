//! How a lane is let go: by closing its AMQP channel, which gives everything back in order. A cancel would start the next holder first.

use std::sync::Arc;
use std::time::Duration;

use convoy_core::backend::Answer;

use crate::members::{Gate, idle};
use crate::seen::{Entry, Seen};
use crate::stage::{PATIENCE, Stage, bodies, connect, consumer, send, until};
use crate::tap::Tap;

crate::traps![a_lane_is_never_cancelled, a_closed_channel_gives_the_suffix_to_the_next];

const LANES: u32 = 2;

async fn a_lane_is_never_cancelled(stage: Arc<Stage>) {
    let tap = Tap::before(stage.amqp()).await;
    let options = stage.options(LANES).settle_count(4).port(tap.port());
    let broker = stage.provisioned(options.clone()).await;
    let settled_apart = || tap.registrations().iter().map(|it| it.seconds).sum::<usize>();
    let given_back = || tap.registrations().iter().filter(|it| it.closed && it.unsettled > 0).count();

    // Settling does cancel: second registrations, which never hold a message.
    let (gate, seen) = (Gate::open(), Seen::default());
    let processor = gate.start(&broker, &seen).await;
    send(&broker, &bodies(8, 60)).await;
    until("all is settled", || seen.settled() == 480).await;
    until("a settlement went through the log", || settled_apart() > 0).await;
    assert!(processor.drain().await.expect("drained").drained);
    stage.note(format!("{} second registrations were taken back while settling", settled_apart()));

    // From here on there is always something unsettled in hand.
    let held = bodies(8, 5);
    send(&broker, &held).await;
    let holds = |seen: &Seen| seen.delivered().len() >= held.len();

    // A drain under handlers that do not end.
    let (gate, seen) = (Gate::of(0), Seen::default());
    let processor = consumer(&broker).observer(seen.clone()).grace(Duration::from_millis(50)).processor();
    let processor = processor.drain_within(Duration::from_millis(200));
    let processor = processor.start(convoy_core::with_state(gate, Gate::handle)).await.expect("a processor");
    until("it has all", || holds(&seen)).await;
    processor.drain().await.expect("drained");
    let mut before = 0;
    let mut grown = |what: &str| {
        let now = given_back();
        assert!(now > before, "{what}: no lane was let go with unsettled messages ({before}, then {now})");
        before = now;
    };
    grown("drain");

    // A processor that is dropped.
    let (gate, seen) = (Gate::of(0), Seen::default());
    let processor = gate.start(&broker, &seen).await;
    until("it has all", || holds(&seen)).await;
    let closed = given_back();
    drop(processor);
    until("the dropped one let go", || given_back() > closed).await;
    grown("drop");

    // A pulled session that is released, and a consumer that is closed behind it.
    let seen = Seen::default();
    let pulling = idle(&broker, &seen).await;
    until("it has all", || holds(&seen)).await;
    let mut session = pulling.accept_next(PATIENCE).await.expect("accept").expect("a session");
    let delivery = session.next::<String>(PATIENCE).await.expect("next").expect("a message");
    delivery.complete().await.expect("complete");
    session.release(PATIENCE).await.expect("release");
    pulling.close(PATIENCE).await.expect("close");
    grown("close");

    // A hand-over to a member that comes later, then the end of the broker handles.
    let (first, second) = (Seen::default(), Seen::default());
    let one = idle(&broker, &first).await;
    until("the first has all", || first.delivered().len() == held.len() - 1).await;
    let other = connect(options).await;
    let two = idle(&other, &second).await;
    until("a lane moved", || !second.delivered().is_empty()).await;
    grown("hand-over");
    other.close(PATIENCE).await.expect("close");
    broker.close(PATIENCE).await.expect("close");
    drop((one, two));
    until("all is let go", || tap.registrations().iter().all(|it| it.closed)).await;

    for it in tap.registrations() {
        assert!(!it.cancelled, "a lane was cancelled, with {} messages unsettled: {it:?}", it.unsettled);
        assert!(!it.gave_back, "messages were given back one by one: {it:?}");
    }
}

async fn a_closed_channel_gives_the_suffix_to_the_next(stage: Arc<Stage>) {
    let tap = Tap::before(stage.amqp()).await;
    let broker = stage.provisioned(stage.options(1).port(tap.port())).await;
    let sent = bodies(4, 25);
    send(&broker, &sent).await;
    // So many are handled, and then no handler ends any more.
    let done = stage.random().usize(20..40);
    let (gate, first) = (Gate::of(done), Seen::default());
    let processor = gate.start(&broker, &first).await;
    until("all is delivered", || first.delivered().len() == sent.len()).await;
    until("what was handled is settled", || first.settled() == done).await;
    let left: Vec<String> = sent.iter().filter(|body| !gate.handled().contains(body)).cloned().collect();
    assert_eq!(left.len(), sent.len() - done);

    // Both members are registered before the broker closes the channel; whichever is first in line gets it.
    let standby = connect(stage.options(1)).await;
    let second = Seen::default();
    let waiting = idle(&standby, &second).await;
    until("the next is registered", || waiting.is_ready()).await;
    let has_it = || tap.registrations().into_iter().rfind(|it| !it.closed && it.unsettled > 0);
    if let Some(it) = has_it() {
        tap.spoil(it.number);
    }
    until("the next has the rest", || second.delivered().len() >= left.len()).await;
    assert_eq!(second.delivered(), left, "the suffix, in order");
    until("the first knows", || first.all().iter().any(|entry| matches!(entry, Entry::Lost(..)))).await;
    // What ends late under the old right is not told as settled.
    gate.let_through(done);
    waiting.close(PATIENCE).await.expect("close");
    gate.let_through(sent.len() * 2);
    until("all is handled", || gate.handled().len() >= sent.len()).await;
    until("all is settled", || first.settled() >= sent.len()).await;
    assert!(processor.drain().await.expect("drained").drained);
    for session in 0..4 {
        let of = |body: &&String| body.starts_with(&format!("s{session}/"));
        let mut handled: Vec<String> = gate.handled().iter().filter(of).cloned().collect();
        handled.dedup();
        assert_eq!(handled, sent.iter().filter(of).cloned().collect::<Vec<_>>(), "session {session}");
    }
    let lost = first.all().iter().position(|entry| matches!(entry, Entry::Lost(..))).expect("lost");
    let old = first.granted()[0];
    let late = |entry: &&Entry| matches!(entry, Entry::Settled(epoch, _, Answer::Ok) if *epoch == old);
    assert_eq!(first.all()[lost..].iter().find(late), None, "nothing is settled under a right that is gone");
}
