//! The yardstick: the smallest proxy Pingora makes. One upstream, keep-alive, plaintext, TLS (h1 and h2) and h2c,
//! Pingora's own listeners, one worker thread, no filter, no log. Run as `compare minimal-pingora`.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::{Context as _, Result, anyhow};
use async_trait::async_trait;
use pingora::apps::HttpServerOptions;
use pingora::listeners::tls::TlsSettings;
use pingora::proxy::{ProxyHttp, Session, http_proxy_service};
use pingora::server::Server;
use pingora::server::configuration::ServerConf;
use pingora::upstreams::peer::HttpPeer;

use crate::args::MinimalSettings;
use crate::configs::UPSTREAM_POOL;

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
    let conf =
        ServerConf { threads: 1, upstream_keepalive_pool_size: UPSTREAM_POOL, ..ServerConf::default() };
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
    // a service of its own, as it looks at what plaintext connections begin with
    let mut h2c = http_proxy_service(&conf, OneUpstream(settings.origin));
    h2c.add_tcp(&settings.h2c.to_string());
    let mut options = HttpServerOptions::default();
    options.h2c = true;
    if let Some(app) = h2c.app_logic_mut() {
        app.server_options = Some(options);
    }
    server.add_service(h2c);
    server.run_forever()
}
