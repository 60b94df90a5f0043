//! The producer that programs hold, over a scripted sink and on paused time.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use super::scripted::Scripted;
use super::*;
use crate::backend::Fate;
use crate::message::Message;
use crate::policy::Bound;
use crate::producer::{Producer, ProducerOptions, Resume, SendEvent};

const LIMIT: Duration = Duration::from_secs(10);

fn open(sink: &Arc<Scripted>) -> Producer {
    Producer::open(Arc::clone(sink) as _, ProducerOptions::default()).unwrap()
}

fn message(session: &str, body: &str) -> Message {
    Message::new(session.to_owned(), body.to_owned()).unwrap()
}

#[tokio::test(start_paused = true)]
async fn the_order_of_the_calls_is_the_order_and_not_that_of_the_polls() {
    let sink = Scripted::confirming();
    let producer = open(&sink);
    let first = producer.send(message("s", "1"));
    let second = producer.clone().send(message("s", "2"));
    assert_eq!(second.await.unwrap().number, 2);
    let receipt = first.await.unwrap();
    assert_eq!((receipt.number, receipt.position), (1, Some(Position::new(0))));
    assert_eq!(sink.bodies(), ["1", "2"]);
}

#[tokio::test(start_paused = true)]
async fn a_send_that_is_dropped_is_sent() {
    let sink = Scripted::confirming();
    let producer = open(&sink);
    drop(producer.send(message("s", "1")));
    producer.flush(LIMIT).await.unwrap();
    assert_eq!(sink.bodies(), ["1"]);
}

#[tokio::test(start_paused = true)]
async fn a_silent_broker_ends_a_send_at_its_time_out() {
    let sink = Scripted::silent();
    let producer = open(&sink);
    let start = Instant::now();
    let (first, second) = (producer.send(message("s", "1")), producer.send(message("s", "2")));
    let error = first.await.unwrap_err();
    assert!(start.elapsed() - Duration::from_secs(30) < Duration::from_millis(5), "{:?}", start.elapsed());
    assert_eq!((error.kind(), error.outcome()), (ErrorKind::OutcomeUnknown, Outcome::Unknown));
    let error = second.await.unwrap_err();
    assert_eq!((error.kind(), error.outcome(), error.place()), (ErrorKind::Halted, Outcome::NotApplied, Some(1)));
    assert_eq!(error.into_message().content().body(), "2");
    assert_eq!(producer.send(message("s", "3")).await.unwrap_err().kind(), ErrorKind::Halted);
    assert_eq!(producer.flush(LIMIT).await.unwrap_err().kind(), ErrorKind::Halted);
}

