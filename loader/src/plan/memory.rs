//! What a run holds in memory, settled before it starts: how many chunks are on their way at once, and in what
//! sizes. A budget that is too small for the widest row or value is refused here.
//!
//! A **lane** is one chunk on its way; with little memory there are fewer lanes than connections. In units:
//!
//! ```text
//! 2  the batch that is being filled: full with one less than its widest row
//! 2  the batch that is being encoded
//! 8  the open row group: closed at 6, and then the batch that went beyond
//! 2  the part that is being uploaded (5 MiB at least, a rule of S3)
//! 2  pages, spool, decoder
//! ```
//! With (max) columns a row group is closed at 1: its pages are as large as itself, and while they are made and
//! compressed they exist three times.
//!
//! The process itself is paid first: its program, its threads' stacks, TLS, the tasks' own state, and what the allocator
//! keeps for later. `make memory` measures it.
//!
//! A value of a (max) type may be as large as the whole of that. One row at a time may be wider than its batch, in
//! the **wide lane**: three times its values (Arrow's buffer and then the page in it; the page, and what it is
//! compressed into).

use serde::Serialize;

use super::PlanError;
use crate::{
    config::{ByteSize, Limits},
    model::{ColumnPlan, TablePlan},
};

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
/// What the process takes beside rows.
const PROCESS: u64 = 48 * MIB;
const SMALLEST_UNIT: u64 = 512 * KIB;
const LANE_UNITS: u64 = 14;
/// A rule of S3: every part but the last has at least this size.
const SMALLEST_PART: u64 = 5 * MIB;
const LARGEST_PART: u64 = 16 * MIB;
const LARGEST_BATCH: u64 = 64 * MIB;
const LARGEST_ROW_GROUP: u64 = 128 * MIB;
/// What a wide value exists as at the same time.
const COPIES: u64 = 3;
/// Headers of pages, bounds of the compressor.
const WIDE_SLACK: u64 = MIB;

/// The sizes of a run, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Sizes {
    /// Chunks that are on their way at once.
    pub lanes: usize,
    /// What one of them may hold.
    pub lane: usize,
    /// What a batch may take.
    pub batch: usize,
    /// A batch is full with so much: one row more still fits.
    pub full: usize,
    /// A row group is closed with so much.
    pub row_group: usize,
    /// A part of an upload.
    pub part: usize,
    /// The wide lane; nothing where no column has (max).
    pub wide: usize,
    /// The most that the (max) values of one row may take together.
    pub wide_row: usize,
    /// The most that one value of a (max) type may take.
    pub largest_value: usize,
}

/// What the columns ask for.
struct Need<'a> {
    table: &'a TablePlan,
    /// The column with the widest values, of this table.
    column: Option<&'a ColumnPlan>,
    /// The widest row without (max) values.
    row: u64,
    /// The widest (max) value, and all of a row together.
    value: u64,
    values: u64,
}

impl<'a> Need<'a> {
    fn of(table: &'a TablePlan, limits: &Limits) -> Self {
        let most = limits.value.map_or(u64::MAX, ByteSize::bytes);
        let value = |c: &ColumnPlan| c.source.largest_value().map_or(0, |bytes| (bytes as u64).min(most));
        let narrow =
            |c: &ColumnPlan| if c.source.largest_value().is_some() { 24 } else { c.source.widest_bytes() };
        let weight = |c: &&ColumnPlan| c.source.largest_value().map_or(c.source.widest_bytes(), |_| value(c));
        Self {
            table,
            column: table.columns.iter().max_by_key(weight),
            row: table.columns.iter().map(narrow).sum(),
            value: table.columns.iter().map(value).max().unwrap_or(0),
            values: table.columns.iter().map(value).sum(),
        }
    }

    fn unit(&self) -> u64 {
        // A batch is two units: full with one, it still takes the widest row.
        self.row.max(SMALLEST_UNIT)
    }

    fn wide(&self) -> u64 {
        if self.value == 0 { 0 } else { self.value * COPIES + WIDE_SLACK }
    }

    fn floor(&self) -> u64 {
        lane(self.unit()) + self.wide()
    }
}

