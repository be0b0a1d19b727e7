//! The way to a new certificate (RFC 8555 §7.4): an order, a challenge for each name, a request with a new key, the
//! chain. Called by `keeper`, one certificate at a time.

use super::account;
use super::challenge::{Challenges, Posted};
use super::held::Held;
use super::http::Carrier;
use super::store::Store;
use crate::config::file::AcmeChallenge;
use crate::config::plan::{Authority, Ordered};
use instant_acme::{
    Account, AuthorizationStatus, CertificateIdentifier, ChallengeType, Error, Identifier, NewOrder, Order,
    OrderStatus, RetryPolicy,
};
use rcgen::{CertificateParams, DistinguishedName, KeyPair};
use std::fmt::Write;
use std::sync::Arc;
use std::time::Duration;

/// A whole order takes no longer.
const PATIENCE: Duration = Duration::from_secs(600);

/// How long the authority may take to look at the names, and how long to issue.
const POLLING: RetryPolicy = RetryPolicy::new()
    .initial_delay(Duration::from_millis(250))
    .backoff(1.5)
    .timeout(Duration::from_secs(180));

/// So much of what an authority says is repeated.
const LONGEST: usize = 600;

/// RFC 9773 §7.4.
const REPLACED: &str = "urn:ietf:params:acme:error:alreadyReplaced";

/// Why there is no certificate.
#[derive(Debug)]
pub struct Failure {
    /// In words, one line.
    pub why: String,
    /// The authority asks for this.
    pub retry_after: Option<Duration>,
}

impl Failure {
    pub fn new(why: impl Into<String>) -> Failure {
        Failure { why: why.into(), retry_after: None }
    }

    /// `what` was asked for.
    pub fn of(error: &Error, what: &str) -> Failure {
        let why = match error {
            Error::Api(problem) => problem.to_string().replacen("API error: ", "", 1),
            error => with_sources(error),
        };
        Failure::new(format!("{what}: {}", words(&why)))
    }

    pub fn storage(store: &Store, why: &std::io::Error) -> Failure {
        Failure::new(format!("storage `{}`: {why}", store.dir().display()))
    }
}

/// What an order is made with.
pub struct Errand<'a> {
    pub plan: &'a Ordered,
    pub store: &'a Store,
    pub carrier: &'a Carrier,
    pub challenges: &'a Arc<Challenges>,
}

