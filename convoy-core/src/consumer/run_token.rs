//! Tells one run to end.

use std::sync::OnceLock;

use tokio_util::sync::CancellationToken;

use crate::sync::{AtomicBool, Ordering};

/// The token is made when somebody asks for it, which most handlers never do.
#[derive(Debug)]
pub(crate) struct RunToken {
    fired: AtomicBool,
    token: OnceLock<CancellationToken>,
}

impl Default for RunToken {
    fn default() -> Self {
        Self { fired: AtomicBool::new(false), token: OnceLock::new() }
    }
}

impl RunToken {
    pub(crate) fn fire(&self) {
        self.fired.store(true, Ordering::SeqCst);
        if let Some(token) = self.token.get() {
            token.cancel();
        }
    }

    pub(crate) fn has_fired(&self) -> bool {
        self.fired.load(Ordering::SeqCst)
    }

    pub(crate) fn token(&self) -> &CancellationToken {
        let token = self.token.get_or_init(CancellationToken::new);
        // Fired before the token was there to be seen.
        if self.has_fired() {
            token.cancel();
        }
        token
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_asked_for_after_the_end_has_fired() {
        let run = RunToken::default();
        run.fire();
        assert!(run.token().is_cancelled());
        let run = RunToken::default();
        assert!(!run.token().is_cancelled());
        run.fire();
        assert!(run.token().is_cancelled());
    }
}
