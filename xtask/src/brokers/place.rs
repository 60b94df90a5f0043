//! The folder of a release below `target/`, and what of it runs.

use std::fs::{self, File, TryLockError};
use std::path::PathBuf;

use super::docker::Docker;
use super::node::Node;
use super::product::Server;
use super::release::{Release, port_of};
use crate::command::built;

/// Where one release lives.
pub(super) struct Place {
    pub(super) folder: PathBuf,
    pub(super) release: &'static Release,
    /// One, or those of a cluster.
    pub(super) nodes: Vec<Box<dyn Node>>,
    pub(super) docker: Docker,
}

/// How a broker was started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum How {
    Native,
    Docker,
    /// By somebody else: it was there already, and is used as it is.
    Found,
}

impl How {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Native => "native",
            Self::Docker => "docker",
            Self::Found => "found",
        }
    }
}

impl Place {
    /// Where a release lives, as a broker of one node or as a cluster, whose nodes' folders are below; one with a name of its own has data of its own and
    /// shares the programs.
    pub(super) fn of(release: &'static Release, named: Option<&str>, nodes: usize) -> Result<Self, String> {
        let built = built()?;
        let target = built.parent().ok_or("the build has no folder around it")?;
        let programs = target.join("brokers").join(format!("{}-{}", release.product.name(), release.name));
        let cluster = (nodes > 1).then_some("cluster");
        let words = named.into_iter().chain(cluster).map(|word| format!("-{word}")).collect::<String>();
        let name = programs.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let folder = programs.with_file_name(name + &words);
        let nodes = release.product.nodes(release, &folder, &programs, nodes);
        Ok(Self { nodes, docker: Docker::of(&folder, release), folder, release })
    }

    /// Two commands at once on one release would tread on each other. The lock ends with what is returned, or with this process.
    pub(super) fn lock(&self) -> Result<File, String> {
        let path = self.folder.join("lock");
        let told = |e: std::io::Error| {
            let denied = e.kind() == std::io::ErrorKind::PermissionDenied;
            let hint = if denied { "; it was made by another user, such as root: run this as them" } else { "" };
            format!("{}: {e}{hint}", path.display())
        };
        fs::create_dir_all(&self.folder).map_err(told)?;
        let file = File::options().create(true).append(true).open(&path).map_err(told)?;
        match file.try_lock() {
            Ok(()) => Ok(file),
            Err(TryLockError::WouldBlock) => {
                let Release { product, name, .. } = self.release;
                println!("another `cargo xtask brokers` is at {} {name}: waiting for it", product.title());
                file.lock().map_err(told)?;
                Ok(file)
            }
            Err(TryLockError::Error(e)) => Err(told(e)),
        }
    }

    /// What was started here and not stopped, as far as the folder knows.
    pub(super) fn how(&self) -> Option<How> {
        if self.pid().is_some() {
            Some(How::Native)
        } else if self.docker.is_started() {
            Some(How::Docker)
        } else {
            None
        }
    }

    /// The process of the first of its nodes that runs.
    pub(super) fn pid(&self) -> Option<u32> {
        self.nodes.iter().find_map(|node| node.pid())
    }

    /// The port that it was last started on: of the first node, if it has several.
    pub(super) fn port(&self) -> Option<u16> {
        port_of(&fs::read_to_string(self.endpoint()).ok()?)
    }

    pub(super) fn note(&self, port: u16) -> Result<(), String> {
        let path = self.endpoint();
        let endpoint = self.release.product.endpoint(&[port]);
        fs::write(&path, format!("{endpoint}\n")).map_err(|e| format!("{}: {e}", path.display()))
    }

    pub(super) fn forget(&self) {
        let _ = fs::remove_file(self.endpoint());
    }

    fn endpoint(&self) -> PathBuf {
        self.folder.join("endpoint")
    }

    /// With the version that its own log has, where it does not tell one to clients.
    pub(super) fn exactly(&self, server: Server) -> Server {
        let node = self.nodes.iter().find(|node| node.pid().is_some());
        let version = node.and_then(|node| node.version()).filter(|version| self.release.has(version));
        Server { version: version.unwrap_or(server.version), ..server }
    }

    /// Removes what its nodes stored. Says whether there was anything.
    pub(super) fn wipe(&self) -> Result<bool, String> {
        let mut wiped = false;
        for stored in self.nodes.iter().map(|node| node.stored()).filter(|stored| stored.exists()) {
            fs::remove_dir_all(&stored).map_err(|e| format!("{}: {e}", stored.display()))?;
            wiped = true;
        }
        Ok(wiped)
    }
}
