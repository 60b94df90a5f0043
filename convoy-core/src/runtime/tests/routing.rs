//! A handler for each type of message.

use std::sync::Arc;

use super::script::Script;
use super::{Log, MS, SECOND, until};
use crate::backend::Limits;
use crate::consumer::{Handler, Json, Processor, Received, Router, RouterBuilder, Unknown, Versions};
use crate::{Content, ErrorKind, Exhausted, Message, MessageType, Retry};

#[derive(serde::Deserialize)]
struct Paid {
    cents: u64,
}

impl MessageType for Paid {
    const NAME: &str = "paid";
}

#[derive(serde::Serialize, serde::Deserialize)]
struct Placed {
    item: String,
    count: u32,
}

impl MessageType for Placed {
    const NAME: &str = "placed.2";
}

/// Writes what it is given, as text.
fn writes<T: 'static + Send>(log: &Log, tell: impl Fn(&T) -> String + Send + Sync + 'static) -> impl Handler<T> {
    let (log, tell) = (Arc::clone(log), Arc::new(tell));
    move |m: Received<T>| {
        let (log, tell) = (Arc::clone(&log), Arc::clone(&tell));
        async move {
            log.lock().push(format!("{}:{}#{}", m.session(), tell(&m.body), m.attempt()));
            Ok(())
        }
    }
}

/// A router that knows `paid` in JSON and `note` as text.
fn router(log: &Log, unknown: Unknown) -> RouterBuilder {
    Router::builder(unknown)
        .on(writes(log, |paid: &Json<Paid>| format!("paid {}", paid.cents)))
        .on_type("note", writes(log, |note: &String| format!("note {note}")))
}

/// Messages of one session: their types, empty for none, and their bodies.
fn deliver(script: &Script, messages: &[(&str, &str)]) {
    let lane = script.lane();
    for (position, (kind, body)) in (0..).zip(messages) {
        let message = Message::new("s", (*body).to_owned()).unwrap();
        let message = if kind.is_empty() { message } else { message.with_type(*kind) };
        script.deliver_content(lane, position, "s", message.into_parts().1);
    }
}

async fn start(script: &Script, handler: impl Handler<Arc<Content>>) -> Processor {
    let retry = Retry::fixed(MS).at_most(2).then(Exhausted::DeadLetter);
    script.consumer().processor().retry(retry).start(handler).await.unwrap()
}

