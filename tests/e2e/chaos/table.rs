//! The table that every run moves, anew from another seed each time, and what lay in the target before.

use keyferry_e2e::sample::{Cell, Table};

use super::cases::CHUNKS;

const ROWS_PER_CHUNK: u64 = 24;
/// Rows of the table.
pub(super) const ROWS: u64 = CHUNKS * ROWS_PER_CHUNK;
const NAME: &str = "chaos";
/// The columns at the target, as the loader would make them.
const TARGET: &str = "\"ID\" NUMBER(10,0) NOT NULL, \"GRP\" NUMBER(10,0) NOT NULL, \"AMOUNT\" NUMBER(18,4) NOT NULL, \
                      \"NOTE\" VARCHAR(160), \"AT\" TIMESTAMP_NTZ(3)";

/// Lines under `limits` that cut the table into [`CHUNKS`] chunks with four committers.
pub(super) fn limits() -> String {
    format!("connections: 4, committers: 4, chunk_rows: {ROWS_PER_CHUNK}")
}

/// Rows that repeat in everything but the key, NULLs, text beyond ASCII.
pub(super) fn generate(seed: u64) -> Table {
    let mut dice = fastrand::Rng::with_seed(seed);
    let rows = (0..ROWS).map(|id| {
        let note = match dice.u8(..4) {
            0 => Cell::Null,
            1 => Cell::text("déjà vu 🛶"),
            _ => Cell::text(format!("row of {seed:x}-{}", dice.u16(..))),
        };
        let at = match dice.u8(..5) {
            0 => Cell::Null,
            _ => Cell::DateTime(dice.i32(0..3_652_058), dice.u64(0..86_400_000) * 1_000_000),
        };
        vec![
            Cell::Int(id as i64 * 3 - 100),
            Cell::Int(i64::from(dice.u8(..6))),
            Cell::Decimal(i128::from(dice.i64(-10_i64.pow(17)..10_i64.pow(17))), 4),
            note,
            at,
        ]
    });
    let columns = [
        ("id", "int NOT NULL"),
        ("grp", "int NOT NULL"),
        ("amount", "decimal(18,4) NOT NULL"),
        ("note", "nvarchar(40) NULL"),
        ("at", "datetime2(3) NULL"),
    ];
    Table::new(NAME, &columns, "[id]", rows.collect())
}

/// What the target holds before the run: it must stay, whole, until the new rows are published, whole.
pub(super) fn before(seed: u64) -> Table {
    let mut table = generate(seed);
    table.rows = vec![vec![
        Cell::Int(-1_000_000),
        Cell::Int(i64::from(seed as u32)),
        Cell::Decimal(42, 4),
        Cell::text("yesterday"),
        Cell::Null,
    ]];
    table
}

/// Makes the target with the content of [`before`].
pub(super) fn target_statements(seed: u64, target: &str) -> Vec<String> {
    vec![
        format!("CREATE TABLE {target} ({TARGET})"),
        format!(
            "INSERT INTO {target} SELECT -1000000, {}, 0.0042, 'yesterday', NULL",
            i64::from(seed as u32)
        ),
    ]
}