impl Errand<'_> {
    /// A new certificate, as it is to be stored; in place of this one, if the authority wants to know.
    pub async fn obtain(&self, replaces: Option<&Held>) -> Result<(String, Held), Failure> {
        let whole = tokio::time::timeout(PATIENCE, self.try_obtain(replaces));
        let late = || Failure::new(format!("not done within {} s", PATIENCE.as_secs()));
        let mut became = whole.await.unwrap_or_else(|_| Err(late()));
        if let Err(failure) = &mut became {
            failure.retry_after = self.carrier.come_back();
        }
        became
    }

    async fn try_obtain(&self, replaces: Option<&Held>) -> Result<(String, Held), Failure> {
        let mut order = self.order(replaces).await?;
        let posted = self.answer_challenges(&mut order).await;
        let ready = match posted {
            Ok(posted) => {
                let ready = order.poll_ready(&POLLING).await;
                drop(posted);
                ready
            }
            Err(failure) => {
                give_up(&mut order).await;
                return Err(failure);
            }
        };
        match ready {
            Ok(OrderStatus::Ready) => self.finalize(&mut order).await,
            Ok(_) | Err(Error::Api(_)) => Err(give_up(&mut order).await),
            Err(error) => {
                give_up(&mut order).await;
                Err(Failure::of(&error, "the authority's look at the names"))
            }
        }
    }

    /// An order for the names, with an account that the authority knows.
    async fn order(&self, replaces: Option<&Held>) -> Result<Order, Failure> {
        let authority: &Authority = &self.plan.authority;
        let account = account::open(authority, self.store, self.carrier).await?;
        let known = replaces.and_then(Held::identifier);
        let order = match self.place(&account, known).await {
            Err(error) if account::is_forgotten(&error) => {
                account::forget(self.store);
                let account = account::open(authority, self.store, self.carrier).await?;
                self.place(&account, None).await
            }
            // an authority may have forgotten what it replaces, or another process was faster
            Err(Error::Api(problem)) if problem.r#type.as_deref() == Some(REPLACED) => {
                self.place(&account, None).await
            }
            Err(Error::Unsupported(_)) => self.place(&account, None).await,
            placed => placed,
        };
        order.map_err(|error| Failure::of(&error, "the order"))
    }

    async fn place(
        &self,
        account: &Account,
        replaces: Option<CertificateIdentifier<'_>>,
    ) -> Result<Order, Error> {
        let names: Vec<_> = self.plan.names.iter().cloned().map(Identifier::Dns).collect();
        let mut order = NewOrder::new(&names);
        if let Some(profile) = &self.plan.authority.profile {
            order = order.profile(profile);
        }
        if let Some(replaces) = replaces {
            order = order.replaces(replaces);
        }
        account.new_order(&order).await
    }

    /// Posts what the authority will ask for, and tells it so. To be kept until it has asked.
    async fn answer_challenges(&self, order: &mut Order) -> Result<Vec<Posted>, Failure> {
        let kind = self.plan.authority.challenge;
        let mut posted = Vec::new();
        let mut authorizations = order.authorizations();
        while let Some(authorization) = authorizations.next().await {
            let mut authorization =
                authorization.map_err(|error| Failure::of(&error, "the authorizations"))?;
            match authorization.status {
                AuthorizationStatus::Valid => continue,
                AuthorizationStatus::Pending => {}
                status => return Err(Failure::new(format!("an authorization is {status:?} at once"))),
            }
            let name = authorization.identifier().to_string();
            let offered: Vec<_> =
                authorization.challenges.iter().map(|challenge| format!("{:?}", challenge.r#type)).collect();
            let Some(mut challenge) = authorization.challenge(kind_of(kind)) else {
                return Err(Failure::new(format!(
                    "{}: the authority does not offer this challenge, only {}",
                    words(&name),
                    words(&offered.join(", "))
                )));
            };
            let key = challenge.key_authorization();
            posted.push(match kind {
                AcmeChallenge::Http01 => self.challenges.post_text(&challenge.token, key.as_str()),
                AcmeChallenge::TlsAlpn01 => {
                    self.challenges.post_certificate(&name, key.digest().as_ref()).map_err(Failure::new)?
                }
            });
            challenge.set_ready().await.map_err(|error| Failure::of(&error, &name))?;
        }
        Ok(posted)
    }

    /// The names are ours: the certificate, with a key that nobody else has seen.
    async fn finalize(&self, order: &mut Order) -> Result<(String, Held), Failure> {
        let (request, key) = request(&self.plan.names).map_err(Failure::new)?;
        let asked = order.finalize_csr(&request).await;
        asked.map_err(|error| Failure::of(&error, "the request for the certificate"))?;
        let chain = order.poll_certificate(&POLLING).await;
        let chain = chain.map_err(|error| Failure::of(&error, "the certificate"))?;
        let pem = format!("{key}{chain}");
        let held = Held::from_pem(pem.as_bytes())
            .map_err(|why| Failure::new(format!("the authority's certificate cannot be used: {why}")))?;
        match self.plan.names.iter().find(|name| !held.covers(name)) {
            None => Ok((pem, held)),
            Some(name) => Err(Failure::new(format!("the authority's certificate does not cover {name}"))),
        }
    }
}

fn kind_of(challenge: AcmeChallenge) -> ChallengeType {
    match challenge {
        AcmeChallenge::Http01 => ChallengeType::Http01,
        AcmeChallenge::TlsAlpn01 => ChallengeType::TlsAlpn01,
    }
}

/// A certificate signing request (DER) and its key (PEM): ECDSA over P-256.
fn request(names: &[String]) -> Result<(Vec<u8>, String), String> {
    let explain = |error: rcgen::Error| format!("no request can be made for these names: {error}");
    let mut params = CertificateParams::new(names).map_err(explain)?;
    params.distinguished_name = DistinguishedName::new();
    let key = KeyPair::generate().map_err(explain)?;
    let request = params.serialize_request(&key).map_err(explain)?;
    Ok((request.der().to_vec(), key.serialize_pem()))
}

/// Why an order has failed, name by name; what is pending is taken back, as authorities count it.
async fn give_up(order: &mut Order) -> Failure {
    let mut why = Vec::new();
    let mut authorizations = order.authorizations();
    while let Some(Ok(mut authorization)) = authorizations.next().await {
        if authorization.refresh().await.is_err() {
            continue;
        }
        let name = authorization.identifier().to_string();
        let problems = authorization.challenges.iter().filter_map(|challenge| challenge.error.as_ref());
        why.extend(
            problems.map(|problem| format!("{name}: {}", problem.to_string().replacen("API error: ", "", 1))),
        );
        if authorization.status == AuthorizationStatus::Pending {
            authorization.deactivate().await.ok();
        }
    }
    match why.is_empty() {
        true => Failure::new("the authority has refused the order and does not say why"),
        false => Failure::new(words(&why.join("; "))),
    }
}

/// An error and what led to it.
fn with_sources(error: &Error) -> String {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            // writing to a String does not fail
            let _ = write!(text, ": {cause_text}");
        }
        source = cause.source();
    }
    text
}

/// What others say, fit for a log: one line, not without end.
pub fn words(text: &str) -> String {
    let mut out: String = text.chars().take(LONGEST).map(|c| if c.is_control() { ' ' } else { c }).collect();
    if text.chars().nth(LONGEST).is_some() {
        out.push('…');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_others_say_is_one_bounded_line() {
        assert_eq!(words("a\r\nb\u{1b}[31m"), "a  b [31m");
        let long = words(&"x".repeat(10_000));
        assert_eq!(long.chars().count(), LONGEST + 1);
        assert!(long.ends_with('…'));
    }

    #[test]
    fn a_request_has_a_key_of_its_own() {
        let names = ["a.example.com".to_owned(), "b.example.com".to_owned()];
        let (one, key) = request(&names).unwrap();
        assert!(key.starts_with("-----BEGIN PRIVATE KEY-----"));
        assert_ne!(request(&names).unwrap(), (one, key));
    }
}
