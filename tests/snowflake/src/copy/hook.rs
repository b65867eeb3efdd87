//! The evaluator's door to staged files: `SELECT $1:"c"::T FROM @stage`.

use std::{
    collections::HashSet,
    sync::{
        Arc, Mutex, Weak,
        atomic::{AtomicU64, Ordering},
    },
};

use bytes::Bytes;
use keyferry_sql::{
    Identity, SqlError, StageColumn, StageReader, StageRequest, StageRow, StageRows, Variant,
};

use super::{
    StagedFile,
    format::{Format, ParquetFormat, read},
    options::{Options, Setting},
    parquet::Records,
    pattern,
};
use crate::{crypt, reply::Refusal, server::Shared, session::lock, stages::qualify};

/// The name under which a COPY's transform selects from the files of its plan.
pub(super) const PLANNED: &str = "FILES_OF_THIS_COPY";

/// The files of one COPY and how far their reading is.
#[derive(Clone)]
pub(super) struct Plan {
    /// The stage's folder.
    pub(super) stage: String,
    pub(super) files: Vec<StagedFile>,
    pub(super) format: ParquetFormat,
    /// Rows read of each file.
    pub(super) read: Arc<[AtomicU64]>,
    /// Rows to leave out: file, row counted from 1.
    pub(super) skip: HashSet<(usize, u64)>,
}

impl Plan {
    pub(super) fn new(stage: &str, files: &[StagedFile], format: ParquetFormat) -> Self {
        let read = files.iter().map(|_| AtomicU64::new(0)).collect();
        Self { stage: stage.to_owned(), files: files.to_vec(), format, read, skip: HashSet::new() }
    }

    /// Rows read of each file.
    pub(super) fn counts(&self) -> Vec<u64> {
        self.read.iter().map(|count| count.load(Ordering::Relaxed)).collect()
    }
}

/// Opens staged files for one session.
pub(crate) struct StageHook {
    server: Weak<Shared>,
    identity: Mutex<Identity>,
    plan: Mutex<Option<Plan>>,
}

impl StageHook {
    pub(crate) fn new(server: &Arc<Shared>) -> Self {
        Self { server: Arc::downgrade(server), identity: Mutex::default(), plan: Mutex::default() }
    }

    /// Whose rights decide which stages may be read.
    pub(crate) fn set_identity(&self, identity: &Identity) {
        lock(&self.identity).clone_from(identity);
    }

    /// Whose rights those are.
    pub(crate) fn identity(&self) -> Identity {
        lock(&self.identity).clone()
    }

    pub(super) fn set_plan(&self, plan: Option<Plan>) {
        *lock(&self.plan) = plan;
    }

    /// The records of a plan, file after file; each is decrypted when its turn comes.
    pub(super) fn records(&self, plan: Plan) -> Result<StageRows, SqlError> {
        let server =
            self.server.upgrade().ok_or_else(|| SqlError::snowflake(300_002, "XX000", "shutting down"))?;
        Ok(Box::new(Reading { server, plan, file: 0, row: 0, records: None, failed: false }))
    }

    fn files(&self, request: &StageRequest) -> Result<Plan, Refusal> {
        let server = self
            .server
            .upgrade()
            .ok_or_else(|| Refusal::new("300002", "XX000", "The server is shutting down."))?;
        let mut identity = lock(&self.identity).clone();
        identity.database = Some(request.database.clone());
        identity.schema = Some(request.schema.clone());
        let location = server.stages.resolve(&request.location, &identity, &server.config.admin_roles)?;
        let option =
            |name: &str| request.options.iter().find(|(known, _)| known == name).map(|(_, value)| value);
        let options = match option("FILE_FORMAT") {
            Some(name) => server.stages.format(&qualify(name, &identity)?)?,
            None => location.stage.format.clone(),
        };
        let own = Options(
            request
                .options
                .iter()
                .filter(|(name, _)| !matches!(name.as_str(), "FILE_FORMAT" | "PATTERN"))
                .map(|(name, value)| (name.clone(), Setting::Plain(value.clone())))
                .collect(),
        );
        let Format::Parquet(format) = read(&own.over(&options))? else {
            return Err(Refusal::new(
                "002099",
                "0A000",
                "SELECT from staged files is carried for TYPE = PARQUET.",
            ));
        };
        let filter = option("PATTERN").map(|text| pattern(text)).transpose()?;
        let files: Vec<StagedFile> = location
            .files(&server.objects)
            .into_iter()
            .filter(|(name, _, _)| filter.as_ref().is_none_or(|filter| filter.is_match(name)))
            .map(|(name, key, object)| StagedFile { name, key, object })
            .collect();
        Ok(Plan::new(&location.stage.id, &files, format))
    }
}

