//! Checks of `admin`: nobody is to have the process in hand who is not meant to.

use super::Checker;
use super::listeners::overlap;
use crate::config::decode::Located;
use crate::config::file::Admin;
use crate::config::plan;
use crate::config::report::Code;
use crate::config::words::{HostPattern, ListenAddress};
use std::sync::Arc;

/// Bytes of a token.
const LEAST_TOKEN: usize = 16;
const WHO: &str = "admin";

impl<'a> Checker<'a> {
    /// `None` when there is no admin address.
    pub(super) fn admin(&mut self) -> Option<Arc<plan::Admin>> {
        let file = self.file;
        let admin = &file.admin;
        let Some(address) = &admin.address else {
            self.admin_without_address(admin);
            return None;
        };
        self.admin_apart(address);
        if let (Some(mode), Some(_)) = (&admin.socket_mode, address.value.ip()) {
            let message = "admin has a socket_mode, and no unix socket\nremove it, or listen on unix:/run/weirgate-admin.sock";
            self.error(Code::Conflict, mode.span, message);
        }
        if let Some(token) = &admin.token
            && token.value.reveal().len() < LEAST_TOKEN
        {
            let message = format!(
                "admin.token is shorter than {LEAST_TOKEN} bytes and can be guessed\nmake one with `openssl rand -hex 32`"
            );
            self.error(Code::InvalidValue, token.span, &message);
        }
        let tls = admin.tls.as_ref().and_then(|tls| self.tls(WHO, tls)).map(Arc::new);
        self.no_listener(admin);
        let plan = plan::Admin {
            address: address.value.clone(),
            socket_mode: admin.socket_mode.as_ref().map(|mode| mode.value),
            token: admin.token.as_ref().map(|token| token.value.clone()),
            hosts: hosts(admin, tls.as_deref()),
            tls,
        };
        // certificates that cannot be read have been reported
        let unread = admin.tls.is_some() && plan.tls.is_none();
        if plan.is_exposed() && plan.token.is_none() && !plan.demands_certificates() && !unread {
            let message = format!(
                "admin listens on {}, where others than this machine can connect, and asks for nothing\nadd `token: \
                 \"${{ADMIN_TOKEN}}\"`, made with `openssl rand -hex 32`, or `tls` with `client_auth`; or listen on 127.0.0.1",
                address.value
            );
            self.error(Code::MissingKey, address.span, &message);
        }
        Some(Arc::new(plan))
    }

    fn admin_without_address(&mut self, admin: &Located<Admin>) {
        if self.whole && admin.value != Admin::default() {
            let message = "admin has no address\nadd `address: 127.0.0.1:9901`";
            self.error(Code::MissingKey, admin.span, message);
        }
    }

    fn admin_apart(&mut self, address: &Located<ListenAddress>) {
        let file = self.file;
        let mut others = file.listeners.iter().filter(|l| l.udp.is_none());
        let other = others.find(|l| overlap(&l.address.value, &address.value));
        if let Some(other) = other {
            let message = format!("admin and a listener are both on {}", address.value);
            self.report
                .error(Code::AddressConflict, address.span, message)
                .help("choose another port for one of them")
                .related(other.address.span, "the listener is here");
        }
    }

    /// What listeners do with TLS, and the admin address does not.
    fn no_listener(&mut self, admin: &'a Admin) {
        let Some(tls) = &admin.tls else { return };
        if !tls.passthrough.0.is_empty() {
            let message = "admin cannot pass connections on\nremove `passthrough`";
            self.error(Code::Conflict, tls.span, message);
        }
        for certificate in tls.certificates.iter().filter_map(|certificate| certificate.acme.as_ref()) {
            let message = "certificates of admin are not ordered\nbring one with `cert` and `key`";
            self.error(Code::Conflict, certificate.span, message);
        }
    }
}

/// The names that are written, and those in the certificates.
fn hosts(admin: &Admin, tls: Option<&plan::Tls>) -> Vec<HostPattern> {
    let written = admin.hosts.iter().map(|host| host.value.clone());
    let certificates = tls.iter().flat_map(|tls| &tls.certificates);
    written.chain(certificates.flat_map(|certificate| certificate.names.iter().cloned())).collect()
}
