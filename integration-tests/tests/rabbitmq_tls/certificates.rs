//! The certificates of a run: new ones each time, for a few days around it.

use std::fs;
use std::path::Path;

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    date_time_ymd,
};

const HERE: &[&str] = &["localhost", "127.0.0.1"];

/// Writes all of them: `ca.pem` and `other-ca.pem`; `client`, `other-client` and `expired-client` with `.pem` and `.key`; and a folder for each kind of broker.
pub(crate) fn make(folder: &Path) -> Result<(), String> {
    let (ours, other) = (Authority::new("convoy test")?, Authority::new("somebody else")?);
    let write = |name: &str, text: &str| {
        let path = folder.join(name);
        let made = path.parent().map_or(Ok(()), fs::create_dir_all);
        made.and_then(|()| fs::write(&path, text)).map_err(|e| format!("{}: {e}", path.display()))
    };
    let pair = |name: &str, (certificate, key): (String, String)| {
        write(&format!("{name}.pem"), &certificate).and_then(|()| write(&format!("{name}.key"), &key))
    };
    write("ca.pem", &ours.pem)?;
    write("other-ca.pem", &other.pem)?;
    pair("client", ours.client(false)?)?;
    pair("expired-client", ours.client(true)?)?;
    pair("other-client", other.client(false)?)?;
    pair("good/server", ours.server(HERE, false)?)?;
    pair("other-name/server", ours.server(&["broker.example"], false)?)?;
    pair("expired/server", ours.server(HERE, true)?)?;
    pair("asks-clients/server", ours.server(HERE, false)?)?;
    write("asks-clients/clients.pem", &ours.pem)
}

/// Who signs.
struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

impl Authority {
    fn new(name: &str) -> Result<Self, String> {
        let key = KeyPair::generate().map_err(told)?;
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let pem = params.self_signed(&key).map_err(told)?.pem();
        Ok(Self { issuer: Issuer::new(params, key), pem })
    }

    fn server(&self, names: &[&str], expired: bool) -> Result<(String, String), String> {
        self.sign(names, "broker", ExtendedKeyUsagePurpose::ServerAuth, expired)
    }

    fn client(&self, expired: bool) -> Result<(String, String), String> {
        self.sign(&[], "client", ExtendedKeyUsagePurpose::ClientAuth, expired)
    }

    fn sign(
        &self,
        names: &[&str],
        who: &str,
        usage: ExtendedKeyUsagePurpose,
        expired: bool,
    ) -> Result<(String, String), String> {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names).map_err(told)?;
        params.distinguished_name.push(DnType::CommonName, who);
        params.extended_key_usages = vec![usage];
        if expired {
            (params.not_before, params.not_after) = (date_time_ymd(2020, 1, 1), date_time_ymd(2020, 12, 31));
        }
        let key = KeyPair::generate().map_err(told)?;
        let signed = params.signed_by(&key, &self.issuer).map_err(told)?;
        Ok((signed.pem(), key.serialize_pem()))
    }
}

fn told(error: rcgen::Error) -> String {
    format!("certificates: {error}")
}
