//! The driver, on a broker that does what a test tells it, mostly under paused time.

mod pieces;
mod processing;
mod pulling;
mod routing;
mod script;

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);

/// What handlers did, in order.
type Log = Arc<Mutex<Vec<String>>>;

/// Waits until `holds`, and fails when it does not within ten seconds of the test's clock.
async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    for _ in 0..10_000 {
        if holds() {
            return;
        }
        tokio::time::sleep(MS).await;
    }
    panic!("did not come true: {what}");
}
