//! The simulation: seeded schedules of the real engine and the real producer pipeline on simulated brokers.
//!
//! Time is a number, chance comes from the seed alone, and everything that happens is told to the same [checker](crate::checker) that judges real
//! runs. Five brokers, each with its own way of giving a right and of taking it away; links that delay, cut and go half-open; processes that
//! crash, freeze, drain and come back; handlers that fail, hang, panic and block. At the end of a schedule the faults stop, and everything must
//! be settled.
//!
//! A seed gives the same schedule on every machine: [`replay`] prints it, and its hash.

mod broker;
mod bugs;
mod chaos;
mod client;
mod ending;
mod env;
mod faults;
mod handlers;
mod judge;
mod log;
mod names;
mod opening;
mod plan;
mod process;
mod pull;
mod queue;
mod rng;
mod runner;
mod sender;
#[cfg(test)]
mod tests;
mod turns;
mod wire;
mod world;

pub use bugs::{Caught, Hunt, hunt, known_bugs};
pub use faults::Kind;
pub use plan::{Defect, Personality};
pub use runner::{Failure, Options, Summary, replay, run};
