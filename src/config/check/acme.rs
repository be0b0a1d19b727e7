//! Checks of `acme`: the authorities, and the certificates that are ordered from them.

use super::Checker;
use crate::config::decode::Located;
use crate::config::file::{Acme, AcmeChallenge, Certificate, ExternalAccount};
use crate::config::plan::{self, Authority, HmacKey, Ordered, Trust};
use crate::config::report::{Code, Span};
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use http::Uri;
use nix::unistd::{AccessFlags, access};
use rustls_pki_types::ServerName;
use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::sync::Arc;

/// What authorities take: Let's Encrypt refuses more.
const MOST_NAMES: usize = 100;

/// The authorities of a configuration.
#[derive(Default)]
pub(super) struct Authorities<'a> {
    /// `None`: it cannot be used; that was reported.
    by_name: HashMap<&'a str, Option<Arc<Authority>>>,
    used: HashSet<&'a str>,
}

impl<'a> Checker<'a> {
    pub(super) fn authorities(&mut self) {
        let file = self.file;
        for (name, acme) in file.acme.iter() {
            let authority = self.authority(&name.value, acme).map(Arc::new);
            self.authorities.by_name.insert(&name.value, authority);
        }
    }

    /// `None` when it cannot be used; that was reported.
    fn authority(&mut self, name: &str, acme: &Located<Acme>) -> Option<Authority> {
        let who = format!("acme \"{name}\"");
        if !acme.accept_terms && self.whole {
            let message = format!(
                "{who} does not accept the terms of the authority\nread its terms of service, and add `accept_terms: true` if you agree to them"
            );
            self.error(Code::MissingKey, acme.span, &message);
        }
        let directory = self.directory(&who, &acme.directory);
        let storage = self.storage(&who, acme);
        let contact: Vec<_> = acme.contact.iter().map(|contact| self.contact(&who, contact)).collect();
        let external_account = match &acme.external_account {
            None => Some(None),
            Some(account) => self.external_account(&who, account).map(Some),
        };
        self.times(&who, acme);
        let trust = self.trust(&who, acme.span, acme.ca.as_ref(), true).unwrap_or(Trust::System);
        Some(Authority {
            name: name.to_owned(),
            directory: directory?,
            trust,
            contact: contact.into_iter().collect::<Option<_>>()?,
            external_account: external_account?,
            challenge: acme.challenge,
            profile: acme.profile.as_ref().map(|profile| profile.value.clone()),
            storage: storage?,
            renew_before: acme.renew_before.map(|before| before.value.0),
            retry: (acme.retry.first.value.0, acme.retry.max.value.0),
        })
    }

    /// RFC 8555 §6.1: https only.
    fn directory(&mut self, who: &str, directory: &Located<String>) -> Option<String> {
        let url = directory.value.parse::<Uri>().ok();
        let https = url.is_some_and(|url| url.scheme_str() == Some("https") && url.host().is_some());
        if !https {
            let message = format!(
                "the directory of {who} is not an https URL\nwrite https://HOST/PATH, as the authority's documentation has it"
            );
            self.error(Code::InvalidValue, directory.span, &message);
        }
        https.then(|| directory.value.clone())
    }

    fn storage(&mut self, who: &str, acme: &Located<Acme>) -> Option<std::path::PathBuf> {
        let Some(storage) = &acme.storage else {
            if self.whole {
                let message = format!(
                    "{who} has no storage\nadd `storage: /var/lib/weirgate/acme`: a directory that only the gate's user can read"
                );
                self.error(Code::MissingKey, acme.span, &message);
            }
            return None;
        };
        if let Err(why) = writable(&storage.value) {
            let message = format!("storage of {who}: {why}");
            self.error(Code::BadFile, storage.span, &message);
            return None;
        }
        // a daemon leaves the directory in which relative paths begin
        std::path::absolute(&storage.value).ok()
    }

    /// As a URL.
    fn contact(&mut self, who: &str, contact: &Located<String>) -> Option<String> {
        let address = contact.value.strip_prefix("mailto:").unwrap_or(&contact.value);
        let parts = address.split_once('@');
        let plain = |part: &str| {
            !part.is_empty() && part.chars().all(|c| c.is_ascii_graphic() && !",?@:".contains(c))
        };
        if parts.is_some_and(|(user, host)| plain(user) && plain(host)) {
            return Some(format!("mailto:{address}"));
        }
        let message = format!(
            "contact \"{}\" of {who} is not an address of mail\nwrite admin@example.com",
            contact.value
        );
        self.error(Code::InvalidValue, contact.span, &message);
        None
    }

    fn external_account(
        &mut self,
        who: &str,
        account: &Located<ExternalAccount>,
    ) -> Option<plan::ExternalAccount> {
        let key = account.hmac_key.value.reveal().trim_ascii();
        // some authorities show it with padding
        let bare = key.iter().rposition(|byte| *byte != b'=').and_then(|last| key.get(..=last));
        match bare.and_then(|bare| BASE64_URL_SAFE_NO_PAD.decode(bare).ok()) {
            Some(key) => {
                let key_id = account.key_id.value.clone();
                Some(plan::ExternalAccount { key_id, hmac_key: HmacKey(key) })
            }
            None => {
                let message = format!(
                    "hmac_key of {who} is not in base64url\ngive the key as the authority shows it: letters, digits, - and _"
                );
                self.error(Code::InvalidValue, account.hmac_key.span, &message);
                None
            }
        }
    }

