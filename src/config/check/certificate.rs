//! Checks of certificates and keys, those of listeners and those that are shown to servers: the files
//! are read, parsed and held against each other, so that nothing is left to fail when they are used.

use super::ocsp::{self, Statement};
use super::{Checker, files};
use crate::config::decode::Located;
use crate::config::file::Certificate;
use crate::config::plan::{self, CertificateFiles, CertificateSource, PrivateKey};
use crate::config::report::Code;
use crate::config::words::HostPattern;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use x509_parser::prelude::{FromDer, GeneralName, ParsedExtension, X509Certificate};

/// A file of certificates or with a key is no larger.
const LARGEST: u64 = 16 << 20;
/// An OCSP response is no larger.
const LARGEST_RESPONSE: u64 = 1 << 20;
const DAY: i64 = 24 * 60 * 60;
/// Days before its end in which a certificate is warned about: those of Let's Encrypt, which live for 90, are renewed
/// with 30 left.
const SOON: i64 = 14;

/// `today`, `tomorrow` or `in 5 days`, for a certificate that is to be renewed now.
pub(crate) fn expires_soon(not_after: i64, now: i64) -> Option<String> {
    match (not_after - now).div_euclid(DAY) {
        ..0 | SOON.. => None,
        0 => Some("today".to_string()),
        1 => Some("tomorrow".to_string()),
        days => Some(format!("in {days} days")),
    }
}

impl<'a> Checker<'a> {
    /// Its policy is for the caller to fill in. `None` when it cannot be used; that was reported.
    pub(super) fn certificate(&mut self, certificate: &'a Located<Certificate>) -> Option<plan::Certificate> {
        if let Some(authority) = &certificate.acme {
            return self.certificate_to_order(certificate, authority);
        }
        let (Some(cert), Some(key)) = (&certificate.cert, &certificate.key) else {
            self.incomplete(certificate);
            return None;
        };
        self.certificate_of_files(certificate, (cert, key))
    }

    fn certificate_to_order(
        &mut self,
        certificate: &'a Located<Certificate>,
        authority: &'a Located<String>,
    ) -> Option<plan::Certificate> {
        if let Some(file) = certificate.cert.as_ref().or(certificate.key.as_ref()) {
            let message = "a certificate is ordered, or its files are given, not both\nremove `acme`, or `cert` and `key`";
            self.error(Code::Conflict, file.span, message);
        }
        if let Some(ocsp) = &certificate.ocsp {
            let message =
                "an OCSP response is given for a certificate that is still to be ordered\nremove `ocsp`";
            self.error(Code::Conflict, ocsp.span, message);
        }
        let ordered = self.ordered(certificate, authority)?;
        let names = ordered.names.iter().cloned().map(HostPattern::Exact).collect();
        Some(plan::Certificate { source: CertificateSource::Ordered(ordered), names, policy: 0 })
    }

    fn incomplete(&mut self, certificate: &Located<Certificate>) {
        if !self.whole {
            return;
        }
        let message = match (&certificate.cert, &certificate.key) {
            (Some(_), _) => "a certificate has no key\nadd `key: FILE`",
            (None, Some(_)) => "a certificate has a key and no chain\nadd `cert: FILE`",
            (None, None) => {
                "a certificate has no files\nadd `cert: FILE` and `key: FILE`, or `acme: NAME` to have it ordered"
            }
        };
        self.error(Code::MissingKey, certificate.span, message);
    }

    fn certificate_of_files(
        &mut self,
        certificate: &Located<Certificate>,
        (cert, key): (&Located<PathBuf>, &Located<PathBuf>),
    ) -> Option<plan::Certificate> {
        let (chain, key) = self.pair(cert, key)?;
        let (_, leaf) = X509Certificate::from_der(chain.first()?).ok()?;
        let names = self.names(certificate, &leaf);
        let files = CertificateFiles {
            cert_file: cert.value.clone(),
            chain: chain.clone(),
            key,
            ocsp: certificate.ocsp.as_ref().and_then(|file| self.ocsp(file, &leaf)),
            not_after: leaf.validity().not_after.timestamp(),
        };
        Some(plan::Certificate { source: CertificateSource::Files(files), names, policy: 0 })
    }

