//! A convoy gains a type while it runs: the producer begins to send what the consumers do not know, and the consumers are replaced one by one. Orders that meet the
//! new type wait, others go on, and nothing is lost or overtaken.
//!
//! ```text
//! cargo run --release --example new_type
//! cargo run --release --example new_type -- --url "memory://?lanes=8"
//! cargo run --release --example new_type -- --unknown skip          # loses what the old consumers do not know, and says so
//! cargo run --release --example new_type --features rabbitmq -- --url amqp://guest:guest@127.0.0.1:5672
//! ```
//!
//! Ends with a `RESULT` line. The exit status is 0 only when each order saw each of its messages once, in order.

#[path = "orders/history.rs"]
mod history;
mod shared;

use std::collections::BTreeMap;
use std::error::Error;
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use clap::{Parser, ValueEnum};
use convoy::{
    Broker, ChannelSpec, Failure, Json, Message, MessageType, Payload, Processor, Producer, ProducerOptions, Received,
    Retry, Router, Topology, Unknown, Versions, with_state,
};
use convoy_conformance::checker::{Checker, Options};
use convoy_conformance::watch::{WatchedConsumer, WatchedProducer};
use history::History;
use serde::{Deserialize, Serialize, de::DeserializeOwned};

const CHANNEL: &str = "new-type";
const GROUP: &str = "billing";
/// The steps of an order: the first are of types that everybody knows; a part of the rest is sent between two replacements.
const STEPS: u32 = 12;
const KNOWN: u32 = 4;
const LATER: u32 = 8;

/// As it was at first.
#[derive(Serialize, Deserialize)]
struct PlacedV1 {
    step: u32,
}

/// The second version of the type.
#[derive(Serialize, Deserialize)]
struct Placed {
    step: u32,
    count: u32,
}

#[derive(Serialize, Deserialize)]
struct Paid {
    step: u32,
}

/// The type that is added.
#[derive(Serialize, Deserialize)]
struct Refunded {
    step: u32,
}

impl MessageType for PlacedV1 {
    const NAME: &str = "order.placed";
}

impl MessageType for Placed {
    const NAME: &str = "order.placed.2";
}

impl MessageType for Paid {
    const NAME: &str = "order.paid";
}

impl MessageType for Refunded {
    const NAME: &str = "order.refunded";
}

/// What was handled: the steps of each order, as they came.
#[derive(Clone, Default)]
struct Book(Arc<Mutex<BTreeMap<String, Vec<u32>>>>);

impl Book {
    fn write<T>(&self, of: &Received<T>, step: u32) {
        let mut book = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        book.entry(of.session().to_string()).or_default().push(step);
    }

    fn of(&self, order: &str) -> Vec<u32> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(order).cloned().unwrap_or_default()
    }
}

/// A handler of a type that has a step.
fn books<T: DeserializeOwned + Send + 'static>(book: &Book, step: fn(&T) -> u32) -> impl convoy::Handler<Json<T>>
where
    Json<T>: Payload,
{
    with_state(book.clone(), move |book: Book, message: Received<Json<T>>| async move {
        book.write(&message, step(&message.body));
        Ok::<(), Failure>(())
    })
}

/// What the old program knows.
fn old(book: &Book, unknown: Unknown) -> convoy::Result<Router> {
    Router::builder(unknown)
        .on(books(book, |placed: &PlacedV1| placed.step))
        .on(books(book, |paid: &Paid| paid.step))
        .build()
}

/// The new program knows a type more, and reads the old version of another as the new one.
fn new(book: &Book, unknown: Unknown) -> convoy::Result<Router> {
    let placed = Versions::new().and(|old: Json<PlacedV1>| Json(Placed { step: old.step, count: 1 }));
    Router::builder(unknown)
        .on_versions(placed, books(book, |placed: &Placed| placed.step))
        .on(books(book, |paid: &Paid| paid.step))
        .on(books(book, |refunded: &Refunded| refunded.step))
        .build()
}

fn message(order: &str, step: u32) -> convoy::Result<Message> {
    match step % 4 {
        // Until its programs are replaced, a fleet of producers sends both versions.
        0 if step < KNOWN || step == LATER => Message::typed(order, &PlacedV1 { step }),
        0 => Message::typed(order, &Placed { step, count: step }),
        2 if step >= KNOWN => Message::typed(order, &Refunded { step }),
        _ => Message::typed(order, &Paid { step }),
    }
}

#[derive(Parser, Debug)]
struct Args {
    /// The broker
    #[arg(long, default_value = "memory://new-type")]
    url: String,
    /// How many orders
    #[arg(long, default_value_t = 40, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    orders: u32,
    /// What consumers do with a type that they do not know
    #[arg(long, value_enum, default_value_t = Unknowns::Retry)]
    unknown: Unknowns,
}

#[derive(ValueEnum, Clone, Copy, Debug)]
enum Unknowns {
    Retry,
    DeadLetter,
    Skip,
}

impl From<Unknowns> for Unknown {
    fn from(of: Unknowns) -> Self {
        match of {
            Unknowns::Retry => Self::Retry,
            Unknowns::DeadLetter => Self::DeadLetter,
            Unknowns::Skip => Self::Skip,
        }
    }
}

/// One run: what all its parts share.
struct Run {
    broker: Broker,
    history: Arc<History>,
    book: Book,
    orders: Vec<String>,
    consumers: u32,
}

impl Run {
    async fn send(&self, producer: &Producer, steps: std::ops::Range<u32>) -> Result<(), Box<dyn Error>> {
        for step in steps {
            let messages: Result<Vec<_>, _> = self.orders.iter().map(|order| message(order, step)).collect();
            producer.send_all(messages?).await?;
        }
        Ok(())
    }

