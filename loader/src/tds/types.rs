//! The types as the wire describes them.

/// One column of a result set, as COLMETADATA describes it.
#[derive(Clone, Debug)]
pub struct ColumnMeta {
    /// The column's name.
    pub name: String,
    /// Whether NULL may come.
    pub nullable: bool,
}
