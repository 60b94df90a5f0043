//! A node that is started as a program of this system.

use std::path::{Path, PathBuf};
use std::process::Child;

/// How a node is to be started.
#[derive(Clone, Copy, Debug)]
pub(super) struct With<'a> {
    /// The ports of all nodes, in the order of their numbers.
    pub(super) ports: &'a [u16],
    /// The folder with the certificates of one that speaks TLS, too.
    pub(super) tls: Option<&'a Path>,
    /// The ports that the links of clients are on, those of the first node first.
    pub(super) links: &'a [u16],
}

/// A native node, whether it runs or not.
pub(super) trait Node {
    /// Its process, when it runs.
    fn pid(&self) -> Option<u32>;

    /// Starts it and returns at once. The child is there to be asked whether it has ended.
    fn start(&self, with: With<'_>) -> Result<Child, String>;

    /// Ends it in order, or by force when it takes too long. Says whether there was anything.
    fn stop(&self) -> Result<bool, String>;

    /// Before all nodes of a cluster are stopped, one after the other: it may begin with that.
    fn prepare_stop(&self) {}

    /// After all nodes of a cluster are stopped: ends what they shared.
    fn stop_shared(&self) -> Result<bool, String> {
        Ok(false)
    }

    /// Why it does not come up, as far as it said so.
    fn last_words(&self) -> String;

    /// The version, where the node tells it only to its log.
    fn version(&self) -> Option<String> {
        None
    }

    /// Where it keeps what it stores.
    fn stored(&self) -> PathBuf;
}
