//! Encrypt and upload.