#[tokio::test(start_paused = true)]
async fn each_type_goes_to_its_handler_in_the_order_of_the_session() {
    let (script, log) = (Script::new(Limits::lanes()), Log::default());
    let processor = start(&script, router(&log, Unknown::Retry).build().unwrap()).await;
    deliver(&script, &[("paid", r#"{"cents":5}"#), ("note", "well"), ("paid", r#"{"cents":7}"#)]);
    until("all handled", || processor.snapshot().completed == 3).await;
    assert_eq!(*log.lock(), ["s:paid 5#1", "s:note well#1", "s:paid 7#1"]);
}

#[tokio::test(start_paused = true)]
async fn an_unknown_type_waits_whatever_the_limits_say() {
    let (script, log) = (Script::new(Limits::lanes()), Log::default());
    let processor = start(&script, router(&log, Unknown::Retry).build().unwrap()).await;
    deliver(&script, &[("note", "before"), ("refunded", "{}"), ("note", "behind")]);
    until("it was tried often", || processor.snapshot().failed >= 50).await;
    assert_eq!(*log.lock(), ["s:note before#1"], "nothing overtakes it");
    let stuck = processor.snapshot().stuck.expect("it shows as stuck");
    assert!(stuck.failures >= 50, "{stuck:?}");
    script.said(|said| assert!(said.dead.is_empty(), "{:?}", said.dead));
    let report = processor.drain().await.unwrap();
    assert!(report.drained, "it is given back unsettled");
    script.said(|said| assert_eq!(said.settled_below, 1));
}

#[tokio::test(start_paused = true)]
async fn an_unknown_type_is_dead_lettered_or_skipped_when_that_is_said() {
    let messages = [("refunded", "{}"), ("", "no type"), ("note", "behind")];
    let (script, log) = (Script::new(Limits::lanes()), Log::default());
    let processor = start(&script, router(&log, Unknown::DeadLetter).build().unwrap()).await;
    deliver(&script, &messages);
    until("the last is handled", || processor.snapshot().completed == 1).await;
    script.said(|said| assert_eq!(said.dead, [(0, "unknown-type"), (1, "unknown-type")]));
    assert_eq!(*log.lock(), ["s:note behind#1"]);

    let (script, log) = (Script::new(Limits::lanes()), Log::default());
    let router = router(&log, Unknown::Skip).build().unwrap();
    let processor = start(&script, router.clone()).await;
    deliver(&script, &messages);
    until("all are handled", || processor.snapshot().completed == 3).await;
    script.said(|said| assert!(said.dead.is_empty()));
    assert_eq!((router.skipped(), &log.lock()[..]), (2, &["s:note behind#1".to_owned()][..]));
}

#[tokio::test(start_paused = true)]
async fn a_body_that_its_type_cannot_be_read_from_takes_the_path_of_exhausted_attempts() {
    for (retry, dead) in [
        (Retry::fixed(MS).at_most(5).then(Exhausted::DeadLetter), vec![(0, "handler")]),
        (Retry::fixed(SECOND), Vec::new()),
    ] {
        let (script, log) = (Script::new(Limits::lanes()), Log::default());
        let versions = Versions::named("paid.2").and(|paid: Json<Paid>| paid.cents.to_string());
        let router = router(&log, Unknown::Skip).build();
        assert!(router.is_ok());
        let router = Router::builder(Unknown::Skip).on_versions(versions, writes(&log, String::clone)).build().unwrap();
        let processor = script.consumer().processor().retry(retry).start(router).await.unwrap();
        deliver(&script, &[("paid", "no JSON"), ("paid", r#"{"cents":7}"#)]);
        until("it failed", || processor.snapshot().failed == 1).await;
        tokio::time::sleep(100 * MS).await;
        script.said(|said| assert_eq!(said.dead, dead));
        let waits = dead.is_empty();
        assert_eq!(log.lock().len(), usize::from(!waits), "with unlimited attempts it is tried again");
    }
}

#[tokio::test(start_paused = true)]
async fn versions_of_a_type_go_to_one_handler() {
    let (script, log) = (Script::new(Limits::lanes()), Log::default());
    let versions = Versions::new()
        .and_named("placed", |old: String| Json(Placed { item: old, count: 1 }))
        .and_named("placed.none", |_: bytes::Bytes| Json(Placed { item: "nothing".into(), count: 0 }));
    let placed = writes(&log, |placed: &Json<Placed>| format!("{} {}", placed.count, placed.item));
    let router = router(&log, Unknown::Retry).on_versions(versions, placed).build().unwrap();
    assert_eq!(router.types().collect::<Vec<_>>(), ["note", "paid", "placed", "placed.2", "placed.none"]);
    let processor = start(&script, router).await;
    let new = Message::typed("s", &Placed { item: "tea".into(), count: 2 }).unwrap();
    assert_eq!((new.content().type_name(), new.content().content_type()), (Some("placed.2"), Some("application/json")));
    let new = String::from_utf8(new.content().body().to_vec()).unwrap();
    deliver(&script, &[("placed", "tea"), ("placed.2", &new), ("placed.none", ""), ("placed", "milk")]);
    until("all handled", || processor.snapshot().completed == 4).await;
    assert_eq!(*log.lock(), ["s:1 tea#1", "s:2 tea#1", "s:0 nothing#1", "s:1 milk#1"]);
}

#[test]
fn a_router_that_makes_no_sense_is_refused() {
    let log = Log::default();
    let refused = |builder: RouterBuilder| {
        let error = builder.build().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidOption);
        error.to_string()
    };
    let text = || writes(&log, String::clone);
    assert!(refused(Router::builder(Unknown::Retry)).contains("no handler"));
    assert!(refused(router(&log, Unknown::Retry).on_type("paid", text())).contains("`paid`"));
    assert!(refused(Router::builder(Unknown::Skip).on_type("", text())).contains("empty name"));
    let twice = Versions::named("a").and_named("a", |it: String| it);
    assert!(refused(Router::builder(Unknown::Skip).on_versions(twice, text())).contains("`a`"));
}
