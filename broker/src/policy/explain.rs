//! `broker policy explain`: what policy decides about a caller that somebody describes, and why.
//!
//! Every decision is [`Policy::authorize`]'s own, so that the explanation cannot differ from what the broker does.

use std::{collections::BTreeSet, fmt, str::FromStr};

use serde::Serialize;

use super::{Denied, Policy};
use crate::{
    caller::Caller,
    config::{CallerMatch, Config, GrantConfig, GrantName, PipelineName, ServiceAccountName},
};

/// No process has this gid: it stands for one that was not said.
const NOT_SAID: u32 = u32::MAX;

/// A caller in the words of an operator: `uid=10002,gid=10002,service-account=NAMESPACE/NAME`. Only the uid is needed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Described {
    uid: u32,
    gid: Option<u32>,
    service_account: Option<ServiceAccountName>,
}

impl FromStr for Described {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        const SHAPE: &str = "a caller reads `uid=10002`, with `,gid=10002` and `,service-account=NAMESPACE/NAME` where they matter";
        let (mut uid, mut gid, mut service_account) = (None, None, None);
        for part in text.split(',') {
            let (key, value) = part.split_once('=').ok_or(SHAPE)?;
            let number = || value.parse::<u32>().map_err(|_| format!("`{key}` is a number; {SHAPE}"));
            let again = match key {
                "uid" => uid.replace(number()?).is_some(),
                "gid" => gid.replace(number()?).is_some(),
                "service-account" => {
                    let name = value.parse().map_err(|error| format!("{error}; {SHAPE}"))?;
                    service_account.replace(name).is_some()
                }
                _ => return Err(SHAPE.to_owned()),
            };
            if again {
                return Err(format!("`{key}` is said twice; {SHAPE}"));
            }
        }
        Ok(Self { uid: uid.ok_or(SHAPE)?, gid, service_account })
    }
}

impl Described {
    fn caller(&self) -> Caller {
        let caller = Caller::new(self.uid, self.gid.unwrap_or(NOT_SAID));
        match &self.service_account {
            Some(account) => caller.proved(account.clone()),
            None => caller,
        }
    }

    /// What an entry wants and this caller is not; nothing when the entry is about it.
    fn lacks(&self, wanted: &CallerMatch) -> Option<String> {
        if wanted.is(&self.caller()) {
            return None;
        }
        let mut lacks = Vec::new();
        if let Some(uid) = wanted.uid.filter(|uid| *uid != self.uid) {
            lacks.push(format!("uid {uid}"));
        }
        if let Some(gid) = wanted.gid.filter(|gid| Some(*gid) != self.gid) {
            lacks.push(format!("gid {gid}"));
        }
        match &wanted.service_account {
            Some(account) if Some(account) != self.service_account.as_ref() => {
                lacks.push(format!("service account {account}"));
            }
            _ => {}
        }
        // Only root and the unmapped uid fit all that is said and are still nobody.
        Some(if lacks.is_empty() { "an ordinary uid".to_owned() } else { lacks.join(" and ") })
    }
}

impl fmt::Display for Described {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "uid {}", self.uid)?;
        if let Some(gid) = self.gid {
            write!(f, ", gid {gid}")?;
        }
        self.service_account.as_ref().map_or(Ok(()), |account| write!(f, ", service account {account}"))
    }
}

/// What is asked about.
#[derive(Clone, Debug)]
pub struct Question {
    /// Who would call.
    pub caller: Described,
    /// For which pipeline; without it, for each of its own.
    pub pipeline: Option<PipelineName>,
    /// Which grant; without it, every grant that the caller may use.
    pub grant: Option<GrantName>,
}

/// What policy decides, and what it looked at.
#[derive(Debug, Serialize)]
pub struct Explanation {
    /// Who would call.
    pub caller: String,
    /// Whether anything of what was asked is allowed.
    pub allowed: bool,
    /// Each decision.
    pub decisions: Vec<Decision>,
    /// Each entry of policy, in the order of the file.
    pub entries: Vec<Considered>,
}

/// One decision.
#[derive(Debug, Serialize)]
pub struct Decision {
    /// For which pipeline.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pipeline: Option<String>,
    /// Which grant.
    pub grant: String,
    /// In which way; none when the grant does not exist.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub r#use: Option<&'static str>,
    /// What was decided.
    pub allowed: bool,
    /// What the grant gives, or why not: the words that the caller would get.
    pub because: String,
}

