//! An authority that speaks ACME (RFC 8555) and trusts nobody: it checks every nonce, signature and request, asks
//! for challenges as a real one does, and fails as it is told to. Only test files that need it include this module.

use super::harness::{Authority, ClientTls, own_loopback};
use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED, UnparsedPublicKey};
use aws_lc_rs::{hmac, rand};
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD as BASE64;
use rcgen::{CertificateParams, CertificateSigningRequestParams};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, CertificateSigningRequestDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use serde_json::{Value, json};
use std::collections::{HashMap, HashSet};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

/// How long the authority waits for a listener to come up before it holds a name against it.
const PATIENCE: Duration = Duration::from_secs(10);

/// What goes wrong, once each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// A good nonce is refused.
    BadNonce,
    /// No order is taken for so many seconds.
    RateLimited(u32),
    /// The names are found not to be ours.
    InvalidAuthorization,
    /// Something before the authority answers for it.
    BadGateway,
    /// The certificate takes so many looks to be made.
    Processing(u32),
}

/// An order as it came in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ordered {
    pub names: Vec<String>,
    pub account: String,
    pub replaces: Option<String>,
    pub profile: Option<String>,
}

/// What the authority asks of new accounts, and says of certificates.
#[derive(Default)]
pub struct Rules {
    /// The key id and key that new accounts have to be bound to.
    pub external_account: Option<(String, Vec<u8>)>,
    /// The start and end of the window in which to renew, in RFC 3339.
    pub renewal: Option<(String, String)>,
}

/// A running authority.
pub struct AcmeServer {
    address: SocketAddr,
    shared: Arc<Shared>,
    stop: Arc<AtomicBool>,
    accepting: Option<JoinHandle<()>>,
}

type Adjust = Box<dyn Fn(usize, &mut CertificateParams) + Send>;

struct Shared {
    base: String,
    authority: Authority,
    rules: Rules,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    nonces: HashSet<String>,
    accounts: HashMap<String, Account>,
    orders: Vec<Order>,
    seen: Vec<Ordered>,
    trouble: Vec<Trouble>,
    /// What a client did that none may do.
    complaints: Vec<String>,
    challenged: Vec<String>,
    issued: usize,
    adjust: Option<Adjust>,
    plaintext: Option<SocketAddr>,
    tls: Option<SocketAddr>,
}

#[derive(Clone)]
struct Account {
    jwk: Value,
    contact: Value,
}

struct Order {
    account: String,
    names: Vec<String>,
    replaces: Option<String>,
    profile: Option<String>,
    /// Of the authorizations: `pending`, `valid`, `invalid`, `deactivated`.
    authorizations: Vec<(String, Option<String>)>,
    token: Vec<String>,
    chain: Option<String>,
    processing: u32,
}

/// A request, and what it was found to say.
struct Asked {
    path: String,
    account: String,
    payload: Value,
}

type Reply = (u16, Vec<(String, String)>, String);

impl AcmeServer {
    pub fn start() -> Self {
        Self::with(Rules::default())
    }

    pub fn with(rules: Rules) -> Self {
        let authority = Authority::new();
        let listener = TcpListener::bind((own_loopback(), 0)).expect("an address");
        let address = listener.local_addr().expect("address");
        let config = tls(&authority, &address.ip().to_string());
        let (base, state) = (format!("https://{address}"), Mutex::default());
        let shared = Arc::new(Shared { base, authority, rules, state });
        let stop = Arc::new(AtomicBool::new(false));
        let (seen, serving) = (stop.clone(), shared.clone());
        let accepting = std::thread::spawn(move || {
            while let Ok((stream, _)) = listener.accept() {
                if seen.load(Ordering::SeqCst) {
                    return;
                }
                let (shared, config) = (serving.clone(), config.clone());
                std::thread::spawn(move || serve(&shared, config, stream));
            }
        });
        Self { address, shared, stop, accepting: Some(accepting) }
    }

    pub fn directory(&self) -> String {
        format!("{}/directory", self.shared.base)
    }

