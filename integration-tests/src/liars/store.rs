//! A dead-letter store that lies about what it holds.

use std::sync::Arc;

use async_trait::async_trait;
use convoy_core::Result;
use convoy_core::backend::{DeadLetter, DeadLetterStore};

use super::Lie;

#[derive(Debug)]
pub(super) struct LyingStore {
    inner: Arc<dyn DeadLetterStore>,
    lie: Lie,
}

impl LyingStore {
    pub(super) fn new(inner: Arc<dyn DeadLetterStore>, lie: Lie) -> Self {
        Self { inner, lie }
    }
}

#[async_trait]
impl DeadLetterStore for LyingStore {
    async fn list(&self, from: u64, most: usize) -> Result<Vec<DeadLetter>> {
        let mut letters = self.inner.list(from, most).await?;
        match self.lie {
            Lie::LosesDeadLetter if letters.len() > 1 => drop(letters.remove(1)),
            Lie::ReordersDeadLetters => letters.reverse(),
            _ => {}
        }
        Ok(letters)
    }

    async fn remove(&self, at: u64) -> Result<bool> {
        self.inner.remove(at).await
    }
}
