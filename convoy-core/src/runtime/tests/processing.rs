//! The push side.

use std::future::pending;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::script::{LOCK, Script};
use super::{Log, MS, SECOND, until};
use crate::backend::{Limits, Place};
use crate::consumer::{Failure, Received};
use crate::{ErrorKind, Exhausted, Retry};

#[tokio::test(start_paused = true)]
async fn handles_in_order_settles_and_drains() {
    let script = Script::new(Limits::lanes());
    let log = Log::default();
    let seen = Arc::clone(&log);
    let handler = move |m: Received<String>| {
        let seen = Arc::clone(&seen);
        async move {
            if m.session().as_bytes() == b"a" {
                tokio::time::sleep(5 * MS).await;
            }
            seen.lock().push(format!("{}{}", m.session(), m.body));
            Ok(())
        }
    };
    let processor = script.consumer().processor().start(handler).await.unwrap();
    let lane = script.lane();
    for (position, session, body) in [(0, "a", "1"), (1, "a", "2"), (2, "b", "1"), (3, "a", "3"), (4, "b", "2")] {
        script.deliver(lane, position, session, body);
    }
    until("all handled", || log.lock().len() == 5).await;
    assert_eq!(*log.lock(), ["b1", "b2", "a1", "a2", "a3"]);
    let report = processor.drain().await.unwrap();
    assert!(report.drained);
    assert_eq!((report.last.completed, report.last.running, report.last.held), (5, 0, 0));
    script.said(|said| {
        assert_eq!((said.settled_below, said.released, said.surrendered, said.left), (5, 1, 0, true));
    });
}

