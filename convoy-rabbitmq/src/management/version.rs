//! Which release the broker is of.

use convoy_core::{Finding, Result, Severity};

use super::http::Api;

/// The first release that the suite has passed on.
const FIRST: (u32, u32) = (3, 10);

/// What is wrong with the version, if something is.
pub(super) fn look(api: &Api) -> Result<Option<Finding>> {
    let overview = api.get(&["overview"], &[("columns", "rabbitmq_version")])?;
    Ok(judge(overview.get("rabbitmq_version").and_then(|version| version.as_str())))
}

fn judge(version: Option<&str>) -> Option<Finding> {
    let (major, minor) = FIRST;
    let Some((version, number)) = version.and_then(|version| Some((version, number(version)?))) else {
        let what = "the broker does not say which release it is of".to_owned();
        let remedy = format!("make sure that it is RabbitMQ {major}.{minor} or later");
        return Some(Finding::new(Severity::Note, "server-version", what, remedy));
    };
    (number < FIRST).then(|| {
        let what = format!(
            "RabbitMQ {version} is older than {major}.{minor}: its quorum queues and their single active consumer are not those that the guarantees rest on"
        );
        Finding::new(Severity::Breaks, "server-version", what, format!("upgrade it to {major}.{minor} or later"))
    })
}

fn number(version: &str) -> Option<(u32, u32)> {
    let mut parts = version.split(['.', '-', '+']);
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_older_than_the_suite_has_seen_breaks() {
        for fine in ["3.10.0", "3.10.8", "3.13.7", "4.0.5", "4.3.6", "4.3", "5.0.0-rc.1", "3.10-beta.2"] {
            assert_eq!(judge(Some(fine)), None, "{fine}");
        }
        for old in ["3.9.29", "3.8.34", "2.8.7", "3.9.0-rc.1"] {
            let finding = judge(Some(old)).unwrap();
            assert_eq!((finding.severity, finding.code), (Severity::Breaks, "server-version"));
            assert!(finding.what.contains(old), "{finding}");
        }
        for unknown in [None, Some(""), Some("4"), Some("main"), Some("x.y")] {
            assert_eq!(judge(unknown).unwrap().severity, Severity::Note, "{unknown:?}");
        }
    }
}
