//! Errors as the statuses that the contract's header documents.

use tonic::Status;

use crate::{audit::AuditError, grants::GrantError, upstream::UpstreamError};

/// An upstream that refused is permanent until somebody acts; one that is down is worth another try.
pub(super) fn of_upstream(error: &UpstreamError) -> Status {
    if error.is_permanent() {
        return Status::failed_precondition(error.to_string());
    }
    match error.retry_after() {
        Some(wait) => Status::unavailable(format!("{error}; retry after {} s", wait.as_secs().max(1))),
        None => Status::unavailable(error.to_string()),
    }
}

pub(super) fn of_grant(error: &GrantError) -> Status {
    match error {
        GrantError::Upstream(error) => of_upstream(error),
        GrantError::TooOften { .. } => Status::resource_exhausted(error.to_string()),
        GrantError::TimedOut { .. } => Status::unavailable(error.to_string()),
        GrantError::TtlTooLong { .. } | GrantError::NotABearer(_) => {
            Status::invalid_argument(error.to_string())
        }
    }
}

pub(super) fn of_audit(error: &AuditError) -> Status {
    Status::unavailable(error.to_string())
}
