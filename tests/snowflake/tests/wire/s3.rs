//! A client of the object store, and the encryption of staged files: written from the documentation of S3 and of
//! the drivers, apart from the stand-in's own code.

use std::{fmt::Write as _, net::SocketAddr};

use aes::cipher::{BlockModeEncrypt, KeyInit, KeyIvInit, block_padding::Pkcs7};
use base64::{Engine, engine::general_purpose::STANDARD};
use hmac::{Hmac, Mac};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use time::{OffsetDateTime, macros::format_description};

use crate::world::{endpoint, text};

/// Credentials, address and folder of one PUT reply.
#[derive(Clone)]
pub(crate) struct Stage {
    pub(crate) http: reqwest::Client,
    pub(crate) address: SocketAddr,
    pub(crate) folder: String,
    pub(crate) key_id: String,
    pub(crate) secret: String,
    pub(crate) token: String,
    pub(crate) material: Value,
}

impl Stage {
    pub(crate) fn of(http: &reqwest::Client, put: &Value) -> Self {
        let (folder, address) = endpoint(put);
        let creds = &put["stageInfo"]["creds"];
        Self {
            http: http.clone(),
            address,
            folder,
            key_id: text(&creds["AWS_KEY_ID"]),
            secret: text(&creds["AWS_SECRET_KEY"]),
            token: text(&creds["AWS_TOKEN"]),
            material: put["encryptionMaterial"].clone(),
        }
    }

    /// Sends one signed request; `path` begins after the host, `query` is sorted.
    pub(crate) async fn send(
        &self,
        method: &str,
        path: &str,
        query: &str,
        headers: &[(&str, &str)],
        body: Vec<u8>,
    ) -> reqwest::Response {
        self.send_signed(method, path, query, headers, body, "UNSIGNED-PAYLOAD").await
    }

    pub(crate) async fn send_signed(
        &self,
        method: &str,
        path: &str,
        query: &str,
        headers: &[(&str, &str)],
        body: Vec<u8>,
        payload: &str,
    ) -> reqwest::Response {
        let stamp = OffsetDateTime::now_utc()
            .format(&format_description!("[year][month][day]T[hour][minute][second]Z"))
            .unwrap();
        let mut all: Vec<(String, String)> = vec![
            ("host".into(), self.address.to_string()),
            ("x-amz-content-sha256".into(), payload.into()),
            ("x-amz-date".into(), stamp.clone()),
            ("x-amz-security-token".into(), self.token.clone()),
        ];
        all.extend(headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
        all.sort();
        let names = all.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>().join(";");
        let mut canonical = format!("{method}\n{path}\n{query}\n");
        for (name, value) in &all {
            let _ = writeln!(canonical, "{name}:{value}");
        }
        let _ = write!(canonical, "\n{names}\n{payload}");
        let scope = format!("{}/us-west-2/s3/aws4_request", &stamp[..8]);
        let to_sign =
            format!("AWS4-HMAC-SHA256\n{stamp}\n{scope}\n{}", hex::encode(Sha256::digest(&canonical)));
        let mut key = format!("AWS4{}", self.secret).into_bytes();
        for part in scope.split('/').chain([to_sign.as_str()]) {
            let mut mac = Hmac::<Sha256>::new_from_slice(&key).unwrap();
            mac.update(part.as_bytes());
            key = mac.finalize().into_bytes().to_vec();
        }
        let authorization = format!(
            "AWS4-HMAC-SHA256 Credential={}/{scope}, SignedHeaders={names}, Signature={}",
            self.key_id,
            hex::encode(key)
        );
        let url = format!("https://{}{path}{}{query}", self.address, if query.is_empty() { "" } else { "?" });
        let mut request =
            self.http.request(method.parse().unwrap(), url).header("authorization", authorization);
        for (name, value) in all.iter().filter(|(name, _)| name != "host") {
            request = request.header(name, value);
        }
        request.body(body).send().await.unwrap()
    }

    /// Encrypts and uploads one file as a driver does.
    pub(crate) async fn upload(&self, name: &str, plain: &[u8]) {
        let sealed = Sealed::new(&self.material, plain);
        self.upload_sealed(name, &sealed).await;
    }

    pub(crate) async fn upload_sealed(&self, name: &str, sealed: &Sealed) {
        let headers = sealed.headers();
        let headers: Vec<(&str, &str)> =
            headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let reply =
            self.send("PUT", &format!("/{}{name}", self.folder), "", &headers, sealed.data.clone()).await;
        assert_eq!(reply.status(), 200, "{}", reply.text().await.unwrap());
    }
}

/// An encrypted file and its metadata.
pub(crate) struct Sealed {
    pub(crate) data: Vec<u8>,
    pub(crate) key: String,
    pub(crate) iv: String,
    pub(crate) matdesc: String,
    pub(crate) digest: String,
}

impl Sealed {
    pub(crate) fn new(material: &Value, plain: &[u8]) -> Self {
        let master = STANDARD.decode(text(&material["queryStageMasterKey"])).unwrap();
        let (file_key, iv) = ([7_u8; 32], [9_u8; 16]);
        let file_key = &file_key[..master.len()];
        let (data, wrapped) = if master.len() == 16 {
            (
                cbc::Encryptor::<aes::Aes128>::new_from_slices(file_key, &iv)
                    .unwrap()
                    .encrypt_padded_vec::<Pkcs7>(plain),
                ecb::Encryptor::<aes::Aes128>::new_from_slice(&master)
                    .unwrap()
                    .encrypt_padded_vec::<Pkcs7>(file_key),
            )
        } else {
            (
                cbc::Encryptor::<aes::Aes256>::new_from_slices(file_key, &iv)
                    .unwrap()
                    .encrypt_padded_vec::<Pkcs7>(plain),
                ecb::Encryptor::<aes::Aes256>::new_from_slice(&master)
                    .unwrap()
                    .encrypt_padded_vec::<Pkcs7>(file_key),
            )
        };
        let matdesc = json!({
            "queryId": material["queryId"], "smkId": material["smkId"].to_string().trim_matches('"'),
            "keySize": (master.len() * 8).to_string(),
        });
        Self {
            data,
            key: STANDARD.encode(wrapped),
            iv: STANDARD.encode(iv),
            matdesc: matdesc.to_string(),
            digest: STANDARD.encode(Sha256::digest(plain)),
        }
    }

    pub(crate) fn headers(&self) -> Vec<(&'static str, String)> {
        vec![
            ("x-amz-meta-sfc-digest", self.digest.clone()),
            ("x-amz-meta-x-amz-iv", self.iv.clone()),
            ("x-amz-meta-x-amz-key", self.key.clone()),
            ("x-amz-meta-x-amz-matdesc", self.matdesc.clone()),
        ]
    }
}
