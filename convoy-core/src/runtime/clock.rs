//! The process's monotonic clock, as moments. Paused time of tokio's test clock is honoured.

use std::sync::OnceLock;
use std::time::Duration;

use tokio::time::Instant;

use crate::time::Moment;

/// So far before the first reading lies the origin, so that "a lease ago" is never before it.
const HEAD_START: Duration = Duration::from_secs(3600);

fn origin() -> std::time::Instant {
    static ORIGIN: OnceLock<std::time::Instant> = OnceLock::new();
    *ORIGIN.get_or_init(std::time::Instant::now)
}

/// Now, on the clock that tokio's timers use.
#[must_use]
pub fn now() -> Moment {
    let origin = origin();
    moment(origin, Instant::now().into_std())
}

/// The instant to sleep until for a moment; far in the future for [`Moment::NEVER`].
#[must_use]
pub fn instant(at: Moment) -> Instant {
    let far = Duration::from_secs(365 * 24 * 3600);
    let wait = at.since(now()).min(far);
    Instant::now() + wait
}

fn moment(origin: std::time::Instant, at: std::time::Instant) -> Moment {
    // A paused clock may stand a little before the first reading of the real one.
    let after = HEAD_START + at.saturating_duration_since(origin);
    Moment::ORIGIN + after.saturating_sub(origin.saturating_duration_since(at))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn follows_the_paused_clock() {
        let before = now();
        tokio::time::advance(Duration::from_secs(5)).await;
        assert_eq!(now().since(before), Duration::from_secs(5));
        assert_eq!(instant(now() + Duration::from_secs(2)), Instant::now() + Duration::from_secs(2));
    }
}
