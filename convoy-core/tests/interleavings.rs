//! What is concurrent in the driver, under a scheduler that tries interleavings: the same source files, on shuttle's primitives.

#![allow(dead_code, unreachable_pub, missing_docs)]

use std::collections::VecDeque;
use std::sync::Arc;

use shuttle::sync::{Condvar, Mutex};
use shuttle::thread;

#[path = "../src/lease_cell.rs"]
mod lease_cell;
#[path = "../src/runtime/permits.rs"]
mod permits;
#[path = "../src/time.rs"]
mod time;
#[path = "../src/runtime/watch.rs"]
mod watch;

/// What `convoy_core::sync` is in the library.
mod sync {
    pub use shuttle::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
}

use permits::Permits;
use time::Moment;
use watch::Watch;

const ROUNDS: usize = 20_000;

/// A wake-up that is kept until somebody waits for it, as tokio's `Notify` keeps one.
#[derive(Default)]
struct Wake {
    told: Mutex<bool>,
    changed: Condvar,
}

impl Wake {
    fn tell(&self) {
        *self.told.lock().unwrap() = true;
        self.changed.notify_one();
    }

    fn wait(&self) {
        let mut told = self.told.lock().unwrap();
        while !std::mem::take(&mut *told) {
            told = self.changed.wait(told).unwrap();
        }
    }
}

/// A shard's watch, the work that waits in it, and the timer task's wake-up.
#[derive(Default)]
struct Watched {
    watch: Watch,
    ready: Mutex<u32>,
    timer: Wake,
}

fn explore(what: impl Fn() + Send + Sync + 'static) {
    shuttle::check_random(what, ROUNDS);
}

/// Two shards, fewer places than sessions: whoever finds no place is woken when one is given back, whichever shard gives it.
#[test]
fn nobody_sleeps_while_a_place_is_free_and_work_waits() {
    explore(|| {
        let permits = Arc::new(Permits::new(1));
        let shard = |work: &[u32]| (Mutex::new(VecDeque::from(work.to_vec())), Wake::default());
        let shards = Arc::new([shard(&[1, 2]), shard(&[3])]);
        let workers = [0, 1].map(|index| {
            let (permits, shards) = (Arc::clone(&permits), Arc::clone(&shards));
            thread::spawn(move || {
                let (queue, wake) = &shards[index];
                loop {
                    if permits.try_acquire() {
                        let item = queue.lock().unwrap().pop_front();
                        if permits.release() {
                            shards.iter().for_each(|(_, wake)| wake.tell());
                        }
                        if item.is_some() {
                            continue;
                        }
                    }
                    if queue.lock().unwrap().is_empty() {
                        return;
                    }
                    // Work waits, and no place was free: a lost wake-up is a deadlock here, which the scheduler reports.
                    wake.wait();
                }
            })
        });
        workers.into_iter().for_each(|w| w.join().unwrap());
        assert_eq!(permits.peak(), 1);
    });
}

#[test]
fn never_more_places_than_there_are() {
    explore(|| {
        let permits = Arc::new(Permits::new(2));
        let running = Arc::new(sync::AtomicUsize::new(0));
        let workers: Vec<_> = (0..4)
            .map(|_| {
                let (permits, running) = (Arc::clone(&permits), Arc::clone(&running));
                thread::spawn(move || {
                    if permits.try_acquire() {
                        assert!(running.fetch_add(1, sync::Ordering::SeqCst) < 2);
                        running.fetch_sub(1, sync::Ordering::SeqCst);
                        let _ = permits.release();
                    }
                })
            })
            .collect();
        workers.into_iter().for_each(|w| w.join().unwrap());
        assert!(permits.try_acquire() && permits.try_acquire() && !permits.try_acquire());
    });
}

/// The worker goes into a poll that never ends, while work is brought: the timer task must come to look, whoever was first.
#[test]
fn work_behind_a_stuck_worker_is_always_seen() {
    explore(|| {
        let shared = Arc::new(Watched::default());
        let (worker, pump) = (Arc::clone(&shared), Arc::clone(&shared));
        let worker = thread::spawn(move || {
            // As the worker does it: the mark under the lock, the look after it.
            let more = {
                let ready = worker.ready.lock().unwrap();
                worker.watch.enters_poll(Moment::from_nanos(1));
                *ready > 0
            };
            if more && worker.watch.ask() {
                worker.timer.tell();
            }
        });
        let pump = thread::spawn(move || {
            *pump.ready.lock().unwrap() += 1;
            if pump.watch.polling_since().is_some() && pump.watch.ask() {
                pump.timer.tell();
            }
        });
        // The timer task: it must be told, or this deadlocks.
        shared.timer.wait();
        worker.join().unwrap();
        pump.join().unwrap();
        assert!(*shared.ready.lock().unwrap() > 0 && shared.watch.polling_since().is_some());
        assert_eq!(shared.watch.supersede(), 1);
        shared.watch.enters_poll(Moment::from_nanos(2));
        shared.watch.leaves_poll(0);
        assert!(shared.watch.polling_since().is_some(), "the old worker leaves its successor's mark alone");
    });
}

/// The timer task rests when nothing waits; what is brought at that very moment is not forgotten.
#[test]
fn what_is_brought_while_the_timer_task_goes_to_rest_is_seen() {
    explore(|| {
        let shared = Arc::new(Watched::default());
        shared.watch.enters_poll(Moment::from_nanos(1));
        assert!(shared.watch.ask());
        let pump = Arc::clone(&shared);
        let pump = thread::spawn(move || {
            *pump.ready.lock().unwrap() += 1;
            if pump.watch.ask() {
                pump.timer.tell();
            }
        });
        let waited_for = || *shared.ready.lock().unwrap() > 0;
        while !waited_for() {
            shared.watch.rest();
            if waited_for() && shared.watch.ask() {
                break;
            }
            shared.timer.wait();
        }
        pump.join().unwrap();
        assert!(shared.watch.is_watched());
    });
}

/// The backend ends a lease while the engine moves its deadline: the end stays.
#[test]
fn the_end_of_a_lease_is_never_overwritten() {
    explore(|| {
        let cell = Arc::new(lease_cell::LeaseCell::default());
        let backend = Arc::clone(&cell);
        let backend = thread::spawn(move || backend.end());
        cell.set(Moment::from_nanos(10));
        cell.set(Moment::from_nanos(20));
        backend.join().unwrap();
        assert!(cell.is_ended() && !cell.holds(Moment::ORIGIN));
    });
}
