//! `brokers status`: what runs, what answers, and where.

use super::asked::Asked;
use super::cluster::Cluster;
use super::place::{How, Place};
use super::product::Server;
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
            let name = format!("{} {}{what}", release.product.title(), release.name);
            match looked {
                None | Some(Ok(None)) => {}
                Some(Ok(Some((line, is_up)))) => {
                    println!("{name:<14} {line}");
                    up += u32::from(is_up);
                }
                Some(Err(why)) => {
                    println!("{name:<14} started, and not ready: {why}");
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
    let place = Place::of(release, named, 1)?;
    let port = place.port().unwrap_or(release.port);
    let endpoint = release.product.endpoint(&[port]);
    let Some(how) = place.how() else {
        return Ok(match release.product.hello(port) {
            Ok(Server { product, version }) => {
                (format!("not started here; {product} {version} answers at {endpoint}"), false)
            }
            Err(_) => ("not started".to_owned(), false),
        });
    };
    let version = place.exactly(release.product.ready(&[port], false)?).version;
    let process = place.pid().filter(|_| how == How::Native).map_or_else(String::new, |pid| format!(", process {pid}"));
    let (how, folder) = (how.name(), place.folder.display());
    Ok((format!("up: {version} at {endpoint}, {how}{process}, in {folder}"), true))
}
