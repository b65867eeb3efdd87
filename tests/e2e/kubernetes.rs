//! Callers that prove a service account, and a policy that is taken again while the broker runs.

use std::{
    fs,
    path::PathBuf,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context as _, Result, ensure};
use jsonwebtoken::{Algorithm, EncodingKey, Header, jwk::Jwk};
use keyferry_e2e::{
    process::{Ended, Process, User},
    sample::tpch,
    world::{BrokerSetup, PipelineSetup, World},
};
use libtest_mimic::Trial;
use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::{
    harness::{PATIENCE, Stage, expect, ordinary, root_test},
    live::audit,
};

const ISSUER: &str = "https://kubernetes.default.svc.cluster.local";
const POD: &str = "6f9a1d62-0000-4000-8000-000000000001";

pub(crate) fn trials(trials: &mut Vec<Trial>) {
    trials.push(root_test("a_service_account_gets_what_policy_names_and_a_stolen_token_does_not", accounts));
    trials.push(root_test("the_loader_moves_a_table_under_its_service_account", loader));
    trials.push(root_test("policy_is_taken_again_at_sighup_whole_or_not_at_all", reloaded));
}

/// A key of a cluster.
struct ClusterKey {
    id: String,
    key: EncodingKey,
}

impl ClusterKey {
    fn new(id: &str) -> Result<Self> {
        let key = rcgen::KeyPair::generate()?;
        Ok(Self { id: id.to_owned(), key: EncodingKey::from_ec_der(&key.serialize_der()) })
    }

    fn public(&self) -> Result<Value> {
        let mut jwk = Jwk::from_encoding_key(&self.key, Algorithm::ES256)?;
        jwk.common.key_id = Some(self.id.clone());
        Ok(serde_json::to_value(jwk)?)
    }

    /// A projected token as the API server makes it.
    fn token(&self, account: &str, pod: &str) -> Result<String> {
        let (namespace, name) = account.split_once('/').context("namespace/name")?;
        let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
        let claims = json!({
            "iss": ISSUER, "aud": ["keyferry"], "iat": now, "nbf": now, "exp": now + 600,
            "sub": format!("system:serviceaccount:{namespace}:{name}"),
            "kubernetes.io": {
                "namespace": namespace,
                "pod": { "name": "sales-0", "uid": pod },
                "serviceaccount": { "name": name, "uid": "1" }
            }
        });
        let header = Header { kid: Some(self.id.clone()), ..Header::new(Algorithm::ES256) };
        Ok(jsonwebtoken::encode(&header, &claims, &self.key)?)
    }
}

/// What a pod has mounted, and the broker's section that names it.
struct Cluster<'a> {
    world: &'a World,
}

impl Cluster<'_> {
    fn keys(&self, keys: &[&ClusterKey]) -> Result<()> {
        let keys = keys.iter().map(|key| key.public()).collect::<Result<Vec<_>>>()?;
        let folder = self.world.dir.join("broker");
        self.world.users.broker.file(
            &folder.join("keys.json"),
            0o400,
            json!({ "keys": keys }).to_string(),
        )?;
        self.world.users.broker.file(&folder.join("pod-uid"), 0o400, POD)?;
        Ok(())
    }

    fn mount(&self, user: User, token: &str) -> Result<PathBuf> {
        let folder = user.folder(&self.world.dir.join(format!("token-of-{}", user.uid)), 0o700)?;
        user.file(&folder.join("token"), 0o400, token)
    }

    fn section() -> String {
        format!("service_accounts: {{ issuer: \"{ISSUER}\", keys_file: keys.json, pod_uid_file: pod-uid }}\n")
    }

    /// Runs `brokerctl` with a token's file.
    async fn call(&self, user: User, token: Option<&PathBuf>, arguments: &[&str]) -> Result<Ended> {
        self.start(user, token, arguments)?.wait(PATIENCE).await
    }

    fn start(&self, user: User, token: Option<&PathBuf>, arguments: &[&str]) -> Result<Process> {
        let mut environment = vec![
            ("KEYFERRY_SOCKET", self.world.socket().display().to_string()),
            ("KEYFERRY_SERVER_UID", self.world.users.broker.uid.to_string()),
        ];
        environment.extend(token.map(|path| ("KEYFERRY_SERVICE_ACCOUNT_TOKEN", path.display().to_string())));
        let name = format!("brokerctl-{}", uuid::Uuid::new_v4().simple());
        self.world.spawn_brokerctl(&name, arguments, &environment, user)
    }
}

fn workload(world: &World) -> User {
    User { uid: 10_005, ..world.users.loader }
}

