//! What must not compile does not, and says what to do instead; what is accepted compiles.
//!
//! Each file of `tests/ui` is compiled twice, by the compiler that built this test and against the library that was built for it. As it stands it
//! must be refused, with an error that contains each text after `//~`; under `--cfg fixed` it must compile, so that it is refused for that reason
//! and no other. The texts are error codes and this crate's own words, never rustc's sentences, which change from version to version. That is
//! why this is not `trybuild`: it compares whole messages, and builds all dependencies a second time.
//!
//! `accepted.rs` has no `//~` and must compile as it stands, by which the library is found; what it shows runs in the tests of the facade.

#![cfg(all(feature = "runtime", feature = "json"))]

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::SystemTime;

#[test]
fn what_must_not_compile_says_why() {
    let library = Library::find();
    let mut refused = 0;
    let mut wrong = Vec::new();
    for file in files() {
        let expected = expected(&file);
        if expected.is_empty() {
            continue;
        }
        refused += 1;
        let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let output = library.compile(&file, &[]);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        if output.status.success() {
            wrong.push(format!("{name} compiles"));
        }
        let missing = expected.iter().filter(|text| !said.contains(text.as_str()));
        wrong.extend(missing.map(|text| format!("{name} is refused without `{text}`:\n{said}")));
        let fixed = library.compile(&file, &["--cfg", "fixed"]);
        if !fixed.status.success() {
            wrong.push(format!("{name} is refused when fixed:\n{}", String::from_utf8_lossy(&fixed.stderr)));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
    assert!(refused >= 12, "only {refused} files were tried");
}

/// The library as it was built for this test: what the newest build of it compiles with.
struct Library {
    folder: PathBuf,
    library: PathBuf,
}

impl Library {
    fn find() -> Self {
        let test = std::env::current_exe().expect("the test's own path");
        let folder = test.parent().expect("its folder").to_owned();
        let mut built: Vec<(SystemTime, PathBuf)> = std::fs::read_dir(&folder)
            .expect("what was built")
            .filter_map(Result::ok)
            .map(|entry| entry.path())
            .filter(|path| is_library(path))
            .filter_map(|path| Some((path.metadata().ok()?.modified().ok()?, path)))
            .collect();
        built.sort();
        let accepted = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/ui/accepted.rs");
        let mut said = String::from("there is no library beside this test");
        // Others may be of other features or of another compiler.
        for (_, library) in built.into_iter().rev() {
            let candidate = Self { folder: folder.clone(), library };
            let output = candidate.compile(&accepted, &[]);
            if output.status.success() {
                return candidate;
            }
            said = String::from_utf8_lossy(&output.stderr).into_owned();
        }
        panic!("what is accepted does not compile: {said}");
    }

    fn compile(&self, file: &Path, with: &[&str]) -> Output {
        let named = |name: &str, path: &Path| {
            let mut argument = OsString::from(name);
            argument.push(path);
            argument
        };
        let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
        Command::new(rustc)
            .args(["--edition", "2024", "--crate-type", "bin", "--crate-name", "ui", "--emit", "metadata"])
            .args(["--check-cfg", "cfg(fixed)", "-A", "warnings", "-o"])
            // A file of its own, which nobody reads: the compiler renames what it wrote to this name, and to root's `/dev/null` too.
            .arg(Path::new(env!("CARGO_TARGET_TMPDIR")).join("ui.rmeta"))
            .arg("-L")
            .arg(named("dependency=", &self.folder))
            .arg("--extern")
            .arg(named("convoy_core=", &self.library))
            .args(with)
            .arg(file)
            .output()
            .expect("the compiler runs")
    }
}

fn is_library(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    name.starts_with("libconvoy_core-") && name.ends_with(".rlib")
}

fn files() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/ui");
    let mut files: Vec<_> =
        std::fs::read_dir(folder).expect("the folder").map(|e| e.expect("an entry").path()).collect();
    files.sort();
    files
}

fn expected(file: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(file).expect("a readable file");
    text.lines().filter_map(|line| line.strip_prefix("//~ ")).map(str::to_owned).collect()
}
