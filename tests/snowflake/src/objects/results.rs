//! Parts of results that are too large for one reply: fetched by a signed address and the key that the reply named.

use std::{
    collections::{HashMap, VecDeque},
    sync::Mutex,
};

use bytes::Bytes;

use super::{lock, random_text};

/// Parts that are kept; the oldest are forgotten first.
const KEPT_BYTES: usize = 512 << 20;

struct Part {
    signature: String,
    key: String,
    data: Bytes,
}

#[derive(Default)]
struct Held {
    parts: HashMap<String, Part>,
    order: VecDeque<String>,
    bytes: usize,
}

/// All parts of results.
#[derive(Default)]
pub(crate) struct ResultParts(Mutex<Held>);

impl ResultParts {
    /// Keeps one part, and gives the path and query by which it is fetched with the header's key.
    pub(crate) fn keep(&self, query_id: &str, number: usize, key: &str, data: Bytes) -> String {
        let path = format!("results/{query_id}_0/main/data_0_0_{number}");
        let signature = random_text(64);
        let mut held = lock(&self.0);
        held.bytes += data.len();
        held.order.push_back(path.clone());
        let part = Part { signature: signature.clone(), key: key.to_owned(), data };
        if let Some(old) = held.parts.insert(path.clone(), part) {
            held.bytes -= old.data.len();
        }
        while held.bytes > KEPT_BYTES {
            let Some(oldest) = held.order.pop_front() else { break };
            if let Some(part) = held.parts.remove(&oldest) {
                held.bytes -= part.data.len();
            }
        }
        format!(
            "{path}?x-amz-server-side-encryption-customer-algorithm=AES256&response-content-encoding=gzip\
             &X-Amz-Expires=21599&X-Amz-Signature={signature}"
        )
    }

    /// The part at this path: `Err(true)` when it is there and the signature or the key is wrong.
    pub(super) fn fetch(&self, path: &str, signature: &str, key: &str) -> Result<Bytes, bool> {
        let held = lock(&self.0);
        let part = held.parts.get(path).ok_or(false)?;
        if part.signature == signature && part.key == key { Ok(part.data.clone()) } else { Err(true) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_needs_its_signature_and_its_key() {
        let parts = ResultParts::default();
        let address = parts.keep("q", 1, "key", Bytes::from_static(b"x"));
        let (path, query) = address.split_once('?').unwrap();
        let signature = query.rsplit('=').next().unwrap();
        assert_eq!(parts.fetch(path, signature, "key").unwrap(), "x");
        assert!(parts.fetch(path, signature, "other").unwrap_err());
        assert!(parts.fetch(path, "", "key").unwrap_err());
        assert!(!parts.fetch("results/nothing", signature, "key").unwrap_err());
    }
}
