//! Kubernetes service accounts: the projected token of a call, checked offline against the cluster's public keys.
//!
//! What counts is fixed here and never chosen by the token: the algorithm belongs to the key that `kid` names, the
//! header may hold nothing that points elsewhere, and every claim that decides is typed and required. The token
//! itself is neither kept nor logged; a digest of it spares the signature of the calls that follow.

mod claims;
mod keys;

use std::{
    collections::HashMap,
    fs,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use aws_lc_rs::digest::{SHA256, digest};
use tokio::time::Instant;

pub use self::keys::KeysError;
use self::{
    claims::{Claims, Header, part},
    keys::Keys,
};
use crate::{
    config::{ServiceAccountName, ServiceAccountsConfig},
    events::{Event, Events},
};

/// The longest token that is looked at; the kubelet's have about one KiB.
const LONGEST_TOKEN: usize = 8 * 1024;
/// Clocks of node and API server may differ by this much when a token is new.
const SKEW: u64 = 60;
/// The keys' file is looked at again after this time.
const LOOK_AGAIN: Duration = Duration::from_secs(10);
/// After a token of an unknown key it is looked at again no sooner than this.
const LOOK_AGAIN_AT_ONCE: Duration = Duration::from_secs(1);
/// Tokens whose signature is remembered at most.
const REMEMBERED: usize = 256;

/// Why a token does not count. No message repeats any of it.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// The configuration has no `service_accounts`.
    #[error(
        "the call carries a service-account token and this broker checks none; add `service_accounts` to its configuration, \
         or call without the token"
    )]
    NotConfigured,
    /// More than one token came.
    #[error("the call carries several service-account tokens; send one")]
    Several,
    /// Not the form of a token of Kubernetes.
    #[error(
        "the service-account token is not one that Kubernetes issues ({0}); mount a projected token and send that file's content"
    )]
    Form(&'static str),
    /// No key of the cluster has that name, or the key is for another algorithm.
    #[error(
        "the service-account token is signed by no key of `service_accounts.keys_file`; after a change of the cluster's keys put the \
         new ones beside the old ones there"
    )]
    UnknownKey,
    /// The signature is wrong.
    #[error("the service-account token's signature is wrong")]
    Signature,
    /// Another cluster's.
    #[error("the service-account token comes from another issuer than `service_accounts.issuer`")]
    Issuer,
    /// Made for somebody else.
    #[error(
        "the service-account token is not made for the audience `{expected}`; set `audience: {expected}` in the projected volume"
    )]
    Audience {
        /// The audience that counts.
        expected: String,
    },
    /// It has ended, or does not hold yet.
    #[error(
        "the service-account token is not valid now; read the projected file again before each call, and compare the clocks"
    )]
    NotNow,
    /// It lives too long to be a projected one.
    #[error(
        "the service-account token lives longer than `service_accounts.max_life`; mount a projected token, not one from a Secret"
    )]
    LivesTooLong,
    /// Another pod's.
    #[error("the service-account token belongs to another pod than this broker's")]
    OtherPod,
}

/// Checks tokens.
pub struct Verifier {
    issuer: String,
    audience: String,
    pod_uid: Option<String>,
    max_life: Duration,
    keys_file: PathBuf,
    events: Events,
    state: Mutex<State>,
}

struct State {
    keys: Arc<Keys>,
    looked: Instant,
    /// The same unusable file is told once.
    refused: Option<String>,
    verified: HashMap<[u8; 32], Verified>,
}

#[derive(Clone)]
struct Verified {
    account: ServiceAccountName,
    expires: u64,
}

impl Verifier {
    /// A verifier with the cluster's keys, which must be readable now; and with this pod's uid, if it is configured.
    pub fn open(config: &ServiceAccountsConfig, events: Events) -> Result<Self, KeysError> {
        let pod_uid = config.pod_uid_file.as_deref().map(pod_uid).transpose()?;
        Ok(Self {
            issuer: config.issuer.clone(),
            audience: config.audience.clone(),
            pod_uid,
            max_life: config.max_life,
            keys_file: config.keys_file.clone(),
            events,
            state: Mutex::new(State {
                keys: Arc::new(Keys::read(&config.keys_file)?),
                looked: Instant::now(),
                refused: None,
                verified: HashMap::new(),
            }),
        })
    }