#[tokio::test(start_paused = true)]
async fn no_more_handlers_at_once_than_allowed() {
    let script = Script::new(Limits::lanes());
    let (running, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (r, m) = (Arc::clone(&running), Arc::clone(&most));
    let handler = move |_: Received<String>| {
        let (running, most) = (Arc::clone(&r), Arc::clone(&m));
        async move {
            most.fetch_max(running.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            tokio::time::sleep(MS).await;
            running.fetch_sub(1, Ordering::SeqCst);
            Ok(())
        }
    };
    let processor = script.consumer().processor().max_concurrent_sessions(3).start(handler).await.unwrap();
    let lane = script.lane();
    (0..100).for_each(|i| script.deliver(lane, i, &format!("s{i}"), "x"));
    until("all handled", || processor.snapshot().completed == 100).await;
    assert_eq!((most.load(Ordering::SeqCst), processor.snapshot().peak), (3, 3));
}

#[tokio::test(start_paused = true)]
async fn a_failure_a_panic_and_an_undecodable_body_are_tried_again_in_place() {
    let script = Script::new(Limits::lanes());
    let log = Log::default();
    let seen = Arc::clone(&log);
    let handler = move |m: Received<String>| {
        seen.lock().push(format!("{}#{}", m.body, m.attempt()));
        async move {
            match (m.body.as_str(), m.attempt()) {
                ("fails", 1) => Err(Failure::retry("not yet")),
                ("panics", 1) => panic!("handler bug"),
                ("panics later", 1) => {
                    tokio::time::sleep(MS).await;
                    panic!("handler bug")
                }
                _ => Ok(()),
            }
        }
    };
    let processor = script.consumer().processor().start(handler).await.unwrap();
    let lane = script.lane();
    for (position, body) in [(0, "fails"), (1, "panics"), (2, "panics later"), (3, "last")] {
        script.deliver(lane, position, "s", body);
    }
    until("all handled", || processor.snapshot().completed == 4).await;
    let expected = ["fails#1", "fails#2", "panics#1", "panics#2", "panics later#1", "panics later#2", "last#1"];
    assert_eq!(*log.lock(), expected);
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_decoded_takes_the_path_of_exhausted_attempts() {
    let script = Script::new(Limits::lanes());
    let handler = |_: Received<crate::Json<u32>>| async { Ok(()) };
    let retry = Retry::default().at_most(5).then(Exhausted::DeadLetter);
    let processor = script.consumer().processor().retry(retry).start(handler).await.unwrap();
    let lane = script.lane();
    script.deliver(lane, 0, "s", "no number");
    script.deliver(lane, 1, "s", "17");
    until("handled", || processor.snapshot().completed == 1).await;
    script.said(|said| assert_eq!(said.dead, [(0, "handler")]));
}

#[tokio::test(start_paused = true)]
async fn a_lost_right_fires_the_token_and_drops_the_handler_after_the_grace_time() {
    struct Dropped(Log);
    impl Drop for Dropped {
        fn drop(&mut self) {
            self.0.lock().push("dropped".into());
        }
    }
    let script = Script::new(Limits::lanes());
    let log = Log::default();
    let seen = Arc::clone(&log);
    let handler = move |m: Received<String>| {
        let seen = Arc::clone(&seen);
        async move {
            let _dropped = Dropped(Arc::clone(&seen));
            m.lease().ended().await;
            seen.lock().push("told".into());
            pending::<()>().await;
            Ok(())
        }
    };
    let processor = script.consumer().grace(3 * SECOND).processor().start(handler).await.unwrap();
    let lane = script.lane();
    script.deliver(lane, 0, "s", "x");
    until("started", || processor.snapshot().running == 1).await;
    script.lose(lane);
    until("told", || !log.lock().is_empty()).await;
    tokio::time::sleep(2 * SECOND).await;
    assert_eq!(*log.lock(), ["told"]);
    assert_eq!(processor.snapshot().running, 1, "its gate is shut until it is gone");
    tokio::time::sleep(2 * SECOND).await;
    assert_eq!(*log.lock(), ["told", "dropped"]);
    assert_eq!(processor.snapshot().running, 0);
}

#[tokio::test(start_paused = true)]
async fn a_handler_that_runs_for_too_long_is_dropped_and_tried_again() {
    let script = Script::new(Limits::lanes());
    let handler = |m: Received<String>| async move {
        if m.attempt() == 1 {
            pending::<()>().await;
        }
        Ok(())
    };
    let processor =
        script.consumer().grace(SECOND).processor().handler_timeout(5 * SECOND).start(handler).await.unwrap();
    let lane = script.lane();
    script.deliver(lane, 0, "s", "x");
    until("handled", || processor.snapshot().completed == 1).await;
    let last = processor.drain().await.unwrap().last;
    assert_eq!((last.failed, last.retried, last.lost), (1, 1, 0));
}

#[tokio::test(start_paused = true)]
async fn renewals_go_on_while_a_handler_runs_and_without_answers_the_right_is_surrendered() {
    let script = Script::new(Limits::lanes());
    let handler = |m: Received<String>| async move {
        m.lease().ended().await;
        Ok(())
    };
    let processor = script.consumer().processor().start(handler).await.unwrap();
    let lane = script.lane();
    script.deliver(lane, 0, "s", "x");
    tokio::time::sleep(10 * LOCK).await;
    assert_eq!(processor.snapshot().running, 1);
    assert!(script.said(|said| said.renewals) >= 15);
    script.mute();
    until("surrendered", || script.said(|said| said.surrendered) == 1).await;
    until("ended", || processor.snapshot().running == 0).await;
    assert_eq!((processor.snapshot().lost, processor.snapshot().completed), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn a_stop_drains_and_is_returned() {
    let script = Script::new(Limits::lanes());
    let handler = |_: Received<String>| async { Err(Failure::stop("out of paper")) };
    let lane = script.lane();
    script.deliver(lane, 7, "s", "x");
    let error = script.consumer().processor().run_until(pending::<()>(), handler).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::HandlerStopped);
    assert!(error.to_string().contains("out of paper") && error.context("position") == Some("7"), "{error}");
    assert_eq!(script.said(|said| (said.released, said.settled_below)), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn a_pause_starts_nothing_and_keeps_the_right() {
    let script = Script::new(Limits::lanes());
    let handler = |_: Received<String>| async { Ok(()) };
    let processor = script.consumer().processor().start(handler).await.unwrap();
    processor.pause();
    let lane = script.lane();
    script.deliver(lane, 0, "s", "x");
    tokio::time::sleep(5 * LOCK).await;
    assert_eq!((processor.snapshot().completed, processor.snapshot().held), (0, 1));
    processor.resume();
    until("handled", || processor.snapshot().completed == 1).await;
}

#[tokio::test(start_paused = true)]
async fn a_drain_tells_a_hanging_handler_to_end_and_drops_it() {
    let script = Script::new(Limits::lanes());
    let handler = |_: Received<String>| async {
        pending::<()>().await;
        Ok(())
    };
    let builder = script.consumer().grace(SECOND).processor().drain_within(5 * SECOND);
    let processor = builder.start(handler).await.unwrap();
    let lane = script.lane();
    script.deliver(lane, 0, "s", "x");
    until("started", || processor.snapshot().running == 1).await;
    let report = processor.drain().await.unwrap();
    assert!(report.drained, "dropped in time");
    script.said(|said| assert_eq!((said.settled_below, said.released), (0, 1)));
}

#[tokio::test(start_paused = true)]
async fn dropping_a_processor_ends_its_handlers() {
    let script = Script::new(Limits::lanes());
    let alive = Arc::new(());
    let held = Arc::clone(&alive);
    let handler = move |_: Received<String>| {
        let held = Arc::clone(&held);
        async move {
            pending::<()>().await;
            drop(held);
            Ok(())
        }
    };
    let processor = script.consumer().processor().start(handler).await.unwrap();
    let lane = script.lane();
    script.deliver(lane, 0, "s", "x");
    until("started", || processor.snapshot().running == 1).await;
    drop(processor);
    until("everything is gone", || Arc::strong_count(&alive) == 1).await;
}

/// Real time and threads: a handler blocks the thread it is polled on.
#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn a_handler_that_blocks_its_thread_holds_up_nobody_else() {
    let script = Script::new(Limits::lanes());
    let (release, blocked) = std::sync::mpsc::channel::<()>();
    let blocked = Arc::new(std::sync::Mutex::new(blocked));
    let handler = move |m: Received<String>| {
        let blocked = Arc::clone(&blocked);
        async move {
            if m.body == "blocks" {
                let _ = blocked.lock().unwrap().recv_timeout(20 * SECOND);
            }
            Ok(())
        }
    };
    let processor = script.consumer().processor().start(handler).await.unwrap();
    let lane = script.lane();
    script.deliver(lane, 0, "stuck", "blocks");
    (1..=200).for_each(|i| script.deliver(lane, i, &format!("s{}", i % 10), "x"));
    until("the others are handled", || processor.snapshot().completed == 200).await;
    assert_eq!(processor.snapshot().running, 1);
    release.send(()).unwrap();
    until("the blocked one too", || processor.snapshot().completed == 201).await;
    script.deliver(lane, 201, "stuck", "x");
    until("and its session goes on", || processor.snapshot().completed == 202).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn blocking_handlers_run_on_threads_of_their_own() {
    let script = Script::new(Limits::lanes());
    let handler = |m: Received<String>| async move {
        assert_ne!(m.body, "panics", "told to");
        std::thread::sleep(5 * MS);
        Ok(())
    };
    let retry = Retry::fixed(MS).at_most(2).then(Exhausted::DeadLetter);
    let builder = script.consumer().processor().max_concurrent_sessions(8).retry(retry).blocking();
    let processor = builder.start(handler).await.unwrap();
    let lane = script.lane();
    (0..64).for_each(|i| script.deliver(lane, i, &format!("s{i}"), if i == 9 { "panics" } else { "x" }));
    until("all handled", || processor.snapshot().completed == 63 && processor.snapshot().dead_lettered == 1).await;
    assert!(processor.snapshot().peak > 2, "more than there are runtime threads");
}

#[tokio::test(start_paused = true)]
async fn a_session_broker_is_asked_for_sessions_and_gets_idle_ones_back() {
    let script = Script::new(Limits::sessions());
    let handler = |_: Received<String>| async { Ok(()) };
    let processor = script.consumer().idle_release(SECOND).processor().start(handler).await.unwrap();
    let session = script.grant(Place::Session(crate::SessionId::new("s").unwrap()));
    script.deliver(session, 0, "s", "x");
    until("handled", || processor.snapshot().completed == 1).await;
    assert_eq!(processor.snapshot().held, 1);
    tokio::time::sleep(2 * SECOND).await;
    assert_eq!((processor.snapshot().held, processor.snapshot().active_sessions), (0, 0));
    assert_eq!(script.said(|said| (said.released, said.settled_below)), (1, 1));
}

/// A worker was given up the moment before it came back from its poll: now it waits for work as its successor does.
#[tokio::test(start_paused = true)]
async fn what_wakes_a_worker_that_was_given_up_wakes_its_successor() {
    let script = Script::new(Limits::lanes());
    let log = Log::default();
    let (first, second) = (Arc::clone(&log), Arc::clone(&log));
    let handler = move |m: Received<String>| {
        first.lock().push(m.body.clone());
        async { Ok(()) }
    };
    let processor = script.consumer().processor().start(handler).await.unwrap();
    let lane = script.lane();
    script.deliver(lane, 0, "s", "1");
    until("the worker waits for more", || processor.snapshot().completed == 1).await;
    let driver = Arc::clone(processor.driver());
    let number = driver.shards[0].watch.supersede();
    let make = move |start: crate::engine::Start, _| {
        second.lock().push(String::from_utf8_lossy(start.message.content.body()).into_owned());
        async { Ok::<(), Failure>(()) }
    };
    let goes_on = super::super::driver::GoesOn::new(&driver);
    tokio::spawn(super::super::worker::run(driver, 0, number, Arc::new(make), goes_on));
    tokio::time::sleep(MS).await;
    script.deliver(lane, 1, "s", "2");
    let began = tokio::time::Instant::now();
    until("the successor goes on", || processor.snapshot().completed == 2).await;
    assert!(began.elapsed() < 100 * MS, "at once, not with the next renewal: {:?}", began.elapsed());
    assert_eq!(*log.lock(), ["1", "2"]);
}

/// What a panic carries may panic itself when it is dropped.
struct Bomb;

impl Drop for Bomb {
    fn drop(&mut self) {
        std::panic::panic_any(Self);
    }
}

#[tokio::test(start_paused = true)]
async fn a_panic_that_carries_another_is_a_failed_attempt() {
    let script = Script::new(Limits::lanes());
    let handler = |m: Received<String>| async move {
        match (m.body.as_str(), m.attempt()) {
            ("at once", 1) => std::panic::panic_any(Bomb),
            ("later", 1) => {
                tokio::time::sleep(MS).await;
                std::panic::panic_any(Bomb)
            }
            _ => Ok(()),
        }
    };
    let processor = script.consumer().processor().retry(Retry::fixed(MS)).start(handler).await.unwrap();
    let lane = script.lane();
    (0..20).for_each(|i| script.deliver(lane, i, &format!("s{i}"), ["at once", "later", "x"][i as usize % 3]));
    until("all handled", || processor.snapshot().completed == 20).await;
    assert_eq!(processor.snapshot().retried, 14);
    assert!(processor.drain().await.unwrap().drained);
}

#[tokio::test(start_paused = true)]
async fn a_wait_beyond_all_time_holds_up_one_session_only() {
    let script = Script::new(Limits::lanes());
    let handler = |m: Received<String>| async move { if m.body == "x" { Ok(()) } else { Err(Failure::retry("no")) } };
    let retry = Retry::fixed(std::time::Duration::MAX);
    let processor = script.consumer().processor().retry(retry).start(handler).await.unwrap();
    let lane = script.lane();
    (0..20).for_each(|i| script.deliver(lane, i, &format!("s{i}"), if i == 3 { "fails" } else { "x" }));
    until("the others are handled", || processor.snapshot().completed == 19).await;
    assert!(processor.is_ready());
}

#[test]
fn a_consumer_whose_runtime_is_dropped_says_so() {
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (first, second) = (runtime(), runtime());
    let processor = first.block_on(async {
        let script = Script::new(Limits::lanes());
        script.consumer().processor().start(|_: Received<String>| async { Ok(()) }).await.unwrap()
    });
    assert!(processor.is_ready());
    drop(first);
    let failure = second.block_on(async { tokio::time::timeout(SECOND, processor.failed()).await }).unwrap().unwrap();
    assert_eq!(failure.kind(), ErrorKind::Closed);
    assert!(failure.to_string().contains("runtime"), "{failure}");
    assert!(!processor.is_ready());
}
