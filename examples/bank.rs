//! Accounts that come out right to the last coin: handlers fail before and after they wrote, the consumer is replaced without a word in the middle, and each balance is that of its debits and
//! credits in order. A debit that is not covered is turned down, so another order, or an entry that counts twice, makes another balance.
//!
//! ```text
//! cargo run --release --example bank
//! cargo run --release --example bank -- --url "memory://?lanes=8"
//! cargo run --release --example bank -- --no-fence          # what is repeated counts twice, and it says so
//! cargo run --release --example bank --features rabbitmq -- --url amqp://guest:guest@127.0.0.1:5672
//! ```
//!
//! Handlers run at least once. That each entry counts once is up to the sink: it keeps the last fence that it took of each account, and takes only a greater one.
//! Ends with a `RESULT` line. The exit status is 0 only when every balance is right, and there was something to get wrong.

#[path = "shared/bar.rs"]
mod bar;
mod shared;

use std::cmp::Ordering;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::error::Error;
use std::process::ExitCode;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bar::bar;
use clap::Parser;
use convoy::{
    Broker, ChannelSpec, Failure, Fence, Json, Message, MessageId, Processor, ProducerId, Received, Retry, Topology,
    with_state,
};
use serde::{Deserialize, Serialize};

const CHANNEL: &str = "bank";
const GROUP: &str = "ledger";
/// What is looked for in the middle: so much of all is handled when the consumer is replaced.
const MIDDLE: usize = 3;

/// What becomes of an account.
#[derive(Clone, Copy, Serialize, Deserialize)]
enum Entry {
    Credit(u64),
    Debit(u64),
}

#[derive(Clone, Copy, Default, PartialEq, Eq)]
struct Account {
    balance: u64,
    entries: u64,
    /// Debits that were not covered.
    turned_down: u64,
}

impl Account {
    fn book(&mut self, entry: Entry) {
        self.entries += 1;
        match entry {
            Entry::Credit(amount) => self.balance += amount,
            Entry::Debit(amount) if amount <= self.balance => self.balance -= amount,
            Entry::Debit(_) => self.turned_down += 1,
        }
    }
}

/// The sink, as a database would be: an account and the fence of its last entry are written as one.
#[derive(Default)]
struct Ledger {
    accounts: BTreeMap<String, Account>,
    /// The last fence of each account, a row for each producer where the broker has no positions.
    fences: HashMap<(String, Option<ProducerId>), Fence>,
    /// Writes that the fence kept from counting again.
    kept_out: u64,
}

impl Ledger {
    fn write(&mut self, fence: Fence, entry: Entry, fenced: bool) {
        let account = fence.session().to_string();
        let last = self.fences.get(&(account.clone(), fence.row()));
        if fenced && last.is_some_and(|last| fence.partial_cmp(last) != Some(Ordering::Greater)) {
            self.kept_out += 1;
            return;
        }
        self.accounts.entry(account.clone()).or_default().book(entry);
        self.fences.insert((account, fence.row()), fence);
    }
}

/// What handlers share.
struct Bank {
    /// The accounts of this run begin so: a broker that outlives programs may hold those of an earlier one.
    mine: String,
    seed: u64,
    fenced: bool,
    ledger: Mutex<Ledger>,
    done: Mutex<HashSet<MessageId>>,
}

impl Bank {
    fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn done(&self) -> MutexGuard<'_, HashSet<MessageId>> {
        self.done.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From 0 to 99, the same in every run for a message and its attempt.
    fn draw(&self, of: &Received<Json<Entry>>) -> u32 {
        let number = of.content().stamp().map_or(0, |stamp| stamp.number);
        let draw = self.seed ^ number.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ (u64::from(of.attempt()) << 48);
        fastrand::Rng::with_seed(draw).u32(..100)
    }
}

async fn book(bank: Arc<Bank>, entry: Received<Json<Entry>>) -> Result<(), Failure> {
    if !entry.session().to_string().starts_with(&bank.mine) {
        return Ok(());
    }
    let draw = bank.draw(&entry);
    tokio::time::sleep(Duration::from_millis(1)).await;
    if draw < 10 {
        return Err(Failure::retry("the ledger cannot be reached"));
    }
    bank.ledger().write(entry.fence(), *entry.body, bank.fenced);
    if draw >= 90 {
        return Err(Failure::retry("the ledger has it, and its answer is lost"));
    }
    bank.done().insert(entry.id());
    Ok(())
}

