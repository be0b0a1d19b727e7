//! Checks of `health_check`: one question, its patterns compiled, its certificates read.

use super::Checker;
use super::certificate::read_chain;
use crate::config::decode::Located;
use crate::config::file::{self, CheckTls, HealthCheck};
use crate::config::plan::{self, BodyMatch, Question, Trust};
use crate::config::report::{Code, Span};
use crate::config::words::HostName;
use http::{HeaderName, HeaderValue, Method, header};
use rustls_pki_types::CertificateDer;
use std::path::Path;

impl Checker<'_> {
    /// `None` when it does not say what to ask; that was reported.
    pub(super) fn health_check(
        &mut self,
        who: &str,
        check: &Located<HealthCheck>,
    ) -> Option<plan::HealthCheck> {
        for (key, time) in [
            ("interval", Some(check.interval)),
            ("unhealthy_interval", check.unhealthy_interval),
            ("timeout", Some(check.timeout)),
        ] {
            if let Some(time) = time {
                self.positive(check.span, &format!("health_check.{key} of {who}"), time);
            }
        }
        let http = check.http.as_ref().map(|http| self.http_check(who, check.span, http));
        let tls = check.tls.as_ref().map(|tls| self.check_tls(who, check, tls));
        Some(plan::HealthCheck {
            question: self.question(who, check, http)?,
            tls,
            port: check.port,
            interval: check.interval.0,
            unhealthy_interval: check.unhealthy_interval.unwrap_or(check.interval).0,
            timeout: check.timeout.0,
            healthy_after: check.healthy_after,
            unhealthy_after: check.unhealthy_after,
            initial: check.initial,
        })
    }

    fn question(
        &mut self,
        who: &str,
        check: &Located<HealthCheck>,
        http: Option<plan::HttpCheck>,
    ) -> Option<Question> {
        let grpc = check.grpc.as_ref().map(|grpc| Question::Grpc(grpc.clone()));
        let all = [
            ("tcp", check.tcp.as_ref().map(|_| Question::Tcp)),
            ("http", http.map(Question::Http)),
            ("grpc", grpc),
        ];
        let mut asked = all.into_iter().filter_map(|(name, question)| Some((name, question?)));
        let Some((name, question)) = asked.next() else {
            // what it had may have been cut out because of a mistake
            if self.whole {
                let message = format!(
                    "health_check of {who} does not say what to check\nadd `tcp: {{}}`, `http: {{ path: /healthz }}` or `grpc: {{}}`"
                );
                self.error(Code::MissingKey, check.span, &message);
            }
            return None;
        };
        let others: Vec<_> = asked.map(|(name, _)| name).collect();
        match others.as_slice() {
            [] => Some(question),
            [other] => {
                let message = format!(
                    "health_check of {who} has both {name} and {other}\nkeep one: {other} includes the connection"
                );
                self.error(Code::Conflict, check.span, &message);
                None
            }
            [..] => {
                let message = format!(
                    "health_check of {who} has {name}, {}\nkeep one: http and grpc include the connection",
                    others.join(" and ")
                );
                self.error(Code::Conflict, check.span, &message);
                None
            }
        }
    }

    fn http_check(&mut self, who: &str, span: Span, http: &file::HttpCheck) -> plan::HttpCheck {
        let path = &http.path;
        if !path.starts_with('/') || path.bytes().any(|b| b <= b' ' || b >= 0x7f) {
            let message =
                format!("the path of the health_check of {who} is not a path\nwrite it as /healthz");
            self.error(Code::InvalidValue, path.span, &message);
        }
        if http.status.0.is_empty() {
            let message = format!("the health_check of {who} accepts no status\nremove `status` for 2xx");
            self.error(Code::InvalidValue, span, &message);
        }
        let body = match &http.body {
            None => None,
            Some(file::BodyMatch::Contains(text)) if text.is_empty() => None,
            Some(file::BodyMatch::Contains(text)) => Some(BodyMatch::Contains(text.clone())),
            Some(file::BodyMatch::Regex(regex)) => self.pattern(regex, false).map(BodyMatch::Regex),
        };
        let method = http.method.value.0.clone();
        if method == Method::HEAD && body.is_some() {
            let message = format!(
                "the health_check of {who} asks with HEAD, whose answer has no body\nremove `body`, or ask with GET"
            );
            self.error(Code::Conflict, http.method.span, &message);
        }
        plan::HttpCheck {
            method,
            path: path.value.clone(),
            host: http.host.clone(),
            headers: http.headers.iter().filter_map(|(name, value)| self.check_header(name, value)).collect(),
            status: http.status.0.clone(),
            body,
            max_body_bytes: http.max_body_bytes,
        }
    }

    fn check_header(
        &mut self,
        name: &Located<String>,
        value: &Located<String>,
    ) -> Option<(HeaderName, HeaderValue)> {
        let wrong = match HeaderName::from_bytes(name.as_bytes()) {
            Err(_) => format!("`{}` is not the name of a header", name.value),
            Ok(header::HOST) => "the Host of a check is written apart\nuse `host`".into(),
            Ok(header::CONTENT_LENGTH | header::TRANSFER_ENCODING | header::CONNECTION) => {
                format!("`{}` is for the gate to say: a check has no body\nremove it", name.value)
            }
            Ok(parsed) => match HeaderValue::from_str(&value.value) {
                Ok(value) => return Some((parsed, value)),
                Err(_) => {
                    let message = format!("the value of header `{}` has a control character", name.value);
                    self.error(Code::BadHeader, value.span, &message);
                    return None;
                }
            },
        };
        self.error(Code::BadHeader, name.span, &wrong);
        None
    }

    fn check_tls(&mut self, who: &str, check: &Located<HealthCheck>, tls: &CheckTls) -> plan::CheckTls {
        let asked = check.http.as_ref().and_then(|http| http.host.as_ref());
        let asked = asked.or_else(|| check.grpc.as_ref().and_then(|grpc| grpc.authority.as_ref()));
        let name = tls.sni.as_ref().map(|sni| &sni.value).or(asked).map(without_port);
        if let (Some(sni), Some(name)) = (&tls.sni, &name)
            && rustls_pki_types::ServerName::try_from(name.as_str()).is_err()
        {
            let message = format!("`{}` is not a name that a certificate can have", sni.value);
            self.error(Code::InvalidValue, sni.span, &message);
        }
        let trust = match &tls.ca {
            Some(ca) if !tls.verify => {
                let message =
                    "authorities are named, but no certificate is looked at\nremove `ca`, or `verify: false`";
                self.error(Code::Conflict, ca.span, message);
                Trust::Anyone
            }
            None if !tls.verify => {
                let message = format!("the health_check of {who} takes any certificate");
                self.report
                    .warning(Code::VerificationOff, check.span, message)
                    .help("name the authorities with `tls: { ca: ... }` instead");
                Trust::Anyone
            }
            None => Trust::System,
            Some(ca) => match read_chain(&ca.value).and_then(|authorities| fit(&ca.value, authorities)) {
                Ok(authorities) => Trust::These(authorities),
                Err(why) => {
                    self.error(Code::BadCertificate, ca.span, &why);
                    Trust::System
                }
            },
        };
        plan::CheckTls { name, trust }
    }
}

/// These certificates, if rustls takes them for authorities.
fn fit(
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

/// The name or address alone: brackets of IPv6 are of the notation with a port.
fn without_port(host: &HostName) -> String {
    let host = host.0.as_str();
    let bare = match host.rsplit_once(':') {
        Some((before, _)) if !host.ends_with(']') => before,
        _ => host,
    };
    bare.trim_start_matches('[').trim_end_matches(']').to_string()
}
