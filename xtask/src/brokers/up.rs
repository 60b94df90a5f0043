//! `brokers up`: a broker that answers, by whatever way this machine has.

use std::net::{SocketAddr, TcpStream};
use std::process::Child;
use std::time::{Duration, Instant};

use super::amqp::{self, Server};
use super::asked::{Asked, Way};
use super::cluster;
use super::place::{How, Place, ready};
use super::release::{ALL, Ports};
use super::tls::Tls;
use super::tool::TICK;

/// A first start takes 4 to 8 s where nothing else runs, and was seen to take minutes on a machine that had ten times its work.
const READY: Duration = Duration::from_secs(180);
const LISTENS: Duration = Duration::from_secs(10);

/// A broker that answers.
struct Up {
    server: Server,
    ports: Ports,
    how: How,
    /// Whether this command started it: whoever asked for it then ends it, too.
    fresh: bool,
    /// The process of a native one that was started from here: who breaks it on purpose needs that.
    pid: Option<u32>,
}

pub(super) fn up(asked: &Asked) -> bool {
    let begun = Instant::now();
    let release = asked.release.unwrap_or(&ALL[0]);
    if asked.is_cluster() {
        return cluster::up(release, asked);
    }
    let outcome = Place::of(release, asked.named.as_deref()).and_then(|place| bring_up(&place, asked));
    let seconds = begun.elapsed().as_secs_f64();
    match outcome {
        Ok(Up { server: Server { product, version }, ports, how, fresh, pid }) => {
            let endpoint = ports.endpoint();
            println!("{product} {version} answers at {endpoint}, its HTTP API at http://127.0.0.1:{}", ports.http);
            if !release.has(&version) {
                println!("note: that is what Debian {} has today, and no {}", release.suite, release.name);
            }
            let tls = if asked.tls.is_some() { format!(" tls=amqps://localhost:{}", ports.tls) } else { String::new() };
            let (how, pid) = (how.name(), pid.map_or_else(|| "none".to_owned(), |pid| pid.to_string()));
            println!(
                "RESULT cmd=brokers broker=rabbitmq version={version} endpoint={endpoint}{tls} how={how} fresh={fresh} pid={pid} seconds={seconds:.1}"
            );
            true
        }
        Err(why) => {
            eprintln!("xtask: RabbitMQ {} is not up: {why}", release.name);
            println!("RESULT cmd=brokers broker=rabbitmq release={} up=false seconds={seconds:.1}", release.name);
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
    let ports = asked.ports.map_or_else(|| place.usual_ports(), Ok)?;
    let tls = asked.tls.as_deref().map(Tls::of).transpose()?;
    if let (Ok(server), None) = (amqp::hello(ports.amqp), &tls) {
        return found(place, ports, server);
    }
    place.note(ports)?;
    let started = start(place, asked.way, ports, tls.as_ref());
    if started.is_err() {
        place.forget();
    }
    started
}

/// What was started here before: as it is, when it answers and is what is asked for.
fn running(place: &Place, asked: &Asked, how: How) -> Result<Option<Up>, String> {
    let ports = place.ports().map_or_else(|| place.usual_ports(), Ok)?;
    let asks_otherwise = match asked.way {
        Way::Either => false,
        Way::Native => how != How::Native,
        Way::Docker => how != How::Docker,
    };
    // What it has of TLS is not known any more.
    if asks_otherwise || asked.tls.is_some() || asked.ports.is_some_and(|asked| asked != ports) {
        let how = how.name();
        return Err(format!(
            "it is up already, {how}, at {}: `cargo xtask brokers down` comes first",
            ports.endpoint()
        ));
    }
    let limit = match how {
        How::Native => READY,
        // The container may have been stopped or removed by hand; starting it again does no harm.
        _ => Duration::ZERO,
    };
    match wait(ports, limit, || None) {
        Ok(server) => {
            println!("it is up already");
            Ok(Some(Up { server, ports, how, fresh: false, pid: place.native.pid() }))
        }
        Err(_) if how == How::Docker => Ok(None),
        Err(why) => {
            let words = place.native.last_words();
            Err(format!("it runs and is not ready ({why}): `cargo xtask brokers down` ends it{words}"))
        }
    }
}

/// A broker that nobody started here is used when it is of the release: another checkout, or the user, has it.
fn found(place: &Place, ports: Ports, server: Server) -> Result<Up, String> {
    let Server { product, version } = &server;
    let endpoint = ports.endpoint();
    if product != "RabbitMQ" || !place.release.has(version) {
        return Err(format!(
            "{product} {version} answers at {endpoint} and was not started here: end it, or take another port with `--port`"
        ));
    }
    println!("it was not started here, and is used as it is; `down` will not end it");
    if let Err(why) = ready(ports) {
        println!("note: tests that need its HTTP API fail ({why})");
    }
    Ok(Up { server, ports, how: How::Found, fresh: false, pid: None })
}

fn start(place: &Place, way: Way, ports: Ports, tls: Option<&Tls>) -> Result<Up, String> {
    if way != Way::Native {
        match in_docker(place, ports) {
            Err(why) if way == Way::Either => println!("a native start, since Docker cannot: {why}"),
            outcome => return outcome,
        }
    }
    natively(place, ports, tls)
}

fn in_docker(place: &Place, ports: Ports) -> Result<Up, String> {
    place.docker.start(ports)?;
    match wait(ports, READY, || None) {
        Ok(server) => Ok(Up { server, ports, how: How::Docker, fresh: true, pid: None }),
        Err(why) => {
            place.docker.stop(ports)?;
            Err(why)
        }
    }
}

fn natively(place: &Place, ports: Ports, tls: Option<&Tls>) -> Result<Up, String> {
    let (how, begun) = (How::Native, Instant::now());
    let started = place.native.start(place.release, ports, tls);
    let mut child = started.map_err(|why| why + &stopped(place))?;
    let made = begun.elapsed();
    let ready = wait(ports, READY, || ended(&mut child)).and_then(|server| {
        // The broker opens this one right after the other.
        let tls = tls.map_or(Ok(()), |_| listens(ports.tls));
        tls.map(|()| server)
    });
    match ready {
        Ok(server) => {
            let seconds = (begun.elapsed() - made).as_secs_f64();
            println!("started as process {}, ready after {seconds:.1} s", child.id());
            Ok(Up { server, ports, how, fresh: true, pid: Some(child.id()) })
        }
        Err(why) => Err(why + &stopped(place) + &place.native.last_words()),
    }
}

fn listens(port: u16) -> Result<(), String> {
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    let until = Instant::now() + LISTENS;
    loop {
        match TcpStream::connect_timeout(&address, LISTENS) {
            Ok(_) => return Ok(()),
            Err(e) if Instant::now() >= until => return Err(format!("{address}: {e}")),
            Err(_) => std::thread::sleep(TICK),
        }
    }
}

/// After a failed start, whatever of it runs is no broker that anybody could use.
fn stopped(place: &Place) -> String {
    place.native.stop().err().map_or_else(String::new, |why| format!("; {why}"))
}

fn ended(child: &mut Child) -> Option<String> {
    child.try_wait().ok().flatten().map(|status| format!("it ended by itself: {status}"))
}

/// Asks until it answers, has ended, or the limit is over.
fn wait(ports: Ports, limit: Duration, mut ended: impl FnMut() -> Option<String>) -> Result<Server, String> {
    let until = Instant::now() + limit;
    loop {
        let why = match ready(ports) {
            Ok(server) => return Ok(server),
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
