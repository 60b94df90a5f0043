//! Reading the sources: which files there are, what of a file is code, and what it imports.

use std::fs;
use std::path::Path;

use crate::command::{program, root};

/// A file of the project.
pub(crate) struct File {
    /// From the root of the workspace.
    pub(crate) path: String,
    pub(crate) text: String,
}

impl File {
    /// The lines that are neither comment nor empty, up to the file's own tests, each with its number.
    pub(crate) fn code(&self) -> impl Iterator<Item = (usize, &str)> {
        let lines = self.text.lines().enumerate().map(|(at, line)| (at + 1, line));
        let code = lines.take_while(|(_, line)| !line.starts_with("#[cfg(test)]"));
        code.filter(|(_, line)| !line.trim().is_empty() && !line.trim_start().starts_with("//"))
    }

    /// The first line of code that has one of these words.
    pub(crate) fn mentions(&self, words: &[&str]) -> Option<String> {
        self.code().find_map(|(at, line)| {
            let word = words.iter().find(|word| has_word(line, word))?;
            Some(format!("{}:{at} has `{word}`", self.path))
        })
    }
}

/// The Rust files below a folder, but for those of its tests.
pub(crate) fn below(folder: &str) -> Result<Vec<File>, String> {
    let mut files = Vec::new();
    collect(&root().join(folder), &mut files)?;
    if files.is_empty() {
        return Err(format!("{folder} has no Rust file: a rule that looks at nothing holds of nothing"));
    }
    files.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(files)
}

fn collect(folder: &Path, files: &mut Vec<File>) -> Result<(), String> {
    let listed = fs::read_dir(folder).map_err(|e| format!("{}: {e}", folder.display()))?;
    for path in listed.flatten().map(|entry| entry.path()) {
        if path.is_dir() && path.file_name().is_some_and(|name| name != "tests") {
            collect(&path, files)?;
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(open(&path)?);
        }
    }
    Ok(())
}

/// One file, by its path from the root.
pub(crate) fn file(path: &str) -> Result<File, String> {
    open(&root().join(path))
}

fn open(path: &Path) -> Result<File, String> {
    let text = fs::read_to_string(path).map_err(|e| format!("{}: {e}", path.display()))?;
    let path = path.strip_prefix(root()).unwrap_or(path).display().to_string();
    Ok(File { path, text })
}

/// What is under version control and is text.
pub(crate) fn tracked() -> Result<Vec<File>, String> {
    let listed = program("git", ["ls-files", "-z"]).read()?;
    let paths = listed.split('\0').filter(|path| !path.is_empty() && root().join(path).exists());
    Ok(paths.filter_map(|path| file(path).ok()).collect())
}

/// The names of the packages that a manifest asks for in this section.
pub(crate) fn dependencies(manifest: &str, section: &str) -> Result<Vec<String>, String> {
    let file = file(manifest)?;
    let mut inside = false;
    let mut names = Vec::new();
    for line in file.text.lines().map(str::trim) {
        if line.starts_with('[') {
            inside = line == format!("[{section}]");
        } else if inside && !line.starts_with('#') {
            let name = line.split(['=', '.', ' ']).next().unwrap_or_default();
            names.extend((!name.is_empty()).then(|| name.to_owned()));
        }
    }
    Ok(names)
}

fn has_word(line: &str, word: &str) -> bool {
    let inside = |c: char| c.is_alphanumeric() || c == '_';
    line.match_indices(word).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        let after = line[at + word.len()..].chars().next();
        !before.is_some_and(inside) && !after.is_some_and(inside)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(text: &str) -> File {
        File { path: "a.rs".into(), text: text.into() }
    }

    #[test]
    fn comments_and_tests_are_no_code() {
        let file = file("//! tokio\nuse std::fmt;\n\n/// tokio\nfn f() {}\n#[cfg(test)]\nmod tests { use tokio; }\n");
        assert_eq!(file.code().map(|(at, _)| at).collect::<Vec<_>>(), [2, 5]);
        assert!(file.mentions(&["tokio"]).is_none());
    }

    #[test]
    fn a_word_is_whole() {
        let file = file("use tokio_util::sync;\nuse tokio::sync;\n");
        assert_eq!(file.mentions(&["tokio"]).as_deref(), Some("a.rs:2 has `tokio`"));
        assert!(file.mentions(&["std::time::Instant"]).is_none());
    }
}
