//! What the protocol does not show: the broker's version, and the policies in force on what a group consists of. Both are asked of the HTTP API of the management plugin, when it is named.

#[cfg(feature = "management")]
mod http;
#[cfg(feature = "management")]
mod policies;
#[cfg(feature = "management")]
mod version;

use std::fmt;

use convoy_core::option::invalid;
use convoy_core::{Finding, Result};
use url::Url;

use crate::config::Options;
use crate::names::Names;

/// Where the HTTP API is, and as whom it is asked; as the user of the broker where no other one is named.
#[derive(Clone)]
pub(crate) struct Address {
    #[cfg_attr(not(feature = "management"), allow(dead_code))]
    url: Url,
    #[cfg_attr(not(feature = "management"), allow(dead_code))]
    user: Option<(String, String)>,
}

impl Address {
    /// Reads `http://host:15672`, or `https://` with TLS.
    pub(crate) fn read(text: &str) -> Result<Self> {
        let bad = |why: &str| invalid("management", format!("`management` {why}"));
        if cfg!(not(feature = "management")) {
            return Err(bad(
                "needs a client of HTTP, and this build has none: turn on the feature `management` of convoy-rabbitmq (`rabbitmq-management` of convoy-mq)",
            ));
        }
        let mut url = Url::parse(text).map_err(|e| bad("is no URL: say `http://host:15672`").caused_by(e))?;
        match url.scheme() {
            "http" => {}
            "https" if cfg!(feature = "tls") => {}
            "https" => return Err(bad("with `https://` needs the feature `tls` (`rabbitmq-tls` of convoy-mq)")),
            _ => return Err(bad("is the URL of the HTTP API: `http://host:15672`, or `https://`")),
        }
        if url.host_str().is_none_or(str::is_empty) || url.query().is_some() || url.fragment().is_some() {
            return Err(bad("has a host, a port and perhaps the prefix of a path, and nothing else"));
        }
        let user = match (url.username(), url.password()) {
            ("", None) => None,
            (user, password) => Some((
                crate::config::decoded("management", user)?,
                crate::config::decoded("management", password.unwrap_or_default())?,
            )),
        };
        // Neither is shown, nor sent, as a part of the URL.
        let cleared = url.set_username("").and_then(|()| url.set_password(None));
        cleared.map_err(|()| bad("cannot have a user in it"))?;
        Ok(Self { url, user })
    }

    /// Its host, when whatever is said to it can be read on the way.
    pub(crate) fn plain_host(&self) -> Option<&str> {
        self.url.host_str().filter(|_| self.url.scheme() == "http")
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let user = self.user.as_ref().map(|(user, _)| user);
        f.debug_struct("Address").field("url", &self.url.as_str()).field("user", &user).finish()
    }
}

/// What is wrong with the broker's version, and with the policies on these groups; nothing, when no HTTP API is named. One that cannot be asked is a finding, too.
#[cfg(feature = "management")]
pub(crate) async fn look(options: &Options, groups: &[Names]) -> Result<Vec<Finding>> {
    let Some(api) = http::Api::of(options)? else { return Ok(Vec::new()) };
    let (groups, wanted) = (groups.to_vec(), policies::Wanted::of(options));
    Ok(api
        .ask(move |api, findings| {
            findings.extend(version::look(api)?);
            for names in &groups {
                findings.extend(policies::look(api, names, &wanted)?);
            }
            Ok(())
        })
        .await)
}

/// Without a client of HTTP nothing is asked; the option is refused.
#[cfg(not(feature = "management"))]
pub(crate) async fn look(_: &Options, _: &[Names]) -> Result<Vec<Finding>> {
    Ok(Vec::new())
}

#[cfg(test)]
#[cfg(feature = "management")]
mod tests {
    use convoy_core::ErrorKind;

    use super::*;

    #[test]
    fn an_address_has_a_host_and_shows_no_password() {
        let address = Address::read("http://watcher:s%40cret@localhost:15672/rabbit").unwrap();
        assert_eq!(address.user, Some(("watcher".to_owned(), "s@cret".to_owned())));
        assert_eq!((address.url.as_str(), address.plain_host()), ("http://localhost:15672/rabbit", Some("localhost")));
        let shown = format!("{address:?}");
        assert!(shown.contains("watcher") && !shown.contains("cret\""), "{shown}");
        for wrong in ["15672", "localhost:15672", "amqp://localhost", "http://", "http://a?b=c", "http://a#b"] {
            let error = Address::read(wrong).err().unwrap_or_else(|| panic!("{wrong} is taken"));
            assert_eq!((error.kind(), error.context("option")), (ErrorKind::InvalidOption, Some("management")));
        }
        assert_eq!(Address::read("https://localhost").is_ok(), cfg!(feature = "tls"));
    }
}
