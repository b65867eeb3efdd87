//! Before and after a run: the source is made anew, the target gets yesterday's row; then rows are compared as
//! multisets by the independent reader, and the ledger and the stage must agree.

use anyhow::{Context as _, Result, ensure};
use keyferry_e2e::{
    proof::oracle::{Auditor, Comparison},
    world::World,
};
use keyferry_sql::{Database, Identity, Session};

use super::{cases::CHUNKS, table};
use crate::harness::{Stage, target};

const LEDGER: &str = "RAW_ZONE.SALES.KEYFERRY_LEDGER";

/// What a comparison found, as rows.
pub(super) struct Exactness {
    pub(super) rows: u64,
    pub(super) lost: u64,
    pub(super) doubled: u64,
    found: Comparison,
}

impl Exactness {
    pub(super) fn ensure_exact(&self) -> Result<()> {
        ensure!(self.found.equal(), "source and target differ: {:#?}", self.found);
        Ok(())
    }
}

/// Forgets the last run everywhere, and fills the source.
pub(super) async fn prepare(stage: &Stage, seed: u64) -> Result<()> {
    let (world, name) = (&stage.world, target("chaos"));
    all(&world.source, ["DROP TABLE IF EXISTS dbo.[chaos]".to_owned()]).await?;
    world.fill(&[table::generate(seed)]).await?;
    let mut statements = vec![format!("DROP TABLE IF EXISTS {name}")];
    statements.extend(table::target_statements(seed, &name));
    statements.push(format!("GRANT ALL ON TABLE {name} TO ROLE LOADER"));
    if ledger_exists(world).await {
        statements.push(format!("DELETE FROM {LEDGER} WHERE CHUNK >= 0"));
    }
    all(&world.target, statements).await
}

async fn all(
    database: &std::sync::Arc<Database>,
    statements: impl IntoIterator<Item = String>,
) -> Result<()> {
    let mut session = Session::new(database, Identity { user: "sa".to_owned(), ..Identity::default() });
    for statement in statements {
        for outcome in session.execute(&statement).await {
            outcome.map_err(|error| anyhow::anyhow!("{statement}: {error}"))?;
        }
    }
    Ok(())
}

async fn ledger_exists(world: &World) -> bool {
    all(&world.target, [format!("SELECT COUNT(*) FROM {LEDGER}")]).await.is_ok()
}

/// Compares every row of the target with the generator's.
pub(super) async fn exact(stage: &Stage, seed: u64) -> Result<Exactness> {
    let mut auditor = Auditor::login(&stage.world.auditor()).await?;
    let found = auditor.compare(&table::generate(seed), &target("chaos")).await?;
    Ok(Exactness { rows: found.found, lost: found.lost, doubled: found.surplus, found })
}

/// Fails unless the target holds yesterday's row alone or today's rows exactly.
pub(super) async fn untorn(stage: &Stage, seed: u64) -> Result<()> {
    let mut auditor = Auditor::login(&stage.world.auditor()).await?;
    let before = auditor.compare(&table::before(seed), &target("chaos")).await?;
    let after = auditor.compare(&table::generate(seed), &target("chaos")).await?;
    ensure!(before.equal() || after.equal(), "the target is torn: {before:#?}\n{after:#?}");
    Ok(())
}

/// Fails unless every run in the ledger is published with every chunk once, and nothing else is left anywhere.
/// (There are two when the loader died after its publication: the next one begins anew.)
pub(super) async fn ledger(stage: &Stage) -> Result<()> {
    let mut auditor = Auditor::login(&stage.world.auditor()).await?;
    let runs = auditor
        .query(&format!(
            "SELECT RUN_ID, COUNT(*), COUNT(DISTINCT CHUNK), SUM(CASE WHEN STATE = 'published' THEN 1 ELSE 0 END), \
             SUM(ROW_COUNT) FROM {LEDGER} WHERE CHUNK >= 0 GROUP BY RUN_ID"
        ))
        .await?;
    ensure!(!runs.is_empty(), "the ledger knows of no run");
    for run in runs {
        let number = |column: usize| -> Result<u64> {
            run[column].parse().with_context(|| format!("the ledger's count {:?}", run[column]))
        };
        let (rows, chunks, published, loaded) = (number(1)?, number(2)?, number(3)?, number(4)?);
        ensure!(
            rows == chunks && published == rows && rows >= CHUNKS && loaded == table::ROWS,
            "run {}: {rows} ledger rows of {chunks} chunks, {published} published, with {loaded} rows",
            run[0]
        );
    }
    let staged = stage.world.snowflake.staged_objects();
    ensure!(staged.is_empty(), "left in the stage: {staged:?}");
    let tables = auditor
        .query("SELECT TABLE_NAME FROM RAW_ZONE.INFORMATION_SCHEMA.TABLES WHERE TABLE_SCHEMA = 'SALES'")
        .await?;
    ensure!(tables.len() == 2, "more than target and ledger is left: {tables:?}");
    Ok(())
}
