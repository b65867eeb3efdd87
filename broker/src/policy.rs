//! Caller × pipeline × grant × use → [`Permit`] or [`Denied`]. Nothing is allowed that no entry names.

mod explain;

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    caller::Caller,
    config::{CallerMatch, GrantName, PipelineName, PolicyEntry, ServiceAccountName, UNMAPPED_UID, Use},
};

pub use self::explain::{Considered, Decision, Described, Explanation, Question, explain};

/// The proof that policy allowed this caller this grant in this way. Only [`Policy`] makes one.
#[derive(Debug, PartialEq, Eq)]
#[must_use = "a permit that nobody uses was not worth asking for"]
pub struct Permit {
    caller: Caller,
    pipeline: PipelineName,
    grant: GrantName,
    allowed: Use,
}

impl Permit {
    /// Who may.
    pub fn caller(&self) -> &Caller {
        &self.caller
    }

    /// Under which pipeline.
    pub fn pipeline(&self) -> &PipelineName {
        &self.pipeline
    }

    /// What.
    pub fn grant(&self) -> &GrantName {
        &self.grant
    }

    /// In which way.
    pub fn allowed(&self) -> Use {
        self.allowed
    }
}

/// Why policy says no, in words that this caller may know: they hold nothing about other callers, nor
/// whether a grant exists that is not this caller's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    /// No entry is about this caller.
    #[error(
        "policy names no pipeline for uid {uid} and gid {gid}{}; add an entry under `policy` if it should",
        account.as_ref().map_or_else(String::new, |account| format!(" of service account {account}"))
    )]
    UnknownCaller {
        /// The caller's uid.
        uid: u32,
        /// The caller's gid.
        gid: u32,
        /// The service account that it proved.
        account: Option<ServiceAccountName>,
    },
    /// The caller has several pipelines and named none.
    #[error(
        "uid {uid} moves several pipelines ({}), whose rights are never united; name one in `pipeline`",
        pipelines.join(", ")
    )]
    AmbiguousPipeline {
        /// The caller's uid.
        uid: u32,
        /// Its pipelines.
        pipelines: Vec<String>,
    },
    /// The caller named a pipeline that is not one of its own.
    #[error("policy does not let uid {uid} act for pipeline `{pipeline}`")]
    NotItsPipeline {
        /// The caller's uid.
        uid: u32,
        /// The pipeline it named.
        pipeline: PipelineName,
    },
    /// The pipeline's entry does not allow the grant.
    #[error("policy does not allow pipeline `{pipeline}` the grant `{grant}`")]
    NotItsGrant {
        /// The pipeline.
        pipeline: PipelineName,
        /// The grant that was asked for.
        grant: GrantName,
    },
    /// The grant is allowed, but in another way.
    #[error("policy allows pipeline `{pipeline}` the grant `{grant}` as {}, not as {}", allowed.as_str(), wanted.as_str())]
    OtherUse {
        /// The pipeline.
        pipeline: PipelineName,
        /// The grant that was asked for.
        grant: GrantName,
        /// What policy allows.
        allowed: Use,
        /// What was asked for.
        wanted: Use,
    },
}

impl Denied {
    /// One word for metrics and the audit log.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::UnknownCaller { .. } => "unknown_caller",
            Self::AmbiguousPipeline { .. } => "ambiguous_pipeline",
            Self::NotItsPipeline { .. } => "not_its_pipeline",
            Self::NotItsGrant { .. } => "not_its_grant",
            Self::OtherUse { .. } => "other_use",
        }
    }
}

/// What each of a caller's pipelines may use.
pub type Rights = BTreeMap<PipelineName, BTreeSet<(GrantName, Use)>>;

/// The policy of one configuration.
#[derive(Clone, Debug)]
pub struct Policy {
    entries: Vec<PolicyEntry>,
}

impl Policy {
    /// A policy of checked entries.
    pub fn new(entries: Vec<PolicyEntry>) -> Self {
        Self { entries }
    }

    /// What it was made of.
    pub fn entries(&self) -> &[PolicyEntry] {
        &self.entries
    }

