//! The spool: a staged file's ciphertext on local disk until it is up. The file has no name (it is unlinked as it is
//! made), its key exists in memory only, and no plaintext ever reaches it.

mod dir;

use std::{
    fs::File,
    io::{self, Write},
    os::unix::fs::FileExt as _,
    sync::Arc,
};

pub use self::dir::{Place, SpoolDir, SpoolFull};
use super::encrypt::{Encryptor, Envelope, MasterKey};
use crate::fail;

/// Plaintext is gathered up to this size before it is encrypted and written.
const GATHER: usize = 256 * 1024;

/// The writing end. What is written is plaintext; what reaches the disk is not.
pub struct Spool {
    file: File,
    encryptor: Encryptor,
    gathered: Vec<u8>,
    cipher: Vec<u8>,
    plain_bytes: u64,
    cipher_bytes: u64,
    // Behind the file: its space is free when it is counted out.
    place: Place,
}

/// An encrypted file that waits for its upload. It can be uploaded more than once; dropping it frees the disk.
#[derive(Debug)]
pub struct SpooledFile {
    /// Rows that the encoder wrote.
    pub rows: u64,
    /// Size of the Parquet file.
    pub plain_bytes: u64,
    /// Size of the encrypted file.
    pub cipher_bytes: u64,
    /// Base64 SHA-256 of the Parquet file.
    pub digest: String,
    pub(crate) envelope: Envelope,
    file: Arc<File>,
    _place: Place,
}

impl Spool {
    /// Makes the nameless file in its place and a fresh key for it.
    pub fn create(place: Place, master: &MasterKey) -> io::Result<Self> {
        Ok(Self {
            file: tempfile::tempfile_in(place.dir().path())?,
            encryptor: Encryptor::new(master).map_err(io::Error::other)?,
            gathered: Vec::with_capacity(GATHER),
            cipher: Vec::with_capacity(GATHER + 16),
            plain_bytes: 0,
            cipher_bytes: 0,
            place,
        })
    }

    /// Encrypts what is left and closes the writing end.
    pub fn finish(mut self, rows: u64) -> io::Result<SpooledFile> {
        self.spill()?;
        let envelope = self.encryptor.finish(&mut self.cipher).map_err(io::Error::other)?;
        self.place.dir().write_all(&self.file, &self.cipher, self.cipher_bytes)?;
        fail::point("spool_end");
        self.cipher_bytes += self.cipher.len() as u64;
        self.place.complete();
        Ok(SpooledFile {
            rows,
            plain_bytes: self.plain_bytes,
            cipher_bytes: self.cipher_bytes,
            digest: envelope.digest.clone(),
            envelope,
            file: Arc::new(self.file),
            _place: self.place,
        })
    }

    fn spill(&mut self) -> io::Result<()> {
        if self.gathered.is_empty() {
            return Ok(());
        }
        self.encryptor.update(&self.gathered, &mut self.cipher).map_err(io::Error::other)?;
        self.gathered.clear();
        self.place.dir().write_all(&self.file, &self.cipher, self.cipher_bytes)?;
        fail::point("spool_write");
        self.place.written(self.cipher.len() as u64);
        self.cipher_bytes += self.cipher.len() as u64;
        Ok(())
    }
}

impl Write for Spool {
    fn write(&mut self, plain: &[u8]) -> io::Result<usize> {
        let taken = plain.len().min(GATHER - self.gathered.len());
        self.gathered.extend_from_slice(&plain[..taken]);
        self.plain_bytes += taken as u64;
        if self.gathered.len() == GATHER {
            self.spill()?;
        }
        Ok(taken)
    }

    /// Nothing: a block cipher cannot write half a block, and nobody reads the spool before it is finished.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl SpooledFile {
    /// Reads `length` bytes of ciphertext at `offset`, off the async threads.
    pub(crate) async fn read_at(&self, offset: u64, length: usize) -> io::Result<Vec<u8>> {
        let file = Arc::clone(&self.file);
        let reading = tokio::task::spawn_blocking(move || {
            let mut part = vec![0; length];
            file.read_exact_at(&mut part, offset)?;
            Ok(part)
        });
        reading.await.map_err(io::Error::other)?
    }
}
