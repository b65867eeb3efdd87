//! One chunk from the source: its own transaction, its rows batch by batch, its witness asked before it ends.

use std::sync::Arc;

use arrow_array::RecordBatch;
use tokio::sync::mpsc;

use super::{
    Failure,
    budget::{Budget, Paid},
    queue::Work,
    retry,
};
use crate::{
    config::{Consistency, Pipeline},
    fail::{self, corrupt},
    model::TablePlan,
    plan::{Sizes, sql},
    progress::Progress,
    source::SqlServer,
    tds::{Connection, TdsError},
    verify::{Level, check_source, observed, source_sql},
    witness::{Side, Witness},
};

/// A batch on its way to the encoder, with its part of the memory budget.
pub(super) enum Item {
    /// Rows, and the memory that they have taken.
    Batch(RecordBatch, Paid),
    /// No more rows, and the source's witness agrees.
    End,
}

/// Everything that reading needs, for all connections.
#[derive(Debug)]
pub(super) struct Reader {
    pub server: SqlServer,
    pub tables: Vec<TablePlan>,
    pub level: Level,
    pub progress: Arc<Progress>,
    /// How often a chunk may fail in passing.
    pub most_failures: u32,
    pub budget: Budget,
    consistency: Consistency,
    batch_rows: usize,
}

impl Reader {
    pub(super) fn new(
        pipeline: &Pipeline,
        server: SqlServer,
        tables: Vec<TablePlan>,
        level: Level,
        progress: Arc<Progress>,
        sizes: Sizes,
    ) -> Self {
        Self {
            server,
            tables,
            level,
            progress,
            most_failures: retry::most_failures(pipeline.limits.patience),
            consistency: pipeline.source.consistency,
            budget: Budget::new(sizes),
            batch_rows: pipeline.limits.batch_rows,
        }
    }

    pub(super) fn consistency(&self) -> Consistency {
        self.consistency
    }

    pub(super) fn table(&self, work: &Work) -> &TablePlan {
        &self.tables[work.table]
    }

    /// Reads one chunk: in a transaction of its own, or (`at_point`) in the one that the connection has open for the
    /// whole run. Without a sink the rows are only added up.
    pub(super) async fn read(
        &self,
        connection: &mut Connection,
        work: &Work,
        sink: Option<&mpsc::Sender<Item>>,
        at_point: bool,
    ) -> Result<Witness, Failure> {
        let plan = self.table(work);
        let failed = |source: TdsError| Failure::Extract {
            table: plan.source.clone(),
            chunk: work.chunk,
            range: work.range.clone(),
            source,
        };
        if !at_point {
            connection.run(sql::begin(self.consistency)).await.map_err(failed)?;
        }
        let witness = self.rows(connection, work, sink).await?;
        fail::point("extract_end");
        if self.consistency.bears_witness() {
            let question = source_sql(plan, &work.range, self.level);
            let answer = connection.fetch_text(&question).await.map_err(failed)?;
            let seen = observed(Side::Source, self.level, &plan.columns, &answer)?;
            check_source(plan, work.chunk, &work.range, &witness, &seen)?;
            fail::point("source_witnessed");
        }
        if !at_point {
            connection.run(sql::COMMIT).await.map_err(failed)?;
        }
        Ok(witness)
    }

    async fn rows(
        &self,
        connection: &mut Connection,
        work: &Work,
        sink: Option<&mpsc::Sender<Item>>,
    ) -> Result<Witness, Failure> {
        let plan = self.table(work);
        let failed = |source: TdsError| Failure::Extract {
            table: plan.source.clone(),
            chunk: work.chunk,
            range: work.range.clone(),
            source,
        };
        let mut witness = Witness::new(&plan.columns, self.level);
        let (batches, full) = (self.budget.batches(), self.budget.sizes().full);
        let mut rows = connection.stream(&sql::select(plan, &work.range)).await.map_err(failed)?;
        loop {
            let reserved = batches.reserve().await?;
            let mut wide = self.budget.wide();
            let waiting = self.progress.source.start();
            let batch = rows.next_batch_within(&plan.columns, self.batch_rows, full, &mut wide).await;
            drop(waiting);
            let Some(decoded) = batch.map_err(failed)? else { return Ok(witness) };
            fail::point("extract_batch");
            let decoded = corrupt::decoded(decoded);
            witness.add(&plan.columns, &decoded)?;
            let bytes = decoded.batch.get_array_memory_size();
            self.progress.read(decoded.batch.num_rows() as u64, bytes as u64);
            if let Some(sink) = sink {
                let paid = Paid::new(reserved, wide, bytes);
                let _waiting = self.progress.encoder.start();
                sink.send(Item::Batch(corrupt::encoded(decoded.batch), paid))
                    .await
                    .map_err(|_| Failure::Lost("the encoder"))?;
            }
        }
    }
}
