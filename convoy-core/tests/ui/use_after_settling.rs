//! What was settled is not looked at any more.
//~ E0382
use std::time::Duration;

use convoy_core::{Failure, Session};

const SOON: Duration = Duration::from_secs(1);

async fn pull(mut session: Session) -> Result<(), Failure> {
    let delivery = session.next::<String>(SOON).await?.expect("a message");
    #[cfg(fixed)]
    println!("{}", delivery.body);
    delivery.complete().await?;
    #[cfg(not(fixed))]
    println!("{}", delivery.body);
    Ok(())
}

fn main() {
    let _ = pull;
}
