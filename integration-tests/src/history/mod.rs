//! The history: what happened, written down where it happened.
//!
//! Every process appends fixed-size records to a file of its own, one `write(2)` a record, so that
//! a `kill -9` loses nothing that had happened. All processes share one machine and therefore one
//! clock ([`now`]), so that an overlap is exact. [`Merge`] reads the files back in one order,
//! by (time, process, number), for the [checker](crate::checker).

mod codes;
mod event;
mod hash;
mod reader;
mod record;
mod writer;

pub use codes::{Answer, Cause, Ended, Fault, Phase, Reason, Side, Store};
pub use event::{Event, GrantId, Message, Place, Position, SettleKind, What};
pub use hash::{body_hash, session_hash};
pub use reader::{Merge, Torn};
pub use record::{Invalid, RECORD_LEN, Record};
pub use writer::{Memory, Recorder, Writer, now};
