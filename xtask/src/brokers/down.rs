//! `brokers down`: ends what was started here, and nothing else.

use std::fs;
use std::time::Instant;

use super::asked::Asked;
use super::place::Place;
use super::release::Release;

pub(super) fn down(asked: &Asked) -> bool {
    let begun = Instant::now();
    let (mut stopped, mut failed) = (0, 0);
    for release in asked.releases() {
        match take_down(release, asked) {
            Ok(true) => {
                println!("RabbitMQ {}: stopped", release.name);
                stopped += 1;
            }
            Ok(false) => println!("RabbitMQ {}: nothing was started here", release.name),
            Err(why) => {
                eprintln!("xtask: RabbitMQ {}: {why}", release.name);
                failed += 1;
            }
        }
    }
    let seconds = begun.elapsed().as_secs_f64();
    println!("RESULT cmd=brokers down={stopped} failed={failed} seconds={seconds:.1}");
    failed == 0
}

fn take_down(release: &'static Release, asked: &Asked) -> Result<bool, String> {
    let place = Place::of(release, asked.named.as_deref())?;
    if !place.folder.exists() {
        return Ok(false);
    }
    let _lock = place.lock()?;
    let ports = place.ports().map_or_else(|| place.usual_ports(), Ok)?;
    let native = place.native.stop()?;
    let docker = place.docker.stop(ports)?;
    place.forget();
    let node = place.folder.join("node");
    if asked.wipe && node.exists() {
        fs::remove_dir_all(&node).map_err(|e| format!("{}: {e}", node.display()))?;
        println!("RabbitMQ {}: what it stored is removed", release.name);
    }
    Ok(native || docker)
}