    /// Signs the certificates, and that of the directory's own server.
    pub fn authority(&self) -> &Authority {
        &self.shared.authority
    }

    /// Where names are asked for: what stands for port 80 and for port 443.
    pub fn validates_at(&self, plaintext: SocketAddr, tls: SocketAddr) {
        let mut state = self.state();
        (state.plaintext, state.tls) = (Some(plaintext), Some(tls));
    }

    /// What goes wrong next, one after the other.
    pub fn next(&self, trouble: &[Trouble]) {
        self.state().trouble.extend(trouble);
    }

    /// Whether everything that was to go wrong has done so.
    pub fn is_past_trouble(&self) -> bool {
        self.state().trouble.is_empty()
    }

    /// What is changed in certificates before they are signed, by their number, from 0.
    pub fn issues(&self, adjust: impl Fn(usize, &mut CertificateParams) + Send + 'static) {
        self.state().adjust = Some(Box::new(adjust));
    }

    pub fn orders(&self) -> Vec<Ordered> {
        self.state().seen.clone()
    }

    /// The contacts of each account.
    pub fn accounts(&self) -> Vec<Value> {
        self.state().accounts.values().map(|account| account.contact.clone()).collect()
    }

    /// Forgets all accounts, as test authorities do.
    pub fn forget_accounts(&self) {
        self.state().accounts.clear();
    }

    /// How many certificates were issued.
    pub fn issued(&self) -> usize {
        self.state().issued
    }

    /// The paths and names that listeners were asked for.
    pub fn challenged(&self) -> Vec<String> {
        self.state().challenged.clone()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.shared.state()
    }
}

impl Drop for AcmeServer {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(self.address);
        if let Some(accepting) = self.accepting.take() {
            let _ = accepting.join();
        }
        let complaints = self.state().complaints.clone();
        assert!(complaints.is_empty() || std::thread::panicking(), "the client misbehaved: {complaints:#?}");
    }
}

fn tls(authority: &Authority, name: &str) -> Arc<ServerConfig> {
    let (cert, key) = authority.issue(&[name]);
    let chain = vec![CertificateDer::from_pem_slice(cert.as_bytes()).expect("a certificate")];
    let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).expect("a key");
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let config = config.expect("versions").with_no_client_auth().with_single_cert(chain, key);
    Arc::new(config.expect("a TLS configuration"))
}

/// Requests of one connection, until it is closed.
fn serve(shared: &Arc<Shared>, config: Arc<ServerConfig>, socket: TcpStream) {
    let Ok(session) = ServerConnection::new(config) else { return };
    let mut stream = StreamOwned::new(session, socket);
    while let Some((head, body)) = read_request(&mut stream) {
        let (status, headers, body) = shared.answer(&head, &body);
        let kind = if status >= 400 { "application/problem+json" } else { "application/json" };
        let mut reply = format!("HTTP/1.1 {status} X\r\nContent-Length: {}\r\n", body.len());
        if !headers.iter().any(|(name, _)| name == "Content-Type") {
            reply.push_str(&format!("Content-Type: {kind}\r\n"));
        }
        for (name, value) in headers {
            reply.push_str(&format!("{name}: {value}\r\n"));
        }
        reply.push_str("\r\n");
        if !head.starts_with("HEAD ") {
            reply.push_str(&body);
        }
        if stream.write_all(reply.as_bytes()).and_then(|()| stream.flush()).is_err() {
            return;
        }
    }
}

fn read_request(stream: &mut impl Read) -> Option<(String, Vec<u8>)> {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        if stream.read(&mut byte).ok()? == 0 {
            return None;
        }
        head.push(byte[0]);
    }
    let head = String::from_utf8(head).ok()?;
    let length = header(&head, "content-length").and_then(|value| value.parse().ok()).unwrap_or(0);
    let mut body = vec![0; length];
    stream.read_exact(&mut body).ok()?;
    Some((head, body))
}

fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    let lines = head.lines().skip(1).filter_map(|line| line.split_once(':'));
    lines.filter(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim()).next()
}