    /// Allows `caller` to use `grant` as `wanted` for `pipeline`, or says why not. Without a pipeline the
    /// caller's only one is meant.
    pub fn authorize(
        &self,
        caller: &Caller,
        pipeline: Option<&PipelineName>,
        grant: &GrantName,
        wanted: Use,
    ) -> Result<Permit, Denied> {
        let permit = self.authorize_any(caller, pipeline, grant)?;
        if self.allows(caller, &permit.pipeline, grant, wanted) {
            return Ok(Permit { allowed: wanted, ..permit });
        }
        Err(Denied::OtherUse {
            pipeline: permit.pipeline,
            grant: permit.grant,
            allowed: permit.allowed,
            wanted,
        })
    }

    /// Like [`authorize`](Self::authorize), for what any use of the grant allows.
    pub fn authorize_any(
        &self,
        caller: &Caller,
        pipeline: Option<&PipelineName>,
        grant: &GrantName,
    ) -> Result<Permit, Denied> {
        let pipeline = self.pipeline_of(caller, pipeline)?;
        let found = self
            .entries_of(caller)
            .filter(|entry| &entry.pipeline == pipeline)
            .find_map(|entry| entry.allow.get(grant).copied());
        let (pipeline, grant) = (pipeline.clone(), grant.clone());
        match found {
            Some(allowed) => Ok(Permit { caller: caller.clone(), pipeline, grant, allowed }),
            None => Err(Denied::NotItsGrant { pipeline, grant }),
        }
    }

    /// Everything that `caller` may use, pipeline by pipeline.
    pub fn rights(&self, caller: &Caller) -> Rights {
        let mut rights = Rights::new();
        for entry in self.entries_of(caller) {
            rights
                .entry(entry.pipeline.clone())
                .or_default()
                .extend(entry.allow.iter().map(|(grant, &allowed)| (grant.clone(), allowed)));
        }
        rights
    }

    /// Every grant that anybody may use, with the ways.
    pub fn grants(&self) -> BTreeSet<(GrantName, Use)> {
        let all = self.entries.iter().flat_map(|entry| &entry.allow);
        all.map(|(grant, &allowed)| (grant.clone(), allowed)).collect()
    }

    fn pipeline_of<'a>(
        &'a self,
        caller: &'a Caller,
        named: Option<&PipelineName>,
    ) -> Result<&'a PipelineName, Denied> {
        let own: BTreeSet<&PipelineName> = self.entries_of(caller).map(|entry| &entry.pipeline).collect();
        let uid = caller.uid();
        match (named, own.first()) {
            (_, None) => Err(Denied::UnknownCaller {
                uid,
                gid: caller.gid(),
                account: caller.service_account().cloned(),
            }),
            (Some(name), _) => {
                own.get(name).copied().ok_or_else(|| Denied::NotItsPipeline { uid, pipeline: name.clone() })
            }
            (None, Some(only)) if own.len() == 1 => Ok(only),
            (None, _) => {
                let pipelines = own.iter().map(ToString::to_string).collect();
                Err(Denied::AmbiguousPipeline { uid, pipelines })
            }
        }
    }

    /// Whether what was permitted still is.
    pub fn still_allows(&self, permit: &Permit) -> bool {
        self.allows(&permit.caller, &permit.pipeline, &permit.grant, permit.allowed)
    }

    fn allows(&self, caller: &Caller, pipeline: &PipelineName, grant: &GrantName, wanted: Use) -> bool {
        self.entries_of(caller)
            .any(|entry| &entry.pipeline == pipeline && entry.allow.get(grant) == Some(&wanted))
    }

    fn entries_of<'a>(&'a self, caller: &'a Caller) -> impl Iterator<Item = &'a PolicyEntry> {
        self.entries.iter().filter(|entry| entry.caller.is(caller))
    }
}

impl CallerMatch {
    /// Whether all that is said here is true of `caller`. Root and the unmapped uid are nobody unless they are named,
    /// which no configuration can do: a service account alone does not make them somebody.
    fn is(&self, caller: &Caller) -> bool {
        let uid = match self.uid {
            Some(uid) => uid == caller.uid(),
            None => self.service_account.is_some() && !matches!(caller.uid(), 0 | UNMAPPED_UID),
        };
        let account = self.service_account.as_ref();
        uid && self.gid.is_none_or(|gid| gid == caller.gid())
            && account.is_none_or(|account| caller.service_account() == Some(account))
    }
}

#[cfg(test)]
mod tests;