impl StageReader for StageHook {
    fn open(&self, request: &StageRequest) -> Result<StageRows, SqlError> {
        let planned =
            request.location.trim_start_matches('@').trim_matches('"').eq_ignore_ascii_case(PLANNED);
        let plan = if planned { lock(&self.plan).clone() } else { None };
        let plan = match plan {
            Some(plan) => plan,
            None => self.files(request).map_err(|refusal| sql_error(&refusal))?,
        };
        self.records(plan)
    }

    fn columns(&self, request: &StageRequest) -> Result<Vec<StageColumn>, SqlError> {
        let server =
            self.server.upgrade().ok_or_else(|| SqlError::snowflake(300_002, "XX000", "shutting down"))?;
        let plan = self.files(request).map_err(|refusal| sql_error(&refusal))?;
        let mut found: Vec<StageColumn> = Vec::new();
        for file in &plan.files {
            let data = plaintext(&server, &plan.stage, file)?;
            for (name, ty, nullable) in Records::columns(data, &file.name)? {
                if let Some(known) = found.iter_mut().find(|known| known.name == name) {
                    known.nullable |= nullable;
                    known.files.push(file.name.clone());
                } else {
                    found.push(StageColumn { name, ty, nullable, files: vec![file.name.clone()] });
                }
            }
        }
        Ok(found)
    }
}

/// A refusal in the evaluator's words, so that it comes back out of a query unchanged.
pub(super) fn sql_error(refusal: &Refusal) -> SqlError {
    let sqlstate = match refusal.sqlstate.as_str() {
        "42S02" => "42S02",
        "02000" => "02000",
        "0A000" => "0A000",
        "22000" => "22000",
        _ => "42000",
    };
    SqlError::snowflake(refusal.code.parse().unwrap_or(1003), sqlstate, refusal.message.clone())
}

/// Decrypts one file of a stage.
pub(super) fn plaintext(server: &Shared, stage: &str, file: &StagedFile) -> Result<Bytes, SqlError> {
    crypt::open(&server.stages, stage, &file.object).map_err(|why| {
        server.stats.files_undecipherable();
        tracing::warn!(file = file.name, %why, "a staged file was refused");
        SqlError::snowflake(
            100_035,
            "22000",
            format!("Failed to decrypt file '{}': {why}. Check file key and master key.", file.name),
        )
    })
}

struct Reading {
    server: Arc<Shared>,
    plan: Plan,
    file: usize,
    row: u64,
    records: Option<(Records, Arc<str>)>,
    failed: bool,
}

impl Reading {
    fn open(&self, file: &StagedFile) -> Result<(Records, Arc<str>), SqlError> {
        let data = plaintext(&self.server, &self.plan.stage, file)?;
        Ok((Records::open(data, self.plan.format, &file.name)?, Arc::from(file.name.as_str())))
    }

    fn step(&mut self) -> Result<Option<StageRow>, SqlError> {
        loop {
            if self.records.is_none() {
                let Some(file) = self.plan.files.get(self.file) else { return Ok(None) };
                self.records = Some(self.open(file)?);
                self.row = 0;
            }
            let Some((records, name)) = &mut self.records else { return Ok(None) };
            let Some(record) = records.next() else {
                self.records = None;
                self.file += 1;
                continue;
            };
            let record: Variant = record?;
            self.row += 1;
            self.plan.read[self.file].fetch_add(1, Ordering::Relaxed);
            if self.plan.skip.contains(&(self.file, self.row)) {
                continue;
            }
            return Ok(Some(StageRow { record, file_name: Arc::clone(name), row_number: self.row }));
        }
    }
}

impl Iterator for Reading {
    type Item = Result<StageRow, SqlError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed {
            return None;
        }
        let step = self.step();
        self.failed = step.is_err();
        step.transpose()
    }
}
