//! Counters that tests read.

use std::sync::atomic::{AtomicU64, Ordering};

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident),+ $(,)?) => {
        /// What has happened since the start.
        #[derive(Debug, Default)]
        pub struct Stats { $($name: AtomicU64),+ }

        /// The counters at one moment.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub struct Snapshot { $($(#[$doc])* pub $name: u64),+ }

        impl Stats {
            $(pub(crate) fn $name(&self) { self.$name.fetch_add(1, Ordering::Relaxed); })+

            /// The counters now.
            pub fn snapshot(&self) -> Snapshot {
                Snapshot { $($name: self.$name.load(Ordering::Relaxed)),+ }
            }
        }
    };
}

counters! {
    /// Logins that succeeded.
    logins,
    /// Logins that were refused.
    logins_refused,
    /// Session tokens renewed.
    renewals,
    /// Requests that came with an expired session token.
    expired_tokens,
    /// Sessions closed by their client.
    sessions_closed,
    /// Idle transactions rolled back.
    transactions_reaped,
    /// Statements executed (a repeat of the same requestId is not one).
    statements,
    /// Requests that repeated a requestId and were given the first one's result.
    repeats,
    /// Answers "in progress".
    polls,
    /// Statements cancelled.
    aborts,
    /// Objects stored, multipart uploads included.
    objects_stored,
    /// Object requests refused for their signature, key, token or prefix.
    objects_refused,
    /// Files loaded by COPY.
    files_loaded,
    /// Files that COPY refused to decrypt.
    files_undecipherable,
    /// Fetches of an issuer's key set.
    key_set_fetches,
}
