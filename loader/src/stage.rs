//! A Snowflake internal stage: where a PUT's reply says files go, under which key they are encrypted, and the upload.
//!
//! The order is: [`StageTarget`] from the reply, an encrypted file in the [`spool`], [`upload`]. Of the reply only what
//! is needed is read; its `src_locations` are ignored, so that no server can name a local file to be sent.

pub mod encrypt;
pub mod endpoint;
mod s3;
pub mod spool;

use std::{fmt, time::Duration};

use zeroize::Zeroizing;

use self::{encrypt::MasterKey, s3::Place, spool::SpooledFile};
use crate::{
    model::TargetName,
    snowflake::{
        SnowflakeError, Statements,
        wire::{Data, OneOrMany, StageInfo},
    },
};

/// One PUT's reply: where files go, the credentials of the hour, the key. It prints none of these.
pub struct StageTarget {
    place: Place,
    credentials: Credentials,
    master: MasterKey,
    /// Files of this many bytes and more go up in parts.
    threshold: u64,
    client: reqwest::Client,
}

/// Session credentials for the stage; wiped when dropped.
struct Credentials {
    key_id: Zeroizing<String>,
    secret_key: Zeroizing<String>,
    token: Zeroizing<String>,
}

impl fmt::Debug for StageTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StageTarget").field("host", &self.place.host()).finish_non_exhaustive()
    }
}

/// A file that lies in the stage.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StagedFile {
    /// Its name below the prefix of the PUT.
    pub name: String,
    /// Rows that the encoder wrote.
    pub rows: u64,
    /// Bytes in the stage, encrypted.
    pub bytes: u64,
    /// Base64 SHA-256 of the Parquet file before encryption.
    pub digest: String,
}

/// How a file goes up.
#[derive(Clone, Copy, Debug)]
pub struct UploadOptions {
    /// The longest that one file may take, retries included.
    pub deadline: Duration,
    /// The size of a part, which is also what one upload holds in memory. At least 5 MiB (a rule of S3).
    pub part_bytes: usize,
}

impl Default for UploadOptions {
    fn default() -> Self {
        Self { deadline: Duration::from_mins(15), part_bytes: 8 * 1024 * 1024 }
    }
}

/// Why a file is not in the stage.
#[derive(Debug, thiserror::Error)]
pub enum StageError {
    /// The PUT statement itself.
    #[error(transparent)]
    Snowflake(#[from] SnowflakeError),
    /// The reply cannot be used.
    #[error("Snowflake's answer to PUT is {0}")]
    Reply(String),
    /// A kind of stage that is not carried yet.
    #[error("{0}")]
    NotCarried(String),
    /// The reply points to a host that it must not.
    #[error("refused to upload: {0}")]
    Endpoint(#[from] endpoint::EndpointError),
    /// The credentials of the reply are over: ask [`crate::snowflake::Session::put_target`] again, same stage and prefix.
    #[error("the stage's credentials expired before `{file}` was up; the PUT is to be sent again")]
    CredentialsExpired {
        /// The file.
        file: String,
    },
    /// The storage refused.
    #[error(
        "the stage's storage at {host} refused `{file}` ({code}); check that nothing between here and it changes requests"
    )]
    Refused {
        /// The file.
        file: String,
        /// The host.
        host: String,
        /// The status or the storage's own code.
        code: String,
    },
    /// The storage could not be reached, or not for long enough.
    #[error(
        "could not upload `{file}` to {host}: {reason}. Check the network; the file is kept and nothing was committed"
    )]
    Unreachable {
        /// The file.
        file: String,
        /// The host.
        host: String,
        /// What happened.
        reason: String,
    },
    /// The spool file cannot be read.
    #[error("cannot read the spool file of `{file}`: {source}")]
    Spool {
        /// The file.
        file: String,
        /// What the kernel said.
        source: std::io::Error,
    },
}

impl StageError {
    /// True when the same upload may succeed later.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Snowflake(error) => error.is_transient(),
            Self::CredentialsExpired { .. } | Self::Unreachable { .. } => true,
            _ => false,
        }
    }
}

