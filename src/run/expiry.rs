//! Certificates that end: said once a day while one is about to, and told in `status`. At the start and at a reload the
//! check says it. Begun by `office`.

use crate::admin::view;
use crate::config::check::expires_soon;
use crate::config::plan::{Certificate, Plan};
use crate::observe::{at_text, events};
use arc_swap::ArcSwap;
use aws_lc_rs::digest;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// Does not end.
pub async fn watch(current: Arc<ArcSwap<Plan>>) -> Infallible {
    loop {
        tokio::time::sleep(DAY).await;
        tell(&current.load(), SystemTime::now());
    }
}

fn tell(plan: &Plan, now: SystemTime) {
    let now = seconds(now);
    for listener in &plan.listeners {
        let certificates = listener.tls.iter().flat_map(|tls| &tls.certificates);
        // those that are ordered are renewed
        for files in certificates.filter_map(Certificate::files) {
            let file = &files.cert_file;
            if files.not_after < now {
                events::certificate_expires(&listener.name, file, "has expired");
            } else if let Some(when) = expires_soon(files.not_after, now) {
                events::certificate_expires(&listener.name, file, &format!("expires {when}"));
            }
            if files.ocsp.as_ref().and_then(|ocsp| ocsp.until).is_some_and(|until| until < now) {
                events::ocsp_outdated(&listener.name, file);
            }
        }
    }
}

/// For machines: the certificates of each listener that were read from files, in the order of the configuration.
pub fn certificates(plan: &Plan) -> Vec<view::Certificate> {
    let each = plan.listeners.iter().flat_map(|listener| {
        let certificates = listener.tls.iter().flat_map(|tls| &tls.certificates);
        certificates.filter_map(|certificate| {
            let files = certificate.files()?;
            let names: Vec<_> = certificate.names.iter().map(ToString::to_string).collect();
            Some(view::Certificate {
                listener: listener.name.clone(),
                names,
                file: Some(files.cert_file.display().to_string()),
                acme: None,
                not_after: Some(time(files.not_after)),
                fingerprint: files.chain.first().map(|own| fingerprint(own)),
            })
        })
    });
    each.collect()
}

/// SHA-256: 64 hexadecimal digits.
fn fingerprint(der: &[u8]) -> String {
    let digest = digest::digest(&digest::SHA256, der);
    digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

fn seconds(time: SystemTime) -> i64 {
    let since = time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    i64::try_from(since).unwrap_or(i64::MAX)
}

fn time(seconds: i64) -> String {
    at_text(UNIX_EPOCH + Duration::from_secs(u64::try_from(seconds).unwrap_or_default()))
}
