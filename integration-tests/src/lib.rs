//! The conformance suite of convoy: what happened is recorded as a [`history`], which [`watch`] writes from the seams that every program has, and
//! the [`checker`] judges it against the stated guarantees; [`agreement`] compares a sentinel's counts with both. [`faults`] makes things go wrong on the way to a real broker. With the feature `sim` there is a simulation, which the same checker judges.

pub mod agreement;
pub mod checker;
pub mod faults;
pub mod history;
pub mod liars;
#[cfg(feature = "sim")]
pub mod sim;
pub mod suite;
pub mod watch;
