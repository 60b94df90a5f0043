//! Everything that takes part in a run: the broker, and for each worker a link that can be spoilt and a place in which its lives follow each other.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use convoy_conformance::faults::proxy::{Injected, Proxy};
use convoy_conformance::history::{Fault, Recorder, Side, What, Writer, now};
use tokio::sync::{Mutex, MutexGuard};

use crate::args::Args;
use crate::backend::Backend;
use crate::broker::Own;
use crate::plan::{CONSUMERS, PRODUCERS, slot_name};
use crate::process::{Life, once};

/// The channel.
const CHANNEL: &str = "orders";
/// The number of the one group.
const GROUP: u32 = 1;

/// A run.
pub(crate) struct Stage {
    pub(crate) args: Args,
    pub(crate) folder: PathBuf,
    /// What this process records: faults, kills.
    pub(crate) history: Arc<Writer>,
    pub(crate) broker: Mutex<Own>,
    pub(crate) slots: Vec<Slot>,
    /// The number of the next process.
    next: AtomicU32,
    files: std::sync::Mutex<Vec<PathBuf>>,
    /// In which place each process is or was.
    places: std::sync::Mutex<HashMap<u32, usize>>,
    /// What should not have happened, for people.
    troubles: std::sync::Mutex<Vec<String>>,
    /// Drains that a fault beside them kept from being finished.
    pub(crate) undrained: AtomicU64,
    /// How fast all producers send together.
    rate: u64,
}

/// The place of one worker.
pub(crate) struct Slot {
    pub(crate) at: usize,
    /// A link to each node.
    pub(crate) proxies: Vec<Proxy>,
    /// One fault at a time on a link: healing it heals all of it.
    pub(crate) link: Mutex<()>,
    pub(crate) life: Mutex<Option<Life>>,
    current: Arc<AtomicU32>,
    /// What earlier lives did.
    before: Totals,
    /// What all lives did so far.
    pub(crate) totals: Totals,
    /// A producer that has sent all.
    pub(crate) finished: AtomicBool,
}

/// What a worker says it did.
#[derive(Debug, Default)]
pub(crate) struct Totals {
    pub(crate) offered: AtomicU64,
    pub(crate) ok: AtomicU64,
    pub(crate) unknown: AtomicU64,
    pub(crate) completed: AtomicU64,
}

impl Totals {
    fn each(&self) -> [(&'static str, &AtomicU64); 4] {
        [("offered", &self.offered), ("ok", &self.ok), ("unknown", &self.unknown), ("completed", &self.completed)]
    }
}

impl Stage {
    /// Makes links for each worker, starts the broker and makes the channel; no worker yet.
    pub(crate) async fn set(args: &Args, rate: u64) -> Result<Self, String> {
        let folder = args.out.clone();
        let told = |e: std::io::Error| format!("{}: {e}", folder.display());
        if folder.exists() {
            std::fs::remove_dir_all(&folder).map_err(told)?;
        }
        std::fs::create_dir_all(&folder).map_err(told)?;
        let own = folder.join("faults.history");
        let history = Arc::new(Writer::create(&own, 0).map_err(told)?);
        history.record(now(), GROUP, What::GroupStart);
        let mut broker = Own::of(args);
        let mut slots: Vec<Slot> = Vec::new();
        for at in 0..CONSUMERS + PRODUCERS {
            let current = Arc::new(AtomicU32::new(0));
            let mut proxies = Vec::new();
            for (node, address) in broker.behind(at).into_iter().enumerate() {
                let (recorder, target) = (Arc::clone(&history), Arc::clone(&current));
                let (seed, backend) = (args.seed ^ at as u64 ^ (node as u64) << 8, args.backend);
                let proxy = Proxy::start_telling(address, seed, move |fault| {
                    // Without a target it is nobody's link, and nobody's right.
                    let target = target.load(Ordering::Acquire);
                    if target > 0 && !is_door(fault) {
                        recorder.record(now(), 0, seen(*fault, backend).what(target));
                    }
                });
                proxies.push(proxy.await.map_err(|e| format!("proxy: {e}"))?);
            }
            slots.push(Slot {
                at,
                proxies,
                link: Mutex::new(()),
                life: Mutex::new(None),
                current,
                before: Totals::default(),
                totals: Totals::default(),
                finished: AtomicBool::new(false),
            });
        }
        let links = (0..args.nodes).flat_map(|node| slots.iter().map(move |slot| slot.proxies[node].address().port()));
        broker.start(links.collect()).await?;
        let stage = Self {
            args: args.clone(),
            history,
            slots,
            next: AtomicU32::new(1),
            files: std::sync::Mutex::new(vec![own]),
            places: std::sync::Mutex::default(),
            troubles: std::sync::Mutex::default(),
            undrained: AtomicU64::new(0),
            rate,
            folder,
            broker: Mutex::new(broker),
        };
        let url = args.backend.url(&stage.broker.lock().await.addresses(), args);
        let provision = ["provision", "--url", &url, "--channel", CHANNEL].map(str::to_owned);
        once(&provision, Duration::from_secs(120)).await?;
        Ok(stage)
    }

