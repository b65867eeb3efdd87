//! The two configuration files as a user would write them, with the switches that tests turn.

use std::{fmt::Write as _, path::PathBuf};

use anyhow::Result;

use super::{ACCOUNT, SOURCE_DATABASE, TARGET_DATABASE, TARGET_SCHEMA, World};

/// As one user, which is all that there is without root, the programs would refuse to start.
fn sandbox(world: &World) -> &'static str {
    if world.users.separate { "mode: enforce" } else { "mode: report" }
}

/// What differs from the ordinary `broker.yaml`.
#[derive(Clone, Debug, Default)]
pub struct BrokerSetup {
    /// Another secret_id.
    pub secret_id: Option<String>,
    /// Further grants, as indented lines.
    pub grants: String,
    /// Further policy lines, each a YAML flow mapping.
    pub policy: Vec<String>,
    /// The uid that policy names instead of the loader's.
    pub caller_uid: Option<u32>,
    /// Another principal name for the SQL Server service.
    pub spn: Option<String>,
    /// The file holds a token that wraps the secret_id.
    pub wrapped: bool,
    /// Another way to Vault.
    pub vault: Option<String>,
    /// Another way to Snowflake, which the loader is told as well.
    pub snowflake: Option<String>,
    /// Another section `sandbox`.
    pub sandbox: Option<String>,
    /// Further text at the end of the file.
    pub extra: String,
}

impl BrokerSetup {
    /// Writes `broker.yaml` with the files that it names, and returns its path.
    pub fn write(&self, world: &World) -> Result<PathBuf> {
        let owner = world.users.broker;
        let folder = world.dir.join("broker");
        owner.file(&folder.join("role-id"), 0o400, &world.secrets.role_id)?;
        owner.file(
            &folder.join("secret-id"),
            0o400,
            self.secret_id.as_ref().unwrap_or(&world.secrets.secret_id),
        )?;
        owner.file(&folder.join("broker.yaml"), 0o400, self.yaml(world))
    }

    /// The file's text.
    pub fn yaml(&self, world: &World) -> String {
        let ca = world.ca_file().display().to_string();
        let port = world.sqlserver.addr().port();
        let spn = self.spn.clone().unwrap_or_else(|| format!("MSSQLSvc/localhost:{port}"));
        let uid = self.caller_uid.unwrap_or(world.users.loader.uid);
        let mut policy = format!(
            "  - {{ caller: {{ uid: {uid} }}, pipeline: sales-nightly, allow: {{ sales-sql: relay, analytics: session }} }}\n"
        );
        for line in &self.policy {
            let _ = writeln!(policy, "  - {line}");
        }
        format!(
            "socket: {{ path: {socket}, group: \"{gid}\" }}\n\
             vault:\n  address: {vault}\n  ca_file: {ca}\n  auth: {{ approle: {{ role_id_file: role-id, secret_id_file: secret-id, wrapped: {wrapped} }} }}\n  \
             secret: {{ mount: secret, path: pipelines/mssql_to_snowflake }}\n\
             kerberos: {{ principal_key: mssql_spn, keytab_key: keytab_base64, tmpfs: {private}, krb5_conf: {krb5} }}\n\
             grants:\n  sales-sql: {{ kerberos: {{ spn: \"{spn}\", host_key: mssql_server_fqdn }} }}\n  \
             analytics:\n    snowflake:\n      account: {ACCOUNT}\n      url: {snowflake}\n      ca_file: {ca}\n      user_key: sf_user\n      \
             roles: [LOADER, READER]\n      warehouses: [LOAD_WH]\n      login:\n        entra:\n          tenant_key: tenant_id\n          \
             client_id_key: client_id\n          client_secret_key: client_secret\n          scope: \"api://snowflake/.default\"\n          \
             authority: {entra}\n          ca_file: {ca}\n{grants}\
             policy:\n{policy}\
             audit: {{ path: audit.log }}\n\
             admin: {{ listen: \"127.0.0.1:0\" }}\n{sandbox}{extra}",
            socket = world.socket().display(),
            gid = world.users.loader.gid,
            vault = self.vault.clone().unwrap_or_else(|| world.vault.url()),
            wrapped = self.wrapped,
            private = world.private().display(),
            krb5 = world.dir.join("krb5.conf").display(),
            snowflake = self.snowflake.clone().unwrap_or_else(|| world.snowflake.url.clone()),
            entra = world.entra.url(),
            grants = self.grants,
            sandbox = self.sandbox.clone().unwrap_or_else(|| format!("sandbox: {{ {} }}\n", sandbox(world))),
            extra = self.extra,
        )
    }
}

