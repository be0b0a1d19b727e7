//! An explanation for people.

use super::{Does, Entrance, Explanation, Group, Passed, Retries, Timeouts, Trusted};
use crate::config::file::{HedgeAfter, SendProxy, UpstreamHost, UpstreamProtocol};
use crate::http::route::Held;
use std::fmt;

/// Runners-up that are shown; the JSON has all.
const MOST: usize = 20;

/// The first condition of a route that does not hold.
pub(super) fn failed(held: &Held) -> String {
    format!("{} must be {}, and is {}", held.key, held.wants, held.has)
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.request(f)?;
        self.entrance(f)?;
        if let Some(Passed { upstream, balance, servers }) = &self.listener.passes_to {
            return line(f, "passes on", &format!("to {}", in_words((upstream, balance, servers))));
        }
        if let Some(refused) = &self.refused {
            line(f, "refused", &format!("{} ({})", refused.status, refused.reason))?;
        }
        if let Some(redirect) = &self.redirect_https {
            line(f, "to https", &format!("{} {} (redirect_https)", redirect.status, redirect.to))?;
        }
        self.route(f)?;
        self.filters(f)?;
        if let Some(action) = &self.action {
            self.action(f, action)?;
        }
        self.lost(f)
    }
}

impl Explanation {
    fn request(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let request = &self.request;
        let query = request.query.as_ref().map(|query| format!("?{query}")).unwrap_or_default();
        let path = if request.path.is_empty() {
            request.written.as_deref().unwrap_or_default()
        } else {
            &request.path
        };
        let url = format!("{}://{}{path}{query}", request.scheme, request.host);
        line(f, "request", &format!("{} {url}", request.method))?;
        if let Some(written) = request.written.as_ref().filter(|_| !request.path.is_empty()) {
            let sent = request.forwarded.as_ref().unwrap_or(written);
            line(f, "", &format!("written {written}, matched as {}, sent on as {sent}", request.path))?;
        }
        let trusted = if request.trusted { " (a trusted proxy)" } else { "" };
        line(f, "client", &format!("{}{trusted}", request.client))
    }

    fn entrance(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let listener = &self.listener;
        let tls = match listener {
            Entrance { udp: true, .. } => ", UDP",
            Entrance { tls: true, .. } => ", TLS",
            _ => "",
        };
        line(f, "listener", &format!("{} ({}{tls})", listener.name, listener.address))?;
        if let Some(note) = &listener.note {
            line(f, "", note)?;
        }
        if !listener.others.is_empty() {
            line(f, "", &format!("others fit as well: {} (--listener)", listener.others.join(", ")))?;
        }
        Ok(())
    }

    fn route(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(route) = &self.route else {
            return match self.request.path.is_empty() {
                true => Ok(()),
                false => line(f, "route", "none"),
            };
        };
        line(f, "route", &route.name)?;
        line(f, "  host", &format!("{} is {}", self.request.host, route.host))?;
        line(f, "  path", &format!("{} is {}", self.request.path, route.path))?;
        for held in &route.conditions {
            line(f, "  holds", &format!("{}: {} ({})", held.key, held.wants, held.has))?;
        }
        Ok(())
    }

    fn filters(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, step) in self.filters.iter().enumerate() {
            let on = match (step.request, step.response) {
                (true, true) => "request and response",
                (true, false) => "request",
                (false, true) => "response",
                (false, false) => "log",
            };
            let label = if at == 0 { "filters" } else { "" };
            line(f, label, &format!("{}. {} of {} ({on})", at + 1, step.filter, step.of))?;
        }
        Ok(())
    }

    fn action(&self, f: &mut fmt::Formatter<'_>, action: &Does) -> fmt::Result {
        match action {
            Does::Upstream(group) => {
                line(f, "upstream", &of_group(group))?;
                in_effect(f, group, &self.request.method)
            }
            Does::Split { key, groups } => {
                let by = if key.is_some() { "by its key" } else { "by chance" };
                line(f, "split", by)?;
                for share in groups {
                    let percent = format!("  {}%", (share.share * 100.0).round() / 100.0);
                    line(f, &percent, &of_group(&share.group))?;
                    in_effect(f, &share.group, &self.request.method)?;
                }
                Ok(())
            }
            Does::Redirect(redirect) => line(f, "redirect", &format!("{} {}", redirect.status, redirect.to)),
            Does::Respond { status, body } => {
                let body = body.lines().next().map(|text| format!(" {text}")).unwrap_or_default();
                line(f, "respond", &format!("{status}{body}"))
            }
        }
    }

    fn lost(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, lost) in self.lost.iter().take(MOST).enumerate() {
            let more = match lost.conditions.len() {
                0 | 1 => String::new(),
                several => format!(" (and {} more)", several - 1),
            };
            line(f, if at == 0 { "not" } else { "" }, &format!("{}: {}{more}", lost.route, lost.why))?;
        }
        match self.lost.len().checked_sub(MOST) {
            Some(more) if more > 0 => line(f, "", &format!("and {more} more (--format json)")),
            _ => Ok(()),
        }
    }
}

