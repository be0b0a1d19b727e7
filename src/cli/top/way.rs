//! The way to the admin address of a running process: where it is, over what, by what right, and one connection that is kept.

use crate::config::plan::{Admin, ClientCertificate, PrivateKey, Trust, UpstreamTls};
use crate::config::words::ListenAddress;
use crate::link::Link;
use crate::units::Time;
use crate::upstream::Registry;
use crate::upstream::client_tls::ClientTls;
use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1::{self, SendRequest};
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HOST};
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use rustls::client::Resumption;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// An answer is here within this.
const PATIENCE: Duration = Duration::from_secs(5);

/// And no larger: ten thousand servers have some fifty megabytes of metrics.
const LARGEST: usize = 256 << 20;

/// Where the process is.
#[derive(Debug, Clone, PartialEq)]
enum Place {
    /// `NAME:PORT` or `IP:PORT`.
    Host(String),
    Unix(Arc<Path>),
}

/// Certificates of the way, as files.
#[derive(Debug, Default, clap::Args)]
pub struct Certificates {
    /// A PEM file with the authorities to trust with an https address; those of the system without it.
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
    /// A PEM file with the certificate to show.
    #[arg(long, value_name = "FILE", requires = "key")]
    cert: Option<PathBuf>,
    /// Its key.
    #[arg(long, value_name = "FILE", requires = "cert")]
    key: Option<PathBuf>,
}

/// Where the process is asked, and by what right.
pub struct Way {
    place: Place,
    tls: Option<ClientTls>,
    token: Option<String>,
    line: Option<SendRequest<Full<Bytes>>>,
}

impl Way {
    /// `http://HOST:PORT`, `https://HOST:PORT`, `HOST:PORT` or `unix:PATH`.
    ///
    /// # Errors
    /// A sentence for the operator.
    pub fn to(address: &str, token: Option<String>, files: &Certificates) -> Result<Way, String> {
        let (rest, tls) = match address.split_once("://") {
            None => (address, false),
            Some(("http", rest)) => (rest, false),
            Some(("https", rest)) => (rest, true),
            Some((scheme, _)) => return Err(format!("`{scheme}` is not spoken; write https://HOST:PORT")),
        };
        let rest = rest.trim_end_matches('/');
        let place = match rest.strip_prefix("unix:") {
            Some(path) => Place::Unix(Path::new(path).into()),
            None if rest
                .rsplit_once(':')
                .is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok()) =>
            {
                Place::Host(rest.to_owned())
            }
            None => return Err(format!("`{address}` is no address; write HOST:PORT or unix:PATH")),
        };
        let tls = tls.then(|| files.tls(host_of(rest))).transpose()?;
        Ok(Way { place, tls, token, line: None })
    }

    /// As the configuration of the process has it.
    ///
    /// # Errors
    /// A sentence for the operator.
    pub fn of(admin: &Admin, token: Option<String>, files: &Certificates) -> Result<Way, String> {
        let own = || admin.token.as_ref().map(|token| String::from_utf8_lossy(token.reveal()).into_owned());
        let scheme = if admin.tls.is_some() { "https" } else { "http" };
        let address = match &admin.address {
            ListenAddress::Ip(address) => reachable(*address).to_string(),
            ListenAddress::Unix(path) => format!("unix:{}", path.display()),
        };
        Way::to(&format!("{scheme}://{address}"), token.or_else(own), files)
    }

    /// As people write it.
    pub fn name(&self) -> String {
        match &self.place {
            Place::Host(host) => host.clone(),
            Place::Unix(path) => format!("unix:{}", path.display()),
        }
    }

    /// What is there.
    ///
    /// # Errors
    /// A sentence for the operator.
    pub async fn get(&mut self, path: &str) -> Result<Bytes, String> {
        self.ask(Method::GET, path, "").await
    }

    /// # Errors
    /// A sentence for the operator.
    pub async fn post(&mut self, path: &str, body: &str) -> Result<Bytes, String> {
        self.ask(Method::POST, path, body).await
    }

    async fn ask(&mut self, method: Method, path: &str, body: &str) -> Result<Bytes, String> {
        let asked = tokio::time::timeout(PATIENCE, self.exchange(method, path, body)).await;
        let answer = asked.unwrap_or_else(|_| Err(format!("no answer within {}", Time(PATIENCE))));
        let (status, body) = answer.inspect_err(|_| self.line = None)?;
        match status {
            StatusCode::OK => Ok(body),
            StatusCode::UNAUTHORIZED => Err(match self.token {
                None => {
                    "the admin address wants its token: start with --token-file FILE, or with -c FILE of a \
                         configuration that has it"
                        .to_owned()
                }
                Some(_) => "the admin address has another token".to_owned(),
            }),
            status => {
                let said: Option<serde_json::Value> = serde_json::from_slice(&body).ok();
                let why = said.as_ref().and_then(|said| said.get("error")?.as_str());
                Err(why.map_or_else(|| format!("{} answers with {status}", self.name()), str::to_owned))
            }
        }
    }

    async fn exchange(
        &mut self,
        method: Method,
        path: &str,
        body: &str,
    ) -> Result<(StatusCode, Bytes), String> {
        let host = match &self.place {
            Place::Host(host) => host.as_str(),
            Place::Unix(_) => "localhost",
        };
        let mut request = Request::builder().method(method).uri(path).header(HOST, host);
        if let Some(token) = &self.token {
            request = request.header(AUTHORIZATION, format!("Bearer {token}"));
        }
        let request = request
            .header(CONTENT_TYPE, "application/json")
            .body(Full::from(body.to_owned()))
            .map_err(|error| format!("this cannot be asked: {error}"))?;
        let mut line = match self.line.take().filter(|line| !line.is_closed()) {
            Some(line) => line,
            None => self.connect().await?,
        };
        // one that was closed meanwhile is not written to: what changes something is asked once
        if line.ready().await.is_err() {
            line = self.connect().await?;
        }
        let lost = |error: hyper::Error| format!("the connection was lost: {error}");
        let answer = line.send_request(request).await.map_err(lost)?;
        let status = answer.status();
        let body = Limited::new(answer.into_body(), LARGEST).collect().await;
        let body = body.map_err(|error| format!("the answer is not whole: {error}"))?.to_bytes();
        self.line = Some(line);
        Ok((status, body))
    }

    async fn connect(&self) -> Result<SendRequest<Full<Bytes>>, String> {
        let nowhere = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0));
        let (link, ip) = match &self.place {
            Place::Unix(path) => (Link::connect(nowhere, Some(path)).await, nowhere.ip()),
            Place::Host(host) => {
                let found = tokio::net::lookup_host(host).await.ok().and_then(|mut all| all.next());
                let address = found.ok_or_else(|| format!("the host of {host} is not known"))?;
                (Link::connect(address, None).await, address.ip())
            }
        };
        let link = link.map_err(|error| format!("nobody answers at {}: {error}", self.name()))?;
        match &self.tls {
            None => open(TokioIo::new(link)).await,
            Some(tls) => {
                let stream = tls.over(link, None, ip).await;
                open(TokioIo::new(stream.map_err(|error| crate::upstream::reason::words(&error, PATIENCE))?))
                    .await
            }
        }
    }
}

