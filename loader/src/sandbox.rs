//! What the loader gives up before it asks for anything, and all that it can still reach.

use std::collections::BTreeSet;

use keyferry_sandbox::{Process, Profile, Reach, Report, Sandbox, SandboxError, may_connect, places};

use crate::config::Pipeline;

/// The system calls that the loader makes.
const PROFILE: &str = include_str!("../../deploy/seccomp/loader.json");

/// What TDS listens on when the file does not say.
const SQL_SERVER: u16 = 1433;
/// Snowflake and its stages.
const HTTPS: u16 = 443;
/// Name servers, for answers that are too large for UDP.
const DOMAIN: u16 = 53;

/// Refuses what would make the sandbox worthless, and takes the steps that need no path. What is open by then is closed.
pub fn begin(pipeline: &Pipeline) -> Result<Sandbox, SandboxError> {
    let neighbours = BTreeSet::from([pipeline.broker.server_uid]);
    Sandbox::begin(pipeline.sandbox, &Process { neighbours, keeps_secrets: false })
}

/// The rest: from here on only what the pipeline needs can be reached. Call it before the process has a second thread.
pub fn confine(sandbox: Sandbox, pipeline: &Pipeline) -> Result<Report, SandboxError> {
    sandbox.confine(&reach(pipeline), &Profile::parse(PROFILE)?)
}

/// All that a run of this pipeline needs. The socket needs no rule: Landlock does not judge who connects to one.
pub fn reach(pipeline: &Pipeline) -> Reach {
    let target = &pipeline.target;
    let mut reach = Reach { read: places::of_the_system().collect(), ..Reach::default() };
    reach.read.extend(pipeline.source.ca_file.iter().chain(&target.ca_file).cloned());
    // Renewed while the loader runs: the kubelet puts another file there.
    reach.read.extend(pipeline.broker.service_account_token.iter().map(|file| places::replaceable(file)));
    reach.write.insert(pipeline.limits.spool_dir.clone());
    reach.connect.extend([DOMAIN, HTTPS, pipeline.source.port.unwrap_or(SQL_SERVER)]);
    reach.connect.extend(
        target.stage_endpoint_allow.iter().filter_map(|place| place.rsplit_once(':')?.1.parse::<u16>().ok()),
    );
    reach.connect.extend(&pipeline.connect_ports);
    reach
}

/// What to do about a port that is known only now, from the broker, and that the sandbox closed; nothing when it is open.
pub(crate) fn closed(port: u16, whose: &str) -> Option<String> {
    (!may_connect(port)).then(|| {
        format!(
            "the broker's grant names port {port} for {whose}, to which the sandbox lets nobody connect; list it under \
             `sandbox.connect_ports` in the pipeline file"
        )
    })
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    const FILE: &str = "pipeline: sales
broker: { socket: /run/keyferry/broker.sock, server_uid: 10001 }
source: { database: SalesDB, grant: sales-sql, ca_file: ca.pem }
target: { grant: analytics, database: RAW, schema: SALES, stage_endpoint_allow: [\"stage.example.com:9443\"] }
limits: { spool_dir: spool }
sandbox: { connect_ports: [3128] }
tables: [{ source: dbo.Orders }]
";

    #[test]
    fn the_profile_of_system_calls_is_well_formed() {
        Profile::parse(PROFILE).unwrap();
    }

    #[test]
    fn the_file_says_which_ports_and_paths_are_open() {
        let pipeline = Pipeline::parse(Path::new("/etc/keyferry/p.yaml"), FILE).unwrap();
        let found = reach(&pipeline);
        assert_eq!(found.connect, BTreeSet::from([53, 443, 1433, 3128, 9443]));
        assert_eq!(found.bind, BTreeSet::new());
        assert_eq!(found.write, BTreeSet::from(["/etc/keyferry/spool".into()]));
        assert!(found.read.contains(Path::new("/etc/keyferry/ca.pem")));
        let other = FILE.replace("grant: sales-sql", "grant: sales-sql, port: 14330");
        let pipeline = Pipeline::parse(Path::new("p.yaml"), &other).unwrap();
        assert!(reach(&pipeline).connect.contains(&14_330) && !reach(&pipeline).connect.contains(&1433));
    }
}
