//! The yardstick: the smallest proxy Pingora makes. One upstream, keep-alive, plaintext and TLS (h1 and h2),
//! Pingora's own listeners, one worker thread, no filter, no log. Run as `compare minimal-pingora`.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::{Context as _, Result, anyhow};
use async_trait::async_trait;
use pingora::listeners::tls::TlsSettings;
use pingora::proxy::{ProxyHttp, Session, http_proxy_service};
use pingora::server::Server;
use pingora::server::configuration::ServerConf;
use pingora::upstreams::peer::HttpPeer;

use crate::args::MinimalSettings;

struct OneUpstream(SocketAddr);

#[async_trait]
impl ProxyHttp for OneUpstream {
    type CTX = ();

    fn new_ctx(&self) -> Self::CTX {}

    async fn upstream_peer(&self, _: &mut Session, _: &mut ()) -> pingora::Result<Box<HttpPeer>> {
        Ok(Box::new(HttpPeer::new(self.0, false, String::new())))
    }
}

pub fn run(settings: MinimalSettings) -> Result<()> {
    // Before Pingora touches TLS, or it installs ring: both proxies are to use the same arithmetic.
    rustls::crypto::aws_lc_rs::default_provider()
        .install_default()
        .map_err(|_| anyhow!("a TLS provider is already installed"))?;
    let conf = ServerConf { threads: 1, ..ServerConf::default() };
    let mut server = Server::new_with_opt_and_conf(None, conf);
    server.bootstrap();
    let conf = Arc::clone(&server.configuration);
    let mut proxy = http_proxy_service(&conf, OneUpstream(settings.origin));
    proxy.add_tcp(&settings.plain.to_string());
    let cert = settings.cert.to_str().context("certificate path is not UTF-8")?;
    let key = settings.key.to_str().context("key path is not UTF-8")?;
    let mut tls = TlsSettings::intermediate(cert, key)?;
    tls.enable_h2();
    proxy.add_tls_with_settings(&settings.secure.to_string(), None, tls);
    server.add_service(proxy);
    server.run_forever()
}
