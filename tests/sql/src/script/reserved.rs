//! Transact-SQL's reserved words, and what a syntax error says of them.

use sqlparser::tokenizer::{Token, TokenWithSpan};

/// Words that cannot be names without brackets.
const KEYWORDS: &[&str] = &[
    "ADD",
    "ALL",
    "ALTER",
    "AND",
    "ANY",
    "AS",
    "ASC",
    "BEGIN",
    "BETWEEN",
    "BREAK",
    "BY",
    "CASE",
    "CHECK",
    "CLOSE",
    "COLLATE",
    "COLUMN",
    "COMMIT",
    "CONSTRAINT",
    "CONTINUE",
    "CREATE",
    "CROSS",
    "CURSOR",
    "DATABASE",
    "DEALLOCATE",
    "DECLARE",
    "DEFAULT",
    "DELETE",
    "DESC",
    "DISTINCT",
    "DROP",
    "ELSE",
    "END",
    "ESCAPE",
    "EXCEPT",
    "EXEC",
    "EXECUTE",
    "EXISTS",
    "FETCH",
    "FOR",
    "FOREIGN",
    "FROM",
    "FULL",
    "FUNCTION",
    "GOTO",
    "GRANT",
    "GROUP",
    "HAVING",
    "IDENTITY",
    "IF",
    "IN",
    "INDEX",
    "INNER",
    "INSERT",
    "INTERSECT",
    "INTO",
    "IS",
    "JOIN",
    "KEY",
    "LEFT",
    "LIKE",
    "MERGE",
    "NOT",
    "NULL",
    "OF",
    "OFF",
    "ON",
    "OPEN",
    "OPTION",
    "OR",
    "ORDER",
    "OUTER",
    "OVER",
    "PERCENT",
    "PIVOT",
    "PRIMARY",
    "PRINT",
    "PROC",
    "PROCEDURE",
    "REFERENCES",
    "RETURN",
    "REVOKE",
    "RIGHT",
    "ROLLBACK",
    "SAVE",
    "SCHEMA",
    "SELECT",
    "SET",
    "TABLE",
    "THEN",
    "TO",
    "TOP",
    "TRAN",
    "TRANSACTION",
    "TRIGGER",
    "TRUNCATE",
    "UNION",
    "UNIQUE",
    "UNPIVOT",
    "UPDATE",
    "USE",
    "VALUES",
    "VIEW",
    "WAITFOR",
    "WHEN",
    "WHERE",
    "WHILE",
    "WITH",
];

/// Words after which a name or a value has to come.
const OPENERS: &[&str] = &["FROM", "JOIN", "WHERE", "HAVING", "BY", "AND", "OR", "INTO", "SELECT"];
/// Words that begin the next clause, and so can be neither.
const CLAUSES: &[&str] = &[
    "FROM",
    "WHERE",
    "GROUP",
    "ORDER",
    "HAVING",
    "JOIN",
    "INNER",
    "ON",
    "UNION",
    "EXCEPT",
    "INTERSECT",
    "AND",
    "OR",
    "THEN",
    "WHEN",
    "END",
    "INTO",
    "SET",
    "BY",
];

/// Whether this is a reserved word.
pub(super) fn is_keyword(found: &str) -> bool {
    let upper = found.to_uppercase();
    KEYWORDS.contains(&upper.as_str())
}

/// Whether a batch that begins with this word may be a call of a procedure of that name.
pub(super) fn calls(first: &str) -> bool {
    first.starts_with("SP_") || first.starts_with("XP_")
}

/// What the parser says that it found, and its line.
pub(super) fn found(message: &str) -> Option<(&str, u64)> {
    let (_, rest) = message.rsplit_once("found: ")?;
    let (found, place) = rest.rsplit_once(" at Line: ")?;
    let line = place.split(',').next()?.trim().parse().ok()?;
    (found != "EOF").then_some((found, line))
}

/// The first reserved word that stands where only a name or a value may, with its line.
pub(super) fn misplaced(tokens: &[TokenWithSpan]) -> Option<(u64, String)> {
    let mut last = String::new();
    // The words of a privilege are no statement: GRANT SELECT ON.
    let mut granting = false;
    for token in tokens.iter().filter(|token| !matches!(token.token, Token::Whitespace(_))) {
        let word = super::word(&token.token).unwrap_or_default();
        // FETCH NEXT FROM and `IS [NOT] DISTINCT FROM` end with a FROM that opens no clause; a word between
        // BEGIN … AND has its value before it. Only what follows directly is judged.
        match word.as_str() {
            "GRANT" | "DENY" | "REVOKE" => granting = true,
            "TO" => granting = false,
            _ if token.token == Token::SemiColon => granting = false,
            _ => {}
        }
        if !granting && OPENERS.contains(&last.as_str()) && CLAUSES.contains(&word.as_str()) {
            let shown = token.token.to_string();
            return Some((token.span.start.line, shown));
        }
        last = word;
    }
    None
}