    async fn start(&mut self, router: Router) -> convoy::Result<Processor> {
        self.consumers += 1;
        let watched = WatchedConsumer::new(Arc::clone(&self.history), 1, self.consumers);
        let retry = Retry::exponential(Duration::from_millis(20)..Duration::from_secs(1));
        self.broker.consumer(CHANNEL).group(GROUP).observer(watched).processor().retry(retry).start(router).await
    }

    fn handled(&self) -> usize {
        self.orders.iter().map(|order| self.book.of(order).len()).sum()
    }

    /// Waits until so much is handled, or nothing moved for a while.
    async fn until_handled(&self, most: usize, quiet: Duration) -> usize {
        shared::until(most, quiet, || self.handled()).await
    }

    /// How many orders stand right before the first step that only the new program knows.
    fn waiting(&self) -> usize {
        let first = (KNOWN..STEPS).find(|step| matches!(step % 4, 0 | 2)).unwrap_or(STEPS) as usize;
        self.orders.iter().filter(|order| self.book.of(order).len() == first).count()
    }
}

#[tokio::main]
async fn main() -> ExitCode {
    shared::exit("new_type", run(&Args::parse()).await)
}

async fn run(args: &Args) -> Result<bool, Box<dyn Error>> {
    let broker = convoy::connect(&args.url).await?;
    broker.provision(&Topology::new().channel(ChannelSpec::new(CHANNEL).group(GROUP))).await?;
    // Orders of its own, since a broker that outlives programs may hold those of an earlier run.
    let run = fastrand::u32(..);
    let orders = (0..args.orders).map(|order| format!("order-{run:08x}-{order}")).collect();
    let mut run = Run { broker, history: Arc::new(History::new()), book: Book::default(), orders, consumers: 0 };
    let watch = Arc::new(WatchedProducer::new(Arc::clone(&run.history)));
    let producer = run.broker.producer_with(CHANNEL, ProducerOptions::default().watch(watch)).await?;
    let unknown = args.unknown.into();
    let (each, total) = (run.orders.len(), run.orders.len() * STEPS as usize);

    let mut routers = vec![old(&run.book, unknown)?, old(&run.book, unknown)?];
    let mut running = Vec::new();
    for router in &routers {
        running.push(run.start(router.clone()).await?);
    }
    println!("two old consumers know {}", routers[0].types().collect::<Vec<_>>().join(", "));
    run.send(&producer, 0..KNOWN).await?;
    let known = each * KNOWN as usize;
    println!(
        "  {} of {known} messages of known types are handled",
        run.until_handled(known, Duration::from_secs(30)).await
    );

    run.send(&producer, KNOWN..LATER).await?;
    run.until_handled(total, Duration::from_millis(500)).await;
    let waited = run.waiting();
    println!("the producer sends order.refunded and order.placed.2 as well: {waited} of {each} orders wait");

    let mut dead = 0;
    for (number, old) in running.drain(..).enumerate().collect::<Vec<_>>() {
        routers.push(new(&run.book, unknown)?);
        running.push(run.start(routers[routers.len() - 1].clone()).await?);
        let last = old.drain().await?.last;
        dead += last.dead_lettered;
        println!("consumer {} is replaced: {} of {total} handled", number + 1, run.handled());
        if number == 0 {
            run.send(&producer, LATER..STEPS).await?;
        }
    }
    // What was skipped will not come. Otherwise lanes may still be on their way, which a broker takes its time for.
    let quiet = Duration::from_secs(if matches!(unknown, Unknown::Skip) { 3 } else { 15 });
    let handled = run.until_handled(total, quiet).await;
    println!(
        "two new consumers know {}: {handled} of {total} handled",
        routers[3].types().collect::<Vec<_>>().join(", ")
    );
    for new in running {
        dead += new.drain().await?.last.dead_lettered;
    }
    producer.close(Duration::from_secs(30)).await?;
    run.broker.close(Duration::from_secs(10)).await?;
    Ok(tell(args, &run, &routers, waited, dead))
}

/// Says what it came to; whether each order saw each of its messages once, in order.
fn tell(args: &Args, run: &Run, routers: &[Router], waited: usize, dead: u64) -> bool {
    let (mut lost, mut repeated, mut out_of_order) = (0, 0, 0);
    for order in &run.orders {
        let steps = run.book.of(order);
        out_of_order += steps.windows(2).filter(|pair| pair[0] > pair[1]).count();
        for step in 0..STEPS {
            let times = steps.iter().filter(|handled| **handled == step).count();
            lost += usize::from(times == 0);
            repeated += times.saturating_sub(1);
        }
    }
    let mut rules = if args.url.starts_with("amqp") { Options::partial() } else { Options::total() };
    rules.keep = 3;
    let mut checker = Checker::new(rules);
    run.history.take().iter().for_each(|event| checker.push(event));
    let verdict = checker.finish();
    for finding in verdict.findings() {
        println!("DOES NOT HOLD: {finding}");
    }
    let skipped: u64 = routers.iter().map(Router::skipped).sum();
    let held = (lost, repeated, out_of_order) == (0, 0, 0) && verdict.is_ok() && verdict.is_live();
    println!(
        "RESULT example=new_type orders={} messages={} waited={waited} lost={lost} out_of_order={out_of_order} \
         repeated={repeated} skipped={skipped} dead_letters={dead} violations={} held={held}",
        run.orders.len(),
        run.orders.len() * STEPS as usize,
        verdict.fatal_total(),
    );
    held
}
