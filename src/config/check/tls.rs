//! Checks of `tls` of a listener: its certificates, and the terms on which clients are met under each name.

use super::Checker;
use super::certificate::{fit, read_chain};
use super::files;
use crate::config::decode::Located;
use crate::config::file::{self, Certificate, ClientAuthMode, OrOff, Tls, TlsVersion};
use crate::config::plan::{self, ClientAuth, TicketKey, TlsPolicy, TlsSettings};
use crate::config::report::{Code, Span};
use crate::config::words::HostPattern;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rustls_pki_types::CertificateRevocationListDer;
use rustls_pki_types::pem::PemObject;
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use x509_parser::prelude::{CertificateRevocationList, FromDer};

/// A file of revoked certificates is no larger.
const LARGEST: u64 = 64 << 20;
/// A file of keys for tickets is no larger.
const LARGEST_KEYS: u64 = 1 << 20;
const SHORTEST_KEY: usize = 32;
/// RFC 8446 §4.6.1.
const LONGEST_TICKET: Duration = Duration::from_secs(7 * 24 * 60 * 60);

impl<'a> Checker<'a> {
    /// `None` when a certificate cannot be used; that was reported.
    pub(super) fn tls(&mut self, who: &str, tls: &'a Located<Tls>) -> Option<plan::Tls> {
        if tls.certificates.is_empty() && tls.passthrough.is_empty() && self.whole {
            let message = format!(
                "{who} has tls without a certificate\nadd `certificates: [{{ cert: FILE, key: FILE }}]`"
            );
            self.error(Code::MissingKey, tls.span, &message);
        }
        let client_auth = match &tls.client_auth {
            Some(auth) => Some(self.client_auth(auth)?),
            None => None,
        };
        let of_listener =
            TlsPolicy { min_version: tls.min_version, max_version: tls.max_version, client_auth };
        self.versions(&format!("tls of {who}"), tls.span, &of_listener);
        let all: Vec<_> = tls
            .certificates
            .iter()
            .map(|certificate| {
                let policy = self.policy(certificate, &of_listener);
                Some((self.certificate(certificate)?, policy?))
            })
            .collect();
        let certificates = all.into_iter().collect::<Option<Vec<_>>>()?;
        self.one_policy_for_a_name(&tls.certificates, &certificates);
        let tickets = self.tickets(who, tls)?;
        let shown: Vec<_> = certificates.iter().map(|(certificate, _)| certificate.clone()).collect();
        let passthrough = self.passthrough(who, tls, &shown);
        let (ciphers, unknown_names) = (tls.ciphers.clone(), tls.unknown_names);
        let settings = TlsSettings { ciphers, unknown_names, tickets, passthrough };
        Some(plan::Tls::new(certificates, settings))
    }

    /// That of the listener, with what the certificate says otherwise.
    fn policy(&mut self, certificate: &Located<Certificate>, of_listener: &TlsPolicy) -> Option<TlsPolicy> {
        let client_auth = match &certificate.client_auth {
            None => of_listener.client_auth.clone(),
            Some(OrOff::Off) => None,
            Some(OrOff::On(auth)) => Some(self.client_auth(auth)?),
        };
        let policy = TlsPolicy {
            min_version: certificate.min_version.unwrap_or(of_listener.min_version),
            max_version: certificate.max_version.unwrap_or(of_listener.max_version),
            client_auth,
        };
        if certificate.min_version.is_some() || certificate.max_version.is_some() {
            self.versions("the certificate", certificate.span, &policy);
        }
        Some(policy)
    }

    fn versions(&mut self, who: &str, span: Span, policy: &TlsPolicy) {
        if (policy.min_version, policy.max_version) == (TlsVersion::V1_3, TlsVersion::V1_2) {
            let message = format!(
                "{who} accepts no version: min_version is 1.3 and max_version is 1.2\nraise max_version, or lower min_version"
            );
            self.error(Code::Conflict, span, &message);
        }
    }

    /// The terms are looked up by name, so that two certificates for one name have the same.
    fn one_policy_for_a_name(
        &mut self,
        written: &[Located<Certificate>],
        resolved: &[(plan::Certificate, TlsPolicy)],
    ) {
        let mut first: HashMap<&HostPattern, (Span, &TlsPolicy)> = HashMap::new();
        for (written, (certificate, policy)) in written.iter().zip(resolved) {
            for name in &certificate.names {
                let (span, earlier) = *first.entry(name).or_insert((written.span, policy));
                if earlier != policy {
                    let message =
                        format!("two certificates for \"{name}\" differ in versions or client_auth");
                    self.report
                        .error(Code::Conflict, written.span, message)
                        .help("write the same for both, or give them different names")
                        .related(span, "the first is here");
                    break;
                }
            }
        }
    }

