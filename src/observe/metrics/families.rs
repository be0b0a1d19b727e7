//! The names of all metrics: what each is, once. docs/metrics.md says the same at length, and a test compares.

use std::fmt;

/// What a value does in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// It grows, until the process is another.
    Counter,
    Gauge,
    Histogram,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        })
    }
}

/// Samples of one name.
#[derive(Debug, Clone, Copy)]
pub struct Family {
    pub name: &'static str,
    pub kind: Kind,
    pub help: &'static str,
}

macro_rules! families {
    ($($(#[$about:meta])* $constant:ident = $kind:ident $name:literal: $help:literal;)*) => {
        $($(#[$about])* pub const $constant: Family = Family { name: $name, kind: Kind::$kind, help: $help };)*
        /// All of them, in the order of the page.
        pub const ALL: &[Family] = &[$($constant),*];
    };
}

families! {
    REQUESTS = Counter "weirgate_requests_total": "Requests that ended, by listener, protocol and class of status.";
    CONNECTIONS_OPEN = Gauge "weirgate_listener_connections_open": "Connections of clients that are open.";
    CONNECTIONS_ACCEPTED = Counter "weirgate_listener_connections_accepted_total": "Connections of clients that were accepted.";
    CONNECTIONS_REFUSED = Counter "weirgate_listener_connections_refused_total": "Connections of clients that were closed at once, by reason.";
    HANDSHAKES = Counter "weirgate_tls_handshakes_total": "TLS handshakes that succeeded, by version and whether a session was resumed.";
    HANDSHAKES_FAILED = Counter "weirgate_tls_handshake_failures_total": "TLS handshakes that failed, by reason.";

    ROUTE_REQUESTS = Counter "weirgate_route_requests_total": "Requests that took a route and ended, by class of status.";
    ROUTE_IN_FLIGHT = Gauge "weirgate_route_requests_in_flight": "Requests that are at a route now.";
    ROUTE_DURATION = Histogram "weirgate_route_request_duration_seconds": "From the first look at a request to the end of its answer.";
    ROUTE_QUEUE = Histogram "weirgate_route_queue_duration_seconds": "How long requests waited for their turn, if they had to.";
    ROUTE_CONNECT = Histogram "weirgate_route_connect_duration_seconds": "How long new connections to servers took, TLS included.";
    ROUTE_FIRST_BYTE = Histogram "weirgate_route_first_byte_duration_seconds": "From the beginning of the last try to the head of its answer.";
    ROUTE_RECEIVED = Counter "weirgate_route_request_body_bytes_total": "Bytes of request bodies that were read.";
    ROUTE_SENT = Counter "weirgate_route_response_body_bytes_total": "Bytes of response bodies that were sent.";
    ROUTE_RETRIES = Counter "weirgate_route_retries_total": "Tries beyond the first of a request.";

    UPSTREAM_REQUESTS = Counter "weirgate_upstream_requests_total": "Requests that were for an upstream and ended, by class of the status that the client was told.";
    UPSTREAM_IN_FLIGHT = Gauge "weirgate_upstream_requests_in_flight": "Requests and connections that are with any server of an upstream now.";
    UPSTREAM_DURATION = Histogram "weirgate_upstream_request_duration_seconds": "From the first look at a request to the end of its answer.";
    UPSTREAM_QUEUE = Histogram "weirgate_upstream_queue_duration_seconds": "How long requests waited for their turn, if they had to.";
    UPSTREAM_CONNECT = Histogram "weirgate_upstream_connect_duration_seconds": "How long new connections to servers took, TLS included.";
    UPSTREAM_FIRST_BYTE = Histogram "weirgate_upstream_first_byte_duration_seconds": "From the beginning of the last try to the head of its answer.";
    UPSTREAM_RECEIVED = Counter "weirgate_upstream_request_body_bytes_total": "Bytes of request bodies that were read.";
    UPSTREAM_SENT = Counter "weirgate_upstream_response_body_bytes_total": "Bytes of response bodies that were sent.";
    UPSTREAM_RETRIES = Counter "weirgate_upstream_retries_total": "Tries beyond the first of a request.";
    UPSTREAM_HEDGES = Counter "weirgate_upstream_hedges_total": "Second tries beside a first that were in vain.";
    UPSTREAM_REFUSED = Counter "weirgate_upstream_requests_refused_total": "Requests and connections that no server was asked for, by reason.";
    UPSTREAM_FLOWS = Counter "weirgate_upstream_flows_total": "Connections that were passed on whole and ended, by how they did.";
    UPSTREAM_FLOW_BYTES = Counter "weirgate_upstream_flow_bytes_total": "Bytes of connections that were passed on whole and ended, by direction.";
    BUDGET_USED = Gauge "weirgate_upstream_retry_budget_used_ratio": "Which share of the retries that its budget allows an upstream has spent in the last ten seconds.";
    BUDGET_EXHAUSTED = Counter "weirgate_upstream_retry_budget_exhausted_total": "Retries that were not made because the budget was spent.";
    QUEUE_LENGTH = Gauge "weirgate_upstream_queue_length": "Requests that wait for their turn now.";
    UPSTREAM_BREAKER = Gauge "weirgate_upstream_breaker_state": "1 for the state that the breaker of an upstream is in.";
    UPSTREAM_BREAKER_OPENED = Counter "weirgate_upstream_breaker_opened_total": "How often the breaker of an upstream has opened.";
    PANIC = Gauge "weirgate_upstream_panic": "1 while the health of the servers is ignored, as too few are healthy.";
    SERVERS = Gauge "weirgate_upstream_servers": "Servers of an upstream.";
    SERVERS_USABLE = Gauge "weirgate_upstream_servers_usable": "Servers of an upstream that may get new sessions.";

    SERVER_REQUESTS = Counter "weirgate_server_requests_total": "Tries on a server that ended, by class of the status that it answered.";
    SERVER_IN_FLIGHT = Gauge "weirgate_server_requests_in_flight": "Requests and connections that are with a server now.";
    SERVER_CONNECT = Histogram "weirgate_server_connect_duration_seconds": "How long new connections took, TLS included.";
    SERVER_FIRST_BYTE = Histogram "weirgate_server_first_byte_duration_seconds": "From the beginning of a try to the head of its answer.";
    SERVER_RECEIVED = Counter "weirgate_server_request_body_bytes_total": "Bytes of the bodies of requests that a server answered last.";
    SERVER_SENT = Counter "weirgate_server_response_body_bytes_total": "Bytes of response bodies from a server that were sent to clients.";
    SERVER_FLOWS = Counter "weirgate_server_flows_total": "Tries to pass a connection on to a server, by whether it could be connected to.";
    SERVER_HEALTHY = Gauge "weirgate_server_healthy": "1 while a server answers, as far as its upstream can tell.";
    SERVER_USABLE = Gauge "weirgate_server_usable": "1 while a server may get new sessions.";
    SERVER_DRAINING = Gauge "weirgate_server_draining": "1 while a server gets no new sessions and finishes what it has.";
    SERVER_EJECTED = Gauge "weirgate_server_ejected": "1 while a server is ejected because of how it answered.";
    SERVER_EJECTIONS = Counter "weirgate_server_ejections_total": "How often a server was ejected, by reason.";
    SERVER_BREAKER = Gauge "weirgate_server_breaker_state": "1 for the state that the breaker of a server is in.";
    SERVER_BREAKER_OPENED = Counter "weirgate_server_breaker_opened_total": "How often the breaker of a server has opened.";
    SERVER_WEIGHT = Gauge "weirgate_server_weight": "The weight of a server, without its slow start.";
    SERVER_CHECKS = Counter "weirgate_server_health_checks_total": "Health checks of a server, by result.";

    CERTIFICATE_EXPIRY = Gauge "weirgate_certificate_expiry_timestamp_seconds": "When a certificate that is shown ends, in seconds since 1970.";
    ACME_ORDERS = Counter "weirgate_acme_orders_total": "Certificates that were ordered from an authority, by result.";
    RELOADS = Counter "weirgate_config_reloads_total": "Reloads of the configuration, by result.";
    LAST_RELOAD_OK = Gauge "weirgate_config_last_reload_successful": "1 unless the last reload was refused.";
    LAST_RELOAD_TIME = Gauge "weirgate_config_last_reload_success_timestamp_seconds": "When the configuration in use was read the last time, in seconds since 1970.";
    CONFIG_INFO = Gauge "weirgate_config_info": "Which configuration is in use; always 1.";
    LOG_DROPPED = Counter "weirgate_access_log_dropped_total": "Lines of the access log that were never written, as its sink was too slow or failed.";
    TRACE_SPANS = Counter "weirgate_trace_spans_total": "Spans of traces that were recorded, by what became of them.";
    BUILD_INFO = Gauge "weirgate_build_info": "Which program this is; always 1.";
    START_TIME = Gauge "process_start_time_seconds": "When the process was started, in seconds since 1970.";
    CPU_TIME = Counter "process_cpu_seconds_total": "Processor time that the process has used, in seconds.";
    MEMORY = Gauge "process_resident_memory_bytes": "Memory of the process that is in RAM.";
    OPEN_FILES = Gauge "process_open_fds": "Files and sockets that are open.";
    MOST_FILES = Gauge "process_max_fds": "How many files and sockets may be open.";
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn names_say_what_they_are() {
        let mut seen = HashSet::new();
        for family in ALL {
            assert!(seen.insert(family.name), "{} is there twice", family.name);
            let total = family.name.ends_with("_total");
            assert_eq!(total, family.kind == Kind::Counter, "{}", family.name);
            assert!(family.kind != Kind::Histogram || family.name.ends_with("_seconds"), "{}", family.name);
            assert!(family.help.ends_with('.') && !family.help.contains(['\\', '\n']), "{}", family.name);
        }
    }
}