    /// A certificate chain, our own first, and its key: both can be used and belong together. `None`
    /// when not; that was reported. Warns when the certificate is not valid now.
    pub(super) fn pair(
        &mut self,
        cert: &Located<PathBuf>,
        key: &Located<PathBuf>,
    ) -> Option<(Vec<CertificateDer<'static>>, PrivateKey)> {
        let chain = read_chain(&cert.value).map_err(|why| self.error(Code::BadCertificate, cert.span, &why));
        let private = read_key(&key.value).map_err(|why| self.error(Code::BadPrivateKey, key.span, &why));
        let (chain, private) = (chain.ok()?, private.ok()?);
        let parsed: Result<Vec<_>, usize> =
            chain.iter().map(|der| X509Certificate::from_der(der).map_err(|_| der.len())).collect();
        let leaf = match parsed.as_deref() {
            Ok(parsed) => &parsed.first()?.1,
            Err(bytes) => {
                let file = cert.value.display();
                let message = format!("`{file}` holds {bytes} bytes that are not an X.509 certificate");
                self.error(Code::BadCertificate, cert.span, &message);
                return None;
            }
        };
        if let Err(why) = belong_together(&chain, &private) {
            let message = format!("`{}`: {why}", key.value.display());
            self.report
                .error(Code::KeyMismatch, key.span, message)
                .help("give the key that the certificate was made for")
                .related(cert.span, "the certificate is here");
            return None;
        }
        self.validity(cert, leaf);
        Some((chain, PrivateKey(Arc::new(private))))
    }

    /// The response to be shown with a certificate. One that is of no use to a client is left out, with a warning:
    /// fetching it is the work of another program, whose failure is not to be that of the gate.
    fn ocsp(&mut self, file: &Located<PathBuf>, leaf: &X509Certificate<'_>) -> Option<plan::Ocsp> {
        let response = match files::read(&file.value, LARGEST_RESPONSE) {
            Ok(response) => response,
            Err(why) => {
                self.error(Code::BadFile, file.span, &why);
                return None;
            }
        };
        let now = x509_parser::time::ASN1Time::now();
        let why = match ocsp::read(&response, leaf) {
            Ok(statement) if !statement.good => "the certificate is revoked, or not known".to_string(),
            Ok(Statement { next_update: Some(until), .. }) if until < now => {
                format!("it was good until {until}")
            }
            Ok(Statement { next_update, .. }) => {
                let until = next_update.map(|until| until.timestamp());
                return Some(plan::Ocsp { response: response.into(), until });
            }
            Err(why) => why.to_string(),
        };
        let message = format!("the OCSP response in `{}` is not shown: {why}", file.value.display());
        self.report
            .warning(Code::OcspUnfit, file.span, message)
            .help("fetch it anew: openssl ocsp -issuer CHAIN -cert CERT -url URL -respout FILE");
        None
    }

    fn validity(&mut self, cert: &Located<PathBuf>, leaf: &X509Certificate<'_>) {
        let validity = leaf.validity();
        let file = cert.value.display();
        let now = x509_parser::time::ASN1Time::now();
        let message = if validity.not_after < now {
            format!("the certificate in `{file}` has expired on {}", validity.not_after)
        } else if validity.not_before > now {
            format!("the certificate in `{file}` is not valid before {}", validity.not_before)
        } else if let Some(days) = expires_soon(validity.not_after.timestamp(), now.timestamp()) {
            format!("the certificate in `{file}` expires {days}, on {}", validity.not_after)
        } else {
            return;
        };
        self.report
            .warning(Code::CertificateDates, cert.span, message)
            .help("renew it, or correct the clock");
    }

    /// The names given, or those in the certificate.
    fn names(&mut self, certificate: &Certificate, leaf: &X509Certificate<'_>) -> Vec<HostPattern> {
        let own = names_in(leaf);
        if certificate.names.is_empty() {
            return own;
        }
        let mut names = Vec::new();
        for name in &certificate.names {
            match name.value.parse::<HostPattern>() {
                Ok(pattern) => {
                    if !own.iter().any(|own| covers(own, &pattern)) {
                        let message = format!("the certificate does not cover \"{}\"", name.value);
                        let listed: Vec<_> = own.iter().map(ToString::to_string).collect();
                        self.report
                            .warning(Code::CertificateNames, name.span, message)
                            .help(format!("it covers {}", listed.join(", ")));
                    }
                    names.push(pattern);
                }
                Err(why) => self.error(Code::BadPattern, name.span, &why),
            }
        }
        names
    }
}