#[derive(Parser, Debug)]
struct Args {
    /// The broker
    #[arg(long, default_value = "memory://bank")]
    url: String,
    /// How many accounts
    #[arg(long, default_value_t = 12, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    accounts: u32,
    /// How many debits and credits each has
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    entries: u32,
    /// What is drawn at random follows from this number
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// The sink takes whatever comes
    #[arg(long)]
    no_fence: bool,
}

#[tokio::main]
async fn main() -> ExitCode {
    shared::exit("bank", run(&Args::parse()).await)
}

async fn start(broker: &Broker, bank: &Arc<Bank>) -> convoy::Result<Processor> {
    let retry = Retry::exponential(Duration::from_millis(2)..Duration::from_millis(50));
    broker.consumer(CHANNEL).group(GROUP).processor().retry(retry).start(with_state(Arc::clone(bank), book)).await
}

async fn run(args: &Args) -> Result<bool, Box<dyn Error>> {
    let broker = convoy::connect(&args.url).await?;
    broker.provision(&Topology::new().channel(ChannelSpec::new(CHANNEL).group(GROUP))).await?;
    let mine = format!("account-{:08x}-", fastrand::u32(..));
    let bank = Arc::new(Bank {
        mine: mine.clone(),
        seed: args.seed,
        fenced: !args.no_fence,
        ledger: Mutex::default(),
        done: Mutex::default(),
    });

    // What each account comes to in order is known when it is sent.
    let mut expected: BTreeMap<String, Account> = BTreeMap::new();
    let mut rng = fastrand::Rng::with_seed(args.seed);
    let producer = broker.producer(CHANNEL).await?;
    for _ in 0..args.entries {
        let mut round = Vec::new();
        for account in 0..args.accounts {
            let (account, amount) = (format!("{mine}{account:03}"), rng.u64(1..=100));
            let entry = if rng.bool() { Entry::Credit(amount) } else { Entry::Debit(amount) };
            expected.entry(account.clone()).or_default().book(entry);
            round.push(Message::json(account, &entry)?);
        }
        producer.send_all(round).await?;
    }
    let total = (args.accounts * args.entries) as usize;
    println!(
        "{total} debits and credits of {} accounts; of 100 attempts 10 fail before they wrote, 10 after",
        args.accounts
    );

    let done = || bank.done().len();
    let first = start(&broker, &bank).await?;
    let before = shared::until(total / MIDDLE, Duration::from_secs(30), done).await;
    let second = start(&broker, &bank).await?;
    let mut retries = first.snapshot().retried;
    // It ends as a program does that is killed: what it has in hand comes to the other one.
    drop(first);
    println!("the first consumer is gone after {before} of them, with what it had in hand; the second goes on");
    let handled = shared::until(total, Duration::from_secs(60), done).await;
    let last = second.drain().await?.last;
    retries += last.retried;
    producer.close(Duration::from_secs(30)).await?;
    broker.close(Duration::from_secs(10)).await?;

    let ledger = bank.ledger();
    let wrong = picture(&expected, &ledger);
    let tried = before < total && last.completed > 0 && retries > 0;
    let held = wrong == 0 && handled == total && tried && ledger.kept_out > 0;
    println!(
        "RESULT example=bank accounts={} entries={total} handled={handled} wrong={wrong} retries={retries} first={before} \
         second={} kept_out={} fence={} held={held}",
        args.accounts, last.completed, ledger.kept_out, !args.no_fence,
    );
    Ok(held)
}

/// Draws each account; how many balances are not what they are in order.
fn picture(expected: &BTreeMap<String, Account>, ledger: &Ledger) -> usize {
    let got = |name: &String| ledger.accounts.get(name).copied().unwrap_or_default();
    let most = expected.iter().map(|(name, account)| account.balance.max(got(name).balance)).max().unwrap_or(0);
    let mut wrong = 0;
    for (name, account) in expected {
        let found = got(name);
        let says = if found == *account {
            format!("as in order, {} debits turned down", found.turned_down)
        } else {
            wrong += 1;
            format!("WRONG: {} in order, and {} entries count, not {}", account.balance, found.entries, account.entries)
        };
        let short = name.rsplit('-').next().unwrap_or_default();
        println!("account {short}  {} {:>6}  {says}", bar(found.balance as f64, most as f64, 30), found.balance);
    }
    if ledger.kept_out > 0 {
        println!("{} writes came again, and the fence kept them out", ledger.kept_out);
    }
    wrong
}
