//! TLS termination: what a listener shows and accepts, by the name that a client asks for, and the handshake.
//! Built by `place` when a listener is opened or changes.
//!
//! A connection begins with the whole ClientHello. The name in it leads to a policy of the plan (versions, client
//! certificates), each of which is a configuration of rustls (`answer`); within the handshake
//! `certificates` is asked for the certificate to show. Both follow the names of [`plan::Tls`].

mod certificates;
mod challenge;
mod failure;
mod policy;
mod tickets;

pub use tickets::RandomSecrets;

use crate::acme;
use crate::config::file::Cipher;
use crate::config::plan;
use crate::edge::transport::Transport;
use crate::http::{ClientCertificate, TlsFacts};
use crate::link::Link;
use crate::observe::Metrics;
use crate::observe::metrics::HandshakeFailure;
use certificates::Certificates;
use challenge::Challenges;
use rustls::server::{Acceptor, ClientHello};
use rustls::{HandshakeKind, ProtocolVersion, ServerConfig, ServerConnection};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use tokio_rustls::LazyConfigAcceptor;

/// A fatal alert, `unrecognized_name` (RFC 6066 §3), as a record in plaintext: nothing has been agreed on yet.
const UNRECOGNIZED_NAME: [u8; 7] = [21, 3, 3, 0, 2, 2, 112];

/// TLS as a listener terminates it.
pub struct Termination {
    plan: Arc<plan::Tls>,
    /// One for each policy of the plan.
    configs: Vec<Arc<ServerConfig>>,
    challenges: Challenges,
}

/// What listeners have in common, and what outlives them.
#[derive(Default)]
pub struct Common {
    /// Of session tickets.
    pub secrets: Arc<RandomSecrets>,
    /// Those that are ordered.
    pub certificates: acme::Registry,
    /// Where listeners are counted.
    pub metrics: Metrics,
}

/// How a ClientHello is answered.
enum Answer {
    /// With a handshake by this configuration, under this policy.
    Handshake(Arc<ServerConfig>, usize),
    /// With a handshake by this configuration, and nothing else: an authority looks at who answers.
    Challenge(Arc<ServerConfig>),
    Refuse,
}

impl Termination {
    /// For a listener that speaks HTTP/1.1 (`h1`), HTTP/2 (`h2`) or both.
    ///
    /// # Errors
    /// A certificate, key or list of authorities that cannot be used, with its file.
    pub fn build(
        plan: &Arc<plan::Tls>,
        (h1, h2): (bool, bool),
        common: &Common,
    ) -> Result<Termination, String> {
        let challenges = Challenges::new(common.certificates.challenges())?;
        if plan.certificates.is_empty() && !plan.settings.passthrough.is_empty() {
            // who is not passed on is refused
            return Ok(Termination { plan: plan.clone(), configs: Vec::new(), challenges });
        }
        let certificates = Arc::new(Certificates::build(plan, &common.certificates)?);
        // `curl --http1.0` offers nothing but its version
        let alpn: Vec<Vec<u8>> = [(h2, &b"h2"[..]), (h1, b"http/1.1"), (h1, b"http/1.0")]
            .into_iter()
            .filter(|(on, _)| *on)
            .map(|(_, name)| name.to_vec())
            .collect();
        let config = |policy: &plan::TlsPolicy| {
            let mut config =
                policy::server_config(policy, &plan.settings, certificates.clone(), &common.secrets)?;
            config.alpn_protocols.clone_from(&alpn);
            Ok(Arc::new(config))
        };
        let configs = plan.policies.iter().map(config).collect::<Result<_, String>>()?;
        Ok(Termination { plan: plan.clone(), configs, challenges })
    }

    /// By which it was made.
    pub fn plan(&self) -> &plan::Tls {
        &self.plan
    }

    /// The one place where it is decided on which terms a client is met.
    fn answer(&self, hello: &ClientHello<'_>) -> Answer {
        if let Some(config) = self.challenges.answer(hello) {
            return Answer::Challenge(config);
        }
        // rustls has made the name lower case
        let policy = self.plan.policy(hello.server_name());
        match policy.and_then(|policy| Some((self.configs.get(policy)?, policy))) {
            Some((config, policy)) => Answer::Handshake(config.clone(), policy),
            None => Answer::Refuse,
        }
    }
}

/// A finished handshake.
pub struct Accepted {
    pub io: Transport,
    pub facts: TlsFacts,
    /// HTTP/2 was agreed on by ALPN.
    pub h2: bool,
    /// It goes on with the secrets of an earlier one.
    pub resumed: bool,
}

/// A handshake that failed.
#[derive(Debug)]
pub struct Failed {
    pub kind: HandshakeFailure,
    why: String,
}

impl fmt::Display for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.why)
    }
}

impl From<std::io::Error> for Failed {
    fn from(error: std::io::Error) -> Failed {
        Failed { kind: failure::kind(&error), why: error.to_string() }
    }
}

/// The handshake, which has to end within `limit`.
pub async fn accept(tls: &Termination, link: Link, limit: Duration) -> Result<Accepted, Failed> {
    tokio::time::timeout(limit, handshake(tls, link)).await.unwrap_or_else(|_| {
        Err(Failed { kind: HandshakeFailure::Timeout, why: format!("not complete after {limit:?}") })
    })
}

async fn handshake(tls: &Termination, link: Link) -> Result<Accepted, Failed> {
    let mut start = LazyConfigAcceptor::new(Acceptor::default(), link).await?;
    let (config, policy) = match tls.answer(&start.client_hello()) {
        Answer::Handshake(config, policy) => (config, policy),
        Answer::Challenge(config) => {
            start.into_stream(config).await?.shutdown().await?;
            return Err(std::io::Error::other("an authority has looked whether the name is ours").into());
        }
        Answer::Refuse => {
            start.io.write_all(&UNRECOGNIZED_NAME).await?;
            start.io.shutdown().await?;
            let why = "the client asks for a name that no certificate serves".to_owned();
            return Err(Failed { kind: HandshakeFailure::UnknownName, why });
        }
    };
    let stream = start.into_stream(config).await?;
    let session = stream.get_ref().1;
    let facts =
        facts(session, policy).map_err(|why| Failed { kind: HandshakeFailure::ClientCertificate, why })?;
    let h2 = session.alpn_protocol() == Some(b"h2");
    let resumed = session.handshake_kind() == Some(HandshakeKind::Resumed);
    Ok(Accepted { io: Transport::Tls(Box::new(stream)), facts, h2, resumed })
}

fn facts(session: &ServerConnection, policy: usize) -> Result<TlsFacts, String> {
    let certificate = session.peer_certificates().and_then(|chain| chain.first());
    let certificate = certificate.map(ClientCertificate::read).transpose()?;
    // a full handshake has looked at this; a session that is resumed has not
    if certificate.as_ref().is_some_and(ClientCertificate::has_expired) {
        return Err("the session was opened with a certificate that has expired since".to_string());
    }
    Ok(TlsFacts {
        version: match session.protocol_version() {
            Some(ProtocolVersion::TLSv1_3) => "TLSv1.3",
            _ => "TLSv1.2",
        },
        cipher: session.negotiated_cipher_suite().map(|s| Cipher::name_of(s.suite())).unwrap_or_default(),
        sni: session.server_name().map(str::to_string),
        policy,
        certificate: certificate.map(Arc::new),
    })
}
