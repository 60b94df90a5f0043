//! Requests to the HTTP API. The client blocks, so they are made beside the runtime's workers, and have a limit of their own.

use std::time::{Duration, Instant};

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
/// A request may end so much later than its limit says.
const SLACK: Duration = Duration::from_secs(1);
/// Of an answer, in bytes.
const MOST: u64 = 16 << 20;

/// A client of the HTTP API of a broker.
pub(super) struct Api {
    agent: Agent,
    address: Address,
    vhost: String,
    login: String,
    /// Of one answer.
    limit: Duration,
    /// All that the broker has not told by then stays untold.
    pub(super) told_by: Instant,
    /// Nothing is asked from then on, whatever the answers say of more.
    until: Instant,
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
            limit: options.answer_limit,
            told_by: Instant::now() + TOLD_WITHIN,
            until: Instant::now() + TOLD_WITHIN + options.answer_limit,
        }))
    }

    /// Asks, and gives what was found, within the limit. That not everything could be asked is a finding, beside those that there are by then.
    pub(super) async fn ask(
        self,
        look: impl FnOnce(&Self, &mut Vec<Finding>) -> Result<()> + Send + 'static,
    ) -> Vec<Finding> {
        let (shown, limit) = (self.address.url.to_string(), self.until.saturating_duration_since(Instant::now()));
        let asked = tokio::task::spawn_blocking(move || {
            let mut findings = Vec::new();
            let ended = look(&self, &mut findings);
            (findings, ended)
        });
        // It ends by itself; this is for a machine that gives it no thread.
        let (mut findings, why) = match timeout(limit + SLACK, asked).await {
            Ok(Ok((findings, Ok(())))) => return findings,
            Ok(Ok((findings, Err(why)))) => (findings, why.to_string()),
            Ok(Err(why)) => (Vec::new(), why.to_string()),
            Err(_) => (Vec::new(), format!("no answer within {limit:?}")),
        };
        let what = format!("the HTTP API at {shown} did not tell all of the policies and the broker's version: {why}");
        let remedy = "have the management plugin on, and give the user the tag `monitoring`, or name one that has it: `management=http://user:password@host:15672`";
        findings.push(Finding::new(Severity::Warning, "management", what, remedy));
        findings
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
        let left = self.until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(Error::new(ErrorKind::Timeout, OPERATION).because("its answers took too long, or had no end"));
        }
        let request = self.agent.get(url.as_str()).header("authorization", &self.login);
        let request = request.config().timeout_global(Some(self.limit.min(left))).build();
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
    use std::io::{Read, Write};
    use std::net::TcpListener;

    use super::*;

    /// Answers each request with this, until nobody asks any more.
    fn answering(body: &'static str) -> Options {
        let server = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = server.local_addr().unwrap().port();
        std::thread::spawn(move || {
            for stream in server.incoming() {
                let mut stream = stream.unwrap();
                std::thread::spawn(move || {
                    let mut request = [0; 4096];
                    while stream.read(&mut request).is_ok_and(|read| read > 0) {
                        let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len());
                        if stream.write_all(head.as_bytes()).is_err() {
                            return;
                        }
                    }
                });
            }
        });
        Options::new("localhost").management(format!("http://127.0.0.1:{port}"))
    }

    #[tokio::test]
    async fn answers_that_have_no_end_are_given_up_and_what_was_found_is_kept() {
        let options = answering(r#"{"items": [], "page_count": 18446744073709551615}"#);
        let mut api = Api::of(&options).unwrap().unwrap();
        api.until = Instant::now() + Duration::from_millis(300);
        let found = api.ask(|api, findings| {
            findings.push(Finding::new(Severity::Breaks, "max-length", "found before", "-"));
            loop {
                api.of_vhost("queues", &[], &[])?;
            }
        });
        let found = timeout(Duration::from_secs(20), found).await.expect("it ends");
        assert_eq!(found.iter().map(|finding| finding.code).collect::<Vec<_>>(), ["max-length", "management"]);
    }

    #[tokio::test]
    async fn garbage_is_told_and_nothing_else_comes_of_it() {
        for body in ["", "[", "nonsense", "<html>"] {
            let api = Api::of(&answering(body)).unwrap().unwrap();
            let found = api.ask(|api, _| api.get(&["overview"], &[]).map(drop)).await;
            assert!(found.len() == 1 && found[0].what.contains("no JSON"), "{body}: {found:?}");
        }
    }

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
