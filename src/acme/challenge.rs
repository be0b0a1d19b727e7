//! What an authority asks of our listeners to see that a name is ours, while an order is under way: a text at a
//! path over plain HTTP (RFC 8555 §8.3), or a certificate in a handshake of its own (RFC 8737). Posted by `order`,
//! answered by the `http` and `edge` rooms.

use parking_lot::RwLock;
use rcgen::{CertificateParams, CustomExtension, DistinguishedName, KeyPair};
use rustls::crypto::aws_lc_rs;
use rustls::sign::CertifiedKey;
use rustls_pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// The application protocol of a handshake that is a challenge (RFC 8737 §6.2).
pub const ALPN: &[u8] = b"acme-tls/1";

/// Where the text of a challenge is asked for; the token follows.
const PATH: &str = "/.well-known/acme-challenge/";

/// The challenges of all orders that are under way.
#[derive(Debug, Default)]
pub struct Challenges {
    /// Looked at by every request, so that it costs nothing while there is none.
    count: AtomicUsize,
    /// By token.
    texts: RwLock<HashMap<String, String>>,
    /// By name.
    certificates: RwLock<HashMap<String, Arc<CertifiedKey>>>,
}

/// A challenge can be answered while this lives.
#[derive(Debug)]
pub struct Posted {
    challenges: Arc<Challenges>,
    what: What,
}

#[derive(Debug)]
enum What {
    Text(String),
    Certificate(String, Arc<CertifiedKey>),
}

impl Challenges {
    /// Whether there is any.
    pub fn any(&self) -> bool {
        self.count.load(Ordering::Acquire) > 0
    }

    /// What to answer to a request for this path: the text of a challenge that is under way.
    pub fn text(&self, path: &str) -> Option<String> {
        if !self.any() {
            return None;
        }
        self.texts.read().get(path.strip_prefix(PATH)?).cloned()
    }

    /// What to show in a handshake for [`ALPN`] with this name, lower case.
    pub fn certificate(&self, name: &str) -> Option<Arc<CertifiedKey>> {
        self.certificates.read().get(name).cloned()
    }

    /// `text` is the key authorization for `token` (RFC 8555 §8.1).
    pub fn post_text(self: &Arc<Self>, token: &str, text: &str) -> Posted {
        self.texts.write().insert(token.to_owned(), text.to_owned());
        self.posted(What::Text(token.to_owned()))
    }

    /// `digest` is that of the key authorization: 32 bytes.
    ///
    /// # Errors
    /// In words, when no certificate can be made for this name.
    pub fn post_certificate(self: &Arc<Self>, name: &str, digest: &[u8]) -> Result<Posted, String> {
        let certified = Arc::new(certificate_for(name, digest)?);
        let name = name.to_ascii_lowercase();
        self.certificates.write().insert(name.clone(), certified.clone());
        Ok(self.posted(What::Certificate(name, certified)))
    }

    fn posted(self: &Arc<Self>, what: What) -> Posted {
        self.count.fetch_add(1, Ordering::AcqRel);
        Posted { challenges: self.clone(), what }
    }
}

impl Drop for Posted {
    fn drop(&mut self) {
        match &self.what {
            What::Text(token) => {
                self.challenges.texts.write().remove(token);
            }
            What::Certificate(name, certified) => {
                let mut all = self.challenges.certificates.write();
                // another order may have one for the same name
                if all.get(name).is_some_and(|other| Arc::ptr_eq(other, certified)) {
                    all.remove(name);
                }
            }
        }
        self.challenges.count.fetch_sub(1, Ordering::AcqRel);
    }
}

/// Self-signed, for this one name, with the digest in the extension `acmeIdentifier` (RFC 8737 §3).
fn certificate_for(name: &str, digest: &[u8]) -> Result<CertifiedKey, String> {
    // the library takes no other length
    let digest: [u8; 32] = digest.try_into().map_err(|_| "the digest has not 32 bytes".to_owned())?;
    let explain = |error: rcgen::Error| format!("no challenge certificate for {name}: {error}");
    let mut params = CertificateParams::new([name.to_owned()]).map_err(explain)?;
    params.distinguished_name = DistinguishedName::new();
    params.custom_extensions = vec![CustomExtension::new_acme_identifier(&digest)];
    let key = KeyPair::generate().map_err(explain)?;
    let certificate = params.self_signed(&key).map_err(explain)?;
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let key = aws_lc_rs::sign::any_supported_type(&key).map_err(|error| error.to_string())?;
    Ok(CertifiedKey::new(vec![certificate.der().clone()], key))
}

#[cfg(test)]
mod tests {
    use super::*;
    use x509_parser::prelude::{FromDer, X509Certificate};

    #[test]
    fn a_text_is_there_while_it_is_posted() {
        let challenges = Arc::new(Challenges::default());
        assert!(!challenges.any());
        let posted = challenges.post_text("tok-en_1", "tok-en_1.print");
        let other = challenges.post_text("two", "two.print");
        assert_eq!(
            challenges.text("/.well-known/acme-challenge/tok-en_1").as_deref(),
            Some("tok-en_1.print")
        );
        for path in ["/.well-known/acme-challenge/", "/.well-known/acme-challenge/tok", "/tok-en_1", "/"] {
            assert_eq!(challenges.text(path), None, "{path}");
        }
        drop(posted);
        assert_eq!(challenges.text("/.well-known/acme-challenge/tok-en_1"), None);
        assert!(challenges.any());
        drop(other);
        assert!(!challenges.any());
    }

    #[test]
    fn a_certificate_carries_the_digest_in_a_critical_extension() {
        let challenges = Arc::new(Challenges::default());
        let digest = [7; 32];
        let first = challenges.post_certificate("A.example.com", &digest).unwrap();
        let certified = challenges.certificate("a.example.com").unwrap();
        let (_, leaf) = X509Certificate::from_der(&certified.cert[0]).unwrap();
        let oid = x509_parser::oid_registry::asn1_rs::oid!(1.3.6.1.5.5.7.1.31);
        let extension = leaf.get_extension_unique(&oid).unwrap().unwrap();
        assert!(extension.critical);
        // an OCTET STRING of 32 bytes
        assert_eq!(extension.value, [&[4, 32][..], &digest].concat());
        let second = challenges.post_certificate("a.example.com", &digest).unwrap();
        drop(first);
        assert!(challenges.certificate("a.example.com").is_some(), "that of the second order");
        drop(second);
        assert!(challenges.certificate("a.example.com").is_none());
        assert!(challenges.post_certificate("a.example.com", &[1; 5]).is_err());
    }
}
