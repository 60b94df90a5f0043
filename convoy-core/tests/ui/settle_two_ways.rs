//! A delivery that is dead-lettered is not tried again.
//~ E0382
//~ dead_letter
use std::time::Duration;

use convoy_core::{Failure, Session};

const SOON: Duration = Duration::from_secs(1);

async fn pull(mut session: Session) -> Result<(), Failure> {
    let delivery = session.next::<String>(SOON).await?.expect("a message");
    delivery.dead_letter("no such order").await?;
    #[cfg(not(fixed))]
    delivery.retry_in(SOON).await?;
    Ok(())
}

fn main() {
    let _ = pull;
}
