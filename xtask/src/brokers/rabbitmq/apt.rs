//! Where this machine gets its Debian packages: what a broker is made of comes from there too.

use std::fs;
use std::path::{Path, PathBuf};

/// Names a mirror when the machine's own sources do not, or do not have every suite.
const OVERRIDE: &str = "CONVOY_DEBIAN_MIRROR";

/// A Debian mirror.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Mirror {
    pub(super) url: String,
    /// The keys that sign it, when the machine's sources name a file of them and they are not Debian's own.
    pub(super) keyring: Option<PathBuf>,
    /// The machine's sources say that it is trusted without a signature.
    pub(super) trusted: bool,
}

/// The mirror of this machine.
pub(super) fn mirror() -> Result<Mirror, String> {
    if let Some(url) = std::env::var(OVERRIDE).ok().filter(|url| !url.is_empty()) {
        return Ok(Mirror { url, ..Mirror::default() });
    }
    let found = files(Path::new("/etc/apt")).into_iter().find_map(|file| {
        let text = fs::read_to_string(&file).ok()?;
        if file.extension().is_some_and(|kind| kind == "sources") { in_stanzas(&text) } else { in_lines(&text) }
    });
    found.ok_or_else(|| {
        format!("no Debian mirror in /etc/apt: name one that has the suites, as in `{OVERRIDE}=http://…/debian`")
    })
}

/// What apt itself reads, in its order.
fn files(folder: &Path) -> Vec<PathBuf> {
    let listed = fs::read_dir(folder.join("sources.list.d")).into_iter().flatten().flatten();
    let is_read = |path: &PathBuf| path.extension().is_some_and(|kind| kind == "sources" || kind == "list");
    let mut parts: Vec<PathBuf> = listed.map(|entry| entry.path()).filter(is_read).collect();
    parts.sort();
    parts.insert(0, folder.join("sources.list"));
    parts
}

/// The first Debian mirror in the one-line form: `deb [option=value …] URL SUITE COMPONENT…`.
fn in_lines(text: &str) -> Option<Mirror> {
    text.lines().find_map(|line| {
        let line = line.split('#').next()?.trim();
        let rest = line.strip_prefix("deb").filter(|rest| rest.starts_with([' ', '\t', '[']))?.trim_start();
        let (options, rest) = match rest.strip_prefix('[') {
            Some(rest) => rest.split_once(']')?,
            None => ("", rest),
        };
        let mut words = rest.split_whitespace();
        let (url, suite) = (words.next()?, words.next()?);
        let option = |name: &str| {
            let pairs = options.split_whitespace().filter_map(|word| word.split_once('='));
            pairs.filter(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value).next()
        };
        let main = words.any(|component| component == "main");
        (main && is_debian(suite)).then(|| made(url, option("signed-by"), option("trusted")))?
    })
}

/// The first Debian mirror in the form of stanzas (deb822).
fn in_stanzas(text: &str) -> Option<Mirror> {
    // Comments may stand inside of a stanza and end nothing.
    let lines: Vec<&str> = text.lines().filter(|line| !line.starts_with('#')).collect();
    lines.split(|line| line.trim().is_empty()).find_map(|stanza| {
        let field = |name: &str| field(stanza, name);
        let has = |name: &str, fits: &dyn Fn(&str) -> bool| {
            field(name).is_some_and(|value| value.split_whitespace().any(fits))
        };
        let off = field("Enabled").is_some_and(|value| value.eq_ignore_ascii_case("no"));
        let fits =
            has("Types", &|kind| kind == "deb") && has("Suites", &is_debian) && has("Components", &|c| c == "main");
        if off || !fits {
            return None;
        }
        let url = field("URIs")?;
        let url = url.split_whitespace().next()?;
        made(url, field("Signed-By").as_deref(), field("Trusted").as_deref())
    })
}

/// The value of a field, with its continued lines.
fn field(stanza: &[&str], name: &str) -> Option<String> {
    let at = stanza.iter().position(|line| line.split(':').next().is_some_and(|key| key.eq_ignore_ascii_case(name)))?;
    let first = stanza.get(at)?.split_once(':')?.1;
    let more = stanza.iter().skip(at + 1).take_while(|line| line.starts_with([' ', '\t'])).copied();
    Some(std::iter::once(first).chain(more).map(str::trim).collect::<Vec<_>>().join(" ").trim().to_owned())
}

