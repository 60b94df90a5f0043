//! Requests to the HTTP API. The client blocks, so they are made beside the runtime's workers, and have a limit of their own.

use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use convoy_core::{Error, ErrorKind, Finding, Result, Severity};
use serde_json::Value;
use tokio::time::timeout;
use ureq::Agent;
use url::Url;

use super::Address;
use super::policies::TOLD_WITHIN;
use crate::config::Options;

const OPERATION: &str = "ask the HTTP API";
/// Of an answer, in bytes.
const MOST: u64 = 16 << 20;

/// A client of the HTTP API of a broker.
pub(super) struct Api {
    agent: Agent,
    address: Address,
    vhost: String,
    login: String,
    limit: Duration,
}

impl Api {
    /// That of the options, if they name one.
    pub(super) fn of(options: &Options) -> Result<Option<Self>> {
        let Some(address) = options.management.as_deref().map(Address::read).transpose()? else { return Ok(None) };
        let (user, password) = match &address.user {
            Some((user, password)) => (user, password),
            None => (&options.user, &options.password),
        };
        let login = format!("Basic {}", BASE64_STANDARD.encode(format!("{user}:{password}")));
        let config = Agent::config_builder()
            .timeout_global(Some(options.answer_limit))
            .http_status_as_error(false)
            // Nobody else is given the password.
            .max_redirects(0)
            .proxy(None);
        #[cfg(feature = "tls")]
        let config = config.tls_config(tls(options)?);
        let agent = Agent::new_with_config(config.build());
        Ok(Some(Self {
            agent,
            address,
            vhost: options.vhost.clone(),
            login,
            limit: options.answer_limit + TOLD_WITHIN,
        }))
    }

    /// Asks, and gives what was found, within the limit. That nothing could be asked is a finding.
    pub(super) async fn ask(self, look: impl FnOnce(&Self) -> Result<Vec<Finding>> + Send + 'static) -> Vec<Finding> {
        let (shown, limit) = (self.address.url.to_string(), self.limit);
        let asked = tokio::task::spawn_blocking(move || look(&self));
        let why = match timeout(limit, asked).await {
            Ok(Ok(Ok(findings))) => return findings,
            Ok(Ok(Err(why))) => why.to_string(),
            Ok(Err(why)) => why.to_string(),
            Err(_) => format!("no answer within {limit:?}"),
        };
        let what = format!("the HTTP API at {shown} was not asked for policies and the broker's version: {why}");
        let remedy = "have the management plugin on, and give the user the tag `monitoring`, or name one that has it: `management=http://user:password@host:15672`";
        vec![Finding::new(Severity::Warning, "management", what, remedy)]
    }

    /// The answer to a question about the virtual host: `of` is what comes before its name, `rest` what comes behind it.
    pub(super) fn of_vhost(&self, of: &str, rest: &[&str], query: &[(&str, &str)]) -> Result<Value> {
        let path: Vec<&str> = [of, &self.vhost].into_iter().chain(rest.iter().copied()).collect();
        self.get(&path, query)
    }

    /// The answer to a question, as JSON.
    pub(super) fn get(&self, path: &[&str], query: &[(&str, &str)]) -> Result<Value> {
        let url = url(&self.address.url, path, query)?;
        let failed = |why: ureq::Error| match why {
            ureq::Error::Timeout(_) => Error::new(ErrorKind::Timeout, OPERATION).because("it did not answer in time"),
            why => Error::new(ErrorKind::Disconnected, OPERATION).because(why.to_string()),
        };
        let request = self.agent.get(url.as_str()).header("authorization", &self.login);
        let mut answer = request.call().map_err(failed)?;
        let refused = |kind, why: String| Err(Error::new(kind, OPERATION).because(why).with("path", url.path()));
        match answer.status().as_u16() {
            200 => {}
            401 => return refused(ErrorKind::Unauthorized, "it does not take the user, or its password".to_owned()),
            404 => return refused(ErrorKind::NotFound, "it does not have this".to_owned()),
            403 => return refused(ErrorKind::Unauthorized, "the user may not see this".to_owned()),
            other => return refused(ErrorKind::Refused, format!("it answered {other}")),
        }
        let body = answer.body_mut().with_config().limit(MOST).read_to_vec().map_err(failed)?;
        serde_json::from_slice(&body)
            .map_err(|e| Error::new(ErrorKind::Refused, OPERATION).because("its answer is no JSON").caused_by(e))
    }
}

fn url(base: &Url, path: &[&str], query: &[(&str, &str)]) -> Result<Url> {
    let mut url = base.clone();
    match url.path_segments_mut() {
        Ok(mut segments) => {
            segments.pop_if_empty().push("api").extend(path);
        }
        // A URL of HTTP always has a path.
        Err(()) => return Err(Error::new(ErrorKind::InvalidOption, OPERATION).because("`management` has no path")),
    }
    if !query.is_empty() {
        url.query_pairs_mut().extend_pairs(query);
    }
    Ok(url)
}

/// Whose word is taken on who answers: those that the system knows, and those of `tls_ca`.
#[cfg(feature = "tls")]
fn tls(options: &Options) -> Result<ureq::tls::TlsConfig> {
    use std::sync::Arc;

    use ureq::tls::{Certificate, PemItem, RootCerts, TlsConfig, parse_pem};

    let known = rustls_native_certs::load_native_certs().certs;
    let mut roots: Vec<Certificate<'static>> = known.iter().map(|der| Certificate::from_der(der).to_owned()).collect();
    if let Some(pem) = crate::tls::issuers(options)? {
        roots.extend(parse_pem(pem.as_bytes()).filter_map(|item| match item {
            Ok(PemItem::Certificate(certificate)) => Some(certificate),
            _ => None,
        }));
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = TlsConfig::builder().root_certs(RootCerts::Specific(Arc::new(roots)));
    Ok(config.unversioned_rustls_crypto_provider(provider).build())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_in_a_path_are_escaped_and_a_prefix_stays() {
        let base = |text: &str| Url::parse(text).unwrap();
        let path = ["queues", "/", "a b/c?"];
        for (of, is) in [
            ("http://h:1", "http://h:1/api/queues/%2F/a%20b%2Fc%3F"),
            ("http://h:1/", "http://h:1/api/queues/%2F/a%20b%2Fc%3F"),
            ("http://h/rabbit/", "http://h/rabbit/api/queues/%2F/a%20b%2Fc%3F"),
        ] {
            assert_eq!(url(&base(of), &path, &[]).unwrap().as_str(), is);
        }
        assert_eq!(url(&base("http://h"), &["x"], &[("a", "b&c")]).unwrap().as_str(), "http://h/api/x?a=b%26c");
    }
}
