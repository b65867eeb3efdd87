//! One connection's work: chunk after chunk, from the source into staged files. Reading, encoding and uploading of
//! a chunk run at the same time; the queues between them are in `pipeline.rs`.

use std::sync::Arc;

use tokio::sync::mpsc;

use super::{
    BATCHES_TO_ENCODE, FILES_TO_UPLOAD, Failure, Loading,
    committer::Job,
    keeper::{Ask, ask},
    queue::Work,
    reader::Item,
    retry,
};
use crate::{
    commit::ChunkFacts,
    encode::{EncodeOptions, FileWriter, SpooledFile},
    fail,
    ledger::{Claim, Claimed},
    model::arrow_schema,
    stage::{self, StageError, StageTarget, StagedFile, spool::Place},
    tds::Connection,
};

/// Moves chunks until none is left.
pub(super) async fn serve(
    loading: Arc<Loading>,
    asks: mpsc::Sender<Ask>,
    commits: mpsc::Sender<Job>,
    point: Option<Connection>,
) -> Result<(), Failure> {
    let mut at_point = point.is_some();
    let mut connection = point;
    loop {
        // First memory, then work: with little memory fewer chunks are on their way, and none waits half-read.
        let lane = loading.reader.budget.lane().await?;
        let Some(work) = loading.queue.next().await else { return Ok(()) };
        let moved = move_chunk(&loading, &asks, &mut connection, &work, at_point).await;
        drop(lane);
        match moved {
            Ok(Moved::Staged(claim, facts)) => {
                loading.points.note(work.table, work.chunk, at_point);
                let job = Job { work, claim, facts };
                commits.send(job).await.map_err(|_| Failure::Lost("the committers"))?;
            }
            Ok(Moved::Elsewhere { owner, lease_until }) => {
                tracing::debug!(chunk = work.chunk, owner, "left to another loader");
                loading.points.note(work.table, work.chunk, false);
                loading.elsewhere.put(work, owner, lease_until);
                // A keeper that is gone is the end of the run anyway.
                let _ = asks.send(Ask::Look).await;
            }
            Ok(Moved::Already) => {
                loading.points.note(work.table, work.chunk, false);
                loading.reader.progress.chunk();
                loading.queue.finish();
            }
            Err(error) if error.is_transient() && work.failures + 1 < loading.reader.most_failures => {
                tracing::warn!(%error, chunk = work.chunk, failures = work.failures + 1, "trying the chunk again");
                // A connection that failed is never used again.
                connection = None;
                tokio::time::sleep(retry::pause(work.failures + 1)).await;
                loading.queue.put_back(work);
                // With the connection its point in time is lost. While others have it they do the work.
                if at_point && loading.points.leave() {
                    return Ok(());
                }
                at_point = false;
            }
            Err(error) => return Err(error),
        }
    }
}

enum Moved {
    /// Its files lie in the stage.
    Staged(Claim, ChunkFacts),
    /// It was loaded before.
    Already,
    /// Another loader has it.
    Elsewhere { owner: String, lease_until: Option<String> },
}

async fn move_chunk(
    loading: &Loading,
    asks: &mpsc::Sender<Ask>,
    connection: &mut Option<Connection>,
    work: &Work,
    at_point: bool,
) -> Result<Moved, Failure> {
    let (table, chunk) = (work.table, work.chunk);
    let claim = match ask(asks, |reply| Ask::Claim { table, chunk, reply }).await? {
        Claimed::Mine(claim) => claim,
        Claimed::Done(_) => return Ok(Moved::Already),
        Claimed::Other { owner, lease_until } => return Ok(Moved::Elsewhere { owner, lease_until }),
    };
    let prefix = claim.prefix().to_owned();
    let target = Arc::new(ask(asks, |reply| Ask::Put { prefix, reply }).await?);
    // Taken out while it is used: after an error it is dropped with whatever was under way.
    let mut source = match connection.take() {
        Some(connection) => connection,
        None => loading.reader.server.connect().await?,
    };
    let facts = stage_chunk(loading, asks, &mut source, work, &claim, target, at_point).await?;
    *connection = Some(source);
    Ok(Moved::Staged(claim, facts))
}

