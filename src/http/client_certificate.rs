//! The certificate that a client has shown and that was believed: who it is, in the words of routes, logs and
//! servers. Read by `edge` once per connection, after the handshake.

use aws_lc_rs::digest;
use rustls_pki_types::CertificateDer;
use std::fmt::Write;
use std::net::IpAddr;
use x509_parser::asn1_rs::ToDer;
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate, X509Name};
use x509_parser::time::ASN1Time;

/// A certificate of a client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientCertificate {
    pub der: CertificateDer<'static>,
    /// As RFC 4514 writes it, the most specific part first: `CN=client one,O=Example`. Bytes beyond printable ASCII
    /// are escaped, so that it can stand in a header or a log.
    pub subject: String,
    /// The alternative names, each with its kind as OpenSSL writes them in its configuration: `DNS:a.example`,
    /// `URI:spiffe://example/a`, `email:a@example.com`, `IP:192.0.2.7`.
    pub san: Vec<String>,
    /// SHA-256 of the certificate: 64 hexadecimal digits, in lower case.
    pub fingerprint: String,
    not_after: i64,
}

impl ClientCertificate {
    /// # Errors
    /// It is not an X.509 certificate, which one that was believed always is.
    pub fn read(der: &CertificateDer<'_>) -> Result<ClientCertificate, String> {
        let (_, parsed) = X509Certificate::from_der(der).map_err(|e| format!("the certificate: {e}"))?;
        let names = parsed.subject_alternative_name().ok().flatten();
        let names = names.iter().flat_map(|extension| &extension.value.general_names);
        let digest = digest::digest(&digest::SHA256, der);
        Ok(ClientCertificate {
            subject: subject(parsed.subject()),
            san: names.filter_map(san).collect(),
            fingerprint: hex(digest.as_ref()),
            not_after: parsed.validity().not_after.timestamp(),
            der: der.clone().into_owned(),
        })
    }

    #[cfg(test)]
    pub fn made(subject: &str, san: Vec<String>) -> ClientCertificate {
        let (der, fingerprint) = (CertificateDer::from(vec![1, 2, 3]), "0a1b".to_string());
        ClientCertificate { der, subject: subject.to_string(), san, fingerprint, not_after: i64::MAX }
    }

    /// Its time is over. A session may outlive the certificate that it was opened with.
    pub fn has_expired(&self) -> bool {
        self.not_after < ASN1Time::now().timestamp()
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut text, byte| {
        // writing to a text cannot fail
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// RFC 4514 §2: the last part first, the attributes of one part joined by `+`.
fn subject(name: &X509Name<'_>) -> String {
    let mut parts: Vec<String> = name
        .iter_rdn()
        .map(|part| {
            let attributes = part.iter().map(|attribute| {
                let oid = attribute.attr_type().to_id_string();
                let value = attribute.attr_value();
                match (short_name(&oid), attribute.as_str()) {
                    (Some(short), Ok(text)) => format!("{short}={}", escaped(text)),
                    (short, _) => {
                        let encoded = hex(&value.to_der_vec().unwrap_or_default());
                        format!("{}=#{encoded}", short.unwrap_or(&oid))
                    }
                }
            });
            attributes.collect::<Vec<_>>().join("+")
        })
        .collect();
    parts.reverse();
    parts.join(",")
}

/// Those of RFC 4514 §3, and two more that OpenSSL knows.
fn short_name(oid: &str) -> Option<&'static str> {
    Some(match oid {
        "2.5.4.3" => "CN",
        "2.5.4.5" => "serialNumber",
        "2.5.4.6" => "C",
        "2.5.4.7" => "L",
        "2.5.4.8" => "ST",
        "2.5.4.9" => "STREET",
        "2.5.4.10" => "O",
        "2.5.4.11" => "OU",
        "0.9.2342.19200300.100.1.1" => "UID",
        "0.9.2342.19200300.100.1.25" => "DC",
        "1.2.840.113549.1.9.1" => "emailAddress",
        _ => return None,
    })
}

/// RFC 4514 §2.4: no value can be taken for two.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let last = text.len().saturating_sub(1);
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            b'"' | b'+' | b',' | b';' | b'<' | b'>' | b'\\' => out.extend(['\\', char::from(byte)]),
            b'#' if at == 0 => out.push_str("\\#"),
            b' ' if at == 0 || at == last => out.push_str("\\ "),
            byte => plain(&mut out, byte),
        }
    }
    out
}