fn lane(unit: u64) -> u64 {
    unit * LANE_UNITS + part(unit)
}

fn part(unit: u64) -> u64 {
    (unit * 2).clamp(SMALLEST_PART, LARGEST_PART)
}

/// The largest unit whose lane fits.
fn unit_of(lane: u64) -> u64 {
    let with_smallest = lane.saturating_sub(SMALLEST_PART) / LANE_UNITS;
    let with_any = lane / (LANE_UNITS + 2);
    let with_largest = lane.saturating_sub(LARGEST_PART) / LANE_UNITS;
    if with_smallest * 2 <= SMALLEST_PART {
        with_smallest
    } else if with_any * 2 <= LARGEST_PART {
        with_any
    } else {
        with_largest
    }
}

/// The sizes, and the least budget that these tables can do with.
pub(super) fn sizes<'a>(
    limits: &Limits,
    tables: impl Iterator<Item = &'a TablePlan>,
) -> Result<(Sizes, u64), PlanError> {
    let needs: Vec<Need<'_>> = tables.map(|table| Need::of(table, limits)).collect();
    let most = |sizes: &mut dyn Iterator<Item = u64>| sizes.max().unwrap_or(0);
    let least_unit = most(&mut needs.iter().map(Need::unit)).max(SMALLEST_UNIT);
    let (least_lane, least_wide) = (lane(least_unit), most(&mut needs.iter().map(Need::wide)));
    let floor = PROCESS + least_lane + least_wide;
    let memory = limits.memory.bytes().saturating_sub(PROCESS);
    if limits.memory.bytes() < floor {
        let Some(widest) = needs.iter().max_by_key(|need| need.floor()) else {
            return Ok((fixed(limits, memory, (0, 0), (0, SMALLEST_UNIT)), floor));
        };
        return Err(PlanError::Memory {
            table: widest.table.source.clone(),
            column: widest.column.map_or_else(String::new, |c| format!("{} ({})", c.source_name, c.source)),
            budget: limits.memory,
            // Whole MiB, as they are written into the file.
            floor: ByteSize::mib(floor.div_ceil(MIB)),
            has_max: least_wide > 0,
        });
    }
    // Half of the memory, where several large values can stand in one row.
    let all_values = most(&mut needs.iter().map(|need| need.values)) * COPIES + WIDE_SLACK;
    let wide = match least_wide {
        0 => 0,
        least => least.max((memory / 2).min(all_values)).min(memory - least_lane),
    };
    let (value, row) =
        (most(&mut needs.iter().map(|need| need.value)), most(&mut needs.iter().map(|need| need.row)));
    Ok((fixed(limits, memory, (wide, value), (row, least_unit)), floor))
}

