//! A Python that has `pika`, for the publisher that convoy-rabbitmq shows.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::command::{Program, built, program};

const PACKAGE: &str = "pika>=1.2,<2";
/// The second is the one that a package of the system's is for, where the first is another.
const PYTHONS: [&str; 2] = ["python3", "/usr/bin/python3"];

/// An interpreter, and where it finds what was installed for it.
#[derive(Debug)]
pub(crate) struct Python {
    name: &'static str,
    path: PathBuf,
}

impl Python {
    /// One that is here, else one that is given `pika`: beside what is built, and only where that cannot be, on this system.
    pub(crate) fn with_pika() -> Result<Self, String> {
        let folder = built()?.join("tools").join("pika");
        if let Some(found) = find(&folder) {
            return Ok(found);
        }
        let target = folder.display().to_string();
        let pip = ["-m", "pip", "install", "--quiet", "--target", &target, PACKAGE];
        let from_pip = program(PYTHONS[0], pip).run();
        if let Some(found) = find(&folder) {
            return Ok(found);
        }
        let why = from_pip.map_or_else(|why| why, |ran| format!("pip ended with {:?}", ran.code));
        println!("no `pika` from pip ({why}): installing the package python3-pika on this system, with apt-get");
        // A new machine has no list of packages. An old one does when it cannot be fetched.
        program("apt-get", ["update", "--quiet"]).run().ok();
        let apt = ["install", "--yes", "--quiet", "--no-install-recommends", "python3-pika"];
        let from_apt = program("apt-get", apt).env("DEBIAN_FRONTEND", "noninteractive").run();
        let why = from_apt.map_or_else(|why| why, |ran| format!("apt-get ended with {:?}", ran.code));
        find(&folder).ok_or_else(|| format!("not run: no Python with `pika` is here, and none can be had ({why})"))
    }

    /// A program whose tests run it.
    pub(crate) fn for_tests(&self, tests: Program) -> Program {
        tests.env("CONVOY_PYTHON", self.name).env("PYTHONPATH", &paths(&self.path).to_string_lossy())
    }
}

/// What is installed here, and then what the user has.
fn paths(folder: &Path) -> OsString {
    let others = std::env::var_os("PYTHONPATH").unwrap_or_default();
    let others = std::env::split_paths(&others).filter(|path| !path.as_os_str().is_empty());
    std::env::join_paths(std::iter::once(folder.to_owned()).chain(others)).unwrap_or_else(|_| folder.into())
}

fn find(folder: &Path) -> Option<Python> {
    let has_pika = |name: &&str| {
        let mut python = Command::new(name);
        // Before 1.0 a message that no queue takes is no exception.
        python.args(["-c", "import pika; assert int(pika.__version__.split('.')[0]) >= 1"]);
        python.env("PYTHONPATH", paths(folder));
        python.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        python.status().is_ok_and(|status| status.success())
    };
    PYTHONS.into_iter().find(has_pika).map(|name| Python { name, path: folder.to_owned() })
}
