//! TLS as a client of somebody who is no server of a group: who is believed, and how it is spoken. For the authorities of
//! `acme` and for the collector of `observe::traces`.

use crate::config::plan::Trust;
use rustls::crypto::aws_lc_rs;
use rustls::{ClientConfig, RootCertStore};
use std::sync::Arc;

/// Shows no certificate, and looks at that of the other end.
///
/// # Errors
/// In words for the operator: no trusted authorities are found on this system.
pub fn client(trust: &Trust) -> Result<ClientConfig, String> {
    let config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .with_root_certificates(roots(trust)?)
        .with_no_client_auth();
    Ok(config)
}

fn roots(trust: &Trust) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    let certificates = match trust {
        Trust::These(these) => these.clone(),
        Trust::System | Trust::Anyone => rustls_native_certs::load_native_certs()
            .map_err(|why| format!("the authorities that the system trusts cannot be read: {why}"))?,
    };
    roots.add_parsable_certificates(certificates);
    match roots.is_empty() && *trust != Trust::These(Vec::new()) {
        false => Ok(roots),
        true => Err("the system trusts no authority; install ca-certificates, or give `ca`".to_owned()),
    }
}