fn problem(status: u16, kind: &str, detail: &str) -> Reply {
    let kind = format!("urn:ietf:params:acme:error:{kind}");
    (status, Vec::new(), json!({ "type": kind, "detail": detail, "status": status }).to_string())
}

fn token() -> String {
    let mut bytes = [0; 16];
    rand::fill(&mut bytes).expect("randomness");
    BASE64.encode(bytes)
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn url(&self, path: &str) -> String {
        format!("{}{path}", self.base)
    }

    fn answer(self: &Arc<Self>, head: &str, body: &[u8]) -> Reply {
        if !header(head, "user-agent").is_some_and(|agent| agent.starts_with("weirgate/")) {
            self.state().complaints.push("no user agent (RFC 8555 §6.1)".into());
        }
        let mut first = head.split(' ');
        let (method, path) = (first.next().unwrap_or_default(), first.next().unwrap_or_default());
        let mut reply = match (method, path) {
            ("GET", "/directory") => (200, Vec::new(), self.directory()),
            ("HEAD", "/nonce") => (200, Vec::new(), String::new()),
            ("GET", path) if path.starts_with("/renewal/") => self.renewal(path),
            ("POST", path) => self.post(head, path, body),
            _ => problem(404, "malformed", "no such resource"),
        };
        let nonce = token();
        self.state().nonces.insert(nonce.clone());
        reply.1.push(("Replay-Nonce".into(), nonce));
        reply
    }

    fn directory(&self) -> String {
        let mut directory = json!({
            "newNonce": self.url("/nonce"),
            "newAccount": self.url("/account"),
            "newOrder": self.url("/order"),
            "revokeCert": self.url("/revoke"),
            "keyChange": self.url("/change"),
            "meta": {
                "termsOfService": "https://example.com/terms",
                "externalAccountRequired": self.rules.external_account.is_some(),
                "profiles": { "classic": "as ever", "shortlived": "a few days" },
            },
        });
        if self.rules.renewal.is_some() {
            directory["renewalInfo"] = json!(self.url("/renewal"));
        }
        directory.to_string()
    }

    fn renewal(&self, path: &str) -> Reply {
        let Some((start, end)) = &self.rules.renewal else {
            return problem(404, "malformed", "no such resource");
        };
        if !path.trim_start_matches("/renewal/").contains('.') {
            self.state().complaints.push(format!("{path} is no certificate identifier (RFC 9773 §4.1)"));
        }
        let window = json!({ "suggestedWindow": { "start": start, "end": end } });
        (200, vec![("Retry-After".into(), "3600".into())], window.to_string())
    }

    fn post(self: &Arc<Self>, head: &str, path: &str, body: &[u8]) -> Reply {
        if header(head, "content-type") != Some("application/jose+json") {
            return self.complain("the content type is not application/jose+json (RFC 8555 §6.2)");
        }
        if self.take(|trouble| *trouble == Trouble::BadGateway).is_some() {
            let kind = ("Content-Type".to_owned(), "text/html".to_owned());
            return (502, vec![kind], "<h1>Bad Gateway</h1>".into());
        }
        let asked = match self.open(path, body) {
            Ok(asked) => asked,
            Err(reply) => return reply,
        };
        if self.take(|trouble| *trouble == Trouble::BadNonce).is_some() {
            return problem(400, "badNonce", "try again");
        }
        match asked.path.as_str() {
            "/account" => self.new_account(&asked),
            "/order" => self.new_order(&asked),
            path => {
                let mut parts = path.trim_start_matches('/').split('/');
                let kind = parts.next().unwrap_or_default().to_owned();
                let numbers: Vec<usize> = parts.filter_map(|part| part.parse().ok()).collect();
                match (kind.as_str(), numbers.as_slice()) {
                    ("accounts", _) => self.change_account(&asked),
                    ("orders", [order]) => self.order(&asked, *order),
                    ("authorizations", [order, name]) => self.authorization(&asked, *order, *name),
                    ("challenges", [order, name]) => self.challenge(&asked, *order, *name),
                    ("finalize", [order]) => self.finalize(&asked, *order),
                    ("certificates", [order]) => self.certificate(*order),
                    _ => problem(404, "malformed", "no such resource"),
                }
            }
        }
    }

    /// The first of what is to go wrong, if it is this.
    fn take(&self, wanted: impl Fn(&Trouble) -> bool) -> Option<Trouble> {
        let trouble = &mut self.state().trouble;
        trouble.first().filter(|first| wanted(first))?;
        Some(trouble.remove(0))
    }

    fn complain(&self, what: &str) -> Reply {
        self.state().complaints.push(what.to_owned());
        problem(400, "malformed", what)
    }

    /// The nonce is ours and new, the signature that of the account, or of the key of a new one (RFC 8555 §6).
    fn open(&self, path: &str, body: &[u8]) -> Result<Asked, Reply> {
        let body: Value = serde_json::from_slice(body).map_err(|_| self.complain("not JSON"))?;
        let text = |key: &str| body[key].as_str().unwrap_or_default();
        let protected: Value =
            decoded(text("protected")).ok_or_else(|| self.complain("no protected header"))?;
        if protected["url"].as_str() != Some(self.url(path).as_str()) {
            return Err(self.complain("the url in the header is another (RFC 8555 §6.4)"));
        }
        let nonce = protected["nonce"].as_str().unwrap_or_default();
        if !self.state().nonces.remove(nonce) {
            return Err(self.complain("the nonce was not given, or is used (RFC 8555 §6.5)"));
        }
        let (account, jwk) = match (&protected["kid"], &protected["jwk"]) {
            (Value::String(kid), Value::Null) => match self.state().accounts.get(kid) {
                Some(account) => (kid.clone(), account.jwk.clone()),
                None => return Err(problem(400, "accountDoesNotExist", "no such account")),
            },
            (Value::Null, jwk @ Value::Object(_)) if path == "/account" => (String::new(), jwk.clone()),
            _ => return Err(self.complain("kid, or jwk for a new account (RFC 8555 §6.2)")),
        };
        let signed = format!("{}.{}", text("protected"), text("payload"));
        let signature = BASE64.decode(text("signature")).unwrap_or_default();
        let key = UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point(&jwk));
        if protected["alg"] != "ES256" || key.verify(signed.as_bytes(), &signature).is_err() {
            return Err(self.complain("the signature is not that of the key"));
        }
        let mut payload = decoded(text("payload")).unwrap_or(Value::Null);
        if account.is_empty() {
            payload["$jwk"] = jwk;
        }
        Ok(Asked { path: path.to_owned(), account, payload })
    }

    fn new_account(&self, asked: &Asked) -> Reply {
        if asked.payload["termsOfServiceAgreed"] != true {
            return problem(403, "userActionRequired", "the terms have to be agreed to");
        }
        let jwk = &asked.payload["$jwk"];
        if let Some((id, key)) = &self.rules.external_account
            && !self.is_bound(&asked.payload["externalAccountBinding"], jwk, (id, key))
        {
            return problem(403, "externalAccountRequired", "no account here belongs to that");
        }
        let mut state = self.state();
        let url = self.url(&format!("/accounts/{}", state.accounts.len() + 1));
        let contact = asked.payload["contact"].clone();
        state.accounts.insert(url.clone(), Account { jwk: jwk.clone(), contact });
        (201, vec![("Location".into(), url)], json!({ "status": "valid" }).to_string())
    }

    /// RFC 8555 §7.3.4.
    fn is_bound(&self, binding: &Value, jwk: &Value, (id, key): (&String, &Vec<u8>)) -> bool {
        let text = |key: &str| binding[key].as_str().unwrap_or_default();
        let Some(protected) = decoded(text("protected")) else { return false };
        let signed = format!("{}.{}", text("protected"), text("payload"));
        let key = hmac::Key::new(hmac::HMAC_SHA256, key);
        let signature = BASE64.decode(text("signature")).unwrap_or_default();
        protected["alg"] == "HS256"
            && protected["kid"] == **id
            && protected["url"] == self.url("/account")
            && decoded(text("payload")).as_ref() == Some(jwk)
            && hmac::verify(&key, signed.as_bytes(), &signature).is_ok()
    }

    fn change_account(&self, asked: &Asked) -> Reply {
        if let Some(account) = self.state().accounts.get_mut(&asked.account) {
            account.contact = asked.payload["contact"].clone();
        }
        (200, Vec::new(), json!({ "status": "valid" }).to_string())
    }

    fn new_order(&self, asked: &Asked) -> Reply {
        let names = asked.payload["identifiers"].as_array().map(Vec::as_slice).unwrap_or_default();
        let names: Vec<_> =
            names.iter().filter_map(|name| Some(name["value"].as_str()?.to_owned())).collect();
        let text = |key: &str| asked.payload[key].as_str().map(str::to_owned);
        let (replaces, profile) = (text("replaces"), text("profile"));
        let account = asked.account.clone();
        let seen = Ordered { names: names.clone(), account: account.clone(), replaces, profile };
        if let Some(Trouble::RateLimited(seconds)) = self.take(|t| matches!(t, Trouble::RateLimited(_))) {
            self.state().seen.push(seen);
            let mut reply = problem(429, "rateLimited", "too many orders");
            reply.1.push(("Retry-After".into(), seconds.to_string()));
            return reply;
        }
        let mut state = self.state();
        let number = state.orders.len();
        state.orders.push(Order {
            account,
            replaces: seen.replaces.clone(),
            profile: seen.profile.clone(),
            authorizations: names.iter().map(|_| ("pending".to_owned(), None)).collect(),
            token: names.iter().map(|_| token()).collect(),
            names,
            chain: None,
            processing: 0,
        });
        state.seen.push(seen);
        drop(state);
        let mut reply = self.shown(number, 201);
        reply.1.push(("Location".into(), self.url(&format!("/orders/{number}"))));
        reply
    }

    /// The order as JSON (RFC 8555 §7.1.3).
    fn shown(&self, number: usize, code: u16) -> Reply {
        let state = self.state();
        let order = &state.orders[number];
        let all = |wanted: &str| order.authorizations.iter().all(|(status, _)| status == wanted);
        let status = match (order.processing, &order.chain) {
            (1.., _) => "processing",
            (0, Some(_)) => "valid",
            (0, None) if all("valid") => "ready",
            (0, None) if order.authorizations.iter().any(|(status, _)| status == "invalid") => "invalid",
            (0, None) => "pending",
        };
        let urls = |kind: &str| self.url(&format!("/{kind}/{number}"));
        let mut shown = json!({
            "status": status,
            "identifiers": order.names.iter().map(|name| json!({ "type": "dns", "value": name })).collect::<Vec<_>>(),
            "authorizations": (0..order.names.len())
                .map(|name| self.url(&format!("/authorizations/{number}/{name}")))
                .collect::<Vec<_>>(),
            "finalize": urls("finalize"),
        });
        if order.chain.is_some() {
            shown["certificate"] = json!(urls("certificates"));
        }
        for (key, value) in [("replaces", &order.replaces), ("profile", &order.profile)] {
            if let Some(value) = value {
                shown[key] = json!(value);
            }
        }
        (code, Vec::new(), shown.to_string())
    }

    /// Only whoever has placed an order may look at it.
    fn is_theirs(&self, asked: &Asked, number: usize) -> bool {
        self.state().orders.get(number).is_some_and(|order| order.account == asked.account)
    }

    fn order(&self, asked: &Asked, number: usize) -> Reply {
        if !self.is_theirs(asked, number) {
            return self.complain("an order of somebody else");
        }
        let reply = self.shown(number, 200);
        let order = &mut self.state().orders[number];
        order.processing = order.processing.saturating_sub(1);
        reply
    }

    fn authorization(&self, asked: &Asked, number: usize, name: usize) -> Reply {
        if !self.is_theirs(asked, number) {
            return self.complain("an authorization of somebody else");
        }
        let mut state = self.state();
        let order = &mut state.orders[number];
        if asked.payload["status"] == "deactivated" {
            order.authorizations[name].0 = "deactivated".into();
        }
        let (status, error) = &order.authorizations[name];
        let challenges: Vec<_> = ["dns-01", "http-01", "tls-alpn-01"]
            .iter()
            .map(|kind| {
                let url = self.url(&format!("/challenges/{number}/{name}/{kind}"));
                let status = if status == "deactivated" { "invalid" } else { status };
                let mut challenge =
                    json!({ "type": kind, "url": url, "token": order.token[name], "status": status });
                if let Some(error) = error {
                    let kind = "urn:ietf:params:acme:error:unauthorized";
                    challenge["error"] = json!({ "type": kind, "detail": error });
                }
                challenge
            })
            .collect();
        let identifier = json!({ "type": "dns", "value": order.names[name] });
        let shown = json!({ "status": status, "identifier": identifier, "challenges": challenges });
        (200, Vec::new(), shown.to_string())
    }

    /// The client says that it is ready; it is asked while it waits.
    fn challenge(self: &Arc<Self>, asked: &Asked, number: usize, name: usize) -> Reply {
        if !self.is_theirs(asked, number) {
            return self.complain("a challenge of somebody else");
        }
        if !asked.payload.is_object() {
            return self.complain("a challenge is begun with {} (RFC 8555 §7.5.1)");
        }
        let kind = asked.path.rsplit('/').next().unwrap_or_default().to_owned();
        let (host, token, jwk) = {
            let state = self.state();
            let order = &state.orders[number];
            (order.names[name].clone(), order.token[name].clone(), state.accounts[&asked.account].jwk.clone())
        };
        let shown =
            json!({ "type": kind, "url": self.url(&asked.path), "token": token, "status": "processing" });
        let authority = self.clone();
        std::thread::spawn(move || {
            let invalid = authority.take(|trouble| *trouble == Trouble::InvalidAuthorization);
            let became = match invalid {
                Some(_) => Err(format!("{host} is somebody else's")),
                None => authority.ask(&kind, &host, &token, &format!("{token}.{}", thumbprint(&jwk))),
            };
            let mut state = authority.state();
            state.orders[number].authorizations[name] = match became {
                Ok(()) => ("valid".into(), None),
                Err(why) => ("invalid".into(), Some(why)),
            };
        });
        (200, Vec::new(), shown.to_string())
    }

    /// Asks the listener that is to be at this name.
    fn ask(&self, kind: &str, host: &str, token: &str, key: &str) -> Result<(), String> {
        let deadline = Instant::now() + PATIENCE;
        let (plaintext, tls) = loop {
            let state = self.state();
            if let (Some(plaintext), Some(tls)) = (state.plaintext, state.tls) {
                break (plaintext, tls);
            }
            drop(state);
            if Instant::now() > deadline {
                return Err("the test does not say where the names are".into());
            }
            std::thread::sleep(Duration::from_millis(5));
        };
        self.state().challenged.push(format!("{kind} {host}"));
        match kind {
            "http-01" => ask_text(plaintext, host, token, key),
            "tls-alpn-01" => ask_certificate(tls, host, key),
            _ => Err(format!("{kind} was not set up")),
        }
    }

    fn finalize(&self, asked: &Asked, number: usize) -> Reply {
        let csr = asked.payload["csr"].as_str().and_then(|csr| BASE64.decode(csr).ok()).unwrap_or_default();
        // the signature of the request is checked with it
        let Ok(mut csr) = CertificateSigningRequestParams::from_der(&CertificateSigningRequestDer::from(csr))
        else {
            return self.complain("the request for the certificate cannot be read");
        };
        if !self.is_theirs(asked, number) || !self.shown(number, 200).2.contains("\"status\":\"ready\"") {
            return problem(403, "orderNotReady", "not all names are authorized");
        }
        let processing = match self.take(|trouble| matches!(trouble, Trouble::Processing(_))) {
            Some(Trouble::Processing(looks)) => looks,
            _ => 0,
        };
        let mut state = self.state();
        let asked_for: HashSet<String> = csr.params.subject_alt_names.iter().map(dns_name).collect();
        if asked_for != state.orders[number].names.iter().cloned().collect() {
            state.complaints.push(format!("the request is for {asked_for:?}"));
        }
        let count = state.issued;
        csr.params.use_authority_key_identifier_extension = true;
        if let Some(adjust) = &state.adjust {
            adjust(count, &mut csr.params);
        }
        state.issued += 1;
        let leaf = csr.signed_by(self.authority.issuer()).expect("a certificate").pem();
        let order = &mut state.orders[number];
        order.chain = Some(format!("{leaf}{}", self.authority.pem()));
        order.processing = processing;
        drop(state);
        self.shown(number, 200)
    }

    fn certificate(&self, number: usize) -> Reply {
        let chain = self.state().orders[number].chain.clone().unwrap_or_default();
        (200, vec![("Content-Type".into(), "application/pem-certificate-chain".into())], chain)
    }
}

