//! Errors as the statuses that the contract's header documents; each message ends with its code.

use tonic::Status;

use crate::{
    audit::AuditError,
    codes::{self, Entry},
    grants::GrantError,
    upstream::UpstreamError,
};

/// The same status, its message followed by the entry's code.
pub(super) fn coded(status: &Status, entry: &Entry) -> Status {
    Status::new(status.code(), format!("{} [{}]", status.message(), entry.code))
}

/// An upstream that refused is permanent until somebody acts; one that is down is worth another try.
pub(super) fn of_upstream(error: &UpstreamError) -> Status {
    let status = if error.is_permanent() {
        Status::failed_precondition(error.to_string())
    } else {
        match error.retry_after() {
            Some(wait) => Status::unavailable(format!("{error}; retry after {} s", wait.as_secs().max(1))),
            None => Status::unavailable(error.to_string()),
        }
    };
    coded(&status, codes::of_upstream(error))
}

pub(super) fn of_grant(error: &GrantError) -> Status {
    let status = match error {
        GrantError::Upstream(error) => return of_upstream(error),
        GrantError::TooOften { .. } => Status::resource_exhausted(error.to_string()),
        GrantError::TimedOut { .. } => Status::unavailable(error.to_string()),
        GrantError::TtlTooLong { .. } | GrantError::NotABearer(_) => {
            Status::invalid_argument(error.to_string())
        }
    };
    coded(&status, codes::of_grant(error))
}

pub(super) fn of_audit(error: &AuditError) -> Status {
    coded(&Status::unavailable(error.to_string()), codes::of_audit(error))
}