async fn stage_chunk(
    loading: &Loading,
    asks: &mpsc::Sender<Ask>,
    source: &mut Connection,
    work: &Work,
    claim: &Claim,
    target: Arc<StageTarget>,
    at_point: bool,
) -> Result<ChunkFacts, Failure> {
    let plan = loading.reader.table(work);
    // Before anything is read: whoever waits here for the disk holds nothing that others wait for.
    let expected =
        plan.chunks.iter().find(|chunk| chunk.number == work.chunk).map(|chunk| chunk.estimated_bytes);
    let expected = expected.unwrap_or(loading.file_bytes).min(loading.file_bytes);
    let place = loading.encode.spool.enter(expected).await;
    let (batches_tx, batches_rx) = mpsc::channel(BATCHES_TO_ENCODE);
    let (files_tx, files_rx) = mpsc::channel(FILES_TO_UPLOAD);
    let encoder = Encoder {
        schema: Arc::new(arrow_schema(&plan.columns)),
        target: Arc::clone(&target),
        options: loading.encode.clone(),
        file_bytes: loading.file_bytes,
        place: Some(place),
    };
    let encoding = loading.blocking.spawn_blocking(move || encoder.run(batches_rx, &files_tx));
    let reading = async {
        let witness = loading.reader.read(source, work, Some(&batches_tx), at_point).await;
        if witness.is_ok() {
            // If the encoder is gone its own error is the one that counts.
            let _ = batches_tx.send(Item::End).await;
        }
        drop(batches_tx);
        witness
    };
    let uploading = upload_all(loading, asks, claim, target, files_rx);
    let (witness, files, encoded) = tokio::join!(reading, uploading, encoding);
    let encoded = encoded.unwrap_or(Err(Failure::Lost("the encoder")));
    let (witness, files) = first_cause(witness, files, encoded)?;
    Ok(ChunkFacts {
        rows: witness.rows,
        bytes: source_bytes(plan, &witness),
        files,
        witness: witness.to_json(),
        source_spid: source.spid(),
        audit_id: String::new(),
    })
}

/// When one stage fails the others lose their neighbour; the loss is not the cause.
fn first_cause<A, B>(
    read: Result<A, Failure>,
    uploaded: Result<B, Failure>,
    encoded: Result<(), Failure>,
) -> Result<(A, B), Failure> {
    let lost = |failure: &Failure| matches!(failure, Failure::Lost(_));
    match (read, uploaded, encoded) {
        (Ok(read), Ok(uploaded), Ok(())) => Ok((read, uploaded)),
        (read, uploaded, encoded) => {
            let mut causes: Vec<_> =
                [read.err(), uploaded.err(), encoded.err()].into_iter().flatten().collect();
            causes.sort_by_key(lost);
            Err(causes.into_iter().next().unwrap_or(Failure::Lost("a stage of the chunk")))
        }
    }
}

/// Bytes of values at the source: fixed widths times values, and what text and binary took on the wire.
fn source_bytes(plan: &crate::model::TablePlan, witness: &crate::witness::Witness) -> u64 {
    use crate::witness::{Measure, source_measure};
    let column = |(column, sums): (&crate::model::ColumnPlan, &crate::witness::ColumnWitness)| {
        if source_measure(column.source) == [Measure::Bytes] {
            sums.source
                .first()
                .and_then(|sum| sum.to_i128())
                .and_then(|sum| u64::try_from(sum).ok())
                .unwrap_or(0)
        } else {
            sums.count * column.source.widest_bytes()
        }
    };
    plan.columns.iter().zip(&witness.columns).map(column).sum()
}

/// Batches in, spooled files out, on a thread that may block.
struct Encoder {
    schema: arrow_schema::SchemaRef,
    target: Arc<StageTarget>,
    options: EncodeOptions,
    file_bytes: u64,
    /// Of the first file.
    place: Option<Place>,
}

impl Encoder {
    fn run(
        mut self,
        mut batches: mpsc::Receiver<Item>,
        files: &mpsc::Sender<SpooledFile>,
    ) -> Result<(), Failure> {
        let mut open: Option<FileWriter> = None;
        let hand_over = |writer: FileWriter| -> Result<(), Failure> {
            let file = writer.finish()?;
            fail::point("encode_end");
            files.blocking_send(file).map_err(|_| Failure::Lost("the upload"))
        };
        loop {
            match batches.blocking_recv() {
                Some(Item::Batch(batch, paid)) => {
                    let mut writer = if let Some(writer) = open.take() {
                        writer
                    } else {
                        let place = self.place.take().unwrap_or_else(|| self.options.spool.enter_now());
                        FileWriter::create(Arc::clone(&self.schema), &self.target, place, &self.options)?
                    };
                    writer.write(batch)?;
                    fail::point("encode_batch");
                    drop(paid);
                    if writer.file_bytes() >= self.file_bytes {
                        hand_over(writer)?;
                    } else {
                        open = Some(writer);
                    }
                }
                Some(Item::End) => return open.map_or(Ok(()), hand_over),
                // The reader failed: half a chunk is no file.
                None => return Err(Failure::Lost("the reader")),
            }
        }
    }
}

async fn upload_all(
    loading: &Loading,
    asks: &mpsc::Sender<Ask>,
    claim: &Claim,
    mut target: Arc<StageTarget>,
    mut files: mpsc::Receiver<SpooledFile>,
) -> Result<Vec<StagedFile>, Failure> {
    let mut staged = Vec::new();
    while let Some(file) = files.recv().await {
        let name = claim.file_name(staged.len());
        let mut renewed = false;
        let uploaded = loop {
            let _waiting = loading.reader.progress.upload.start();
            fail::point("before_upload");
            match stage::upload(&target, &name, &file, &loading.upload).await {
                Err(StageError::CredentialsExpired { .. }) if !renewed => {
                    renewed = true;
                    let prefix = claim.prefix().to_owned();
                    target = Arc::new(ask(asks, |reply| Ask::Put { prefix, reply }).await?);
                }
                outcome => break outcome?,
            }
        };
        fail::point("after_upload");
        staged.push(uploaded);
    }
    Ok(staged)
}