fn of_group(group: &Group) -> String {
    in_words((&group.upstream, &group.balance, &group.servers))
}

fn in_words((upstream, balance, servers): (&str, &str, &[String])) -> String {
    let servers = match servers.len() {
        0 => "servers are discovered".to_string(),
        1..=4 => servers.join(", "),
        more => format!("{more} servers"),
    };
    format!("{upstream} ({balance}: {servers})")
}

fn in_effect(f: &mut fmt::Formatter<'_>, group: &Group, method: &str) -> fmt::Result {
    spoken(f, group)?;
    match group.send_proxy {
        None => {}
        Some(SendProxy::V1) => line(f, "  told", "of the client by the PROXY protocol, version 1")?,
        Some(SendProxy::V2) => line(f, "  told", "of the client by the PROXY protocol, version 2")?,
    }
    match &group.host {
        UpstreamHost::Preserve => {}
        UpstreamHost::Server => line(f, "  host", "that of the server")?,
        UpstreamHost::Name(name) => line(f, "  host", &name.to_string())?,
    }
    timeouts(f, &group.timeouts)?;
    retries(f, &group.retry, method)
}

/// What is spoken to the servers, where that is not HTTP/1.1 in plaintext.
fn spoken(f: &mut fmt::Formatter<'_>, group: &Group) -> fmt::Result {
    let protocol = match group.protocol {
        UpstreamProtocol::H1 => "HTTP/1.1",
        UpstreamProtocol::H2 | UpstreamProtocol::H2c => "HTTP/2",
        UpstreamProtocol::Auto if group.tls.is_some() => "HTTP/2 or HTTP/1.1",
        UpstreamProtocol::Auto => "HTTP/1.1",
    };
    let Some(tls) = &group.tls else {
        return if protocol == "HTTP/1.1" { Ok(()) } else { line(f, "  speaks", protocol) };
    };
    let mut words = format!("{protocol} over TLS");
    if let Some(sni) = &tls.sni {
        words.push_str(&format!(" with {sni}"));
    }
    words.push_str(match tls.trusted {
        Trusted::System => "",
        Trusted::Ca => ", believes its own authorities",
        Trusted::Anyone => ", believes any certificate",
    });
    if tls.client_certificate {
        words.push_str(", shows a certificate");
    }
    line(f, "  speaks", &words)
}

fn timeouts(f: &mut fmt::Formatter<'_>, timeouts: &Timeouts) -> fmt::Result {
    let Timeouts { connect, tls, response, first_byte, one_try, request, tunnel: _ } = timeouts;
    let mut words = format!("connect {connect}");
    let all = [
        ("tls", tls),
        ("response", &Some(*response)),
        ("first_byte", first_byte),
        ("try", one_try),
        ("request", request),
    ];
    for (name, time) in all {
        if let Some(time) = time {
            words.push_str(&format!(", {name} {time}"));
        }
    }
    line(f, "  timeouts", &words)
}

fn retries(f: &mut fmt::Formatter<'_>, retry: &Retries, method: &str) -> fmt::Result {
    let Retries { attempts, when, repeats, within, backoff, hedge } = retry;
    if *attempts <= 1 {
        return line(f, "  retry", "none");
    }
    let mut words = match when.as_slice() {
        [] => "none".to_string(),
        when => format!("{attempts} tries, after {}", when.join(", ")),
    };
    if !when.is_empty() {
        if !repeats {
            words.push_str(&format!("; {method} only where nothing was sent"));
        }
        if let Some(within) = within {
            words.push_str(&format!(", within {within}"));
        }
        if let Some(backoff) = backoff {
            words.push_str(&format!(", pauses up to {}, then {}", backoff.base, backoff.max));
        }
    }
    match hedge {
        Some(HedgeAfter::Time(after)) => {
            words.push_str(&format!(", a second beside the first after {after}"))
        }
        Some(HedgeAfter::Percentile(percent)) => {
            words.push_str(&format!(", a second beside the first after p{percent}"));
        }
        None => {}
    }
    line(f, "  retry", &words)
}

fn line(f: &mut fmt::Formatter<'_>, label: &str, text: &str) -> fmt::Result {
    writeln!(f, "{label:<12}{text}")
}