fn decoded(text: &str) -> Option<Value> {
    serde_json::from_slice(&BASE64.decode(text).ok()?).ok()
}

fn dns_name(name: &rcgen::SanType) -> String {
    match name {
        rcgen::SanType::DnsName(name) => name.as_str().to_owned(),
        other => format!("{other:?}"),
    }
}

/// The public key as SEC1 has it: uncompressed.
fn point(jwk: &Value) -> Vec<u8> {
    let part = |key: &str| BASE64.decode(jwk[key].as_str().unwrap_or_default()).unwrap_or_default();
    [vec![4], part("x"), part("y")].concat()
}

/// RFC 7638.
fn thumbprint(jwk: &Value) -> String {
    let ordered =
        format!("{{\"crv\":{},\"kty\":{},\"x\":{},\"y\":{}}}", jwk["crv"], jwk["kty"], jwk["x"], jwk["y"]);
    BASE64.encode(digest(&SHA256, ordered.as_bytes()))
}

/// RFC 8555 §8.3.
fn ask_text(address: SocketAddr, host: &str, token: &str, key: &str) -> Result<(), String> {
    let explain = |why: std::io::Error| format!("{address}: {why}");
    let mut stream = TcpStream::connect(address).map_err(explain)?;
    stream.set_read_timeout(Some(PATIENCE)).map_err(explain)?;
    let request = format!(
        "GET /.well-known/acme-challenge/{token} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: test authority\r\n\
         Accept: */*\r\nConnection: close\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).map_err(explain)?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).map_err(explain)?;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    match head.starts_with("HTTP/1.1 200 ") && body == key {
        true => Ok(()),
        false => Err(format!("{head} with {body:?} instead of {key:?}")),
    }
}

