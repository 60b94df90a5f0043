//! A delivery does not outlive its session.
//~ E0505
use std::time::Duration;

use convoy_core::{Failure, Session};

const SOON: Duration = Duration::from_secs(1);

async fn pull(mut session: Session) -> Result<(), Failure> {
    let delivery = session.next::<String>(SOON).await?.expect("a message");
    #[cfg(not(fixed))]
    drop(session);
    delivery.complete().await?;
    Ok(())
}

fn main() {
    let _ = pull;
}
