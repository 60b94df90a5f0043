//! The engine allocates nothing a message, and keeps nothing of what is gone.

#[path = "../benches/support/mod.rs"]
mod support;

use convoy_core::SessionId;
use convoy_core::backend::{Event, Limits, Loss, Place};
use convoy_core::engine::{Counts, Input};
use support::{Counting, Steady, allocations, bytes};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

#[test]
fn nothing_is_allocated_a_message() {
    for make in [Steady::lanes, Steady::locked] {
        let mut steady = make(1_000);
        steady.messages(100_000);
        let (before, held) = (allocations(), bytes());
        steady.messages(100_000);
        assert_eq!((allocations() - before, bytes()), (0, held));
        assert!(steady.settlements > 100, "they are settled");
    }
}

#[test]
fn out_of_order_an_allocation_a_settlement_is_the_most() {
    let mut steady = Steady::lanes(1_000);
    // A session that stands still at the front of each lane: what is done behind it is told position by position.
    steady.messages(100_000);
    let stuck: Vec<_> = (0..support::LANES).map(|lane| steady.grant(Place::Lane(lane))).collect();
    for grant in stuck {
        steady.deliver(grant, SessionId::new(format!("stuck-{}", grant.epoch())).unwrap());
    }
    let (before, settled) = (allocations(), steady.settlements);
    steady.messages(100_000);
    let (allocated, settlements) = (allocations() - before, (steady.settlements - settled) as usize);
    assert!(allocated <= settlements * 8 + 100, "{allocated} allocations in {settlements} settlements");
}

#[test]
fn a_session_that_is_gone_leaves_nothing() {
    let mut steady = Steady::new(Limits::sessions());
    come_and_go(&mut steady, 0..1_000);
    steady.engine.shrink();
    let held = bytes();
    come_and_go(&mut steady, 1_000..2_000);
    steady.engine.shrink();
    assert_eq!(bytes(), held, "a released session leaves 0 bytes");
}

#[test]
fn a_million_sessions_leave_the_memory_where_it_was() {
    for limits in [Limits::sessions(), Limits::lanes()] {
        let mut steady = Steady::new(limits);
        // What is told and what is not yet change their buffers with each settlement: both have seen the most that they hold after a few rounds.
        for chunk in 0..4 {
            come_and_go(&mut steady, chunk * 10_000..(chunk + 1) * 10_000);
        }
        let held = bytes();
        let before = allocations();
        for chunk in 4..104 {
            come_and_go(&mut steady, chunk * 10_000..(chunk + 1) * 10_000);
        }
        assert_eq!(bytes(), held, "not even a buffer grew");
        assert!(allocations() > before, "the id of each session is its own");
    }
}

/// Each of these sessions has one message, and is gone.
fn come_and_go(steady: &mut Steady, numbers: std::ops::Range<u64>) {
    let mut lane = None;
    for number in numbers {
        let id = SessionId::new(format!("come-and-go-{number:09}")).unwrap();
        let locked = matches!(steady.shape(), convoy_core::backend::Shape::Sessions { .. });
        let grant = if locked {
            steady.grant(Place::Session(id.clone()))
        } else {
            *lane.get_or_insert_with(|| steady.grant(Place::Lane(0)))
        };
        steady.deliver(grant, id);
        steady.start();
        steady.end();
        if locked {
            assert_eq!(steady.engine.counts().sessions, 0);
            steady.engine.handle(steady.now, Input::Event(Event::Lost { grant, why: Loss::Revoked }));
        }
    }
    if let Some(grant) = lane {
        steady.engine.handle(steady.now, Input::Event(Event::Lost { grant, why: Loss::Revoked }));
    }
    steady.forget_positions();
    assert_eq!(steady.engine.counts(), Counts::default());
}
