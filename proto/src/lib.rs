//! The contract between the Keyferry broker and its callers: all that the two sides share.
//!
//! [`v1`] is generated from `keyferry/v1/credentials.proto`, whose comments are the documentation.
//! [`grant`] is the one type that carries a token outside a message, [`connect`] dials the broker.
//! [`catalogue`] is the form of both sides' error codes.

pub mod catalogue;
#[cfg(feature = "client")]
pub mod connect;
pub mod grant;
mod redacted;

/// The generated messages, client and server of `keyferry.v1`.
pub mod v1 {
    #![allow(missing_docs, unreachable_pub, clippy::all, clippy::pedantic)]
    tonic::include_proto!("keyferry.v1");
}

/// The serialized `FileDescriptorSet` of the contract, for tests that walk it.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));

/// The largest message either side accepts, in bytes.
pub const MAX_MESSAGE_BYTES: usize = 64 * 1024;

/// The metadata key that every call must carry, with the value [`METADATA_VALUE`].
pub const METADATA_KEY: &str = "keyferry";

/// The metadata key under which a call carries its projected service-account token.
pub const SERVICE_ACCOUNT_KEY: &str = "keyferry-service-account-token";

/// The value of [`METADATA_KEY`]: the major version of the contract.
pub const METADATA_VALUE: &str = "1";
