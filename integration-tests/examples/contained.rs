//! Runs a command with a RabbitMQ broker in a container that is there for it alone, started through `testcontainers`: `contained 4.3.6-management -- cargo test …`.
//!
//! The command finds the broker by `CONVOY_RABBITMQ_URL` and `CONVOY_RABBITMQ_HTTP`. Its exit status is that of this program, once the container is removed.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::process::{ExitCode, ExitStatus};
use std::time::{Duration, Instant};

use testcontainers::core::{IntoContainerPort, WaitFor};
use testcontainers::runners::AsyncRunner;
use testcontainers::{ContainerAsync, GenericImage, ImageExt};
use tokio::process::Command;

/// What every RabbitMQ of this project is given.
const SETTINGS: &str = include_str!("../../xtask/src/brokers/rabbitmq/rabbitmq.conf");
/// With a pull before it.
const START: Duration = Duration::from_secs(300);
const READY: Duration = Duration::from_secs(60);
/// `guest:guest`.
const LOGIN: &str = "Z3Vlc3Q6Z3Vlc3Q=";

type Failure = Box<dyn std::error::Error>;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [tag, dashes, program, rest @ ..] = &args[..] else {
        eprintln!("say which image and what to run: contained TAG -- COMMAND …");
        return ExitCode::from(2);
    };
    if dashes != "--" {
        eprintln!("`--` comes before the command");
        return ExitCode::from(2);
    }
    match run(tag, program, rest).await {
        Ok(status) => status.code().and_then(|code| u8::try_from(code).ok()).map_or(ExitCode::FAILURE, ExitCode::from),
        Err(why) => {
            eprintln!("no broker in a container: {why}");
            ExitCode::FAILURE
        }
    }
}

async fn run(tag: &str, program: &str, args: &[String]) -> Result<ExitStatus, Failure> {
    let begun = Instant::now();
    let image = GenericImage::new("rabbitmq", tag)
        .with_exposed_port(5672.tcp())
        .with_exposed_port(15672.tcp())
        .with_wait_for(WaitFor::message_on_stdout("Server startup complete"))
        .with_hostname("rabbitmq")
        .with_startup_timeout(START)
        .with_copy_to("/etc/rabbitmq/conf.d/90-convoy.conf", SETTINGS.as_bytes().to_vec());
    let container = image.start().await?;
    let ran = tokio::select! {
        ran = with(&container, begun, program, args) => ran,
        // Whoever stops this wants no container left. One that is killed leaves its own.
        _ = tokio::signal::ctrl_c() => Err("it was interrupted".into()),
    };
    container.rm().await?;
    ran
}

async fn with(
    container: &ContainerAsync<GenericImage>,
    begun: Instant,
    program: &str,
    args: &[String],
) -> Result<ExitStatus, Failure> {
    // Ports are mapped to this machine. Who is in a container itself is told the gateway as host, where nothing listens: the address is not asked for.
    let (amqp, http) = (container.get_host_port_ipv4(5672).await?, container.get_host_port_ipv4(15672).await?);
    let version = ready(http).await?;
    let url = format!("amqp://guest:guest@127.0.0.1:{amqp}");
    println!(
        "RabbitMQ {version} answers at {url}, its HTTP API on port {http}, after {:.1} s",
        begun.elapsed().as_secs_f64()
    );
    let mut command = Command::new(program);
    command.args(args).env("CONVOY_RABBITMQ_URL", url).env("CONVOY_RABBITMQ_HTTP", http.to_string());
    Ok(command.kill_on_drop(true).status().await?)
}

/// Waits until its HTTP API answers, and gives its version.
async fn ready(http: u16) -> Result<String, Failure> {
    let until = Instant::now() + READY;
    loop {
        match version(http) {
            Ok(version) => return Ok(version),
            Err(why) if Instant::now() >= until => return Err(why),
            Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    }
}

fn version(http: u16) -> Result<String, Failure> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, http));
    let mut stream = TcpStream::connect_timeout(&address, READY)?;
    stream.set_read_timeout(Some(READY))?;
    write!(stream, "GET /api/overview HTTP/1.0\r\nHost: {address}\r\nAuthorization: Basic {LOGIN}\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body);
    let overview: serde_json::Value = serde_json::from_str(body)?;
    let version = overview.get("rabbitmq_version").and_then(serde_json::Value::as_str);
    version.map(str::to_owned).ok_or_else(|| "its HTTP API names no version".into())
}
