//! The sessions open now, so that a caller's report finds the one it is about.

use std::sync::{
    Arc, Mutex, PoisonError,
    atomic::{AtomicU64, Ordering},
};

use keyferry_proto::grant::Grant;
use tokio::sync::Notify;

use crate::policy::Permit;

/// All of them.
#[derive(Default)]
pub(in crate::rpc) struct Sessions {
    next: AtomicU64,
    open: Mutex<Vec<(u64, Arc<Entry>)>>,
}

/// One of them.
pub(super) struct Entry {
    uid: u32,
    pipeline: String,
    grant: String,
    /// The generation that the caller holds.
    generation: Mutex<String>,
    /// Rung when the caller says that it was refused.
    refused: Notify,
}

impl Sessions {
    /// Renews the session of this caller whose token has this generation; false when there is none.
    pub(in crate::rpc) fn refuse(&self, permit: &Permit, generation: &str) -> bool {
        let open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let found = open.iter().find(|(_, entry)| {
            entry.uid == permit.caller().uid()
                && entry.pipeline == permit.pipeline().as_str()
                && entry.grant == permit.grant().as_str()
                && entry.generation() == generation
        });
        if let Some((_, entry)) = found {
            entry.refused.notify_one();
        }
        found.is_some()
    }

    pub(super) fn enter(&self, permit: &Permit, grant: &Grant) -> (u64, Arc<Entry>) {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let entry = Arc::new(Entry {
            uid: permit.caller().uid(),
            pipeline: permit.pipeline().to_string(),
            grant: permit.grant().to_string(),
            generation: Mutex::new(grant.generation().to_owned()),
            refused: Notify::new(),
        });
        self.open.lock().unwrap_or_else(PoisonError::into_inner).push((number, Arc::clone(&entry)));
        (number, entry)
    }

    pub(super) fn leave(&self, number: u64) {
        self.open.lock().unwrap_or_else(PoisonError::into_inner).retain(|(n, _)| *n != number);
    }
}

impl Entry {
    /// The generation that the caller holds.
    pub(super) fn generation(&self) -> String {
        self.generation.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The caller is about to hold this one.
    pub(super) fn hands_over(&self, generation: String) {
        *self.generation.lock().unwrap_or_else(PoisonError::into_inner) = generation;
    }

    /// Waits until the caller says that its token was refused.
    pub(super) async fn refused(&self) {
        self.refused.notified().await;
    }
}