#[tokio::test(start_paused = true)]
async fn a_failure_halts_its_session_only_and_resend_sends_again() {
    let sink = Scripted::silent();
    let producer = open(&sink);
    let sends = ["1", "2"].map(|body| producer.send(message("s", body)));
    sink.answer(refused(sink.run().await.ticket));
    for send in sends {
        send.await.unwrap_err();
    }
    sink.confirm_from_now_on();
    producer.send(message("t", "other")).await.unwrap();
    assert_eq!(producer.halted().len(), 1);
    let kept = producer.halted_messages(&id("s")).into_iter().map(|m| (m.number, m.message.content().body().clone()));
    assert_eq!(kept.collect::<Vec<_>>(), [(1, "1".into()), (2, "2".into())]);

    let receipts = producer.resume(&id("s"), Resume::Resend).await.unwrap().await.unwrap();
    assert_eq!(receipts.iter().map(|r| r.number).collect::<Vec<_>>(), [1, 2]);
    assert_eq!(sink.bodies(), ["1", "other", "1", "2"]);
    assert!(sink.asked().is_empty(), "nothing was unknown");
    assert!(producer.resume(&id("s"), Resume::Resend).await.unwrap().is_empty(), "it is not halted");
    producer.flush(LIMIT).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn resume_asks_the_broker_for_the_fate_of_an_unknown_one() {
    for (fate, again) in [(Fate::Landed, vec![2]), (Fate::Never, vec![1, 2]), (Fate::Unknown, vec![1, 2])] {
        let sink = Scripted::silent();
        let producer = open(&sink);
        let sends = ["1", "2"].map(|body| producer.send(message("s", body)));
        let ticket = sink.run().await.ticket;
        sink.answer(unknown(ticket));
        for send in sends {
            send.await.unwrap_err();
        }
        sink.confirm_from_now_on();
        let start = Instant::now();
        let error = producer.resume(&id("s"), Resume::Resend).await.unwrap_err();
        assert_eq!((error.kind(), start.elapsed().as_secs()), (ErrorKind::Timeout, 30));
        assert_eq!(producer.halted().len(), 1, "it stays halted");

        sink.knows(fate);
        let receipts = producer.resume(&id("s"), Resume::Resend).await.unwrap().await.unwrap();
        assert_eq!(receipts.iter().map(|r| r.number).collect::<Vec<_>>(), again);
        assert_eq!(sink.asked(), [ticket, ticket]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_resume_that_is_dropped_changes_nothing() {
    let sink = Scripted::silent();
    let producer = open(&sink);
    let send = producer.send(message("s", "1"));
    sink.answer(unknown(sink.run().await.ticket));
    send.await.unwrap_err();
    let resume = async { producer.resume(&id("s"), Resume::Discard).await };
    assert!(tokio::time::timeout(Duration::from_secs(1), resume).await.is_err());
    assert_eq!(producer.halted_messages(&id("s")).len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_passing_failure_of_the_sink_passes() {
    let sink = Scripted::silent();
    let producer = open(&sink);
    let send = producer.send(message("s", "1"));
    let ticket = sink.run().await.ticket;
    for _ in 0..5 {
        sink.fail(Error::new(ErrorKind::Disconnected, "next"));
    }
    sink.answer(ok(ticket, 1));
    assert_eq!(send.await.unwrap().number, 1);
}

#[tokio::test(start_paused = true)]
async fn a_sink_that_fails_for_good_ends_everything_with_an_outcome() {
    let sink = Scripted::silent();
    let producer = open(&sink);
    let sends = [("s", "1"), ("s", "2")].map(|(session, body)| producer.send(message(session, body)));
    sink.run().await;
    sink.fail(Error::new(ErrorKind::Unauthorized, "next"));
    let [first, second] = sends;
    assert_eq!(first.await.unwrap_err().kind(), ErrorKind::OutcomeUnknown);
    assert_eq!(second.await.unwrap_err().outcome(), Outcome::NotApplied);
    let refused = producer.send(message("s", "3")).await.unwrap_err();
    assert!(matches!(refused.kind(), ErrorKind::Halted | ErrorKind::Closed));
    let refused = producer.send(message("t", "3")).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Closed);
    assert!(refused.to_string().contains("credentials"), "{refused}");
    assert_eq!(producer.resume(&id("s"), Resume::Resend).await.unwrap_err().kind(), ErrorKind::Closed);
    assert_eq!(producer.halted_messages(&id("s")).len(), 2, "they are still given back");
    assert_eq!(producer.close(LIMIT).await.unwrap_err().kind(), ErrorKind::Unauthorized);
}

#[tokio::test(start_paused = true)]
async fn close_sends_what_is_queued() {
    let sink = Scripted::silent();
    let producer = open(&sink);
    let sends = ["1", "2"].map(|body| producer.send(message("s", body)));
    let (closed, ()) = tokio::join!(producer.close(LIMIT), async {
        let first = sink.run().await.ticket;
        assert_eq!(producer.send(message("t", "late")).await.unwrap_err().kind(), ErrorKind::Closed);
        sink.answer(ok(first, 1));
        sink.answer(ok(sink.run().await.ticket, 2));
    });
    closed.unwrap();
    for send in sends {
        send.await.unwrap();
    }
    assert!(sink.is_closed());
    producer.close(LIMIT).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn close_cuts_off_at_its_limit_and_says_what() {
    let sink = Scripted::silent();
    let producer = open(&sink);
    let sends = ["1", "2", "3"].map(|body| producer.send(message("s", body)));
    let start = Instant::now();
    let error = producer.close(LIMIT).await.unwrap_err();
    assert!(start.elapsed() - LIMIT < Duration::from_millis(5));
    assert_eq!((error.kind(), error.outcome()), (ErrorKind::Timeout, Outcome::Unknown));
    assert!(error.to_string().contains("2 messages were not sent, and of 1 the outcome is unknown"), "{error}");
    let outcomes = sends.map(|send| async { send.await.unwrap_err().outcome() });
    let mut told = Vec::new();
    for outcome in outcomes {
        told.push(outcome.await);
    }
    assert_eq!(told, [Outcome::Unknown, Outcome::NotApplied, Outcome::NotApplied]);
}

#[tokio::test(start_paused = true)]
async fn dropping_the_last_handle_sends_what_is_queued() {
    let sink = Scripted::silent();
    let producer = open(&sink);
    let clone = producer.clone();
    let second = {
        drop(producer.send(message("s", "1")));
        producer.send(message("s", "2"))
    };
    drop(producer);
    drop(clone);
    sink.answer(ok(sink.run().await.ticket, 1));
    sink.answer(ok(sink.run().await.ticket, 2));
    second.await.unwrap();
    for _ in 0..10 {
        tokio::task::yield_now().await;
    }
    assert!(sink.is_closed());
}

#[tokio::test(start_paused = true)]
async fn flush_and_ready_end_at_their_limits() {
    let sink = Scripted::silent();
    let options = ProducerOptions::default().queue(Bound::new(2, 1 << 20));
    let producer = Producer::open(Arc::clone(&sink) as _, options).unwrap();
    producer.ready(LIMIT).await.unwrap();
    let sends = ["1", "2"].map(|body| producer.send(message("s", body)));
    assert_eq!(producer.flush(LIMIT).await.unwrap_err().kind(), ErrorKind::Timeout);
    assert_eq!(producer.ready(LIMIT).await.unwrap_err().kind(), ErrorKind::Backpressure);
    assert_eq!(producer.send(message("t", "3")).await.unwrap_err().kind(), ErrorKind::Backpressure);
    let (ready, ()) = tokio::join!(producer.ready(LIMIT), async { sink.answer(ok(sink.run().await.ticket, 1)) });
    ready.unwrap();
    sink.confirm_from_now_on();
    sink.answer(ok(sink.run().await.ticket, 2));
    for send in sends {
        send.await.unwrap();
    }
    // The refused one halted its session, so that nothing could overtake it.
    let again = producer.resume(&id("t"), Resume::Resend).await.unwrap();
    assert_eq!(again.await.unwrap().len(), 1);
    producer.flush(LIMIT).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn send_all_is_taken_whole_and_tells_each() {
    let sink = Scripted::taking(8);
    let options = ProducerOptions::default().queue(Bound::new(2, 1 << 20));
    let producer = Producer::open(Arc::clone(&sink) as _, options).unwrap();
    let large = "x".repeat(65);
    let all = producer.send_all([message("s", "1"), message("s", "2"), message("t", &large), message("t", "behind")]);
    assert_eq!(all.len(), 4);
    let run = sink.run().await;
    assert_eq!(bodies(&run), ["1", "2"]);
    sink.answer(ok(run.ticket, 7));
    let error = all.await.unwrap_err();
    let kinds = error.results().iter().map(|r| r.as_ref().err().map(SendError::kind)).collect::<Vec<_>>();
    assert_eq!(kinds, [None, None, Some(ErrorKind::TooLarge), Some(ErrorKind::Halted)]);
    assert_eq!(error.first().map(|(at, e)| (at, e.kind())), Some((2, ErrorKind::TooLarge)));
    assert_eq!(error.to_string(), "send: 2 of 4 messages were not confirmed");
    assert_eq!(error.into_messages().len(), 2);
    assert!(producer.send_all([]).await.unwrap().is_empty());
}

#[tokio::test(start_paused = true)]
async fn an_id_that_the_broker_cannot_carry_is_refused_and_halts_nothing() {
    let producer = open(&Scripted::confirming());
    let strange = Message::new(vec![0xff], "x").unwrap();
    let error = producer.send(strange).await.unwrap_err();
    assert_eq!((error.kind(), error.outcome()), (ErrorKind::InvalidSession, Outcome::NotApplied));
    assert!(error.to_string().contains("0xff"), "{error}");
    producer.flush(LIMIT).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_sink_that_panics_leaves_nobody_waiting() {
    let sink = Scripted::silent();
    let producer = open(&sink);
    let send = producer.send(message("s", "1"));
    sink.run().await;
    sink.panic();
    assert_eq!(send.await.unwrap_err().kind(), ErrorKind::OutcomeUnknown);
    assert_eq!(producer.send(message("t", "1")).await.unwrap_err().kind(), ErrorKind::Closed);
    assert_eq!(producer.close(LIMIT).await.unwrap_err().kind(), ErrorKind::Closed);
}

#[test]
fn a_runtime_that_ends_leaves_nobody_waiting() {
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let sink = Scripted::silent();
    let first = runtime();
    let (producer, send) = first.block_on(async {
        let producer = open(&sink);
        let send = producer.send(message("s", "1"));
        sink.run().await;
        (producer, send)
    });
    drop(first);
    let error = runtime().block_on(send).unwrap_err();
    assert_eq!(
        (error.kind(), error.id()),
        (ErrorKind::OutcomeUnknown, producer.halted_messages(&id("s"))[0].message.id())
    );
    assert_eq!(Producer::open(sink, ProducerOptions::default()).unwrap_err().kind(), ErrorKind::Unsupported);
}

#[tokio::test]
async fn options_are_checked() {
    let options = ProducerOptions::default().send_timeout(Duration::ZERO);
    let error = Producer::open(Scripted::silent(), options).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidOption);
    assert!(error.to_string().contains("send_timeout"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn who_watches_sees_it_in_order() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&seen);
    let watch = move |event: &SendEvent<'_>| {
        log.lock().push(match event {
            SendEvent::Queued { content, again, .. } => format!("queued {} {again}", content.stamp().unwrap().number),
            SendEvent::Confirmed { session, receipt } => format!("confirmed {session} {}", receipt.number),
            SendEvent::Failed { error } => format!("failed {:?}", error.kind()),
            SendEvent::Resumed { session, how } => format!("resumed {session} {how:?}"),
        });
    };
    let sink = Scripted::silent();
    let options = ProducerOptions::default().watch(Arc::new(watch));
    let producer = Producer::open(Arc::clone(&sink) as _, options).unwrap();
    let send = producer.send(message("s", "1"));
    sink.answer(refused(sink.run().await.ticket));
    send.await.unwrap_err();
    producer.send(message("s", "2")).await.unwrap_err();
    sink.confirm_from_now_on();
    producer.resume(&id("s"), Resume::Resend).await.unwrap().await.unwrap();
    let expected =
        ["queued 1 false", "failed Refused", "failed Halted", "resumed s Resend", "queued 1 true", "confirmed s 1"];
    assert_eq!(*seen.lock(), expected);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn many_tasks_keep_the_order_of_each() {
    let sink = Scripted::confirming();
    let producer = open(&sink);
    let tasks = (0..8).map(|task| {
        let producer = producer.clone();
        tokio::spawn(async move {
            let sends = (0..500).map(|i| producer.send(message(&format!("{task}-{}", i % 5), &format!("{task} {i}"))));
            for send in sends.collect::<Vec<_>>() {
                send.await.unwrap();
            }
        })
    });
    for task in tasks.collect::<Vec<_>>() {
        task.await.unwrap();
    }
    producer.close(LIMIT).await.unwrap();
    let mut last = std::collections::HashMap::new();
    for body in sink.bodies() {
        let (task, i) = body.split_once(' ').unwrap();
        let i = i.parse::<usize>().unwrap();
        let before = last.insert((task.to_owned(), i % 5), i);
        assert!(before.is_none_or(|before| before + 5 == i), "{body} after {before:?}");
    }
    assert_eq!(last.values().sum::<usize>(), 8 * (495 + 496 + 497 + 498 + 499));
}

#[test]
fn no_future_is_bound_to_its_thread() {
    fn is_send<T: Send>(_: fn() -> T) {}
    fn all(producer: &'static Producer, id: &'static SessionId) -> impl Send {
        (
            producer.send(message("s", "x")),
            producer.send_all([]),
            producer.ready(LIMIT),
            producer.resume(id, Resume::Resend),
            producer.flush(LIMIT),
            producer.close(LIMIT),
        )
    }
    let _ = all;
    is_send(|| Option::<Producer>::None);
}
