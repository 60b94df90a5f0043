//! The small shared pieces, alone; `tests/interleavings.rs` has them under a scheduler.

use crate::lease_cell::LeaseCell;
use crate::runtime::permits::Permits;
use crate::time::Moment;

#[test]
fn an_end_is_for_good() {
    let cell = LeaseCell::default();
    assert!(!cell.holds(Moment::ORIGIN));
    cell.set(Moment::from_nanos(10));
    assert!(cell.holds(Moment::from_nanos(9)) && !cell.holds(Moment::from_nanos(10)));
    cell.set(Moment::NEVER);
    assert!(!cell.is_ended(), "a far deadline is no end");
    cell.end();
    cell.set(Moment::from_nanos(99));
    assert!(cell.is_ended() && !cell.holds(Moment::ORIGIN));
}

#[test]
fn whoever_finds_none_is_told_of_the_next_release() {
    let permits = Permits::new(2);
    assert!(permits.try_acquire() && permits.try_acquire());
    assert!(!permits.try_acquire());
    assert!(permits.release(), "somebody waits");
    assert!(!permits.release(), "nobody waits any more");
    assert_eq!(permits.peak(), 2);
}
