//! After a mismatch at the target: the smallest place that holds it.
//!
//! First the chunks: the staging table knows of each row which file it came from. Then, inside the first chunk that
//! differs, ranges of the key: the source is read again in one transaction and added up range by range, Snowflake adds
//! up the same ranges, and the search goes on in the first range that differs. The steps are bounded.

use std::collections::BTreeMap;

use super::{
    Failure, Loading,
    finish::stored_witness,
    ranges::{Part, Ranges, searchable},
    reader::Reader,
    sessions::{Sessions, persist},
};
use crate::{
    config::Consistency,
    ledger::{LedgerChunk, Run, chunk_folder},
    model::{KeyColumn, KeyRange, TablePlan, TargetName},
    plan::sql,
    snowflake::{Answer, Statements as _},
    tds::Connection,
    verify::{Differences, Mismatch, chunk_condition, chunks_sql, files_sql, observed, ranged_sql},
    witness::{Observed, Side, Witness, compare},
};

/// Ranges of one step; a step reads each once.
const PARTS: u64 = 8;
/// Eight to the power of this is more rows than a chunk has.
const MOST_STEPS: usize = 12;
/// Rows and bytes in memory at once while the source is read again.
const BATCH_ROWS: usize = 10_000;
const BATCH_BYTES: usize = 4 << 20;
/// Of files and chunks, so many are named.
const NAMED: usize = 5;

/// Narrows a mismatch between the staging table and the ledger's witnesses. What cannot be searched is said.
pub(super) async fn staging(
    loading: &Loading,
    plan: &TablePlan,
    run: &Run,
    chunks: &[LedgerChunk],
    sessions: &mut Sessions,
    found: Mismatch,
) -> Mismatch {
    let next = format!(
        "\nThe target {} was not touched. Run {} stays open with its rows in {}: see `loader status`. Find the cause first; \
         then give the run up, and the next `loader run` loads the table anew: DELETE FROM {} WHERE RUN_ID = '{}'",
        plan.target,
        run.run_id,
        run.staging,
        loading.ledger.name().sql(),
        run.run_id
    );
    let search = Search { reader: &loading.reader, plan, from: &run.staging };
    let mut narrowed = match search.chunks(chunks, sessions, &found).await {
        Ok(narrowed) => narrowed,
        Err(error) => unsearched(found, &error),
    };
    narrowed.detail += &next;
    narrowed
}

/// Narrows a mismatch between the source, just read, and a published table.
pub(super) async fn target(
    reader: &Reader,
    plan: &TablePlan,
    sessions: &mut Sessions,
    found: Mismatch,
) -> Mismatch {
    let search = Search { reader, plan, from: &plan.target };
    match search.keys(&KeyRange::default(), None, None, sessions).await {
        Ok(Ok(place)) => place.into_mismatch(found),
        Ok(Err(reason)) => Mismatch { detail: format!("\n{reason}"), ..found },
        Err(error) => unsearched(found, &error),
    }
}

fn unsearched(found: Mismatch, error: &Failure) -> Mismatch {
    Mismatch { detail: format!("\nThe smallest place was not found: {error}"), ..found }
}

/// The smallest place.
struct Place {
    range: KeyRange,
    differences: Differences,
    detail: String,
}

impl Place {
    fn into_mismatch(self, found: Mismatch) -> Mismatch {
        let whole = format!("\nAs a whole ({}):{}", found.range, found.differences);
        Mismatch { range: self.range, differences: self.differences, detail: self.detail + &whole, ..found }
    }
}

struct Search<'a> {
    reader: &'a Reader,
    plan: &'a TablePlan,
    from: &'a TargetName,
}