fn made(url: &str, keys: Option<&str>, trusted: Option<&str>) -> Option<Mirror> {
    // What debootstrap can fetch from.
    let fetched = ["http://", "https://", "file:"].iter().any(|scheme| url.starts_with(scheme));
    // Debian's own keys, which debootstrap knows, may be named by a file that has those of one suite only; and keys may stand in the sources themselves.
    let is_file_of_others =
        |keys: &&str| keys.starts_with('/') && !keys.contains([' ', ',', '\n']) && !keys.contains("/debian-archive-");
    let keyring = keys.filter(is_file_of_others);
    let trusted = trusted.is_some_and(|value| value.eq_ignore_ascii_case("yes"));
    fetched.then(|| Mirror { url: url.to_owned(), keyring: keyring.map(PathBuf::from), trusted })
}

/// Whether a suite is a whole one of Debian: not its updates, and not another maker's packages for it.
fn is_debian(suite: &str) -> bool {
    let names =
        ["oldstable", "stable", "testing", "unstable", "sid", "bullseye", "bookworm", "trixie", "forky", "duke"];
    names.contains(&suite)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(url: &str) -> Mirror {
        Mirror { url: url.into(), ..Mirror::default() }
    }

    #[test]
    fn one_line_sources() {
        let text = "\
# deb http://commented.example/debian bookworm main
deb-src http://source.example/debian bookworm main
deb http://tools.example/apt bookworm stable
deb http://other.example/apt bookworm-tools main
deb cdrom:[Debian]/ bookworm main
deb http://security.example/debian-security bookworm-security main
deb\thttp://mirror.example/debian\tbookworm  contrib main # the one
deb http://later.example/debian bookworm main
";
        assert_eq!(in_lines(text), Some(at("http://mirror.example/debian")));
    }

    #[test]
    fn options_of_one_line_sources() {
        let text =
            "deb [arch=amd64 signed-by=/usr/share/keyrings/a.gpg trusted=yes] https://mirror.example/d trixie main";
        let keyring = Some(PathBuf::from("/usr/share/keyrings/a.gpg"));
        assert_eq!(in_lines(text), Some(Mirror { keyring, trusted: true, ..at("https://mirror.example/d") }));
        let debian = "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] http://m.example/debian sid main";
        assert_eq!(in_lines(debian), Some(at("http://m.example/debian")));
        for broken in
            ["deb", "deb [", "deb [a=b", "deb [a=b]", "deb http://x.example", "deb http://x.example sid", "[]", ""]
        {
            assert_eq!(in_lines(broken), None, "{broken}");
        }
    }

    #[test]
    fn stanzas() {
        let text = "\
Types: deb
URIs: http://security.example/debian-security
Suites: bookworm-security
Components: main

Enabled: no
Types: deb
URIs: http://off.example/debian
Suites: bookworm
Components: main

Types: deb-src
URIs: http://source.example/debian
Suites: bookworm
Components: main

types: deb deb-src
# http://comment.example/debian
URIs: http://mirror.example/debian
  http://second.example/debian
Suites: bookworm-updates
 bookworm
Components: main
Signed-By: /usr/share/keyrings/ours.gpg
";
        let keyring = Some(PathBuf::from("/usr/share/keyrings/ours.gpg"));
        assert_eq!(in_stanzas(text), Some(Mirror { keyring, ..at("http://mirror.example/debian") }));
    }

    #[test]
    fn keys_inside_of_a_stanza_are_no_file() {
        let text = "Types: deb\nURIs: http://m.example/debian\nSuites: sid\nComponents: main\nSigned-By:\n -----BEGIN PGP\n .\n x\n";
        assert_eq!(in_stanzas(text), Some(at("http://m.example/debian")));
        for broken in [
            "",
            ":",
            "Types",
            "Types: deb\nSuites: sid\nComponents: main",
            "Types: deb\nURIs:\nSuites: sid\nComponents: main",
        ] {
            assert_eq!(in_stanzas(broken), None, "{broken}");
        }
    }
}