    /// The account that a token proves at `now`.
    pub fn verify(&self, token: &str, now: SystemTime) -> Result<ServiceAccountName, TokenError> {
        let now = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        if token.len() > LONGEST_TOKEN {
            return Err(TokenError::Form("it is too long"));
        }
        let mut key = [0; 32];
        key.copy_from_slice(digest(&SHA256, token.as_bytes()).as_ref());
        let mut state = self.state();
        self.look(&mut state, LOOK_AGAIN);
        if let Some(known) = state.verified.get(&key) {
            return if now < known.expires { Ok(known.account.clone()) } else { Err(TokenError::NotNow) };
        }
        let verified = self.check(&mut state, token, now)?;
        let account = verified.account.clone();
        if state.verified.len() >= REMEMBERED {
            state.verified.retain(|_, known| now < known.expires);
            if state.verified.len() >= REMEMBERED {
                state.verified.clear();
            }
        }
        state.verified.insert(key, verified);
        Ok(account)
    }

    fn check(&self, state: &mut State, token: &str, now: u64) -> Result<Verified, TokenError> {
        let mut parts = token.split('.');
        let (Some(header), Some(body), Some(signature), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(TokenError::Form("it has not three parts"));
        };
        let found: Header = part(header).ok_or(TokenError::Form("its header"))?;
        if state.keys.find(&found).is_none() {
            self.look(state, LOOK_AGAIN_AT_ONCE);
        }
        let key = state.keys.find(&found).ok_or(TokenError::UnknownKey)?;
        let signed = token.get(..header.len() + 1 + body.len()).unwrap_or_default();
        if !key.verifies(signed.as_bytes(), signature) {
            return Err(TokenError::Signature);
        }
        // From here on the cluster has said it.
        let claims: Claims = part(body).ok_or(TokenError::Form("its claims"))?;
        self.decide(&claims, now)
    }

    fn decide(&self, claims: &Claims, now: u64) -> Result<Verified, TokenError> {
        if claims.iss != self.issuer {
            return Err(TokenError::Issuer);
        }
        if !claims.aud.names(&self.audience) {
            return Err(TokenError::Audience { expected: self.audience.clone() });
        }
        let begins = claims.nbf.unwrap_or(claims.iat).max(claims.iat);
        if now >= claims.exp || now + SKEW < begins {
            return Err(TokenError::NotNow);
        }
        if claims.exp.saturating_sub(claims.iat) > self.max_life.as_secs() {
            return Err(TokenError::LivesTooLong);
        }
        if self.pod_uid.as_deref().is_some_and(|own| claims.pod_uid() != Some(own)) {
            return Err(TokenError::OtherPod);
        }
        let account = claims.account().ok_or(TokenError::Form("it is not a service account's"))?;
        Ok(Verified { account, expires: claims.exp })
    }

    /// Takes the keys' file as it is now, unless it was looked at within `age`. One that cannot be used changes nothing.
    fn look(&self, state: &mut State, age: Duration) {
        if state.looked.elapsed() < age {
            return;
        }
        state.looked = Instant::now();
        match Keys::read(&self.keys_file) {
            Ok(keys) if keys == *state.keys => state.refused = None,
            Ok(keys) => {
                self.events.tell(Event::ClusterKeysTaken(keys.to_string()));
                state.keys = Arc::new(keys);
                state.verified.clear();
                state.refused = None;
            }
            Err(error) => {
                let error = error.to_string();
                if state.refused.as_ref() != Some(&error) {
                    self.events.tell(Event::ClusterKeysRefused(error.clone()));
                    state.refused = Some(error);
                }
            }
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The pod's own uid, as the downward API writes it.
fn pod_uid(path: &Path) -> Result<String, KeysError> {
    let wrong = |problem: String| KeysError { path: path.to_owned(), problem };
    let text = fs::read_to_string(path).map_err(|error| wrong(error.to_string()))?;
    let uid = text.trim();
    if uid.is_empty() || uid.len() > 64 || !uid.chars().all(|c| c.is_ascii_alphanumeric() || c == '-') {
        return Err(wrong(
            "it does not hold a pod's uid; mount `metadata.uid` by the downward API".to_owned(),
        ));
    }
    Ok(uid.to_owned())
}

#[cfg(test)]
mod tests;
