//! `brokers up`: a broker that answers, by whatever way this machine has.

use std::process::Child;
use std::time::{Duration, Instant};

use super::asked::{Asked, Way};
use super::cluster;
use super::node::With;
use super::place::{How, Place};
use super::product::Server;
use super::release::Release;
use super::tool::TICK;

/// A first start takes 4 to 8 s where nothing else runs, and was seen to take minutes on a machine that had ten times its work.
const READY: Duration = Duration::from_secs(180);

/// A broker that answers.
struct Up {
    server: Server,
    port: u16,
    how: How,
    /// Whether this command started it: whoever asked for it then ends it, too.
    fresh: bool,
    /// The process of a native one that was started from here: who breaks it on purpose needs that.
    pid: Option<u32>,
}

pub(super) fn up(asked: &Asked) -> bool {
    let begun = Instant::now();
    let Some(release) = asked.releases().next() else { return false };
    if asked.is_cluster() {
        return cluster::up(release, asked);
    }
    let outcome = Place::of(release, asked.named.as_deref(), 1).and_then(|place| bring_up(&place, asked));
    let seconds = begun.elapsed().as_secs_f64();
    let Release { product, name, .. } = release;
    let broker = product.name();
    match outcome {
        Ok(Up { server, port, how, fresh, pid }) => {
            let (endpoint, version) = (product.endpoint(&[port]), server.version);
            println!("{} {version} answers at {endpoint}{}", server.product, product.beside(port));
            if let Some(note) = release.note(&version) {
                println!("{note}");
            }
            let tls = asked.tls.as_ref().map_or_else(String::new, |_| format!(" tls={}", product.tls_endpoint(port)));
            let (how, pid) = (how.name(), pid.map_or_else(|| "none".to_owned(), |pid| pid.to_string()));
            println!(
                "RESULT cmd=brokers broker={broker} version={version} endpoint={endpoint}{tls} how={how} fresh={fresh} pid={pid} seconds={seconds:.1}"
            );
            true
        }
        Err(why) => {
            eprintln!("xtask: {} {name} is not up: {why}", product.title());
            println!("RESULT cmd=brokers broker={broker} release={name} up=false seconds={seconds:.1}");
            false
        }
    }
}

fn bring_up(place: &Place, asked: &Asked) -> Result<Up, String> {
    let _lock = place.lock()?;
    if let Some(how) = place.how()
        && let Some(up) = running(place, asked, how)?
    {
        return Ok(up);
    }
    let port = asked.port.unwrap_or(place.release.port);
    if let (Ok(server), false) = (place.release.product.hello(port), asked.is_special()) {
        return found(place, port, server);
    }
    place.note(port)?;
    let started = start(place, asked, port);
    if started.is_err() {
        place.forget();
    }
    started
}

/// What was started here before: as it is, when it answers and is what is asked for.
fn running(place: &Place, asked: &Asked, how: How) -> Result<Option<Up>, String> {
    let port = place.port().unwrap_or(place.release.port);
    let asks_otherwise = match asked.way {
        Way::Either => false,
        Way::Native => how != How::Native,
        Way::Docker => how != How::Docker,
    };
    // What it has of TLS and links is not known any more.
    if asks_otherwise || asked.is_special() || asked.port.is_some_and(|asked| asked != port) {
        let (how, endpoint) = (how.name(), place.release.product.endpoint(&[port]));
        return Err(format!("it is up already, {how}, at {endpoint}: `cargo xtask brokers down` comes first"));
    }
    let limit = match how {
        How::Native => READY,
        // The container may have been stopped or removed by hand; starting it again does no harm.
        _ => Duration::ZERO,
    };
    match wait(place, asked, port, limit, || None) {
        Ok(server) => {
            println!("it is up already");
            Ok(Some(Up { server, port, how, fresh: false, pid: place.pid() }))
        }
        Err(_) if how == How::Docker => Ok(None),
        Err(why) => {
            Err(format!("it runs and is not ready ({why}): `cargo xtask brokers down` ends it{}", last_words(place)))
        }
    }
}

/// A broker that nobody started here is used when it is of the release: another checkout, or the user, has it.
fn found(place: &Place, port: u16, server: Server) -> Result<Up, String> {
    let of = place.release.product;
    if !of.is(place.release, &server) {
        let (Server { product, version }, endpoint) = (server, of.endpoint(&[port]));
        return Err(format!(
            "{product} {version} answers at {endpoint} and was not started here: end it, or take another port with `--port`"
        ));
    }
    println!("it was not started here, and is used as it is; `down` will not end it");
    if let Err(why) = of.ready(&[port], false) {
        println!("note: it is not all that tests need ({why})");
    }
    Ok(Up { server, port, how: How::Found, fresh: false, pid: None })
}

fn start(place: &Place, asked: &Asked, port: u16) -> Result<Up, String> {
    if asked.way != Way::Native {
        match in_docker(place, asked, port) {
            Err(why) if asked.way == Way::Either => println!("a native start, since Docker cannot: {why}"),
            outcome => return outcome,
        }
    }
    natively(place, asked, port)
}

fn in_docker(place: &Place, asked: &Asked, port: u16) -> Result<Up, String> {
    place.docker.start(port)?;
    match wait(place, asked, port, READY, || None) {
        Ok(server) => Ok(Up { server, port, how: How::Docker, fresh: true, pid: None }),
        Err(why) => {
            place.docker.stop(port)?;
            Err(why)
        }
    }
}

fn natively(place: &Place, asked: &Asked, port: u16) -> Result<Up, String> {
    let (how, begun) = (How::Native, Instant::now());
    let [node] = &place.nodes[..] else { return Err("a broker of one node has one".to_owned()) };
    let started = node.start(With { ports: &[port], tls: asked.tls.as_deref(), links: &asked.links });
    let mut child = started.map_err(|why| why + &stopped(place))?;
    let made = begun.elapsed();
    match wait(place, asked, port, READY, || ended(&mut child)) {
        Ok(server) => {
            let seconds = (begun.elapsed() - made).as_secs_f64();
            println!("started as process {}, ready after {seconds:.1} s", child.id());
            Ok(Up { server, port, how, fresh: true, pid: Some(child.id()) })
        }
        Err(why) => Err(why + &stopped(place) + &last_words(place)),
    }
}

/// After a failed start, whatever of it runs is no broker that anybody could use.
fn stopped(place: &Place) -> String {
    place.nodes.iter().filter_map(|node| node.stop().err()).map(|why| format!("; {why}")).collect()
}

fn last_words(place: &Place) -> String {
    place.nodes.iter().map(|node| node.last_words()).collect()
}

fn ended(child: &mut Child) -> Option<String> {
    child.try_wait().ok().flatten().map(|status| format!("it ended by itself: {status}"))
}

/// Asks until it answers, has ended, or the limit is over.
fn wait(
    place: &Place,
    asked: &Asked,
    port: u16,
    limit: Duration,
    mut ended: impl FnMut() -> Option<String>,
) -> Result<Server, String> {
    let until = Instant::now() + limit;
    loop {
        let why = match place.release.product.ready(&[port], asked.tls.is_some()) {
            Ok(server) => return Ok(place.exactly(server)),
            Err(why) => why,
        };
        if let Some(end) = ended() {
            return Err(end);
        }
        if Instant::now() >= until {
            return Err(format!("not ready after {} s: {why}", limit.as_secs()));
        }
        std::thread::sleep(TICK);
    }
}
