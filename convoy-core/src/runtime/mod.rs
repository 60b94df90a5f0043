//! The driver: the engine's clock, its timers and its workers.

mod clock;

pub use clock::{instant, now};
