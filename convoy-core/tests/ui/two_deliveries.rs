//! A session has one delivery at a time.
//~ E0499
use std::time::Duration;

use convoy_core::{Failure, Session};

const SOON: Duration = Duration::from_secs(1);

async fn pull(mut session: Session) -> Result<(), Failure> {
    let first = session.next::<String>(SOON).await?.expect("a message");
    #[cfg(fixed)]
    first.complete().await?;
    let second = session.next::<String>(SOON).await?.expect("a message");
    #[cfg(not(fixed))]
    first.complete().await?;
    second.complete().await?;
    Ok(())
}

fn main() {
    let _ = pull;
}
