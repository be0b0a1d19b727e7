//! Envoy, with nothing on. Called by `proxies`.

use std::net::SocketAddr;

use crate::proxies::Site;

/// HTTP/2 in plaintext is recognised by its preface.
pub fn conf(site: &Site) -> String {
    let Site { plain, secure, h2c, origin, cert, key, .. } = site;
    let tls = format!(
        r#"
      transport_socket:
        name: envoy.transport_sockets.tls
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext
          common_tls_context:
            alpn_protocols: [h2, http/1.1]
            tls_certificates:
            - certificate_chain: {{ filename: "{cert}" }}
              private_key: {{ filename: "{key}" }}"#,
        cert = cert.display(),
        key = key.display(),
    );
    format!(
        r#"static_resources:
  listeners:
{plain}{h2c}{secure}
  clusters:
  - name: origin
    connect_timeout: 5s
    circuit_breakers:
      thresholds: [{{ max_connections: 100000, max_pending_requests: 100000, max_requests: 100000 }}]
    load_assignment:
      cluster_name: origin
      endpoints:
      - lb_endpoints:
        - endpoint: {{ address: {{ socket_address: {{ address: "{ip}", port_value: {port} }} }} }}
"#,
        plain = listener("plain", *plain, ""),
        h2c = listener("h2c", *h2c, ""),
        secure = listener("secure", *secure, &tls),
        ip = origin.ip(),
        port = origin.port(),
    )
}

fn listener(name: &str, address: SocketAddr, tls: &str) -> String {
    format!(
        r#"  - name: {name}
    address: {{ socket_address: {{ address: "{ip}", port_value: {port} }} }}
    filter_chains:
    - filters:
      - name: envoy.filters.network.http_connection_manager
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: {name}
          codec_type: AUTO
          generate_request_id: false
          skip_xff_append: true
          route_config:
            virtual_hosts:
            - name: all
              domains: ["*"]
              routes: [{{ match: {{ prefix: "/" }}, route: {{ cluster: origin, timeout: 60s }} }}]
          http_filters:
          - name: envoy.filters.http.router
            typed_config:
              "@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router
              suppress_envoy_headers: true{tls}
"#,
        ip = address.ip(),
        port = address.port(),
    )
}