/// One entry of policy.
#[derive(Debug, Serialize)]
pub struct Considered {
    /// Its number in the file, from 1.
    pub entry: usize,
    /// The pipeline that it is about.
    pub pipeline: String,
    /// What it wants of a caller that this one is not; none when it is about this caller.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wants: Option<String>,
}

/// Answers a question with the policy of a configuration.
pub fn explain(config: &Config, question: &Question) -> Explanation {
    let policy = Policy::new(config.policy.clone());
    let caller = question.caller.caller();
    let own: BTreeSet<PipelineName> = policy.rights(&caller).into_keys().collect();
    let pipelines: Vec<Option<&PipelineName>> = match &question.pipeline {
        Some(named) => vec![Some(named)],
        None if own.is_empty() => vec![None],
        None => own.iter().map(Some).collect(),
    };
    let mut decisions = Vec::new();
    for pipeline in pipelines {
        match &question.grant {
            Some(grant) if !config.grants.contains_key(grant) => {
                decisions.push(no_such(config, pipeline, grant));
            }
            Some(grant) => decisions.extend(decide(config, &policy, &caller, pipeline, grant)),
            None => decisions.extend(
                config
                    .grants
                    .keys()
                    .flat_map(|grant| decide(config, &policy, &caller, pipeline, grant))
                    .filter(|decision| decision.allowed),
            ),
        }
    }
    let entries = config.policy.iter().enumerate().map(|(index, entry)| Considered {
        entry: index + 1,
        pipeline: entry.pipeline.to_string(),
        wants: question.caller.lacks(&entry.caller),
    });
    Explanation {
        caller: question.caller.to_string(),
        allowed: decisions.iter().any(|decision| decision.allowed),
        entries: entries.collect(),
        decisions,
    }
}

/// One decision for each way in which the grant can be used at all.
fn decide(
    config: &Config,
    policy: &Policy,
    caller: &Caller,
    pipeline: Option<&PipelineName>,
    grant: &GrantName,
) -> Vec<Decision> {
    let Some(made_of) = config.grants.get(grant) else { return Vec::new() };
    let ways = made_of.uses().iter().map(|&wanted| {
        let decided = policy.authorize(caller, pipeline, grant, wanted);
        Decision {
            pipeline: pipeline.map(ToString::to_string),
            grant: grant.to_string(),
            r#use: Some(wanted.as_str()),
            allowed: decided.is_ok(),
            because: match decided {
                Ok(_) => gives(made_of),
                // The caller's own words would name a gid that nobody said.
                Err(Denied::UnknownCaller { .. }) => "no entry of policy is about this caller".to_owned(),
                Err(denied) => denied.to_string(),
            },
        }
    });
    ways.collect()
}

fn no_such(config: &Config, pipeline: Option<&PipelineName>, grant: &GrantName) -> Decision {
    let known: Vec<String> = config.grants.keys().map(|name| format!("`{name}`")).collect();
    Decision {
        pipeline: pipeline.map(ToString::to_string),
        grant: grant.to_string(),
        r#use: None,
        allowed: false,
        because: format!("no grant has this name; there are {}", known.join(", ")),
    }
}

fn gives(grant: &GrantConfig) -> String {
    match grant {
        GrantConfig::Kerberos(kerberos) => format!("tickets for {}", kerberos.spn.as_str()),
        GrantConfig::Snowflake(snowflake) => {
            let names = |all: &[crate::config::SnowflakeName]| {
                all.iter().map(ToString::to_string).collect::<Vec<_>>().join(" or ")
            };
            format!(
                "account {}, role {}, warehouse {}",
                snowflake.account.as_str(),
                names(&snowflake.roles),
                names(&snowflake.warehouses)
            )
        }
    }
}

/// For people.
impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}\n", self.caller)?;
        for decision in &self.decisions {
            let mark = if decision.allowed { "allowed" } else { "denied" };
            write!(f, "{mark:<8} {}", decision.grant)?;
            if let Some(wanted) = decision.r#use {
                write!(f, " as {wanted}")?;
            }
            if let Some(pipeline) = &decision.pipeline {
                write!(f, " for pipeline {pipeline}")?;
            }
            writeln!(f, ": {}", decision.because)?;
        }
        if self.decisions.is_empty() {
            writeln!(f, "denied   everything: no entry of policy allows this caller anything here")?;
        }
        writeln!(f, "\nentries of policy:")?;
        for entry in &self.entries {
            let (number, pipeline) = (entry.entry, &entry.pipeline);
            match &entry.wants {
                None => writeln!(f, "  {number:<3} pipeline {pipeline}: is about this caller")?,
                Some(wants) => writeln!(f, "  {number:<3} pipeline {pipeline}: is not; it wants {wants}")?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