    /// `None` when its files cannot be used; that was reported.
    #[expect(clippy::option_option, reason = "there may rightly be none")]
    fn tickets(&mut self, who: &str, tls: &Located<Tls>) -> Option<Option<plan::Tickets>> {
        let OrOff::On(tickets) = &tls.tickets else { return Some(None) };
        let lifetime = tickets.lifetime.0;
        if lifetime.as_secs() == 0 || lifetime > LONGEST_TICKET || lifetime.subsec_nanos() != 0 {
            let message = format!(
                "tickets.lifetime of {who} is {}\nuse whole seconds, from 1s to 7d (RFC 8446 §4.6.1), or `tickets: off`",
                tickets.lifetime
            );
            self.error(Code::InvalidValue, tls.span, &message);
        }
        let mut keys = Vec::new();
        for file in &tickets.keys.0 {
            match read_ticket_keys(&file.value) {
                Ok(read) => keys.extend(read),
                Err(why) => self.error(Code::BadFile, file.span, &why),
            }
        }
        (tickets.keys.0.is_empty() || !keys.is_empty()).then_some(Some(plan::Tickets { keys, lifetime }))
    }

    /// `None` when its files cannot be used; that was reported.
    fn client_auth(&mut self, auth: &Located<file::ClientAuth>) -> Option<Arc<ClientAuth>> {
        let mut ca = Vec::new();
        for file in &auth.ca.0 {
            match read_chain(&file.value).and_then(|authorities| fit(&file.value, authorities)) {
                Ok(authorities) => ca.extend(authorities),
                Err(why) => self.error(Code::BadCertificate, file.span, &why),
            }
        }
        let mut crl = Vec::new();
        for file in &auth.crl.0 {
            match read_crl(&file.value) {
                Ok(lists) => {
                    self.up_to_date(file, &lists);
                    crl.extend(lists);
                }
                Err(why) => self.error(Code::BadFile, file.span, &why),
            }
        }
        if ca.is_empty() {
            if auth.ca.0.is_empty() {
                let message = "client_auth names no authority\nadd `ca: FILE`";
                self.error(Code::MissingKey, auth.span, message);
            }
            return None;
        }
        let auth_plan = ClientAuth { ca, crl, required: auth.mode == ClientAuthMode::Required };
        match auth_plan.verifier() {
            Ok(_) => Some(Arc::new(auth_plan)),
            Err(why) => {
                let message = format!("client_auth cannot be used: {why}");
                self.error(Code::BadFile, auth.span, &message);
                None
            }
        }
    }

    /// Warns of a list that is not to be relied on any more: then no client of its issuer comes in.
    fn up_to_date(&mut self, file: &Located<PathBuf>, lists: &[CertificateRevocationListDer<'static>]) {
        let now = x509_parser::time::ASN1Time::now();
        let parsed = lists.iter().filter_map(|der| CertificateRevocationList::from_der(der).ok());
        for (_, list) in parsed {
            if let Some(until) = list.next_update().filter(|until| *until < now) {
                let message = format!(
                    "the list of revoked certificates in `{}` was valid until {until}",
                    file.value.display()
                );
                self.report.warning(Code::CertificateDates, file.span, message).help(
                    "fetch the next one: until then clients whose certificates it is about are refused",
                );
            }
        }
    }
}

/// The secrets of a file, at least one: 48 or 80 bytes as nginx has them, or lines of base64 as HAProxy does.
fn read_ticket_keys(path: &Path) -> Result<Vec<TicketKey>, String> {
    let content = files::read(path, LARGEST_KEYS)?;
    let cannot = |why: &str| {
        format!(
            "`{}` holds no keys for session tickets: {why}\nmake one with: openssl rand 80 > FILE, readable by the gate only",
            path.display()
        )
    };
    match std::str::from_utf8(&content) {
        Ok(text) if text.is_ascii() => {
            let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
            let decoded: Option<Vec<Vec<u8>>> = lines.map(|line| STANDARD.decode(line).ok()).collect();
            let decoded = decoded.ok_or_else(|| cannot("it is text and not base64"))?;
            if decoded.is_empty() {
                return Err(cannot("it is empty"));
            }
            if decoded.iter().any(|key| key.len() < SHORTEST_KEY) {
                return Err(cannot("a line has less than 32 bytes"));
            }
            Ok(decoded.iter().map(|key| TicketKey::new(key)).collect())
        }
        _ if matches!(content.len(), 48 | 80) => Ok(vec![TicketKey::new(&content)]),
        _ => Err(cannot(&format!("it has {} bytes, not 48 or 80", content.len()))),
    }
}

/// The lists of revoked certificates of a PEM file: at least one.
fn read_crl(path: &Path) -> Result<Vec<CertificateRevocationListDer<'static>>, String> {
    let text = files::read(path, LARGEST)?;
    let lists: Vec<_> = CertificateRevocationListDer::pem_slice_iter(&text)
        .collect::<Result<_, _>>()
        .map_err(|e| format!("`{}` is damaged: {e}\ngive a PEM file", path.display()))?;
    if lists.is_empty() {
        return Err(format!(
            "`{}` holds no list of revoked certificates\ngive a PEM file that begins with -----BEGIN X509 CRL-----; from DER: openssl crl -inform DER -in FILE -out crl.pem",
            path.display()
        ));
    }
    Ok(lists)
}
