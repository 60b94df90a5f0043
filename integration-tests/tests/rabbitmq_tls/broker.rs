//! A broker with certificates.

use std::path::Path;
use std::process::Command;

/// Beside those that everybody uses.
const PORT: &str = "5695";
const NAMED: &str = "tls";

/// What its certificates are like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A good one for `localhost` and `127.0.0.1`.
    Good,
    /// One of a host with another name.
    OtherName,
    /// One whose time is over.
    Expired,
    /// A good one, and clients must have one too.
    AsksClients,
}

impl Kind {
    /// The folder with what it is given.
    pub(crate) fn folder(self) -> &'static str {
        match self {
            Self::Good => "good",
            Self::OtherName => "other-name",
            Self::Expired => "expired",
            Self::AsksClients => "asks-clients",
        }
    }
}

/// A broker that was started here.
#[derive(Debug)]
pub(crate) struct Started {
    pub(crate) kind: Kind,
    pub(crate) version: String,
    pub(crate) amqp: u16,
    pub(crate) tls: u16,
}

impl Started {
    pub(crate) fn start(kind: Kind, certificates: &Path) -> Result<Self, String> {
        // One of a run that was killed has other certificates.
        xtask(&["down", "rabbitmq", "--wipe"])?;
        let folder = certificates.display().to_string();
        let told = xtask(&["up", "rabbitmq", "--port", PORT, "--tls", &folder])?;
        let said = |key: &str| {
            let value = told.split_whitespace().find_map(|pair| pair.strip_prefix(key)?.strip_prefix('='));
            value.map(str::to_owned).ok_or_else(|| format!("`{key}` is not in: {told}"))
        };
        let port = |url: &str| url.rsplit(':').next().and_then(|port| port.parse().ok()).ok_or("no port");
        let (amqp, tls) = (port(&said("endpoint")?)?, port(&said("tls")?)?);
        Ok(Self { kind, version: said("version")?, amqp, tls })
    }

    pub(crate) fn end(self) -> Result<(), String> {
        xtask(&["down", "rabbitmq", "--wipe"]).map(|_| ())
    }
}

/// `cargo xtask brokers`, about this broker; gives its `RESULT` line.
fn xtask(args: &[&str]) -> Result<String, String> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let release = std::env::var("CONVOY_RABBITMQ_RELEASE").unwrap_or_else(|_| "4.3".to_owned());
    let mut command = Command::new(cargo);
    command.args(["xtask", "brokers"]).args(args).args(["--named", NAMED, "--release", &release]);
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let output = command.current_dir(root).output().map_err(|e| format!("cargo xtask: {e}"))?;
    let told = String::from_utf8_lossy(&output.stdout);
    let result = told.lines().find(|line| line.starts_with("RESULT "));
    match result {
        Some(line) if output.status.success() => Ok(line.to_owned()),
        _ => Err(format!("cargo xtask brokers {}: {told}{}", args.join(" "), String::from_utf8_lossy(&output.stderr))),
    }
}
