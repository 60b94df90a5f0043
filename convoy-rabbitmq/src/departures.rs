//! Whether the broker has let an old connection go: from then on nothing that was written to it can land.
//!
//! A queue that only that connection has is locked while it lives, and missing afterwards. There is one question for each connection, whoever waits for it, and it waits for its answer:
//! of a node that is down the broker says nothing for a long time, and the client library breaks the whole connection when it closes a channel in the same moment as the broker does.

use std::sync::Arc;
use std::time::Duration;

use convoy_core::runtime::instant;
use convoy_core::{Moment, Result};
use hashbrown::HashMap;
use lapin::options::QueueDeclareOptions;
use lapin::types::FieldTable;
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::time::{sleep, timeout, timeout_at};

use crate::connection::{Pause, Publishing};
use crate::{error, names};

const ASK: &str = "ask for the fate of a send";
/// A broker tries for a minute to reach a queue on a node that is down.
const ANSWER: Duration = Duration::from_secs(90);
/// How long between two questions, at most.
const AGAIN: Duration = Duration::from_secs(1);
/// So many answers are remembered.
const KEPT: usize = 64;

/// The old connections of a producer.
#[derive(Debug)]
pub(crate) struct Departures {
    publishing: Arc<Publishing>,
    /// By their marks, whether they are gone.
    asked: Mutex<HashMap<String, watch::Receiver<bool>, foldhash::fast::RandomState>>,
}

impl Departures {
    pub(crate) fn new(publishing: Arc<Publishing>) -> Self {
        Self { publishing, asked: Mutex::default() }
    }

    /// Waits until the connection of this mark is gone.
    pub(crate) async fn wait(&self, mark: &str, until: Moment) -> Result<()> {
        let mut gone = self.ask(mark);
        match timeout_at(instant(until), gone.wait_for(|gone| *gone)).await {
            Ok(Ok(_)) => Ok(()),
            _ => Err(error::no_answer(ASK)),
        }
    }

    /// Asks no more.
    pub(crate) fn stop(&self) {
        self.asked.lock().clear();
    }

    /// The answer, or the question that is on its way.
    fn ask(&self, mark: &str) -> watch::Receiver<bool> {
        let mut asked = self.asked.lock();
        if let Some(gone) = asked.get(mark) {
            return gone.clone();
        }
        if asked.len() >= KEPT {
            asked.retain(|_, gone| !*gone.borrow());
        }
        let (tell, gone) = watch::channel(false);
        asked.insert(mark.to_owned(), gone.clone());
        tokio::spawn(until_gone(Arc::clone(&self.publishing), mark.to_owned(), tell));
        gone
    }
}

/// Asks until it is gone, or nobody wants to know.
async fn until_gone(publishing: Arc<Publishing>, mark: String, tell: watch::Sender<bool>) {
    let asking = async {
        let mut pause = Pause::new();
        loop {
            match is_gone(&publishing, &mark).await {
                Ok(true) => return,
                Ok(false) => {}
                Err(why) => tracing::debug!(error = ?why, "the broker could not be asked for an old connection"),
            }
            sleep(pause.next().min(AGAIN)).await;
        }
    };
    tokio::select! {
        () = asking => {
            tell.send_replace(true);
        }
        () = tell.closed() => {}
    }
}

async fn is_gone(publishing: &Publishing, mark: &str) -> Result<bool> {
    let link = publishing.link().await?;
    if link.mark() == Some(mark) {
        return Ok(false);
    }
    let channel = link.channel(ASK).await?;
    let passive = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
    let asked = channel.queue_declare(names::short(mark.to_owned()), passive, FieldTable::default());
    let answer = tokio::select! {
        biased;
        answer = timeout(ANSWER, asked) => answer.map_err(|_| error::no_answer(ASK))?,
        () = link.broken() => return Err(error::disconnected(ASK)),
    };
    match answer {
        Err(why) if error::is_missing(&why) => Ok(true),
        Err(why) if error::is_locked(&why) => Ok(false),
        Err(why) => Err(error::of(why, ASK)),
        Ok(_) => Ok(false),
    }
}

#[cfg(test)]
mod tests {
    use convoy_core::ErrorKind;
    use convoy_core::runtime::now;

    use super::*;
    use crate::config::Options;

    /// Nobody listens there.
    fn unreachable() -> Departures {
        Departures::new(Arc::new(Publishing::new(Options::new("127.0.0.1").port(1))))
    }

    #[tokio::test]
    async fn a_connection_has_one_question_whoever_waits() {
        let departures = unreachable();
        let until = now() + Duration::from_millis(50);
        let (first, second) = tokio::join!(departures.wait("old", until), departures.wait("old", until));
        for waited in [first, second] {
            assert_eq!(waited.unwrap_err().kind(), ErrorKind::Timeout);
        }
        assert_eq!(departures.asked.lock().len(), 1);
        departures.stop();
        assert!(departures.asked.lock().is_empty());
    }

    #[tokio::test]
    async fn an_answer_is_remembered_and_a_question_without_one_is_kept() {
        let departures = unreachable();
        for old in 0..2 * KEPT {
            let (tell, gone) = watch::channel(false);
            tell.send_replace(true);
            departures.asked.lock().insert(old.to_string(), gone);
        }
        assert!(departures.wait("7", now()).await.is_ok());
        let until = now() + Duration::from_millis(50);
        assert!(departures.wait("new", until).await.is_err());
        assert_eq!(departures.asked.lock().keys().collect::<Vec<_>>(), ["new"]);
    }
}
