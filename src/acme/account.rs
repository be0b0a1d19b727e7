//! The account with an authority: the one that is stored, or a new one (RFC 8555 §7.3), bound to an external one
//! where the operator has that (§7.3.4).

use super::http::Carrier;
use super::order::{Failure, words};
use super::store::{Lock, Store};
use crate::config::plan::Authority;
use crate::observe::events;
use instant_acme::{Account, AccountCredentials, Error, ExternalAccountKey, NewAccount};
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// How often it is looked whether another process has opened the account.
const PACE: Duration = Duration::from_millis(200);

/// The lock under which accounts are opened.
const LOCK: &str = "account";

/// RFC 8555 §6.7.
const NO_ACCOUNT: &str = "urn:ietf:params:acme:error:accountDoesNotExist";

/// What is stored of an account.
#[derive(Serialize, Deserialize)]
struct Stored {
    /// As the authority knows them.
    contact: Vec<String>,
    credentials: AccountCredentials,
}

/// The account to order with.
pub async fn open(authority: &Authority, store: &Store, carrier: &Carrier) -> Result<Account, Failure> {
    if let Some(account) = known(authority, store, carrier).await? {
        return Ok(account);
    }
    let _lock = lock(store).await?;
    // another process may have opened it meanwhile
    match known(authority, store, carrier).await? {
        Some(account) => Ok(account),
        None => create(authority, store, carrier).await,
    }
}

/// The stored account, with the contacts of the configuration. `None` when there is none, or the authority has
/// forgotten it.
async fn known(authority: &Authority, store: &Store, carrier: &Carrier) -> Result<Option<Account>, Failure> {
    let Some(Stored { contact, credentials }) = read(store)? else { return Ok(None) };
    let raw = serde_json::to_value(&credentials).map_err(broken)?;
    let account = Account::builder_with_http(Box::new(carrier.clone()))
        .from_credentials(credentials)
        .await
        .map_err(|error| Failure::of(&error, "the authority's directory"))?;
    if contact == authority.contact {
        return Ok(Some(account));
    }
    let urls: Vec<&str> = authority.contact.iter().map(String::as_str).collect();
    match account.update_contacts(&urls).await {
        Ok(()) => {
            let credentials = serde_json::from_value(raw).map_err(broken)?;
            write(store, &Stored { contact: authority.contact.clone(), credentials })?;
            Ok(Some(account))
        }
        Err(error) if is_forgotten(&error) => {
            forget(store);
            Ok(None)
        }
        Err(error) => Err(Failure::of(&error, "the change of contacts")),
    }
}

/// Whether the authority says that it does not know the account.
pub fn is_forgotten(error: &Error) -> bool {
    matches!(error, Error::Api(problem) if problem.r#type.as_deref() == Some(NO_ACCOUNT))
}

/// The account that is stored, if there is one: for whoever asks, and orders nothing.
pub async fn existing(store: &Store, carrier: &Carrier) -> Option<Account> {
    let stored = read(store).ok()??;
    Account::builder_with_http(Box::new(carrier.clone())).from_credentials(stored.credentials).await.ok()
}

/// The authority does not know it: another one is opened the next time.
pub fn forget(store: &Store) {
    store.remove_account().ok();
}

async fn create(authority: &Authority, store: &Store, carrier: &Carrier) -> Result<Account, Failure> {
    let contact: Vec<&str> = authority.contact.iter().map(String::as_str).collect();
    let new = NewAccount {
        contact: &contact,
        // no configuration is taken that does not accept them
        terms_of_service_agreed: true,
        only_return_existing: false,
    };
    let external = authority.external_account.as_ref();
    let external =
        external.map(|account| ExternalAccountKey::new(account.key_id.clone(), &account.hmac_key.0));
    let (account, credentials) = Account::builder_with_http(Box::new(carrier.clone()))
        .create(&new, authority.directory.clone(), external.as_ref())
        .await
        .map_err(|error| Failure::of(&error, "a new account"))?;
    write(store, &Stored { contact: authority.contact.clone(), credentials })?;
    events::acme::account(&authority.name, &words(account.id()));
    Ok(account)
}

async fn lock(store: &Store) -> Result<Lock, Failure> {
    loop {
        match store.lock(LOCK) {
            Ok(Some(lock)) => return Ok(lock),
            Ok(None) => tokio::time::sleep(PACE).await,
            Err(why) => return Err(Failure::storage(store, &why)),
        }
    }
}

fn read(store: &Store) -> Result<Option<Stored>, Failure> {
    let Some(text) = store.account().map_err(|why| Failure::storage(store, &why))? else { return Ok(None) };
    serde_json::from_slice(&text).map(Some).map_err(|why| {
        let dir = store.dir().display();
        Failure::new(format!(
            "the account in `{dir}/account.json` cannot be read ({why}); remove the file to open another"
        ))
    })
}

fn write(store: &Store, stored: &Stored) -> Result<(), Failure> {
    let text = serde_json::to_vec_pretty(stored).map_err(broken)?;
    store.put_account(&text).map_err(|why| Failure::storage(store, &why))
}

fn broken(why: serde_json::Error) -> Failure {
    Failure::new(format!("the account cannot be written down: {why}"))
}
