//! Which certificate a client is shown: the one place where certificates are looked up. Asked by rustls within
//! every full handshake.

use crate::acme::{self, Managed};
use crate::config::plan::{self, CertificateSource};
use rustls::SignatureScheme;
use rustls::crypto::aws_lc_rs;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

/// The certificates of a listener, ready for use.
#[derive(Debug)]
pub struct Certificates {
    plan: Arc<plan::Tls>,
    /// In the order of the plan.
    all: Vec<Shown>,
}

/// What is shown.
#[derive(Debug)]
enum Shown {
    Always(Brought),
    /// What there is of it now.
    Ordered(Arc<Managed>),
}

impl Shown {
    /// To a client that asks for this name; `None` while there is nothing to show.
    fn to(&self, name: Option<&str>) -> Option<Arc<CertifiedKey>> {
        match self {
            Shown::Always(brought) => Some(brought.at(now)),
            Shown::Ordered(managed) => managed.certified(name),
        }
    }
}

/// A certificate, and what its authority says of it for as long as that is good.
#[derive(Debug)]
struct Brought {
    alone: Arc<CertifiedKey>,
    stapled: Option<Stapled>,
}

#[derive(Debug)]
struct Stapled {
    both: Arc<CertifiedKey>,
    until: Option<i64>,
}

impl Brought {
    /// A client that is shown what is out of date may take it for an attack.
    fn at(&self, now: impl Fn() -> i64) -> Arc<CertifiedKey> {
        let good = self.stapled.as_ref().filter(|stapled| stapled.until.is_none_or(|until| now() <= until));
        good.map_or(&self.alone, |stapled| &stapled.both).clone()
    }
}

impl Certificates {
    pub fn build(plan: &Arc<plan::Tls>, ordered: &acme::Registry) -> Result<Certificates, String> {
        let shown = |certificate: &plan::Certificate| match &certificate.source {
            CertificateSource::Files(files) => brought(files).map(Shown::Always),
            CertificateSource::Ordered(plan) => Ok(Shown::Ordered(ordered.managed(plan))),
        };
        let all: Vec<_> = plan.certificates.iter().map(shown).collect::<Result<_, _>>()?;
        if all.is_empty() {
            return Err("TLS needs at least one certificate".to_string());
        }
        Ok(Certificates { plan: plan.clone(), all })
    }

    /// Those for exactly this name, else those for the wildcard above it, else the first of all. Of several for one
    /// name (an ECDSA and an RSA one) the first whose signature the client can verify. `None` for a name whose
    /// certificate is still to come: another one would not be for it.
    fn choose(&self, name: Option<&str>, schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        let serving = name.map(|name| self.plan.serving(name)).unwrap_or_default();
        if serving.is_empty() {
            return self.all.iter().find_map(|shown| shown.to(name));
        }
        let candidates = || serving.iter().filter_map(|index| self.all.get(*index)?.to(name));
        candidates()
            .find(|certified| certified.key.choose_scheme(schemes).is_some())
            .or_else(|| candidates().next())
    }
}

/// In seconds since 1970.
fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    i64::try_from(since).unwrap_or(i64::MAX)
}

fn brought(files: &plan::CertificateFiles) -> Result<Brought, String> {
    let explain = |e: rustls::Error| format!("{}: {e}", files.cert_file.display());
    let key = aws_lc_rs::sign::any_supported_type(&files.key.0).map_err(explain)?;
    let alone = CertifiedKey::new(files.chain.clone(), key);
    match alone.keys_match() {
        // Unknown: the key type does not tell its public half
        Ok(()) | Err(rustls::Error::InconsistentKeys(rustls::InconsistentKeys::Unknown)) => {}
        Err(e) => return Err(explain(e)),
    }
    let stapled = files.ocsp.as_ref().map(|ocsp| {
        let both = CertifiedKey { ocsp: Some(ocsp.response.to_vec()), ..alone.clone() };
        Stapled { both: Arc::new(both), until: ocsp.until }
    });
    Ok(Brought { alone: Arc::new(alone), stapled })
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        // rustls has made the name lower case, and left out schemes that fit none of the client's cipher suites
        self.choose(hello.server_name(), hello.signature_schemes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::edge::tests::tls::{certificate, files};

    #[test]
    fn what_is_out_of_date_is_not_shown() {
        let mut plan = files(&certificate(&["one.example"])).clone();
        assert_eq!(brought(&plan).unwrap().at(|| 0).ocsp, None);
        let response: Arc<[u8]> = [1, 2, 3].into();
        for (until, now, there) in
            [(None, i64::MAX, true), (Some(1_000), 1_000, true), (Some(1_000), 1_001, false)]
        {
            plan.ocsp = Some(plan::Ocsp { response: response.clone(), until });
            let shown = brought(&plan).unwrap().at(|| now);
            assert_eq!(shown.ocsp.as_deref(), there.then_some(&response[..]), "{until:?} {now}");
        }
    }
}
