//! What TLS needs beyond an address: whose word is taken on who the broker is, and who this client is.

use std::path::Path;

use convoy_core::Result;
use convoy_core::option::invalid;
use lapin::tcp::{OwnedIdentity, OwnedTLSConfig};

use crate::config::Options;

/// Reads the files anew for each connection: what was renewed counts from the next one on.
pub(crate) fn config(options: &Options) -> Result<OwnedTLSConfig> {
    let mut config = OwnedTLSConfig::default();
    if let Some(file) = &options.tls_ca {
        config.cert_chain = Some(read("tls_ca", file, Holds::Certificates)?);
    }
    if let (Some(cert), Some(key)) = (&options.tls_cert, &options.tls_key) {
        let pem = read("tls_cert", cert, Holds::Certificates)?.into_bytes();
        let key = read("tls_key", key, Holds::Key)?.into_bytes();
        config.identity = Some(OwnedIdentity::PKCS8 { pem, key });
    }
    Ok(config)
}

/// The certificates of `tls_ca`.
#[cfg(all(feature = "management", feature = "tls"))]
pub(crate) fn issuers(options: &Options) -> Result<Option<String>> {
    options.tls_ca.as_ref().map(|file| read("tls_ca", file, Holds::Certificates)).transpose()
}

#[derive(Clone, Copy)]
enum Holds {
    Certificates,
    Key,
}

/// A file of PEM. What is not in it would only show as a broker that cannot be believed, or that does not believe.
fn read(option: &'static str, file: &Path, holds: Holds) -> Result<String> {
    let bad = |why: &str| invalid(option, format!("{} {why}", file.display()));
    let pem = std::fs::read_to_string(file).map_err(|e| bad("cannot be read").caused_by(e))?;
    match holds {
        Holds::Certificates if !pem.contains("-----BEGIN CERTIFICATE-----") => Err(bad("has no certificate as PEM")),
        Holds::Key if pem.contains("ENCRYPTED") => Err(bad("is locked by a password: give the key without one")),
        Holds::Key if !pem.contains("PRIVATE KEY-----") => Err(bad("has no private key as PEM")),
        _ => Ok(pem),
    }
}

#[cfg(test)]
mod tests {
    use convoy_core::ErrorKind;

    use super::*;

    #[test]
    fn a_file_that_is_none_is_named_and_never_shown() {
        let folder = std::env::temp_dir().join(format!("convoy-tls-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let file = |name: &str, text: &str| {
            let path = folder.join(name);
            std::fs::write(&path, text).unwrap();
            path
        };
        let cert = file("cert.pem", "-----BEGIN CERTIFICATE-----\nc2VjcmV0\n-----END CERTIFICATE-----\n");
        let key = file("key.pem", "-----BEGIN PRIVATE KEY-----\nc2VjcmV0\n-----END PRIVATE KEY-----\n");
        let locked = file("locked.pem", "-----BEGIN ENCRYPTED PRIVATE KEY-----\nc2VjcmV0\n");
        let missing = folder.join("missing.pem");
        let options = || Options::new("localhost").tls(true);
        assert!(config(&options().tls_ca(&cert).tls_cert(&cert).tls_key(&key)).is_ok());
        for (options, option, said) in [
            (options().tls_ca(&missing), "tls_ca", "cannot be read"),
            (options().tls_ca(&key), "tls_ca", "no certificate"),
            (options().tls_cert(&key).tls_key(&key), "tls_cert", "no certificate"),
            (options().tls_cert(&cert).tls_key(&missing), "tls_key", "cannot be read"),
            (options().tls_cert(&cert).tls_key(&cert), "tls_key", "no private key"),
            (options().tls_cert(&cert).tls_key(&locked), "tls_key", "password"),
        ] {
            let error = config(&options).err().unwrap();
            assert_eq!((error.kind(), error.context("option")), (ErrorKind::InvalidOption, Some(option)), "{error:?}");
            let shown = format!("{error:?} {error} {options:?}");
            assert!(shown.contains(said) && !shown.contains("c2VjcmV0"), "{shown}");
        }
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
