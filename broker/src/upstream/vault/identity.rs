//! Who the broker is to Vault: `role_id` and `secret_id` from their files, unwrapped where they are wrapped.

use std::{
    fs::File,
    io::Read as _,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use tokio::sync::Mutex;
use zeroize::Zeroizing;

use super::{
    super::{
        error::{ErrorClass, UpstreamError, UpstreamName},
        secret::Secret,
    },
    calls::{Auth, Calls},
    spent::SpentRecord,
};
use crate::config::AppRole;

const LARGEST_FILE: u64 = 4096;

/// The `AppRole` identity.
pub(super) struct Identity {
    mount: String,
    role_id_file: PathBuf,
    secret_id_file: PathBuf,
    wrapped: bool,
    /// The `secret_id` that was unwrapped: a wrapping token works once, so logging in again needs it.
    unwrapped: Mutex<Option<Secret>>,
    spent: SpentRecord,
}

/// What tells one delivery of the `secret_id`'s file from the next.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Delivery {
    device: u64,
    inode: u64,
    modified: (i64, i64),
}

impl Identity {
    /// `spent` is where it is noted which wrapping token was unwrapped.
    pub(super) fn new(config: &AppRole, spent: PathBuf) -> Self {
        Self {
            mount: config.mount.as_str().to_owned(),
            role_id_file: config.role_id_file.clone(),
            secret_id_file: config.secret_id_file.clone(),
            wrapped: config.wrapped,
            unwrapped: Mutex::new(None),
            spent: SpentRecord::at(spent),
        }
    }

    /// Whether the file holds a wrapping token.
    pub(super) fn is_wrapped(&self) -> bool {
        self.wrapped
    }

    /// Logs in with what the files hold now.
    pub(super) async fn login(&self, calls: &Calls) -> Result<Auth, UpstreamError> {
        let role_id = read(&self.role_id_file, "role_id")?;
        if !self.wrapped {
            let secret_id = read(&self.secret_id_file, "secret_id")?;
            return calls.login(&self.mount, &role_id, &secret_id).await;
        }
        let mut unwrapped = self.unwrapped.lock().await;
        let secret_id = match unwrapped.take() {
            Some(secret_id) => secret_id,
            None => self.unwrap(calls).await?,
        };
        calls.login(&self.mount, &role_id, unwrapped.insert(secret_id)).await
    }

    /// Which delivery of the `secret_id` lies in the file now.
    pub(super) fn delivery(&self) -> Option<Delivery> {
        let meta = std::fs::metadata(&self.secret_id_file).ok()?;
        Some(Delivery { device: meta.dev(), inode: meta.ino(), modified: (meta.mtime(), meta.mtime_nsec()) })
    }

    /// Forgets an unwrapped `secret_id` that Vault refuses, so that the next delivery is looked at.
    pub(super) async fn forget(&self) {
        *self.unwrapped.lock().await = None;
    }

    async fn unwrap(&self, calls: &Calls) -> Result<Secret, UpstreamError> {
        let wrapping = read(&self.secret_id_file, "wrapping token")?;
        self.spent.refuse_own(&wrapping)?;
        let origin = calls.wrapped_by(&wrapping).await?;
        if !made_by_secret_id(&self.mount, &origin) {
            return Err(UpstreamError::new(
                UpstreamName::Vault,
                ErrorClass::Intercepted,
                "looking up the wrapping token of the secret_id",
                format!("it does not wrap an answer of auth/{}/role/ROLE/secret-id", self.mount),
                "somebody put another token there: find out who can write the file, and deliver a new one",
            ));
        }
        let secret_id = calls.unwrap_secret_id(&wrapping).await?;
        self.spent.note(&wrapping);
        tracing::warn!(
            "the secret_id was unwrapped and is kept in memory only: a restart of the broker needs a new wrapped one"
        );
        Ok(secret_id)
    }
}

