//! Uploads in parts.

use std::collections::BTreeMap;

use bytes::{Bytes, BytesMut};
use time::OffsetDateTime;

use super::{Object, ObjectStore, etag, lock, random_text};

/// Every part but the last must have this size at least.
const SMALLEST_PART: usize = 5 << 20;
/// Part numbers run from 1 to this.
const LAST_PART: u32 = 10_000;

/// An upload that was begun and not yet completed.
#[derive(Debug)]
pub(super) struct Upload {
    key: String,
    metadata: BTreeMap<String, String>,
    parts: BTreeMap<u32, (String, Bytes)>,
}

/// Why a multipart request was refused: S3's code.
pub(super) type Code = &'static str;

impl ObjectStore {
    /// Begins an upload; its id comes back.
    pub(super) fn begin(&self, key: &str, metadata: BTreeMap<String, String>) -> String {
        let id = random_text(64);
        lock(&self.uploads)
            .insert(id.clone(), Upload { key: key.to_owned(), metadata, parts: BTreeMap::new() });
        id
    }

    /// Takes one part; its tag comes back.
    pub(super) fn add_part(&self, key: &str, id: &str, number: u32, data: Bytes) -> Result<String, Code> {
        if !(1..=LAST_PART).contains(&number) {
            return Err("InvalidArgument");
        }
        let mut uploads = lock(&self.uploads);
        let upload = uploads.get_mut(id).filter(|upload| upload.key == key).ok_or("NoSuchUpload")?;
        let tag = etag(&data);
        upload.parts.insert(number, (tag.clone(), data));
        Ok(tag)
    }

    /// Joins the parts that the client lists; the object's tag comes back.
    pub(super) fn complete(&self, key: &str, id: &str, listed: &[(u32, String)]) -> Result<String, Code> {
        let mut uploads = lock(&self.uploads);
        let upload = uploads.get(id).filter(|upload| upload.key == key).ok_or("NoSuchUpload")?;
        if listed.is_empty() || listed.windows(2).any(|pair| pair[0].0 >= pair[1].0) {
            return Err("InvalidPartOrder");
        }
        let mut whole = BytesMut::new();
        let mut tags = Vec::with_capacity(listed.len() * 16);
        let mut sizes = Vec::with_capacity(listed.len());
        for (position, (number, tag)) in listed.iter().enumerate() {
            let (stored, data) = upload.parts.get(number).ok_or("InvalidPart")?;
            if stored != tag {
                return Err("InvalidPart");
            }
            if position + 1 < listed.len() && data.len() < SMALLEST_PART {
                return Err("EntityTooSmall");
            }
            whole.extend_from_slice(data);
            tags.extend(hex::decode(tag).unwrap_or_default());
            sizes.push(data.len());
        }
        // The digest of the parts' digests, as S3 makes it.
        let tag = format!("{}-{}", etag(&tags), listed.len());
        if let Some(upload) = uploads.remove(id) {
            let (data, modified) = (whole.freeze(), OffsetDateTime::now_utc());
            let object =
                Object { data, etag: tag.clone(), modified, metadata: upload.metadata, parts: sizes };
            self.store(key, object);
        }
        Ok(tag)
    }

    /// Forgets an upload.
    pub(super) fn abandon(&self, key: &str, id: &str) -> Result<(), Code> {
        let mut uploads = lock(&self.uploads);
        if uploads.get(id).is_none_or(|upload| upload.key != key) {
            return Err("NoSuchUpload");
        }
        uploads.remove(id);
        Ok(())
    }
}

/// The parts that a `CompleteMultipartUpload` document lists.
pub(super) fn listed_parts(xml: &str) -> Option<Vec<(u32, String)>> {
    let mut parts = Vec::new();
    for part in xml.split("<Part>").skip(1) {
        let number = element(part, "PartNumber")?.trim().parse().ok()?;
        let tag = element(part, "ETag")?.replace("&quot;", "\"").replace("&#34;", "\"");
        parts.push((number, tag.trim().trim_matches('"').to_owned()));
    }
    Some(parts)
}

fn element<'a>(xml: &'a str, name: &str) -> Option<&'a str> {
    let from = xml.find(&format!("<{name}>"))? + name.len() + 2;
    let length = xml[from..].find(&format!("</{name}>"))?;
    Some(&xml[from..from + length])
}