    /// Starts the next life of a worker; a producer that has nothing left to send has none.
    pub(crate) fn start(&self, slot: &Slot, life: &mut MutexGuard<'_, Option<Life>>) -> Result<(), String> {
        let quota = self.args.messages / PRODUCERS as u64;
        let left = quota.saturating_sub(slot.before.offered.load(Ordering::Relaxed));
        if slot.at >= CONSUMERS && (left == 0 || slot.finished.load(Ordering::Relaxed)) {
            // One that was killed when it had handed over all is done, too.
            slot.finished.store(true, Ordering::Relaxed);
            return Ok(());
        }
        let process = self.next.fetch_add(1, Ordering::Relaxed);
        let url = self.args.backend.url(&slot.proxies.iter().map(Proxy::address).collect::<Vec<_>>(), &self.args);
        let mut args = [if slot.at < CONSUMERS { "consume" } else { "produce" }, "--url", &url, "--channel", CHANNEL]
            .map(str::to_owned)
            .to_vec();
        let mut say = |name: &str, value: String| args.extend([name.to_owned(), value]);
        if slot.at >= CONSUMERS {
            say("--sessions", self.args.sessions.to_string());
            say("--messages", left.to_string());
            say("--rate", (self.rate / PRODUCERS as u64).max(1).to_string());
            say("--seed", (self.args.seed ^ u64::from(process) << 32).to_string());
        } else if let Some(lie) = &self.args.lie {
            say("--lie", lie.clone());
        }
        let file = self.folder.join(format!("{process:04}-{}.history", slot_name(slot.at).replace(' ', "-")));
        slot.current.store(process, Ordering::Release);
        **life = Some(Life::start(process, &args, &file)?);
        lock(&self.files).push(file);
        lock(&self.places).insert(process, slot.at);
        Ok(())
    }

    /// A life is over: what it did is added up.
    pub(crate) fn over(&self, slot: &Slot, life: &mut MutexGuard<'_, Option<Life>>) {
        slot.look(life.as_ref());
        **life = None;
        for ((_, before), (_, now)) in slot.before.each().into_iter().zip(slot.totals.each()) {
            before.store(now.load(Ordering::Relaxed), Ordering::Relaxed);
        }
    }

    /// Whoever ended by itself is told of and started again. A producer that is done is not.
    pub(crate) fn look_after(&self) {
        for slot in &self.slots {
            let Ok(mut life) = slot.life.try_lock() else { continue };
            slot.look(life.as_ref());
            let Some(one) = life.as_mut() else { continue };
            let Some(status) = one.ended(&self.history) else { continue };
            let quota = self.args.messages / PRODUCERS as u64;
            let done = slot.at >= CONSUMERS && status.success();
            if done && slot.totals.offered.load(Ordering::Relaxed) >= quota {
                slot.finished.store(true, Ordering::Relaxed);
                self.over(slot, &mut life);
                continue;
            }
            self.trouble(format!("{} ended by itself, {status}: {}", slot_name(slot.at), one.last_words()));
            self.over(slot, &mut life);
            if let Err(why) = self.start(slot, &mut life) {
                self.trouble(why);
            }
        }
    }

    /// Something that a run that holds does not have.
    pub(crate) fn trouble(&self, what: String) {
        eprintln!("\r\x1b[Ktrouble: {what}");
        lock(&self.troubles).push(what);
    }

    pub(crate) fn troubles(&self) -> Vec<String> {
        lock(&self.troubles).clone()
    }

    /// The histories of all lives, and that of the faults. A life that was ended before it opened its own, which is the first thing that it does, did nothing.
    pub(crate) fn files(&self) -> Vec<PathBuf> {
        lock(&self.files).iter().filter(|file| file.exists()).cloned().collect()
    }

    pub(crate) fn places(&self) -> HashMap<u32, usize> {
        lock(&self.places).clone()
    }

    pub(crate) fn sum(&self, of: impl Fn(&Totals) -> &AtomicU64) -> u64 {
        self.slots.iter().map(|slot| of(&slot.totals).load(Ordering::Relaxed)).sum()
    }

    pub(crate) fn all_sent(&self) -> bool {
        self.slots[CONSUMERS..].iter().all(|slot| slot.finished.load(Ordering::Relaxed))
    }
}

impl Slot {
    /// The process that is at work there now; 0 before the first.
    pub(crate) fn process(&self) -> u32 {
        self.current.load(Ordering::Acquire)
    }

    /// Takes over what its worker said last.
    fn look(&self, life: Option<&Life>) {
        let Some(life) = life else { return };
        for ((key, before), (_, total)) in self.before.each().into_iter().zip(self.totals.each()) {
            total.store(before.load(Ordering::Relaxed) + life.told().number(key), Ordering::Relaxed);
        }
    }
}

/// Whether it is about new connections as a whole: refused while a node is down, which is told as a fault of the node's.
fn is_door(fault: &Injected) -> bool {
    fault.fault == Fault::Other && fault.connection.is_none()
}

/// As the broker sees it. Of a black hole it sees nothing: a right goes elsewhere when its holder has been silent for a lease, and its holder has to have ended it before.
/// Were it told as seen, an overlap in the meantime would count as explained. What does end a right on RabbitMQ, the reset that follows, is told by itself; on Kafka that ends none either.
fn seen(mut fault: Injected, backend: Backend) -> Injected {
    if fault.fault == Fault::Blackhole || !backend.ends_with_connection() {
        fault.side = Side::Client;
    }
    fault
}

/// The lock of a mutex that nobody panics under.
fn lock<T>(of: &std::sync::Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    of.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}