async fn accounts() -> Result<()> {
    let stage = Stage::new().await?;
    let cluster = Cluster { world: &stage.world };
    let (first, second) = (ClusterKey::new("first")?, ClusterKey::new("second")?);
    stage.world.users.broker.folder(&stage.world.dir.join("broker"), 0o700)?;
    cluster.keys(&[&first])?;
    let policy =
        "{ caller: { service_account: analytics/dbt }, pipeline: reports, allow: { analytics: token } }";
    let setup = BrokerSetup { policy: vec![policy.to_owned()], extra: Cluster::section(), ..ordinary() };
    let broker = stage.world.start_broker(&setup).await?;
    let user = workload(&stage.world);

    let own = cluster.mount(user, &first.token("analytics/dbt", POD)?)?;
    let token = cluster.call(user, Some(&own), &["token", "analytics"]).await?;
    expect(&token, 0, &[])?;
    let who = cluster.call(user, Some(&own), &["whoami"]).await?;
    expect(&who, 0, &["service account analytics/dbt", "reports"])?;
    expect(&cluster.call(user, None, &["token", "analytics"]).await?, 77, &["B201"])?;
    for (what, stolen) in [
        ("another pod", first.token("analytics/dbt", "6f9a1d62-0000-4000-8000-000000000002")?),
        ("a key that is not the cluster's", second.token("analytics/dbt", POD)?),
    ] {
        let path = cluster.mount(user, &stolen)?;
        let refused = cluster.call(user, Some(&path), &["token", "analytics"]).await?;
        expect(&refused, 77, &["B214"]).context(what)?;
        ensure!(!refused.output().contains(&stolen), "{what}: the token is printed");
    }
    let path = cluster.mount(user, &first.token("analytics/other", POD)?)?;
    expect(&cluster.call(user, Some(&path), &["token", "analytics"]).await?, 77, &["B201"])?;

    // The cluster changes its key; the broker is not touched.
    cluster.keys(&[&first, &second])?;
    tokio::time::sleep(Duration::from_millis(1100)).await;
    for key in [&second, &first] {
        let path = cluster.mount(user, &key.token("analytics/dbt", POD)?)?;
        expect(&cluster.call(user, Some(&path), &["token", "analytics"]).await?, 0, &[])?;
    }
    let lines = audit(&stage.world)?;
    let proved = lines.iter().filter(|line| line["service_account"] == "analytics/dbt").count();
    ensure!(proved >= 4, "{proved} lines of the audit log name the account");
    ensure!(
        lines.iter().any(|line| line["event"] == "ClusterKeysTaken"),
        "the new keys are not in the audit log"
    );
    stage.end(Some(broker)).await
}

async fn loader() -> Result<()> {
    let stage = Stage::new().await?;
    let cluster = Cluster { world: &stage.world };
    let key = ClusterKey::new("one")?;
    stage.world.users.broker.folder(&stage.world.dir.join("broker"), 0o700)?;
    cluster.keys(&[&key])?;
    let user = stage.world.users.loader;
    // The ordinary entry is about another uid; the loader's own needs its uid and its account.
    let policy = format!(
        "{{ caller: {{ uid: {}, service_account: data/sales }}, pipeline: sales-nightly, allow: {{ sales-sql: relay, analytics: session }} }}",
        user.uid
    );
    let setup = BrokerSetup {
        caller_uid: Some(10_099),
        policy: vec![policy],
        extra: Cluster::section(),
        ..ordinary()
    };
    let broker = stage.world.start_broker(&setup).await?;
    let tables: Vec<_> = tpch::tables(0.001).into_iter().filter(|table| table.name == "region").collect();
    stage.world.fill(&tables).await?;
    let without = stage.loader("run", &PipelineSetup::of(&["region"])).await?;
    expect(&without, 77, &["policy names no pipeline"])?;
    let path = cluster.mount(user, &key.token("data/sales", POD)?)?;
    let broker_keys = format!(", service_account_token: {}", path.display());
    let pipeline = PipelineSetup { broker: broker_keys, ..PipelineSetup::of(&["region"]) };
    expect(&stage.loader("run", &pipeline).await?, 0, &[])?;
    stage.expect_exact(&tables).await?;
    stage.end(Some(broker)).await
}

async fn reloaded() -> Result<()> {
    let stage = Stage::new().await?;
    let world = &stage.world;
    let cluster = Cluster { world };
    let user = workload(world);
    let line =
        format!("{{ caller: {{ uid: {} }}, pipeline: reports, allow: {{ analytics: token }} }}", user.uid);
    let named = BrokerSetup { policy: vec![line.clone()], ..ordinary() };
    let broker = world.start_broker(&ordinary()).await?;
    let ask = || cluster.call(user, None, &["token", "analytics"]);
    expect(&ask().await?, 77, &["B201"])?;

    let taken = |kind: &'static str, count: usize| async move {
        for _ in 0..200 {
            if audit(world)?.iter().filter(|line| line["event"] == kind).count() >= count {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        anyhow::bail!(
            "no {kind} in the audit log:\n{}",
            fs::read_to_string(world.dir.join("broker/audit.log"))?
        )
    };
    named.write(world)?;
    broker.signal(Signal::SIGHUP)?;
    taken("PolicyTaken", 1).await?;
    expect(&ask().await?, 0, &[])?;

    // Neither garbage nor a file that changes more than the policy is taken.
    let file = world.dir.join("broker").join("broker.yaml");
    let good = fs::read_to_string(&file)?;
    for (count, bad) in
        [(1, "policy: [".to_owned()), (2, good.replace("limits:", "#").replace("audit.log", "other.log"))]
    {
        world.users.broker.file(&file, 0o400, bad)?;
        broker.signal(Signal::SIGHUP)?;
        taken("PolicyRefused", count).await?;
        expect(&ask().await?, 0, &[]).context("the policy before it stays in force")?;
    }

    // What is withdrawn ends, a watch that is open too.
    let watched = user.folder(&world.dir.join("workload"), 0o700)?.join("token");
    let watched = watched.display().to_string();
    let watch = cluster.start(user, None, &["watch", "analytics", "--file", &watched])?;
    for _ in 0..200 {
        if fs::metadata(&watched).is_ok() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    ordinary().write(world)?;
    broker.signal(Signal::SIGHUP)?;
    taken("PolicyTaken", 2).await?;
    expect(&ask().await?, 77, &["B201"])?;
    expect(&watch.wait(PATIENCE).await?, 77, &["B215"])?;
    stage.end(Some(broker)).await
}
