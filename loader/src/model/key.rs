//! Keys: what a table is cut by, and where one chunk ends and the next begins.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::SourceType;

/// A column of an index that the table can be cut by.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct KeyColumn {
    /// Its name, unquoted.
    pub name: String,
    /// Its type.
    pub source: SourceType,
    /// Whether it may be NULL (a primary key's columns may not).
    pub nullable: bool,
}

/// One column's part of a [`Bound`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyPart {
    /// The column's name, unquoted.
    pub column: String,
    /// A T-SQL literal of the column's own type, or `NULL`.
    pub value: String,
}

/// A key in the server's own ascending order, column after column; NULL comes before every value.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bound(pub Vec<KeyPart>);

impl Bound {
    /// The key of one column.
    pub fn of(column: &str, value: &str) -> Self {
        Self(vec![KeyPart { column: column.to_owned(), value: value.to_owned() }])
    }

    /// As the ledger keeps it: JSON.
    pub fn to_text(&self) -> String {
        serde_json::json!(self).to_string()
    }

    /// Reads what [`Bound::to_text`] wrote; `None` for anything else.
    pub fn from_text(text: &str) -> Option<Self> {
        serde_json::from_str(text).ok().filter(|Self(parts)| !parts.is_empty())
    }

    fn columns(&self) -> String {
        tuple(self.0.iter().map(|part| part.column.as_str()))
    }
}

/// The values: `5`, or `(5, N'x')`.
impl fmt::Display for Bound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&tuple(self.0.iter().map(|part| part.value.as_str())))
    }
}

fn tuple<'a>(words: impl ExactSizeIterator<Item = &'a str>) -> String {
    let single = words.len() == 1;
    let words = words.collect::<Vec<_>>().join(", ");
    if single { words } else { format!("({words})") }
}

/// A half-open range of keys. Without bounds it is the whole table.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct KeyRange {
    /// The first key inside, or none from the start (NULL keys sort first and belong here).
    pub lower: Option<Bound>,
    /// The first key outside, or none to the end.
    pub upper: Option<Bound>,
}

impl fmt::Display for KeyRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.lower, &self.upper) {
            (None, None) => f.write_str("the whole table"),
            (Some(lower), None) => write!(f, "{} >= {lower}", lower.columns()),
            (None, Some(upper)) => write!(f, "{} < {upper}", upper.columns()),
            (Some(lower), Some(upper)) => write!(f, "{lower} <= {} < {upper}", lower.columns()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn two(a: &str, b: &str) -> Bound {
        let part = |column: &str, value: &str| KeyPart { column: column.to_owned(), value: value.to_owned() };
        Bound(vec![part("a", a), part("b]", b)])
    }

    #[test]
    fn a_bound_comes_back_from_the_ledger_as_it_was() {
        let bound = two("CAST('1.5' AS decimal(5,2))", "N'O''Neil \"\\'");
        assert_eq!(Bound::from_text(&bound.to_text()), Some(bound));
        assert_eq!(Bound::from_text("101"), None);
        assert_eq!(Bound::from_text("[]"), None);
    }

    #[test]
    fn ranges_read_as_mathematics() {
        let range = |lower, upper| KeyRange { lower, upper }.to_string();
        assert_eq!(range(Some(two("1", "2")), Some(two("1", "5"))), "(1, 2) <= (a, b]) < (1, 5)");
        assert_eq!(range(None, Some(Bound::of("id", "7"))), "id < 7");
        assert_eq!(range(Some(Bound::of("id", "7")), None), "id >= 7");
        assert_eq!(range(None, None), "the whole table");
    }
}