/// RFC 8737 §3.
fn ask_certificate(address: SocketAddr, host: &str, key: &str) -> Result<(), String> {
    let client = ClientTls::trusting_anyone(host).alpn(&["acme-tls/1"]);
    let agreed = client.try_connect(address).map_err(|why| format!("{address}: {why}"))?.agreed;
    if agreed.alpn.as_deref() != Some("acme-tls/1") {
        return Err(format!("{:?} was agreed on", agreed.alpn));
    }
    let shown = agreed.certificate.ok_or("no certificate")?;
    let (_, leaf) = X509Certificate::from_der(&shown).map_err(|why| why.to_string())?;
    let names = leaf.subject_alternative_name().ok().flatten();
    let names = names.map(|names| names.value.general_names.clone()).unwrap_or_default();
    if !matches!(names.as_slice(), [GeneralName::DNSName(name)] if *name == host) {
        return Err(format!("the certificate is for {names:?}"));
    }
    let oid = x509_parser::oid_registry::asn1_rs::oid!(1.3.6.1.5.5.7.1.31);
    let extension = leaf.get_extension_unique(&oid).ok().flatten().ok_or("no acmeIdentifier")?;
    let expected = [&[4, 32], digest(&SHA256, key.as_bytes()).as_ref()].concat();
    match extension.critical && extension.value == expected {
        true => Ok(()),
        false => Err("the acmeIdentifier is another, or not critical".into()),
    }
}