fn fixed(
    limits: &Limits,
    memory: u64,
    (wide, largest_value): (u64, u64),
    (widest_row, least_unit): (u64, u64),
) -> Sizes {
    let left = memory - wide;
    let lanes = (left / lane(least_unit)).clamp(1, limits.connections as u64);
    let lane = left / lanes;
    let unit = unit_of(lane).max(least_unit);
    let row_group = if wide > 0 { unit } else { unit * 6 };
    let batch = (unit * 2).min(LARGEST_BATCH.max(widest_row * 2));
    Sizes {
        lanes: lanes as usize,
        lane: lane as usize,
        batch: batch as usize,
        full: (batch - widest_row).max(1) as usize,
        row_group: row_group.min(LARGEST_ROW_GROUP) as usize,
        part: part(unit) as usize,
        wide: wide as usize,
        wide_row: (wide.saturating_sub(WIDE_SLACK) / COPIES) as usize,
        largest_value: largest_value as usize,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{KeyRange, SourceType, TableName, TargetName};

    fn limits(memory: u64, connections: usize, value: Option<u64>) -> Limits {
        Limits {
            connections,
            committers: 2,
            batch_rows: 50_000,
            chunk: ByteSize::mib(512),
            chunk_rows: None,
            file: ByteSize::mib(128),
            memory: ByteSize::mib(memory),
            value: value.map(ByteSize::mib),
            spool_dir: std::env::temp_dir(),
            patience: std::time::Duration::from_secs(60),
        }
    }

    fn table(types: &[SourceType]) -> TablePlan {
        let target = TargetName { database: "D".into(), schema: "S".into(), name: "T".into() };
        let column = |(at, source): (usize, &SourceType)| ColumnPlan {
            source_name: format!("c{at}"),
            target_name: format!("C{at}"),
            source: *source,
            nullable: true,
        };
        TablePlan {
            source: TableName { schema: "dbo".into(), name: "docs".into() },
            staging: target.clone(),
            target,
            columns: types.iter().enumerate().map(column).collect(),
            keys: Vec::new(),
            chunks: vec![crate::model::ChunkPlan {
                number: 1,
                range: KeyRange::default(),
                estimated_rows: 1,
                estimated_bytes: 1,
            }],
            schema_hash: String::new(),
        }
    }

    fn sized(limits: &Limits, types: &[SourceType]) -> Result<Sizes, String> {
        sizes(limits, [table(types)].iter()).map(|(sizes, _)| sizes).map_err(|error| error.to_string())
    }

    #[test]
    fn whatever_the_budget_all_lanes_and_the_wide_one_fit_into_it() {
        let wide = [SourceType::Int, SourceType::VarBinaryMax, SourceType::NVarCharMax];
        for types in [&wide[..1], &wide[..2], &wide[..], &[SourceType::NVarChar { units: 4000 }; 60]] {
            for memory in [16, 60, 64, 100, 256, 300, 512, 1024, 5000, 100_000] {
                for connections in [1, 2, 4, 16, 64] {
                    let Ok(s) = sized(&limits(memory, connections, None), types) else { continue };
                    let told = format!("{types:?} {memory} {connections} {s:?}");
                    assert!(s.lanes >= 1 && s.lanes <= connections, "{told}");
                    assert!(
                        s.lanes * s.lane + s.wide + PROCESS as usize <= memory as usize * 1024 * 1024,
                        "{told}"
                    );
                    let row_group =
                        if s.wide > 0 { 3 * (s.row_group + s.batch) } else { s.row_group + s.batch };
                    assert!(s.batch + row_group + s.part <= s.lane, "{told}");
                    assert!(s.part >= 5 << 20 && s.full >= s.batch / 2 && s.full <= s.batch, "{told}");
                }
            }
        }
    }

    #[test]
    fn little_memory_means_fewer_lanes_and_not_more_memory() {
        assert_eq!(sized(&limits(256, 4, None), &[SourceType::Int]).unwrap().lanes, 4);
        assert_eq!(sized(&limits(78, 4, None), &[SourceType::Int]).unwrap().lanes, 2);
        assert_eq!(sized(&limits(64, 4, None), &[SourceType::Int]).unwrap().lanes, 1);
    }

    #[test]
    fn a_binary_of_64_mib_fits_into_256_mib_and_any_value_into_the_default_budget() {
        let s = sized(&limits(256, 4, None), &[SourceType::Int, SourceType::VarBinaryMax]).unwrap();
        assert_eq!((s.largest_value, s.wide_row), (64 << 20, 64 << 20));
        assert_eq!(sized(&limits(512, 4, None), &[SourceType::NVarCharMax; 9]).unwrap().lanes, 4);
    }

    #[test]
    fn a_budget_below_the_floor_is_refused_with_column_floor_and_remedy() {
        let shown = sized(&limits(256, 4, None), &[SourceType::Int, SourceType::NVarCharMax]).unwrap_err();
        for word in ["dbo.docs", "c1 (nvarchar(max))", "445.0 MiB", "value_mib", "256.0 MiB"] {
            assert!(shown.contains(word), "{word}: {shown}");
        }
        let rows = [SourceType::NVarChar { units: 4000 }; 200];
        let shown = sized(&limits(16, 4, None), &rows).unwrap_err();
        assert!(shown.contains("memory_mib") && !shown.contains("value_mib"), "{shown}");
        assert!(sized(&limits(256, 4, Some(64)), &[SourceType::NVarCharMax]).is_ok());
    }
}
