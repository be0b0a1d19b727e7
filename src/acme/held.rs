//! A certificate with its key, ready to be shown, and what is to be known of it: the names it is for, how long it
//! is valid. Read from the PEM text in which `store` keeps it.

use instant_acme::CertificateIdentifier;
use rustls::crypto::aws_lc_rs;
use rustls::sign::CertifiedKey;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use x509_parser::prelude::{ASN1Time, FromDer, GeneralName, X509Certificate};

/// A certificate that can be shown.
#[derive(Debug)]
pub struct Held {
    pub certified: Arc<CertifiedKey>,
    /// Lower case, as the certificate has them.
    names: Vec<String>,
    pub not_before: SystemTime,
    pub not_after: SystemTime,
}

impl Held {
    /// From a private key and a chain, the server's own certificate first.
    ///
    /// # Errors
    /// In words: what is missing, or that the two do not belong together.
    pub fn from_pem(pem: &[u8]) -> Result<Held, String> {
        let chain: Vec<_> = CertificateDer::pem_slice_iter(pem)
            .collect::<Result<_, _>>()
            .map_err(|error| format!("the chain is damaged: {error}"))?;
        let key = PrivateKeyDer::from_pem_slice(pem).map_err(|error| format!("no private key: {error}"))?;
        let key = aws_lc_rs::sign::any_supported_type(&key).map_err(|error| error.to_string())?;
        let leaf = chain.first().ok_or("no certificate")?.clone();
        let (_, leaf) =
            X509Certificate::from_der(&leaf).map_err(|error| format!("no certificate: {error}"))?;
        let (not_before, not_after) = (time(leaf.validity().not_before), time(leaf.validity().not_after));
        let names = names(&leaf);
        let certified = CertifiedKey::new(chain.clone(), key);
        match certified.keys_match() {
            // Unknown: the key type does not tell its public half
            Ok(()) | Err(rustls::Error::InconsistentKeys(rustls::InconsistentKeys::Unknown)) => {}
            Err(_) => return Err("the key does not belong to the certificate".to_owned()),
        }
        Ok(Held { certified: Arc::new(certified), names, not_before, not_after })
    }

    /// Whether this name, lower case, is one of those in the certificate.
    pub fn covers(&self, name: &str) -> bool {
        self.names.iter().any(|own| own == name)
    }

    /// Whether it is valid at this time.
    pub fn is_valid(&self, now: SystemTime) -> bool {
        self.not_before <= now && now < self.not_after
    }

    /// What the authority knows it by (RFC 9773 §4.1); `None` when it says too little of itself.
    pub fn identifier(&self) -> Option<CertificateIdentifier<'static>> {
        let leaf = self.certified.cert.first()?;
        CertificateIdentifier::try_from(leaf).ok().map(CertificateIdentifier::into_owned)
    }
}

fn names(leaf: &X509Certificate<'_>) -> Vec<String> {
    let Ok(Some(names)) = leaf.subject_alternative_name() else { return Vec::new() };
    let dns = names.value.general_names.iter().filter_map(|name| match name {
        GeneralName::DNSName(name) => Some(name.to_ascii_lowercase()),
        _ => None,
    });
    dns.collect()
}

/// What is before 1970 is long ago.
fn time(time: ASN1Time) -> SystemTime {
    let seconds = u64::try_from(time.timestamp()).unwrap_or(0);
    SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};

    /// A certificate and its key as they are stored.
    pub fn pem(names: &[&str], adjust: impl FnOnce(&mut CertificateParams)) -> String {
        let mut authority = CertificateParams::new(Vec::new()).unwrap();
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority = CertifiedIssuer::self_signed(authority, KeyPair::generate().unwrap()).unwrap();
        let names: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names).unwrap();
        params.use_authority_key_identifier_extension = true;
        adjust(&mut params);
        let key = KeyPair::generate().unwrap();
        let leaf = params.signed_by(&key, &authority).unwrap();
        format!("{}{}{}", key.serialize_pem(), leaf.pem(), authority.pem())
    }

    #[test]
    fn what_is_read_is_what_was_issued() {
        let held = Held::from_pem(
            pem(&["a.example.com", "b.example.com"], |params| {
                params.not_before = rcgen::date_time_ymd(2020, 1, 1);
                params.not_after = rcgen::date_time_ymd(2020, 1, 11);
            })
            .as_bytes(),
        )
        .unwrap();
        assert!(
            held.covers("a.example.com") && held.covers("b.example.com") && !held.covers("c.example.com")
        );
        assert_eq!(held.not_after.duration_since(held.not_before).unwrap(), Duration::from_secs(10 * 86_400));
        assert!(
            !held.is_valid(SystemTime::now())
                && held.is_valid(held.not_before)
                && !held.is_valid(held.not_after)
        );
        assert_eq!(held.certified.cert.len(), 2);
        assert!(held.identifier().is_some());
    }

    #[test]
    fn what_cannot_be_shown_is_refused() {
        let (one, other) = (pem(&["a.example.com"], |_| {}), pem(&["a.example.com"], |_| {}));
        let end = |pem: &str| pem.find("-----BEGIN CERT").unwrap();
        let mixed = format!("{}{}", &one[..end(&one)], &other[end(&other)..]);
        assert_eq!(
            Held::from_pem(mixed.as_bytes()).unwrap_err(),
            "the key does not belong to the certificate"
        );
        for text in ["", "nonsense", &one[..end(&one)], &one[end(&one)..], &one[..one.len() / 2]] {
            assert!(Held::from_pem(text.as_bytes()).is_err(), "{text}");
        }
    }
}
