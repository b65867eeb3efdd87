//! COPY and ledger row in one transaction.
