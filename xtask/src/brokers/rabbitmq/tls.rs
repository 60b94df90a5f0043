//! What a native broker that speaks TLS, too, is given: certificates from a folder of the user's.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};

use super::debian::{self, NODE};

const FOLDER: &str = "tls";
/// The HTTP API over TLS is so far above AMQP over TLS.
const HTTPS_ABOVE: u16 = 1_000;
/// The broker's own certificate, with what leads to its issuer, and the key of it.
const CERTIFICATE: &str = "server.pem";
const KEY: &str = "server.key";
/// The issuers of clients. When it is there, only clients with a certificate of theirs are let in.
const CLIENTS: &str = "clients.pem";

/// A folder with certificates.
pub(super) struct Tls {
    folder: PathBuf,
}

impl Tls {
    /// Looks at it before anything is started: a broker without a certificate starts all the same and refuses whoever comes.
    pub(super) fn of(folder: &Path) -> Result<Self, String> {
        for name in [CERTIFICATE, KEY] {
            let path = folder.join(name);
            if !path.is_file() {
                return Err(format!(
                    "{} is not there: `--tls` takes a folder with {CERTIFICATE} and {KEY}",
                    path.display()
                ));
            }
        }
        Ok(Self { folder: folder.to_owned() })
    }

    fn asks_clients(&self) -> bool {
        self.folder.join(CLIENTS).is_file()
    }

    /// Copies them to where the node sees them, readable by the broker alone, and adds to its configuration.
    pub(super) fn put_into(&self, tree: &Path, node: &Path, port: u16) -> Result<(), String> {
        let (user, group) = debian::user(tree)?;
        let own = |path: &Path, mode: u32| {
            chown(path, Some(user), Some(group))?;
            fs::set_permissions(path, fs::Permissions::from_mode(mode))
        };
        let into = node.join(FOLDER);
        let told = |path: &Path, e: std::io::Error| format!("{}: {e}", path.display());
        fs::create_dir_all(&into).and_then(|()| own(&into, 0o700)).map_err(|e| told(&into, e))?;
        for name in [CERTIFICATE, KEY, CLIENTS] {
            let (from, to) = (self.folder.join(name), into.join(name));
            if from.is_file() {
                fs::copy(&from, &to).and_then(|_| own(&to, 0o400)).map_err(|e| told(&from, e))?;
            }
        }
        let path = node.join("rabbitmq.conf");
        let text = fs::read_to_string(&path).map_err(|e| told(&path, e))?;
        fs::write(&path, text + &configuration(port, NODE, self.asks_clients())).map_err(|e| told(&path, e))
    }
}

/// The lines of the broker's configuration.
fn configuration(port: u16, node: &str, asks_clients: bool) -> String {
    let file = |name: &str| format!("{node}/{FOLDER}/{name}");
    let (certificate, key) = (file(CERTIFICATE), file(KEY));
    let mut lines = vec![
        format!("listeners.ssl.1 = 127.0.0.1:{port}"),
        format!("ssl_options.certfile = {certificate}"),
        format!("ssl_options.keyfile = {key}"),
        "management.ssl.ip = 127.0.0.1".to_owned(),
        format!("management.ssl.port = {}", port + HTTPS_ABOVE),
        format!("management.ssl.certfile = {certificate}"),
        format!("management.ssl.keyfile = {key}"),
    ];
    if asks_clients {
        lines.push(format!("ssl_options.cacertfile = {}", file(CLIENTS)));
    }
    let verify = if asks_clients { "verify_peer" } else { "verify_none" };
    lines.push(format!("ssl_options.verify = {verify}"));
    lines.push(format!("ssl_options.fail_if_no_peer_cert = {asks_clients}"));
    lines.join("\n") + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_listens_on_this_machine_only_and_asks_clients_when_their_issuers_are_known() {
        let open = configuration(10_672, "/srv/node", false);
        for line in [
            "listeners.ssl.1 = 127.0.0.1:10672",
            "management.ssl.ip = 127.0.0.1",
            "management.ssl.port = 11672",
            "ssl_options.verify = verify_none",
        ] {
            assert!(open.lines().any(|l| l == line), "{line}");
        }
        let closed = configuration(10_672, "/srv/node", true);
        for line in [
            "ssl_options.cacertfile = /srv/node/tls/clients.pem",
            "ssl_options.verify = verify_peer",
            "ssl_options.fail_if_no_peer_cert = true",
        ] {
            assert!(closed.lines().any(|l| l == line) && !open.lines().any(|l| l == line), "{line}");
        }
    }

    #[test]
    fn a_folder_without_a_certificate_is_refused() {
        let why = Tls::of(Path::new("no-such-folder")).err().unwrap_or_default();
        assert!(why.contains(CERTIFICATE), "{why}");
    }
}