fn made_by_secret_id(mount: &str, creation_path: &str) -> bool {
    creation_path
        .strip_prefix("auth/")
        .and_then(|p| p.strip_prefix(mount))
        .and_then(|p| p.strip_prefix("/role/"))
        .and_then(|p| p.strip_suffix("/secret-id"))
        .is_some_and(|role| !role.is_empty() && !role.contains('/'))
}

/// Reads a small private file: a plain file that others cannot read and the group cannot change.
fn read(path: &Path, what: &str) -> Result<Secret, UpstreamError> {
    let refuse = |found: String, advice: &str| {
        UpstreamError::new(
            UpstreamName::Vault,
            ErrorClass::Configuration,
            format!("reading the {what} from {}", path.display()),
            found,
            advice,
        )
    };
    let deliver = "deliver it there, readable by the broker's user only";
    let file = File::open(path).map_err(|e| refuse(e.to_string(), deliver))?;
    let meta = file.metadata().map_err(|e| refuse(e.to_string(), deliver))?;
    if !meta.is_file() {
        return Err(refuse("it is not a plain file".to_owned(), deliver));
    }
    let mode = meta.mode() & 0o7777;
    if mode & 0o027 != 0 {
        return Err(refuse(format!("its mode is {mode:04o}"), "take the others' rights away: `chmod 0400`"));
    }
    let mut bytes = Zeroizing::new(Vec::with_capacity(LARGEST_FILE as usize + 1));
    file.take(LARGEST_FILE + 1).read_to_end(&mut bytes).map_err(|e| refuse(e.to_string(), deliver))?;
    if bytes.len() as u64 > LARGEST_FILE {
        return Err(refuse(format!("more than {LARGEST_FILE} bytes"), deliver));
    }
    match std::str::from_utf8(&bytes).map(str::trim) {
        Ok(text) if !text.is_empty() && text.chars().all(|c| c.is_ascii_graphic()) => {
            Ok(Secret::new(text.to_owned())?)
        }
        _ => Err(refuse("it does not hold one word".to_owned(), deliver)),
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt as _};

    use super::*;

    fn file(content: &[u8], mode: u32) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), content).unwrap();
        fs::set_permissions(file.path(), fs::Permissions::from_mode(mode)).unwrap();
        file
    }

    #[test]
    fn a_trailing_newline_is_no_part_of_the_secret() {
        let file = file(b"5c1b-77\n", 0o400);
        assert_eq!(read(file.path(), "secret_id").ok().unwrap().expose(), "5c1b-77");
    }

    #[test]
    fn a_secret_that_others_can_read_or_the_group_can_change_is_refused() {
        for mode in [0o404, 0o420, 0o644, 0o666, 0o4407] {
            let error = read(file(b"x", mode).path(), "secret_id").err().unwrap();
            assert!(error.to_string().contains("its mode is"), "{error}");
        }
        assert!(read(file(b"x", 0o440).path(), "secret_id").is_ok(), "Kubernetes mounts secrets as 0440");
    }

    #[test]
    fn a_file_that_is_empty_or_huge_or_binary_or_a_folder_is_refused() {
        for content in [&b""[..], b" \n", &[b'x'; 5000], b"a b", b"\xff\xfe", b"a\0b"] {
            assert!(read(file(content, 0o400).path(), "secret_id").is_err(), "{content:?}");
        }
        assert!(read(Path::new("/"), "secret_id").is_err());
        assert!(read(Path::new("/no/such/file"), "role_id").is_err());
    }

    #[test]
    fn only_the_answer_of_a_secret_id_call_may_be_wrapped() {
        assert!(made_by_secret_id("approle", "auth/approle/role/loader/secret-id"));
        assert!(made_by_secret_id("team/approle", "auth/team/approle/role/loader/secret-id"));
        for other in [
            "auth/approle/login",
            "auth/approle/role//secret-id",
            "auth/approle/role/a/b/secret-id",
            "auth/approle2/role/a/secret-id",
            "sys/wrapping/wrap",
            "",
        ] {
            assert!(!made_by_secret_id("approle", other), "{other}");
        }
    }
}