impl Search<'_> {
    async fn chunks(
        &self,
        chunks: &[LedgerChunk],
        sessions: &mut Sessions,
        found: &Mismatch,
    ) -> Result<Mismatch, Failure> {
        let (plan, level) = (self.plan, self.reader.level);
        let mut seen = BTreeMap::new();
        for row in self.ask(sessions, &chunks_sql(plan, self.from, level)).await?.rows {
            let (folder, sums) = row.split_first().ok_or(Failure::Lost("an answer's first column"))?;
            seen.insert(folder.clone(), observed(Side::Target, level, &plan.columns, &[sums.to_vec()])?);
        }
        let mut wrong = Vec::new();
        for chunk in chunks {
            let loader = stored_witness(plan, chunk)?;
            let nothing = || Observed::of_nothing(&plan.columns, level);
            let server = seen.remove(&Some(chunk_folder(chunk.number))).unwrap_or_else(nothing);
            let differences = compare(Side::Target, &plan.columns, &loader, &server);
            if !differences.is_empty() {
                wrong.push((chunk, loader, Differences(differences)));
            }
        }
        let strays: u64 = seen.values().map(|observed| observed.rows).sum();
        let mut detail = match strays {
            0 => String::new(),
            rows => format!("\n{rows} rows of {} came from no file of this run", self.from),
        };
        let others: Vec<u32> = wrong.iter().skip(1).map(|(chunk, ..)| chunk.number).collect();
        if !others.is_empty() {
            let named: Vec<_> = others.iter().take(NAMED).map(ToString::to_string).collect();
            detail.extend([&format!("\n{} more chunks differ: ", others.len()), named.join(", ").as_str()]);
        }
        let Some((chunk, loader, differences)) = wrong.into_iter().next() else {
            return Ok(Mismatch { detail, ..found.clone() });
        };
        detail += &self.files(chunk.number, sessions).await?;
        let named = Mismatch {
            chunk: format!("chunk {}", chunk.number),
            range: chunk.range.clone(),
            differences,
            hint: found.hint,
            detail: String::new(),
            table: plan.source.clone(),
        };
        let scope = chunk_condition(plan, chunk.number);
        let narrowed = match self.keys(&chunk.range, Some(scope), Some(&loader), sessions).await {
            Ok(Ok(place)) => place.into_mismatch(named),
            Ok(Err(reason)) => Mismatch { detail: format!("\n{reason}"), ..named },
            Err(error) => unsearched(named, &error),
        };
        Ok(Mismatch { detail: narrowed.detail.clone() + &detail, ..narrowed })
    }

    /// The files of a chunk, with their rows.
    async fn files(&self, chunk: u32, sessions: &mut Sessions) -> Result<String, Failure> {
        let answer = self.ask(sessions, &files_sql(self.plan, self.from, chunk)).await?;
        let line = |row: &Vec<Option<String>>| {
            let text = |at: usize| row.get(at).and_then(Option::as_deref).unwrap_or_default().to_owned();
            format!("\n  {} ({} rows)", text(0), text(1))
        };
        let named: String = answer.rows.iter().take(NAMED).map(line).collect();
        let more = match answer.rows.len().saturating_sub(NAMED) {
            0 => String::new(),
            more => format!("\n  and {more} more"),
        };
        Ok(format!("\nStaged files of the chunk:{named}{more}"))
    }

    /// Searches ranges of the key; the inner error says in words why it is not done.
    async fn keys(
        &self,
        range: &KeyRange,
        scope: Option<String>,
        stored: Option<&Witness>,
        sessions: &mut Sessions,
    ) -> Result<Result<Place, String>, Failure> {
        let keys = match searchable(self.plan, range) {
            Ok(keys) => keys,
            Err(reason) => return Ok(Err(reason)),
        };
        let mut connection = self.reader.server.connect().await?;
        let begin = match self.reader.consistency() {
            Consistency::ReadCommitted => sql::BEGIN_READ_COMMITTED,
            _ => sql::BEGIN_SNAPSHOT,
        };
        connection.run(begin).await?;
        let place = self.columns(&keys, range, scope, stored, &mut connection, sessions).await?;
        connection.run(sql::COMMIT).await?;
        Ok(place)
    }

    /// Column after column, while the rows that are left have one value of the last.
    async fn columns(
        &self,
        keys: &[&KeyColumn],
        range: &KeyRange,
        scope: Option<String>,
        mut stored: Option<&Witness>,
        connection: &mut Connection,
        sessions: &mut Sessions,
    ) -> Result<Result<Place, String>, Failure> {
        let Some((first, rest)) = keys.split_first() else { return Ok(Err("There is no key.".into())) };
        let mut ranges = Ranges::new(self.plan, first, range, scope);
        let mut rest = rest.iter();
        loop {
            let (place, only) = match self.descend(&ranges, stored, connection, sessions).await? {
                Ok(found) => found,
                Err(reason) => return Ok(Err(reason)),
            };
            let (Some((part, value)), Some(next)) = (only, rest.next()) else { return Ok(Ok(place)) };
            ranges = ranges.inside(&part, value, next);
            stored = None;
        }
    }

    /// One column: the place, and its only key where more than one row has it.
    async fn descend(
        &self,
        ranges: &Ranges<'_>,
        stored: Option<&Witness>,
        connection: &mut Connection,
        sessions: &mut Sessions,
    ) -> Result<Result<(Place, Option<(Part, String)>), String>, Failure> {
        let mut part = Part::default();
        let mut first: Option<Differences> = None;
        let mut spread: Option<(Part, Differences)> = None;
        let mut detail = String::new();
        for step in 0..MOST_STEPS {
            let bounds = ranges.bounds(connection, &part, PARTS).await?;
            if bounds.is_empty() && step > 0 {
                break;
            }
            let (mut now, mut wrong) = (Witness::new(&self.plan.columns, self.reader.level), Vec::new());
            for part in part.cut(bounds) {
                let loader = self.add_up(ranges, &part, connection).await?;
                let server = self.ask_range(ranges, &part, sessions).await?;
                let differences = compare(Side::Target, &self.plan.columns, &loader, &server);
                now.merge(&loader);
                if !differences.is_empty() {
                    wrong.push((part, Differences(differences)));
                }
            }
            if step == 0
                && stored.is_some_and(|stored| stored.columns != now.columns || stored.rows != now.rows)
            {
                detail += "\nThe source is not what it was when the chunk was read: a range may differ for that reason.";
            }
            let count = wrong.len();
            let last = wrong.last().map(|(part, _)| part.upper.clone());
            let Some((smaller, differences)) = wrong.into_iter().next() else {
                return Ok(Err(
                    "The source, read again, agrees with what is there in every range of the key: \
                               what differs is what passed through the loader the first time."
                        .into(),
                ));
            };
            if count > 1 && spread.is_none() {
                let whole = Part { lower: smaller.lower.clone(), upper: last.flatten() };
                let (loader, server) = (
                    self.add_up(ranges, &whole, connection).await?,
                    self.ask_range(ranges, &whole, sessions).await?,
                );
                let all = compare(Side::Target, &self.plan.columns, &loader, &server);
                spread = Some((whole, Differences(all)));
            }
            part = smaller;
            first = Some(differences);
        }
        let Some(differences) = first else { return Ok(Err("The search found nothing.".into())) };
        let (smallest, only) = ranges.describe(connection, &part).await?;
        let (place, only) = match spread {
            Some((whole, all)) if !all.0.is_empty() => {
                let detail = format!("\nThe first of several places: {smallest}:{differences}{detail}");
                (Place { range: ranges.range(&whole), differences: all, detail }, None)
            }
            _ => {
                let detail = format!("\nThe smallest place: {smallest}{detail}");
                (Place { range: ranges.range(&part), differences, detail }, only.map(|only| (part, only)))
            }
        };
        Ok(Ok((place, only)))
    }

    /// The loader's witness of a range, read now.
    async fn add_up(
        &self,
        ranges: &Ranges<'_>,
        part: &Part,
        connection: &mut Connection,
    ) -> Result<Witness, Failure> {
        let columns = &self.plan.columns;
        let mut witness = Witness::new(columns, self.reader.level);
        let mut rows = connection.stream(&ranges.select(part)).await?;
        while let Some(decoded) = rows.next_batch(columns, BATCH_ROWS, BATCH_BYTES).await? {
            witness.add(columns, &decoded)?;
        }
        Ok(witness)
    }

    /// Snowflake's of the same range.
    async fn ask_range(
        &self,
        ranges: &Ranges<'_>,
        part: &Part,
        sessions: &mut Sessions,
    ) -> Result<Observed, Failure> {
        let question =
            ranged_sql(self.plan, self.from, self.reader.level, ranges.target_condition(part).as_deref());
        let answer = self.ask(sessions, &question).await?;
        Ok(observed(Side::Target, self.reader.level, &self.plan.columns, &answer.rows)?)
    }

    async fn ask(&self, sessions: &mut Sessions, question: &str) -> Result<Answer, Failure> {
        persist!(sessions, session => session.execute(question))
    }
}
