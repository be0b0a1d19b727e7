//! Checks of `health_check`: one question, its patterns compiled, its certificates read.

use super::Checker;
use crate::config::decode::Located;
use crate::config::file::{self, HealthCheck};
use crate::config::plan::{self, BodyMatch, Question, UpstreamTls};
use crate::config::report::{Code, Span};
use http::{HeaderName, HeaderValue, Method, header};

impl Checker<'_> {
    /// `None` when it does not say what to ask; that was reported. `group` is how requests are sent.
    pub(super) fn health_check(
        &mut self,
        who: &str,
        check: &Located<HealthCheck>,
        group: Option<&UpstreamTls>,
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
        let udp = check.udp.as_ref().map(|udp| self.udp_check(who, udp));
        let tls = self.check_tls(who, check, group);
        Some(plan::HealthCheck {
            question: self.question(who, check, http, udp)?,
            tls,
            port: check.port,
            interval: check.interval.0,
            unhealthy_interval: check.unhealthy_interval.unwrap_or(check.interval).0,
            timeout: check.timeout.0,
            healthy_after: check.healthy_after,
            unhealthy_after: check.unhealthy_after,
            initial: check.initial,
            send_proxy: None,
        })
    }

    fn question(
        &mut self,
        who: &str,
        check: &Located<HealthCheck>,
        http: Option<plan::HttpCheck>,
        udp: Option<plan::UdpCheck>,
    ) -> Option<Question> {
        let grpc = check.grpc.as_ref().map(|grpc| Question::Grpc(grpc.clone()));
        let all = [
            ("tcp", check.tcp.as_ref().map(|_| Question::Tcp)),
            ("http", http.map(Question::Http)),
            ("grpc", grpc),
            ("udp", udp.map(Question::Udp)),
        ];
        let mut asked = all.into_iter().filter_map(|(name, question)| Some((name, question?)));
        let Some((name, question)) = asked.next() else {
            // what it had may have been cut out because of a mistake
            if self.whole {
                let message = format!(
                    "health_check of {who} does not say what to check\nadd `tcp: {{}}`, `http: {{ path: /healthz }}`, `grpc: {{}}` or `udp: {{ send: ping }}`"
                );
                self.error(Code::MissingKey, check.span, &message);
            }
            return None;
        };
        let others: Vec<_> = asked.map(|(name, _)| name).collect();
        match others.as_slice() {
            [] => Some(question),
            [other] => {
                let help = match *other {
                    "udp" => "keep one: a datagram says nothing about connections".to_string(),
                    other => format!("keep one: {other} includes the connection"),
                };
                let message = format!("health_check of {who} has both {name} and {other}\n{help}");
                self.error(Code::Conflict, check.span, &message);
                None
            }
            [..] => {
                let message = format!(
                    "health_check of {who} has {name}, {}\nkeep one: http and grpc include the connection, and udp needs none",
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
}