fn plain(out: &mut String, byte: u8) {
    match byte {
        b' '..=b'~' => out.push(char::from(byte)),
        _ => {
            let _ = write!(out, "\\{byte:02x}");
        }
    }
}

/// `None` for kinds that nobody looks for.
fn san(name: &GeneralName<'_>) -> Option<String> {
    let (kind, text) = match name {
        GeneralName::DNSName(text) => ("DNS", *text),
        GeneralName::URI(text) => ("URI", *text),
        GeneralName::RFC822Name(text) => ("email", *text),
        GeneralName::IPAddress(bytes) => return Some(format!("IP:{}", address(bytes)?)),
        // not our enum, and what is left of it has no text
        _ => return None,
    };
    let mut out = format!("{kind}:");
    text.bytes().for_each(|byte| plain(&mut out, byte));
    Some(out)
}

fn address(bytes: &[u8]) -> Option<IpAddr> {
    let v4 = || <[u8; 4]>::try_from(bytes).ok().map(IpAddr::from);
    v4().or_else(|| <[u8; 16]>::try_from(bytes).ok().map(IpAddr::from))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{CertificateParams, DnType, DnValue, KeyPair, SanType};

    fn made(adjust: impl FnOnce(&mut CertificateParams)) -> ClientCertificate {
        let mut params = CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        adjust(&mut params);
        let cert = params.self_signed(&KeyPair::generate().unwrap()).unwrap();
        ClientCertificate::read(cert.der()).unwrap()
    }

    fn subject_of(parts: &[(DnType, &str)]) -> String {
        made(|params| {
            for (kind, text) in parts {
                params.distinguished_name.push(kind.clone(), DnValue::Utf8String((*text).to_string()));
            }
        })
        .subject
    }

    #[test]
    fn a_subject_reads_as_in_rfc_4514() {
        let parts = [
            (DnType::CountryName, "DE"),
            (DnType::OrganizationName, "Example"),
            (DnType::CommonName, "one"),
            (DnType::CustomDnType(vec![2, 5, 4, 12]), "x"),
        ];
        assert_eq!(subject_of(&parts), "2.5.4.12=#0c0178,CN=one,O=Example,C=DE");
        assert_eq!(subject_of(&[]), "");
    }

    /// Whoever may choose a name cannot choose the name beside it.
    #[test]
    fn no_value_can_be_taken_for_two() {
        for (text, written) in [
            ("one,O=Example", r"one\,O=Example"),
            ("one+O=Example", r"one\+O=Example"),
            (r#"a"b\c;d<e>"#, r#"a\"b\\c\;d\<e\>"#),
            (" #x ", r"\ #x\ "),
            ("#x", r"\#x"),
            (" ", r"\ "),
            ("a\r\nX: y\0", r"a\0d\0aX: y\00"),
            ("Lučić", r"Lu\c4\8di\c4\87"),
        ] {
            assert_eq!(subject_of(&[(DnType::CommonName, text)]), format!("CN={written}"));
        }
    }

    #[test]
    fn alternative_names_have_their_kinds() {
        let certificate = made(|params| {
            params.subject_alt_names = vec![
                SanType::DnsName("a.example".try_into().unwrap()),
                SanType::URI("spiffe://example/a,b".try_into().unwrap()),
                SanType::Rfc822Name("a@example.com".try_into().unwrap()),
                SanType::IpAddress("192.0.2.7".parse().unwrap()),
                SanType::IpAddress("2001:db8::7".parse().unwrap()),
            ];
        });
        let expected = [
            "DNS:a.example",
            "URI:spiffe://example/a,b",
            "email:a@example.com",
            "IP:192.0.2.7",
            "IP:2001:db8::7",
        ];
        assert_eq!(certificate.san, expected);
        assert_eq!(certificate.fingerprint.len(), 64);
        assert!(!certificate.has_expired());
    }

    #[test]
    fn a_certificate_expires() {
        let old = made(|params| params.not_after = rcgen::date_time_ymd(2002, 1, 1));
        assert!(old.has_expired());
        assert!(ClientCertificate::read(&CertificateDer::from(vec![1, 2, 3])).is_err());
    }
}
