//! What makes things go wrong between a client and a real broker, and tells what it did, so that a [history](crate::history) has it.

pub mod proxy;
