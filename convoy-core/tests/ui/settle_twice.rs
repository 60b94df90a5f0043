//! A delivery is settled once.
//~ E0382
//~ complete
use std::time::Duration;

use convoy_core::{Failure, Session};

const SOON: Duration = Duration::from_secs(1);

async fn pull(mut session: Session) -> Result<(), Failure> {
    let delivery = session.next::<String>(SOON).await?.expect("a message");
    delivery.complete().await?;
    #[cfg(not(fixed))]
    delivery.complete().await?;
    Ok(())
}

fn main() {
    let _ = pull;
}
