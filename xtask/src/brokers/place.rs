//! The folder of a release below `target/`, and what of it runs.

use std::fs::{self, File, TryLockError};
use std::path::PathBuf;

use super::docker::Docker;
use super::native::Native;
use super::release::{Ports, Release};
use super::{amqp, http};
use crate::command::built;

/// Where one release lives.
pub(super) struct Place {
    pub(super) folder: PathBuf,
    pub(super) release: &'static Release,
    pub(super) native: Native,
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
    /// Where a release lives; one with a name of its own has data of its own and shares the programs.
    pub(super) fn of(release: &'static Release, named: Option<&str>) -> Result<Self, String> {
        let programs = programs(release)?;
        let folder = match named {
            Some(name) => programs.with_file_name(format!("rabbitmq-{}-{name}", release.name)),
            None => programs.clone(),
        };
        let native = Native::of(&folder, &programs);
        Ok(Self { native, docker: Docker::of(&folder, release), folder, release })
    }

    /// Where a cluster lives: the folders of its nodes are below.
    pub(super) fn of_cluster(release: &'static Release, named: Option<&str>) -> Result<Self, String> {
        let mut place = Self::of(release, named)?;
        let name = place.folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
        place.folder.set_file_name(format!("{name}-cluster"));
        Ok(place)
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
                println!("another `cargo xtask brokers` is at RabbitMQ {}: waiting for it", self.release.name);
                file.lock().map_err(told)?;
                Ok(file)
            }
            Err(TryLockError::Error(e)) => Err(told(e)),
        }
    }

    /// What was started here and not stopped, as far as the folder knows.
    pub(super) fn how(&self) -> Option<How> {
        if self.native.pid().is_some() {
            Some(How::Native)
        } else if self.docker.is_started() {
            Some(How::Docker)
        } else {
            None
        }
    }

    /// The ports that it was last started on.
    pub(super) fn ports(&self) -> Option<Ports> {
        Ports::of_endpoint(&fs::read_to_string(self.endpoint()).ok()?)
    }

    /// The ports of a release that nobody said otherwise of.
    pub(super) fn usual_ports(&self) -> Result<Ports, String> {
        Ports::from(self.release.port)
    }

    pub(super) fn note(&self, ports: Ports) -> Result<(), String> {
        let path = self.endpoint();
        fs::write(&path, format!("{}\n", ports.endpoint())).map_err(|e| format!("{}: {e}", path.display()))
    }

    pub(super) fn forget(&self) {
        let _ = fs::remove_file(self.endpoint());
    }

    pub(super) fn endpoint(&self) -> PathBuf {
        self.folder.join("endpoint")
    }
}

/// The folder that has the programs of a release in it.
pub(super) fn programs(release: &Release) -> Result<PathBuf, String> {
    let built = built()?;
    let target = built.parent().ok_or("the build has no folder around it")?;
    Ok(target.join("brokers").join(format!("rabbitmq-{}", release.name)))
}

/// What tests need of a broker: a client can log in, the HTTP API answers, and nothing keeps messages from being sent.
pub(super) fn ready(ports: Ports) -> Result<amqp::Server, String> {
    let server = amqp::hello(ports.amqp)?;
    http::no_alarm(ports.http)?;
    Ok(server)
}