/// RFC 6125 §6.4.3: a wildcard stands for one label.
fn covers(own: &HostPattern, wanted: &HostPattern) -> bool {
    match (own, wanted) {
        (HostPattern::Below(base), HostPattern::Exact(name)) => {
            name.split_once('.').is_some_and(|(_, rest)| rest == base)
        }
        (own, wanted) => own == wanted,
    }
}

fn names_in(leaf: &X509Certificate<'_>) -> Vec<HostPattern> {
    let extensions = leaf.extensions().iter().map(|e| e.parsed_extension());
    let names = extensions.filter_map(|e| match e {
        ParsedExtension::SubjectAlternativeName(san) => Some(&san.general_names),
        _ => None,
    });
    let dns = names.flatten().filter_map(|name| match name {
        GeneralName::DNSName(name) => name.parse().ok(),
        _ => None,
    });
    dns.collect()
}

/// The certificates of a PEM file: at least one.
pub(super) fn read_chain(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let text = files::read(path, LARGEST)?;
    let chain: Vec<_> = CertificateDer::pem_slice_iter(&text)
        .collect::<Result<_, _>>()
        .map_err(|e| format!("`{}` is damaged: {e}\ngive a PEM file", path.display()))?;
    if chain.is_empty() {
        let what = if contains(&text, b"PRIVATE KEY") { "it holds a private key" } else { "it is not PEM" };
        return Err(format!(
            "`{}` holds no certificate: {what}\ngive a PEM file that begins with -----BEGIN CERTIFICATE-----",
            path.display()
        ));
    }
    Ok(chain)
}

/// These certificates, if rustls takes them for authorities.
pub(super) fn fit(
    file: &Path,
    authorities: Vec<CertificateDer<'static>>,
) -> Result<Vec<CertificateDer<'static>>, String> {
    let mut store = rustls::RootCertStore::empty();
    for authority in &authorities {
        store
            .add(authority.clone())
            .map_err(|error| format!("`{}` holds what cannot be an authority: {error}", file.display()))?;
    }
    Ok(authorities)
}

fn read_key(path: &Path) -> Result<PrivateKeyDer<'static>, String> {
    let text = files::read(path, LARGEST)?;
    if contains(&text, b"ENCRYPTED") {
        return Err(format!(
            "the key in `{}` is encrypted\ndecrypt it: openssl pkey -in {0} -out plain.key, readable by the gate only",
            path.display()
        ));
    }
    PrivateKeyDer::from_pem_slice(&text).map_err(|_| {
        let what =
            if contains(&text, b"BEGIN CERTIFICATE") { "it holds a certificate" } else { "it is not PEM" };
        format!(
            "`{}` holds no private key: {what}\ngive a PEM file with a PKCS#8, PKCS#1 or SEC1 key",
            path.display()
        )
    })
}

fn contains(text: &[u8], word: &[u8]) -> bool {
    text.windows(word.len()).any(|w| w == word)
}

fn belong_together(chain: &[CertificateDer<'static>], key: &PrivateKeyDer<'static>) -> Result<(), String> {
    let signing = rustls::crypto::aws_lc_rs::sign::any_supported_type(key)
        .map_err(|e| format!("this kind of key is not supported ({e})"))?;
    match rustls::sign::CertifiedKey::new(chain.to_vec(), signing).keys_match() {
        Ok(()) | Err(rustls::Error::InconsistentKeys(rustls::InconsistentKeys::Unknown)) => Ok(()),
        Err(_) => Err("the key does not belong to the certificate".to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_soon() {
        let now = 1_800_000_000;
        for (left, words) in [
            (-1, None),
            (0, Some("today")),
            (DAY - 1, Some("today")),
            (DAY, Some("tomorrow")),
            (2 * DAY, Some("in 2 days")),
            (14 * DAY - 1, Some("in 13 days")),
            (14 * DAY, None),
        ] {
            assert_eq!(expires_soon(now + left, now).as_deref(), words, "{left}");
        }
    }
}
