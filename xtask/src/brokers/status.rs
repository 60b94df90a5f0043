//! `brokers status`: what runs, what answers, and where.

use super::amqp;
use super::asked::Asked;
use super::cluster::Cluster;
use super::place::{How, Place, ready};
use super::release::Release;

pub(super) fn status(asked: &Asked) -> bool {
    let (mut up, mut silent) = (0, 0);
    for release in asked.releases() {
        let named = asked.named.as_deref();
        let single = asked.is_single().then(|| look(release, named).map(Some));
        let cluster = asked.is_cluster().then(|| {
            let line = Cluster::of(release, named).and_then(|cluster| cluster.look())?;
            // Beside a broker of one node, one that was never asked for is not worth a line.
            Ok(line.map(|line| (line, true)).or((!asked.is_single()).then(|| ("not started".to_owned(), false))))
        });
        for (what, looked) in [("", single), (", cluster", cluster)] {
            let name = format!("{}{what}", release.name);
            match looked {
                None | Some(Ok(None)) => {}
                Some(Ok(Some((line, is_up)))) => {
                    println!("RabbitMQ {name:<5} {line}");
                    up += u32::from(is_up);
                }
                Some(Err(why)) => {
                    println!("RabbitMQ {name:<5} started, and not ready: {why}");
                    silent += 1;
                }
            }
        }
    }
    println!("RESULT cmd=brokers up={up} silent={silent}");
    // Asked about one, the exit status says whether it can be used.
    silent == 0 && (asked.release.is_none() || up > 0)
}

/// A line about it, and whether it was started here and answers.
fn look(release: &'static Release, named: Option<&str>) -> Result<(String, bool), String> {
    let place = Place::of(release, named)?;
    let ports = place.ports().map_or_else(|| place.usual_ports(), Ok)?;
    let Some(how) = place.how() else {
        return Ok(match amqp::hello(ports.amqp) {
            Ok(server) => {
                let (product, version) = (server.product, server.version);
                (format!("not started here; {product} {version} answers at {}", ports.endpoint()), false)
            }
            Err(_) => ("not started".to_owned(), false),
        });
    };
    let server = ready(ports)?;
    let process =
        place.native.pid().filter(|_| how == How::Native).map_or_else(String::new, |pid| format!(", process {pid}"));
    let line = format!(
        "up: {} at {}, {}{process}, in {}",
        server.version,
        ports.endpoint(),
        how.name(),
        place.folder.display()
    );
    Ok((line, true))
}
