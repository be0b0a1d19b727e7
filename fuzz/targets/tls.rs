//! What clients send before they are known: a ClientHello (when the first byte is even), whose name leads to certificates
//! and a policy as a scan of all names does; and a certificate (when it is odd), which is told in printable ASCII.

use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use std::sync::{Arc, LazyLock};
use weirgate::config::file::{TlsVersion, UnknownNames};
use weirgate::config::plan::{
    Certificate, CertificateFiles, CertificateSource, PrivateKey, Tls, TlsPolicy, TlsSettings,
};
use weirgate::config::words::HostPattern;
use weirgate::http::ClientCertificate;

const NAMES: &[&[&str]] = &[
    &["www.example.com", "example.com"],
    &["*.example.com", "b.example.com"],
    &["b.example.com", "*.b.example.com"],
    &["localhost"],
];

static PLANS: LazyLock<[Tls; 2]> = LazyLock::new(|| [UnknownNames::Default, UnknownNames::Refuse].map(plan));

fn plan(unknown_names: UnknownNames) -> Tls {
    let certificate = |(at, names): (usize, &&[&str])| {
        let files = CertificateFiles {
            cert_file: format!("{at}.crt").into(),
            chain: Vec::new(),
            key: PrivateKey(Arc::new(PrivateKeyDer::Pkcs8(Vec::new().into()))),
            ocsp: None,
            not_after: 0,
        };
        let certificate = Certificate {
            source: CertificateSource::Files(files),
            names: names.iter().map(|name| name.parse().expect("a name")).collect(),
            policy: 0,
        };
        let strict = TlsPolicy { min_version: TlsVersion::V1_3, ..TlsPolicy::default() };
        (certificate, if at == 3 { strict } else { TlsPolicy::default() })
    };
    let certificates = NAMES.iter().enumerate().map(certificate).collect();
    Tls::new(certificates, TlsSettings { unknown_names, ..TlsSettings::default() })
}

pub fn run(data: &[u8]) {
    match data.split_first() {
        Some((kind, data)) if kind % 2 == 0 => hello(data),
        Some((_, data)) => certificate(data),
        None => {}
    }
}

fn hello(mut data: &[u8]) {
    let mut acceptor = rustls::server::Acceptor::default();
    while !data.is_empty() {
        if acceptor.read_tls(&mut data).is_err() {
            return;
        }
        match acceptor.accept() {
            Ok(Some(accepted)) => {
                return PLANS.iter().for_each(|tls| agrees(tls, accepted.client_hello().server_name()));
            }
            Ok(None) => {}
            Err(_) => return,
        }
    }
}

/// With a scan of all names.
fn agrees(tls: &Tls, name: Option<&str>) {
    let serving = |fits: &dyn Fn(&HostPattern) -> bool| -> Vec<usize> {
        let all = tls.certificates.iter().enumerate();
        all.filter(|(_, certificate)| certificate.names.iter().any(fits)).map(|(at, _)| at).collect()
    };
    let name = name.unwrap_or_default();
    let above = name.split_once('.').map(|(_, above)| above);
    let mut expected = serving(&|pattern| matches!(pattern, HostPattern::Exact(exact) if exact == name));
    if expected.is_empty() {
        expected =
            serving(&|pattern| matches!(pattern, HostPattern::Below(base) if Some(base.as_str()) == above));
    }
    assert_eq!(tls.serving(name), expected, "{name}");
    let policy = match (expected.first(), tls.settings.unknown_names) {
        (Some(first), _) => Some(tls.certificates[*first].policy),
        (None, UnknownNames::Default) => Some(0),
        (None, UnknownNames::Refuse) => None,
    };
    assert_eq!(tls.policy(Some(name)), policy, "{name}");
}

fn certificate(data: &[u8]) {
    let Ok(read) = ClientCertificate::read(&CertificateDer::from(data)) else { return };
    let printable = |text: &String| text.bytes().all(|byte| (b' '..=b'~').contains(&byte));
    assert!(printable(&read.subject) && read.san.iter().all(printable), "{read:?}");
    assert!(read.fingerprint.len() == 64 && &*read.der == data, "{read:?}");
}