    fn times(&mut self, who: &str, acme: &Acme) {
        if let Some(before) = acme.renew_before {
            self.positive(before.span, &format!("renew_before of {who}"), before.value);
        }
        let (first, max) = (acme.retry.first, acme.retry.max);
        self.positive(first.span, &format!("retry.first of {who}"), first.value);
        if max.value < first.value {
            let message = format!(
                "retry.max of {who} is {}, less than retry.first, {}\nraise max, or lower first",
                max.value, first.value
            );
            self.error(Code::InvalidValue, max.span, &message);
        }
    }

    /// A certificate that is ordered from the authority of this name. `None` when it cannot be; that was reported.
    pub(super) fn ordered(
        &mut self,
        certificate: &'a Located<Certificate>,
        authority: &'a Located<String>,
    ) -> Option<Arc<Ordered>> {
        let names: Vec<_> = certificate.names.iter().map(|name| self.name_to_order(name)).collect();
        if names.is_empty() && self.whole {
            let message = "a certificate that is ordered needs names\nadd `names: [www.example.com]`";
            self.error(Code::MissingKey, certificate.span, message);
        }
        if names.len() > MOST_NAMES {
            let message = format!(
                "a certificate for {} names\nauthorities take {MOST_NAMES}: write several certificates",
                names.len()
            );
            self.error(Code::InvalidValue, certificate.span, &message);
        }
        let known = self.authorities.by_name.get(authority.value.as_str()).cloned();
        if known.is_none() {
            let known: Vec<&str> = self.file.acme.names().collect();
            let what = "a certificate is ordered from unknown authority".to_owned();
            self.unknown_name(authority.span, what, &authority.value, known.iter().copied());
        }
        self.authorities.used.insert(&authority.value);
        let mut names: Vec<String> = names.into_iter().collect::<Option<_>>()?;
        names.sort();
        names.dedup();
        if names.is_empty() {
            return None;
        }
        Some(Arc::new(Ordered { authority: known??, names }))
    }

    /// Lower case.
    fn name_to_order(&mut self, name: &Located<String>) -> Option<String> {
        let lower = name.value.trim_end_matches('.').to_ascii_lowercase();
        let shown = &name.value;
        let (code, message) = match ServerName::try_from(lower.as_str()) {
            Ok(ServerName::DnsName(_)) if !lower.contains('_') => return Some(lower),
            Ok(ServerName::IpAddress(_)) => (
                Code::InvalidValue,
                format!(
                    "\"{shown}\" is an address: no certificate is ordered for one\nbring one with `cert` and `key`"
                ),
            ),
            _ if lower.starts_with("*.") => (
                Code::NotSupportedYet,
                format!(
                    "a certificate for \"{shown}\" needs the challenge dns-01, which is not supported yet\nname each host, or bring a certificate for the wildcard with `cert` and `key`"
                ),
            ),
            Ok(_) | Err(_) => {
                (Code::BadPattern, format!("\"{shown}\" is not a host name\nwrite www.example.com"))
            }
        };
        self.error(code, name.span, &message);
        None
    }

    /// Warnings about authorities that are not used, and about challenges for which nobody listens.
    pub(super) fn challenges_reachable(&mut self) {
        if self.report.has_errors() {
            return;
        }
        let file = self.file;
        let port_of = |tls: bool, port: u16| {
            // what passes connections on reads no request, but its handshakes are ours
            let here = |l: &&Located<crate::config::file::Listener>| {
                l.tls.is_some() == tls && (tls || !l.passes_all())
            };
            file.listeners.iter().filter(here).any(|l| l.address.value.port() == Some(port))
        };
        for (name, acme) in file.acme.iter() {
            if !self.authorities.used.contains(name.value.as_str()) {
                let message = format!("no certificate is ordered from acme \"{}\"", name.value);
                self.report
                    .warning(Code::NoEffect, name.span, message)
                    .help("order one: `certificates: [{ acme: NAME, names: [...] }]`, or remove it");
                continue;
            }
            let (challenge, tls, port, kind) = match acme.challenge {
                AcmeChallenge::Http01 => ("http-01", false, 80, "plaintext listener"),
                AcmeChallenge::TlsAlpn01 => ("tls-alpn-01", true, 443, "listener with tls"),
            };
            if !port_of(tls, port) {
                self.unreachable(name.span, &name.value, (challenge, port, kind));
            }
        }
    }

    fn unreachable(&mut self, span: Span, name: &str, (challenge, port, kind): (&str, u16, &str)) {
        let message = format!(
            "the authority of acme \"{name}\" asks on port {port} ({challenge}), and there is no {kind}"
        );
        let help = format!("add one, or have port {port} forwarded to a {kind}");
        self.report.warning(Code::ChallengePort, span, message).help(help);
    }
}

/// Whether there is a directory here that can be written to, or one can be made.
fn writable(path: &Path) -> Result<(), String> {
    let shown = path.display();
    if path.exists() && !path.is_dir() {
        return Err(format!("`{shown}` is not a directory\nname a directory"));
    }
    let mut nearest = path;
    while !nearest.exists() {
        nearest = match nearest.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            Some(_) | None => Path::new("."),
        };
    }
    let all = AccessFlags::W_OK | AccessFlags::X_OK;
    access(nearest, all).map_err(|why| {
        format!(
            "`{}` cannot be written to: {}\nlet the gate's user write there, or name another directory",
            nearest.display(),
            why.desc()
        )
    })
}
