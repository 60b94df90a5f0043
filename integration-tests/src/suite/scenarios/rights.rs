//! Rights that are lost, moved, given back, renewed, run out.

use std::sync::Arc;
use std::time::Duration;

use convoy_core::{Failure, Received, with_state};

use super::{Act, Scenario, scenario};
use crate::suite::act::{GROUP, Held, Log, hold, id, same, say, send};
use crate::suite::{Fault, Shape, Wishes};

pub(super) const ALL: &[Scenario] = &[
    scenario!(
        "lock-lost-in-the-middle-of-a-handler",
        [LiveExclusion, ZombieBound, SuffixRedelivery],
        lost_in_the_middle,
        needs[Lose]
    ),
    scenario!("given-back-while-a-handler-runs", [LiveExclusion, SessionFifo], given_back, needs[GiveBack]),
    scenario!("renewed-while-a-long-handler-runs", [LiveExclusion], renewed, wishes short_lock()),
];

fn short_lock() -> Wishes {
    Wishes { lock: Duration::from_secs(5), ..Wishes::default() }
}

async fn lost_in_the_middle(act: Arc<Act>) -> Held {
    let log = Log::default();
    let handler = |log: Log, message: Received<String>| async move {
        log.write(format!("start {}", message.body));
        if log.count(&format!("start {}", message.body)) == 1 && message.body == "1" {
            message.lease().ended().await;
            log.write("told");
            return Err(Failure::retry("told to end"));
        }
        log.write(format!("done {}", message.body));
        Ok(())
    };
    let processor = act.processor().start(with_state(log.clone(), handler)).await?;
    let producer = act.producer().await?;
    send(&producer, 1, 4).await?;
    act.until("the handler runs", || log.count("start 1") == 1).await?;
    act.inject(Fault::Lose(id("s0")))?;
    act.until("all done", || log.count("done 3") == 1).await?;
    let lines = log.lines();
    same!(lines[..4], ["start 0", "done 0", "start 1", "told"], "until the loss");
    // What was handled and not yet settled may come again; where each message is settled by itself nothing does.
    let repeats = act.shape() == Shape::Lanes && lines.get(4).is_some_and(|l| l == "start 0");
    let from = if repeats { 6 } else { 4 };
    same!(lines[from..], ["start 1", "done 1", "start 2", "done 2", "start 3", "done 3"], "from the lost one on");
    let report = processor.drain().await?;
    same!(report.last.failed, 0, "the loss is not charged");
    act.judge()
}

async fn given_back(act: Arc<Act>) -> Held {
    let log = Log::default();
    let handler = |log: Log, message: Received<String>| async move {
        log.write(format!("in {}", message.body));
        if log.count(&format!("in {}", message.body)) == 1 && message.body == "0" {
            // It does not listen: its gate must stay shut until it is gone.
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        log.write(format!("out {}", message.body));
        Ok(())
    };
    let processor = act.processor().start(with_state(log.clone(), handler)).await?;
    let producer = act.producer().await?;
    send(&producer, 1, 2).await?;
    act.until("the handler runs", || log.count("in 0") == 1).await?;
    act.inject(Fault::GiveBack(id("s0")))?;
    act.until("all done", || log.count("out 1") == 1).await?;
    same!(log.lines(), ["in 0", "out 0", "in 0", "out 0", "in 1", "out 1"], "one at a time, through the hand-over");
    processor.drain().await?;
    act.judge()
}

async fn renewed(act: Arc<Act>) -> Held {
    act.group_number(GROUP);
    let handler = |_: (), message: Received<String>| async move {
        tokio::time::sleep(Duration::from_secs(23)).await;
        if message.lease().is_live() { Ok(()) } else { Err(Failure::retry("the right was gone")) }
    };
    let processor = act.processor().start(with_state((), handler)).await?;
    let producer = act.producer().await?;
    say(&producer, "s0", "long").await?;
    act.completed(&processor, 1).await?;
    let last = processor.drain().await?.last;
    hold!(last.failed == 0 && last.lost == 0, "it lost its right: {last:?}");
    act.judge()
}
