//! Which wrapping token this broker unwrapped last: a restarted broker then knows its own from a stolen one.
//!
//! The record is a digest of a token that nobody can use any more. It is written after the token was unwrapped, never
//! before: a token that somebody else used in between must not look like our own.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read as _, Write as _},
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _},
    path::PathBuf,
};

use aws_lc_rs::digest::{SHA256, digest};
use nix::{fcntl::OFlag, unistd::geteuid};

use super::super::{
    error::{ErrorClass, UpstreamError, UpstreamName},
    secret::Secret,
};

/// A file that outlives the process and not the pod, or the machine's uptime.
pub(super) struct SpentRecord {
    path: PathBuf,
}

impl SpentRecord {
    pub(super) fn at(path: PathBuf) -> Self {
        Self { path }
    }

    /// Refuses a wrapping token that this broker unwrapped itself before it was started again.
    pub(super) fn refuse_own(&self, wrapping: &Secret) -> Result<(), UpstreamError> {
        if self.read().is_none_or(|known| known != fingerprint(wrapping)) {
            return Ok(());
        }
        Err(UpstreamError::new(
            UpstreamName::Vault,
            ErrorClass::Credential,
            "reading the wrapping token of the secret_id",
            "this broker itself unwrapped it before it was started again, and kept the secret_id in memory only",
            "deliver a new wrapped secret_id: whatever delivers it must do so whenever the broker starts",
        ))
    }

    /// Notes a token that was unwrapped just now. Without the note a restart takes the token for stolen, which is the
    /// safe side.
    pub(super) fn note(&self, wrapping: &Secret) {
        if let Err(error) = self.write(&fingerprint(wrapping)) {
            tracing::warn!(path = %self.path.display(), %error, "cannot note which wrapping token was unwrapped");
        }
    }

    /// What is noted; nothing where it cannot be read or is not our own.
    fn read(&self) -> Option<String> {
        let file = File::options().read(true).custom_flags(OFlag::O_NOFOLLOW.bits()).open(&self.path).ok()?;
        let meta = file.metadata().ok()?;
        if !meta.is_file() || meta.uid() != geteuid().as_raw() || meta.mode() & 0o077 != 0 {
            return None;
        }
        let mut text = String::new();
        file.take(256).read_to_string(&mut text).ok()?;
        Some(text)
    }

    fn write(&self, text: &str) -> io::Result<()> {
        match fs::remove_file(&self.path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&self.path)?
            .write_all(text.as_bytes())
    }
}

fn fingerprint(wrapping: &Secret) -> String {
    hex::encode(digest(&SHA256, wrapping.expose().as_bytes()))
}

#[cfg(test)]
mod tests {
    use std::{fs::Permissions, os::unix::fs::PermissionsExt as _};

    use super::*;

    fn secret(text: &str) -> Secret {
        Secret::new(text.to_owned()).unwrap()
    }

    #[test]
    fn only_the_token_that_was_noted_is_known_and_its_text_is_nowhere() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("broker.sock.unwrapped");
        let record = SpentRecord::at(path.clone());
        assert!(record.refuse_own(&secret("hvs.first")).is_ok(), "nothing is noted yet");
        for name in ["hvs.first", "hvs.second"] {
            record.note(&secret(name));
            let error = record.refuse_own(&secret(name)).unwrap_err();
            assert_eq!(error.class(), ErrorClass::Credential);
            assert!(!fs::read_to_string(&path).unwrap().contains(name) && !error.to_string().contains(name));
        }
        assert!(record.refuse_own(&secret("hvs.first")).is_ok(), "only the last");
    }

    #[test]
    fn a_note_that_others_could_have_written_does_not_count() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("note");
        let record = SpentRecord::at(path.clone());
        record.note(&secret("hvs.first"));
        fs::set_permissions(&path, Permissions::from_mode(0o620)).unwrap();
        assert!(record.refuse_own(&secret("hvs.first")).is_ok());
        fs::rename(&path, folder.path().join("other")).unwrap();
        std::os::unix::fs::symlink(folder.path().join("other"), &path).unwrap();
        assert!(record.refuse_own(&secret("hvs.first")).is_ok());
    }
}