/// What differs from the ordinary `pipeline.yaml`.
#[derive(Clone, Debug)]
pub struct PipelineSetup {
    /// Source tables in schema `dbo`; each goes to its upper-case name.
    pub tables: Vec<String>,
    /// Lines under `limits`, without the spool folder.
    pub limits: String,
    /// The pipeline's name.
    pub pipeline: String,
    /// The role.
    pub role: String,
    /// The socket, when not the world's.
    pub socket: Option<PathBuf>,
    /// `source.encrypt`.
    pub encrypt: String,
    /// Further keys of `source`.
    pub source: String,
    /// Further keys of `broker`.
    pub broker: String,
    /// Seconds for which work that fails in passing is tried again.
    pub patience: u64,
    /// Ports that the sandbox leaves open, beside those of the stand-ins.
    pub connect_ports: Vec<u16>,
    /// Another section `sandbox`.
    pub sandbox: Option<String>,
}

impl Default for PipelineSetup {
    fn default() -> Self {
        Self {
            tables: Vec::new(),
            limits: "connections: 4, committers: 2, chunk_rows: 5000".to_owned(),
            pipeline: "sales-nightly".to_owned(),
            role: "LOADER".to_owned(),
            socket: None,
            encrypt: "required".to_owned(),
            source: String::new(),
            broker: String::new(),
            patience: 5,
            connect_ports: Vec::new(),
            sandbox: None,
        }
    }
}

impl PipelineSetup {
    /// The ordinary pipeline over these tables.
    pub fn of(tables: &[&str]) -> Self {
        Self { tables: tables.iter().map(ToString::to_string).collect(), ..Self::default() }
    }

    /// Writes `NAME.yaml` in the loader's folder and returns its path.
    pub fn write(&self, world: &World, name: &str) -> Result<PathBuf> {
        let folder = world.dir.join("loader");
        world.users.loader.folder(&folder.join("spool"), 0o700)?;
        world.users.loader.file(&folder.join(format!("{name}.yaml")), 0o400, self.yaml(world))
    }

    /// The section `sandbox` with these keys, and the stand-ins' ports, which are not the usual ones.
    pub fn sandbox_section(&self, world: &World, keys: &str) -> String {
        let snowflake = world.snowflake.url.rsplit(':').next().unwrap_or_default();
        let mut ports = format!("{}, {snowflake}", world.sqlserver.addr().port());
        for port in &self.connect_ports {
            let _ = write!(ports, ", {port}");
        }
        format!("sandbox: {{ {keys}, connect_ports: [{ports}] }}\n")
    }

    /// The file's text.
    pub fn yaml(&self, world: &World) -> String {
        let ca = world.ca_file().display().to_string();
        let socket = self.socket.clone().unwrap_or_else(|| world.socket());
        let mut tables = String::new();
        for table in &self.tables {
            let _ = writeln!(
                tables,
                "  - {{ source: dbo.{table}, target: {}, mode: full }}",
                table.to_uppercase()
            );
        }
        format!(
            "pipeline: {pipeline}\n\
             broker: {{ socket: {socket}, server_uid: {uid}{broker} }}\n\
             source: {{ database: {SOURCE_DATABASE}, grant: sales-sql, encrypt: {encrypt}, ca_file: {ca}{source} }}\n\
             target:\n  grant: analytics\n  role: {role}\n  warehouse: LOAD_WH\n  database: {TARGET_DATABASE}\n  schema: {TARGET_SCHEMA}\n  \
             ca_file: {ca}\n  stage_endpoint_allow: [\"{objects}\"]\n\
             limits: {{ {limits}, patience_seconds: {patience}, spool_dir: {spool} }}\n\
             {sandbox}\
             tables:\n{tables}",
            pipeline = self.pipeline,
            socket = socket.display(),
            uid = world.users.broker.uid,
            encrypt = self.encrypt,
            source = self.source,
            broker = self.broker,
            role = self.role,
            objects = world.snowflake.objects_addr,
            limits = self.limits,
            patience = self.patience,
            sandbox = self.sandbox.clone().unwrap_or_else(|| self.sandbox_section(world, sandbox(world))),
            spool = world.dir.join("loader").join("spool").display(),
        )
    }
}
