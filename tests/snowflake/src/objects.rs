//! An S3-kind object store for staged files: credentials by stage prefix, signatures checked, metadata kept.

mod answer;
mod chunked;
mod multipart;
mod results;
mod sigv4;

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

pub(crate) use answer::{http_date, serve};
use bytes::Bytes;
use md5::{Digest as _, Md5};
pub(crate) use results::ResultParts;
use time::OffsetDateTime;

/// The bucket's name as clients see it. Drivers build `https://BUCKET.ENDPOINT`: with the endpoint `0.0.1:PORT`
/// that is the loopback address itself.
pub(crate) const BUCKET: &str = "127";
/// The region that signatures must name.
pub(crate) const REGION: &str = "us-west-2";

/// One stored object; never changed, only replaced.
#[derive(Debug)]
pub(crate) struct Object {
    pub(crate) data: Bytes,
    pub(crate) etag: String,
    pub(crate) modified: OffsetDateTime,
    /// `x-amz-meta-*` headers without that prefix, lower case.
    pub(crate) metadata: BTreeMap<String, String>,
    /// The sizes of its parts, when it was uploaded in parts.
    parts: Vec<usize>,
}

/// Session credentials as a PUT or GET reply hands them out.
#[derive(Clone, Debug)]
pub(crate) struct Credentials {
    pub(crate) key_id: String,
    pub(crate) secret: String,
    pub(crate) token: String,
}

#[derive(Debug)]
struct Grant {
    secret: String,
    token: String,
    prefix: String,
    expires: Instant,
}

/// All objects, uploads in progress, and credentials in force.
#[derive(Default)]
pub(crate) struct ObjectStore {
    objects: Mutex<BTreeMap<String, Arc<Object>>>,
    uploads: Mutex<HashMap<String, multipart::Upload>>,
    grants: Mutex<HashMap<String, Grant>>,
}

impl ObjectStore {
    /// Credentials for all keys that begin with `prefix`.
    pub(crate) fn grant(&self, prefix: &str, life: Duration) -> Credentials {
        let key_id = format!("ASIA{}", random_text(16).to_uppercase());
        let credentials = Credentials { key_id, secret: random_text(40), token: random_text(96) };
        let mut grants = lock(&self.grants);
        let now = Instant::now();
        grants.retain(|_, grant| grant.expires + Duration::from_mins(10) > now);
        grants.insert(
            credentials.key_id.clone(),
            Grant {
                secret: credentials.secret.clone(),
                token: credentials.token.clone(),
                prefix: prefix.to_owned(),
                expires: now + life,
            },
        );
        credentials
    }

    /// Makes every credential that is out count as expired.
    pub(crate) fn expire_all(&self) {
        let now = Instant::now();
        for grant in lock(&self.grants).values_mut() {
            grant.expires = now;
        }
    }

    /// The object with this key.
    pub(crate) fn find(&self, key: &str) -> Option<Arc<Object>> {
        lock(&self.objects).get(key).cloned()
    }

    /// Keys that begin with `prefix`, in order.
    pub(crate) fn list(&self, prefix: &str) -> Vec<(String, Arc<Object>)> {
        lock(&self.objects)
            .range(prefix.to_owned()..)
            .take_while(|(key, _)| key.starts_with(prefix))
            .map(|(key, object)| (key.clone(), Arc::clone(object)))
            .collect()
    }

    /// Removes one object.
    pub(crate) fn remove(&self, key: &str) -> bool {
        lock(&self.objects).remove(key).is_some()
    }

    /// Changes one byte in the middle of an object and nothing else of it.
    pub(crate) fn damage(&self, key: &str) -> bool {
        let Some(object) = self.find(key) else { return false };
        let mut data = object.data.to_vec();
        let middle = data.len() / 2;
        let Some(byte) = data.get_mut(middle) else { return false };
        *byte ^= 1;
        self.store(
            key,
            Object {
                data: data.into(),
                etag: object.etag.clone(),
                modified: OffsetDateTime::now_utc(),
                metadata: object.metadata.clone(),
                parts: object.parts.clone(),
            },
        );
        true
    }

    fn store(&self, key: &str, object: Object) {
        lock(&self.objects).insert(key.to_owned(), Arc::new(object));
    }
}

/// The MD5 of what was sent, as S3 gives it; clients compare it with theirs.
fn etag(data: &[u8]) -> String {
    hex::encode(Md5::digest(data))
}

/// Letters and digits from the system's random numbers.
pub(crate) fn random_text(length: usize) -> String {
    let mut text = String::with_capacity(length + 32);
    while text.len() < length {
        text.push_str(&uuid::Uuid::new_v4().simple().to_string());
    }
    text.truncate(length);
    text
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
