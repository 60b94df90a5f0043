//! `brokers down`: ends what was started here, and nothing else.

use std::fs;
use std::time::Instant;

use super::asked::Asked;
use super::cluster::Cluster;
use super::place::Place;
use super::release::Release;

pub(super) fn down(asked: &Asked) -> bool {
    let begun = Instant::now();
    let (mut stopped, mut failed) = (0, 0);
    let mut count = |name: &str, outcome: Result<bool, String>, tell_nothing: bool| match outcome {
        Ok(true) => {
            println!("RabbitMQ {name}: stopped");
            stopped += 1;
        }
        Ok(false) if tell_nothing => println!("RabbitMQ {name}: nothing was started here"),
        Ok(false) => {}
        Err(why) => {
            eprintln!("xtask: RabbitMQ {name}: {why}");
            failed += 1;
        }
    };
    for release in asked.releases() {
        if asked.is_single() {
            count(release.name, take_down(release, asked), true);
        }
        if asked.is_cluster() {
            let node = asked.node.map_or(String::new(), |node| format!(", node {node}"));
            let ended = Cluster::of(release, asked.named.as_deref()).and_then(|cluster| cluster.down(asked));
            count(&format!("{}, cluster{node}", release.name), ended, !asked.is_single());
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
