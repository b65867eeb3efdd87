//! A spool on a file system of its own, which is small.

use std::{path::PathBuf, time::Duration};

use anyhow::{Context as _, Result, ensure};
use keyferry_e2e::{
    sample::{Cell, Table},
    world::PipelineSetup,
};
use keyferry_stand_in_snowflake::{Effect, Fault, Trigger};
use nix::mount::{MntFlags, MsFlags, mount, umount2};

use crate::harness::{Stage, expect, ordinary};

/// A mounted tmpfs; it goes with this value.
struct Small(PathBuf);

impl Small {
    /// The loader's own spool folder, with room for so much.
    fn mount(stage: &Stage, kib: u64) -> Result<Self> {
        let loader = stage.world.users.loader;
        let path = loader.folder(&stage.world.dir.join("loader").join("spool"), 0o700)?;
        let options = format!("size={kib}k,mode=0700,uid={},gid={}", loader.uid, loader.gid);
        mount(Some("tmpfs"), &path, Some("tmpfs"), MsFlags::empty(), Some(options.as_str()))
            .with_context(|| format!("mount a tmpfs at {}", path.display()))?;
        Ok(Self(path))
    }

    fn free(&self) -> Result<u64> {
        let found = nix::sys::statvfs::statvfs(&self.0)?;
        Ok(found.blocks_available() * found.fragment_size())
    }

    fn expect_empty(&self, kib: u64) -> Result<()> {
        let names = std::fs::read_dir(&self.0)?.count();
        ensure!(names == 0, "{names} names were left in the spool");
        ensure!(self.free()? == kib * 1024, "something without a name still takes space");
        Ok(())
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let _ = umount2(&self.0, MntFlags::MNT_DETACH);
    }
}

/// Rows of noise, so that their files are as large as they are.
fn noise(rows: usize, bytes: usize) -> Table {
    let mut random = fastrand::Rng::with_seed(9);
    let mut row = |id: usize| {
        let mut value = vec![0; bytes];
        random.fill(&mut value);
        vec![Cell::Int(id as i64), Cell::Bytes(value)]
    };
    Table {
        name: "noise",
        ddl: "CREATE TABLE dbo.[noise] ([id] int NOT NULL, [body] varbinary(4000) NOT NULL, CONSTRAINT [PK_noise] PRIMARY KEY CLUSTERED ([id]))"
            .to_owned(),
        columns: vec!["id".to_owned(), "body".to_owned()],
        rows: (0..rows).map(&mut row).collect(),
    }
}

fn pipeline(chunk_rows: usize) -> PipelineSetup {
    let mut setup = PipelineSetup::of(&["noise"]);
    setup.limits = format!("connections: 4, committers: 2, chunk_rows: {chunk_rows}");
    setup
}

/// Each of twelve files takes 2 MiB; the spool has room for one and a half. The uploads are slow.
pub(super) async fn back_pressure() -> Result<()> {
    const KIB: u64 = 3 << 10;
    let stage = Stage::new().await?;
    let table = noise(6144, 4000);
    stage.world.fill(std::slice::from_ref(&table)).await?;
    let small = Small::mount(&stage, KIB)?;
    let broker = stage.world.start_broker(&ordinary()).await?;
    stage.world.snowflake.faults.arm(Fault {
        on: Trigger::Object { method: "PUT".to_owned(), key: String::new() },
        effect: Effect::Delay(Duration::from_millis(300)),
        skip: 0,
        times: 1000,
    });
    let ended = stage.loader_with("run", &pipeline(512), &[("RUST_LOG", "warn".to_owned())]).await?;
    expect(&ended, 0, &["NOISE", "the spool directory is full; waiting for uploads"])?;
    stage.expect_exact(&[table]).await?;
    small.expect_empty(KIB)?;
    drop(small);
    stage.end(Some(broker)).await
}

/// One file of 8 MiB on a disk of 1 MiB: nothing to wait for.
pub(super) async fn too_small() -> Result<()> {
    const KIB: u64 = 1 << 10;
    let stage = Stage::new().await?;
    stage.world.fill(&[noise(2048, 4000)]).await?;
    let small = Small::mount(&stage, KIB)?;
    let broker = stage.world.start_broker(&ordinary()).await?;
    let ended = stage.loader("run", &pipeline(100_000)).await?;
    let folder = small.0.display().to_string();
    expect(&ended, 75, &["the spool directory", &folder, "is full", "are free", "limits.spool_dir"])?;
    small.expect_empty(KIB)?;
    let published = stage.ask("SELECT COUNT(*) FROM RAW_ZONE.SALES.NOISE").await?;
    ensure!(published[0][0] == "0", "something was published: {published:?}");
    drop(small);
    stage.end(Some(broker)).await
}
