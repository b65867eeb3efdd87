//! The broker's own types as messages.

use keyferry_proto::{grant::Grant, v1};

use crate::{
    config::Use,
    grants::{Freshness, Grants, Served},
    issuer::Session,
    policy::Rights,
    upstream::{GrantSettings, RelayStep},
};

pub(super) fn rights(rights: Rights, held: &Grants) -> Vec<v1::PipelineRights> {
    let right = |(grant, allowed): (crate::config::GrantName, Use)| v1::Right {
        held_until: held.held_until(&grant).map(Into::into),
        grant: grant.to_string(),
        r#use: use_of(allowed).into(),
    };
    rights
        .into_iter()
        .map(|(pipeline, rights)| v1::PipelineRights {
            pipeline: pipeline.to_string(),
            rights: rights.into_iter().map(right).collect(),
        })
        .collect()
}

fn use_of(allowed: Use) -> v1::Use {
    match allowed {
        Use::Relay => v1::Use::Relay,
        Use::Session => v1::Use::Session,
        Use::Token => v1::Use::Token,
    }
}

pub(super) fn token(served: &Served, audit_id: String) -> v1::Token {
    let freshness = match served.freshness {
        Freshness::Fresh => v1::Freshness::Fresh,
        Freshness::Cached => v1::Freshness::Cached,
        Freshness::UpstreamDown => v1::Freshness::UpstreamDown,
    };
    v1::Token {
        value: served.grant.value().to_vec(),
        kind: v1::TokenKind::Oauth.into(),
        expires_at: Some(served.grant.expires_at().into()),
        generation: served.grant.generation().to_owned(),
        freshness: freshness.into(),
        audit_id,
    }
}

pub(super) fn gss(step: RelayStep, complete: bool, audit_id: String) -> v1::GssServer {
    v1::GssServer {
        token: step.token,
        complete,
        ticket_expires_at: Some(step.ticket_expires_at.into()),
        audit_id,
    }
}

/// Where a session's statements go, and as whom.
#[derive(Clone)]
pub(super) struct Target {
    pub(super) account: String,
    pub(super) url: String,
    pub(super) user: String,
}

pub(super) fn session(session: &impl Session, target: &Target, audit_id: String) -> v1::SnowflakeSession {
    let grant: &Grant = session.grant();
    v1::SnowflakeSession {
        token: grant.value().to_vec(),
        expires_at: Some(grant.expires_at().into()),
        generation: grant.generation().to_owned(),
        url: target.url.clone(),
        account: target.account.clone(),
        user: target.user.clone(),
        role: session.role().to_owned(),
        warehouse: session.warehouse().to_owned(),
        session_id: session.session_id().to_owned(),
        audit_id,
    }
}

pub(super) fn settings(settings: GrantSettings, audit_id: String) -> v1::Settings {
    use v1::settings::Settings as Kind;
    let kind = match settings {
        GrantSettings::SqlServer { host, port, service_principal_name } => {
            Kind::SqlServer(v1::SqlServerSettings { host, port: port.into(), service_principal_name })
        }
        GrantSettings::Snowflake { account, url, user, roles, warehouses } => {
            Kind::Snowflake(v1::SnowflakeSettings { account, url, user, roles, warehouses })
        }
    };
    v1::Settings { settings: Some(kind), audit_id }
}