/// HTTP over it. It is spoken beside what asks, until the connection ends.
async fn open<S>(stream: S) -> Result<SendRequest<Full<Bytes>>, String>
where
    S: hyper::rt::Read + hyper::rt::Write + Send + Unpin + 'static,
{
    let (line, spoken) = http1::handshake(stream).await.map_err(|error| error.to_string())?;
    // how it ends is told to who asks
    tokio::spawn(async move { spoken.await.ok() });
    Ok(line)
}

/// Without its port, and without the brackets of IPv6.
fn host_of(address: &str) -> &str {
    let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
    host.trim_start_matches('[').trim_end_matches(']')
}

/// Where to connect to for an address that is listened on.
fn reachable(address: SocketAddr) -> SocketAddr {
    match address.ip().is_unspecified() {
        true => SocketAddr::new(Ipv4Addr::LOCALHOST.into(), address.port()),
        false => address,
    }
}

impl Certificates {
    fn tls(&self, host: &str) -> Result<ClientTls, String> {
        let trust = match &self.ca {
            None => Trust::System,
            Some(ca) => Trust::These(certificates(ca)?),
        };
        let client = match (&self.cert, &self.key) {
            (Some(cert), Some(key)) => {
                let read = PrivateKeyDer::from_pem_file(key);
                let key = read.map_err(|why| format!("`{}` holds no key: {why}", key.display()))?;
                let key = PrivateKey(Arc::new(key));
                Some(Arc::new(ClientCertificate { chain: certificates(cert)?, key }))
            }
            _ => None,
        };
        let sni = host.parse::<IpAddr>().is_err().then(|| host.to_owned());
        let plan = UpstreamTls { sni, host: None, trust, client };
        ClientTls::build(&plan, &[b"http/1.1"], Resumption::in_memory_sessions(4), &Registry::new())
    }
}

fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let read = CertificateDer::pem_file_iter(file).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    match read {
        Ok(all) if all.is_empty() => Err(format!("`{}` holds no certificate", file.display())),
        Ok(all) => Ok(all),
        Err(why) => Err(format!("`{}` holds no certificate: {why}", file.display())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_understood() {
        let name = |address: &str| Way::to(address, None, &Certificates::default()).map(|way| way.name());
        for (address, named) in [
            ("127.0.0.1:9901", "127.0.0.1:9901"),
            ("http://gate.internal:9901/", "gate.internal:9901"),
            ("[::1]:9901", "[::1]:9901"),
            ("unix:/run/admin.sock", "unix:/run/admin.sock"),
        ] {
            assert_eq!(name(address).as_deref(), Ok(named));
        }
        for (address, why) in
            [("9901", "no address"), ("127.0.0.1", "no address"), ("ftp://a:1", "not spoken")]
        {
            assert!(name(address).unwrap_err().contains(why), "{address}");
        }
        assert_eq!(reachable("[::]:9901".parse().unwrap()).to_string(), "127.0.0.1:9901");
        assert_eq!(host_of("[::1]:9901"), "::1");
    }
}
