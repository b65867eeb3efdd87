//! What a service account's token says, as types: a claim of another type, or one that comes twice, is refused.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::{Deserialize, de::DeserializeOwned};

use crate::config::ServiceAccountName;

/// The JOSE header. Whatever could point to another key (`jku`, `jwk`, `x5u`, `crit`) is refused by its presence.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Header {
    pub(super) alg: String,
    pub(super) kid: String,
    #[serde(default, rename = "typ")]
    _type: Option<String>,
}

/// The claims that decide.
#[derive(Deserialize)]
pub(super) struct Claims {
    pub(super) iss: String,
    pub(super) aud: Audience,
    pub(super) iat: u64,
    #[serde(default)]
    pub(super) nbf: Option<u64>,
    pub(super) exp: u64,
    sub: String,
    #[serde(rename = "kubernetes.io")]
    kubernetes: Kubernetes,
}

/// One audience or several.
#[derive(Deserialize)]
#[serde(untagged)]
pub(super) enum Audience {
    One(String),
    Many(Vec<String>),
}

impl Audience {
    pub(super) fn names(&self, audience: &str) -> bool {
        match self {
            Self::One(one) => one == audience,
            Self::Many(many) => many.iter().any(|one| one == audience),
        }
    }
}

#[derive(Deserialize)]
struct Kubernetes {
    namespace: String,
    serviceaccount: Named,
    #[serde(default)]
    pod: Option<Named>,
}

#[derive(Deserialize)]
struct Named {
    name: String,
    uid: String,
}

impl Claims {
    /// The account, when subject and Kubernetes' own claims agree.
    pub(super) fn account(&self) -> Option<ServiceAccountName> {
        let (namespace, name) = (&self.kubernetes.namespace, &self.kubernetes.serviceaccount.name);
        if self.sub != format!("system:serviceaccount:{namespace}:{name}") {
            return None;
        }
        format!("{namespace}/{name}").parse().ok()
    }

    /// The uid of the pod that the token was made for; none for a token without a pod.
    pub(super) fn pod_uid(&self) -> Option<&str> {
        self.kubernetes.pod.as_ref().map(|pod| pod.uid.as_str())
    }
}

/// A part of a token.
pub(super) fn part<T: DeserializeOwned>(text: &str) -> Option<T> {
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(text).ok()?).ok()
}
