//! `brokers down`: ends what was started here, and nothing else.

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
            println!("{name}: stopped");
            stopped += 1;
        }
        Ok(false) if tell_nothing => println!("{name}: nothing was started here"),
        Ok(false) => {}
        Err(why) => {
            eprintln!("xtask: {name}: {why}");
            failed += 1;
        }
    };
    for release in asked.releases() {
        let name = format!("{} {}", release.product.title(), release.name);
        if asked.is_single() {
            count(&name, take_down(release, asked), true);
        }
        if asked.is_cluster() {
            let node = asked.node.map_or(String::new(), |node| format!(", node {node}"));
            let ended = Cluster::of(release, asked.named.as_deref()).and_then(|cluster| cluster.down(asked));
            count(&format!("{name}, cluster{node}"), ended, !asked.is_single());
        }
    }
    let seconds = begun.elapsed().as_secs_f64();
    println!("RESULT cmd=brokers down={stopped} failed={failed} seconds={seconds:.1}");
    failed == 0
}

fn take_down(release: &'static Release, asked: &Asked) -> Result<bool, String> {
    let place = Place::of(release, asked.named.as_deref(), 1)?;
    if !place.folder.exists() {
        return Ok(false);
    }
    let _lock = place.lock()?;
    let port = place.port().unwrap_or(release.port);
    let mut stopped = false;
    for node in &place.nodes {
        stopped |= node.stop()?;
    }
    stopped |= place.docker.stop(port)?;
    place.forget();
    if asked.wipe && place.wipe()? {
        println!("{} {}: what it stored is removed", release.product.title(), release.name);
    }
    Ok(stopped)
}
