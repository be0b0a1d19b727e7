//! The values that labels have, where they are not names of the configuration: few, and all known here.

macro_rules! label {
    ($(#[$about:meta])* $name:ident { $($(#[$more:meta])* $variant:ident = $word:literal,)* }) => {
        $(#[$about])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum $name {
            $($(#[$more])* $variant),*
        }

        impl $name {
            /// By the order of the variants.
            pub(super) const WORDS: &'static [&'static str] = &[$($word),*];

            pub(super) fn place(self) -> usize {
                self as usize
            }
        }
    };
}

/// Classes of statuses; without an answer there is none.
pub(super) const CODES: &[&str] = &["none", "1xx", "2xx", "3xx", "4xx", "5xx"];

/// The class of a status, as a place among [`CODES`].
pub(super) fn code(status: u16) -> usize {
    match status / 100 {
        class @ 1..=5 => usize::from(class),
        _ => 0,
    }
}

label! {
    /// In which a request comes.
    Protocol {
        /// HTTP/1.1 and 1.0.
        H1 = "h1",
        H2 = "h2",
    }
}

label! {
    /// Why a connection was closed at once.
    NotAdmitted {
        /// `limits.connections`.
        Limit = "limit",
        /// `limits.connections_per_client`.
        ClientLimit = "client_limit",
        /// `limits.connection_rate`.
        Rate = "rate",
        /// `limits.connection_rate_per_client`.
        ClientRate = "client_rate",
        Ip = "ip",
        ProxyProtocol = "proxy_protocol",
    }
}

label! {
    TlsVersion {
        V1_2 = "1.2",
        V1_3 = "1.3",
    }
}

label! {
    /// What becomes of spans.
    Spans {
        /// The collector has them.
        Sent = "sent",
        /// The queue was full.
        Dropped = "dropped",
        /// The collector did not take them.
        Failed = "failed",
    }
}

label! {
    /// Why a handshake failed.
    HandshakeFailure {
        /// The client went away before its end.
        Closed = "closed",
        Timeout = "timeout",
        /// It is not TLS.
        Malformed = "malformed",
        /// Nothing that both sides speak: version, cipher suite, protocol.
        Incompatible = "incompatible",
        /// The client asks for a name that nothing here serves.
        UnknownName = "unknown_name",
        /// It shows no certificate, or one that is not believed.
        ClientCertificate = "client_certificate",
        /// The client says that it has found something wrong, mostly our certificate.
        Alert = "alert",
        Other = "other",
    }
}

label! {
    /// Why no server was asked.
    Refused {
        QueueFull = "queue_full",
        QueueTimeout = "queue_timeout",
        BreakerOpen = "breaker_open",
        NoServer = "no_server",
    }
}

label! {
    /// Why a server was ejected.
    Fault {
        ConsecutiveFailures = "consecutive_failures",
        FailureShare = "failure_share",
        Latency = "latency",
        /// At the admin address.
        ByHand = "by_hand",
    }
}

label! {
    /// What a breaker lets pass: everything, nothing, trials.
    BreakerState {
        Closed = "closed",
        Open = "open",
        HalfOpen = "half_open",
    }
}

label! {
    /// What a flow is made of: a connection, or a session of datagrams.
    Transport {
        Tcp = "tcp",
        Udp = "udp",
    }
}

label! {
    /// How a flow ended.
    FlowEnd {
        ClientClosed = "client_closed",
        ServerClosed = "server_closed",
        ClientReset = "client_reset",
        ServerReset = "server_reset",
        IdleTimeout = "idle_timeout",
        TotalTimeout = "total_timeout",
        /// Of sessions of UDP: as many answers as were to come.
        ResponsesComplete = "responses_complete",
        ServerUnreachable = "server_unreachable",
        Cut = "cut",
        /// There was no server for it, or none could be connected to.
        Refused = "refused",
    }
}

label! {
    /// Whether something went well.
    Success {
        No = "failed",
        Yes = "ok",
    }
}

impl From<bool> for Success {
    fn from(ok: bool) -> Success {
        if ok { Success::Yes } else { Success::No }
    }
}

/// Of the bytes of a flow.
pub(super) const DIRECTIONS: &[&str] = &["received", "sent"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_those_of_the_variants() {
        assert_eq!(FlowEnd::WORDS[FlowEnd::Cut.place()], "cut");
        assert_eq!(HandshakeFailure::WORDS[HandshakeFailure::Other.place()], "other");
        assert_eq!(Success::WORDS[Success::from(true).place()], "ok");
        assert_eq!(
            [0, 99, 101, 204, 308, 499, 503, 600].map(|s| CODES[code(s)]),
            ["none", "none", "1xx", "2xx", "3xx", "4xx", "5xx", "none"]
        );
    }
}