/// Makes the stage when it is missing and the role may; if the role may not, the first PUT says whether it is there.
pub async fn ensure(session: &mut impl Statements, stage: &TargetName) -> Result<(), SnowflakeError> {
    match session.execute(&create_statement(stage)).await {
        Err(SnowflakeError::Refused { code, message, .. })
            if matches!(code.as_str(), "003001" | "003540") =>
        {
            tracing::debug!(%code, %message, stage = %stage, "the role may not create the stage; it must exist");
            Ok(())
        }
        outcome => outcome.map(drop),
    }
}

/// The statement that makes the stage.
pub fn create_statement(stage: &TargetName) -> String {
    format!("CREATE STAGE IF NOT EXISTS {}", stage.sql())
}

/// The statement whose reply says where files under `prefix` go. The local name in it is never opened by anybody.
pub fn put_statement(stage: &TargetName, prefix: &str) -> String {
    format!(
        "PUT 'file:///keyferry/part.parquet' {} AUTO_COMPRESS = FALSE SOURCE_COMPRESSION = NONE OVERWRITE = FALSE",
        location(stage, prefix)
    )
}

/// The statement that removes everything under `prefix`.
pub fn remove_statement(stage: &TargetName, prefix: &str) -> String {
    format!("REMOVE {}", location(stage, prefix))
}

/// `@stage/prefix/`. Prefixes are made by the ledger of letters, digits, `-`, `_` and `/` only.
pub fn location(stage: &TargetName, prefix: &str) -> String {
    format!("@{}/{prefix}/", stage.sql())
}

/// Uploads a spooled file under a name that no other attempt has. Sending the same file again under the same name is
/// harmless until a COPY was attempted.
pub async fn upload(
    target: &StageTarget,
    name: &str,
    file: &SpooledFile,
    options: &UploadOptions,
) -> Result<StagedFile, StageError> {
    s3::upload(target, name, file, options).await?;
    Ok(StagedFile {
        name: name.to_owned(),
        rows: file.rows,
        bytes: file.cipher_bytes,
        digest: file.digest.clone(),
    })
}

impl StageTarget {
    /// Reads a PUT's reply.
    pub(crate) fn from_reply(
        data: Data,
        client: reqwest::Client,
        allow: &[String],
    ) -> Result<Self, StageError> {
        let info = data.stage_info.ok_or_else(|| StageError::Reply("without stageInfo".to_owned()))?;
        carried(&info)?;
        let place = Place::from_reply(&info, allow)?;
        let creds = info.creds.unwrap_or_default();
        if creds.key_id.is_empty() || creds.secret_key.is_empty() {
            return Err(StageError::Reply("without credentials for its S3 stage".to_owned()));
        }
        let material = match data.encryption_material {
            Some(OneOrMany::One(material)) => Some(material),
            Some(OneOrMany::Many(materials)) => materials.into_iter().flatten().next(),
            None => None,
        };
        let material = material.ok_or_else(|| {
            StageError::NotCarried(
                "the stage has no client-side encryption (ENCRYPTION = (TYPE = 'SNOWFLAKE_SSE')), which is not carried \
                 yet; make it with CREATE STAGE without an ENCRYPTION clause"
                    .to_owned(),
            )
        })?;
        let smk_id = material.smk_id.unwrap_or_default();
        let master = MasterKey::new(&material.query_stage_master_key, material.query_id, smk_id)
            .map_err(|found| StageError::Reply(format!("with unusable encryption material: {found}")))?;
        Ok(Self {
            place,
            credentials: Credentials {
                key_id: creds.key_id,
                secret_key: creds.secret_key,
                token: creds.token,
            },
            master,
            threshold: data.threshold.unwrap_or(u64::MAX),
            client,
        })
    }

    /// The key that files for this stage are wrapped under.
    pub(crate) fn master(&self) -> &MasterKey {
        &self.master
    }
}

fn carried(info: &StageInfo) -> Result<(), StageError> {
    match info.location_type.to_ascii_uppercase().as_str() {
        "S3" => Ok(()),
        kind @ ("AZURE" | "GCS") => Err(StageError::NotCarried(format!(
            "this Snowflake account keeps its stages on {kind}, which is not carried yet (S3 is); nothing was uploaded"
        ))),
        "LOCAL_FS" => Err(StageError::NotCarried(
            "this server keeps its stages on a local file system, which is not carried: it proves nothing about a cloud"
                .to_owned(),
        )),
        _ => Err(StageError::Reply("for a kind of storage that does not exist".to_owned())),
    }
}

#[cfg(test)]
pub(crate) mod tests;
