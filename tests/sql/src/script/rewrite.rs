//! Transact-SQL that the parser library does not know, said in words that it does.

use sqlparser::tokenizer::{Token, TokenWithSpan, Word};

use super::word;

/// MAXRECURSION of an OPTION clause that begins here; 0 means without end.
pub(super) fn max_recursion(tokens: &[TokenWithSpan]) -> Option<u64> {
    let mut inner = tokens
        .iter()
        .filter(|token| !matches!(token.token, Token::Whitespace(_)))
        .take_while(|token| token.token != Token::RParen);
    inner.find(|token| word(&token.token).as_deref() == Some("MAXRECURSION"))?;
    match &inner.next()?.token {
        Token::Number(digits, _) => match digits.parse().ok()? {
            0 => Some(10_000_000),
            rounds => Some(rounds),
        },
        _ => None,
    }
}

fn plain(value: &str, like: &TokenWithSpan) -> TokenWithSpan {
    let keyword = sqlparser::keywords::ALL_KEYWORDS
        .binary_search(&value.to_uppercase().as_str())
        .map_or(sqlparser::keywords::Keyword::NoKeyword, |at| sqlparser::keywords::ALL_KEYWORDS_INDEX[at]);
    let token = Token::Word(Word { value: value.to_owned(), quote_style: None, keyword });
    TokenWithSpan { token, span: like.span }
}

/// `GROUPING SETS (…)` becomes a call, and `name AS (expression)` in a table's columns a generated column.
pub(super) fn rewritten(tokens: Vec<TokenWithSpan>) -> Vec<TokenWithSpan> {
    let mut out: Vec<TokenWithSpan> = Vec::with_capacity(tokens.len());
    let next = |from: usize| {
        let rest = tokens.get(from..).unwrap_or_default();
        let found = rest.iter().position(|token| !matches!(token.token, Token::Whitespace(_)));
        found.map(|at| (from + at, &tokens[from + at].token))
    };
    let mut table = false;
    let mut depth = 0_u32;
    // The depth at which a table's columns stand, and that of the sets' list.
    let (mut columns, mut sets) = (None, None);
    let mut at = 0;
    while at < tokens.len() {
        let token = &tokens[at];
        let here = word(&token.token);
        match &token.token {
            Token::LParen => {
                depth += 1;
                if table && columns.is_none() {
                    columns = Some(depth);
                }
                // An empty set.
                if sets.is_some()
                    && let Some((end, Token::RParen)) = next(at + 1)
                {
                    depth -= 1;
                    out.push(plain("NULL", token));
                    at = end + 1;
                    continue;
                }
            }
            Token::RParen => {
                if columns == Some(depth) {
                    (table, columns) = (false, None);
                }
                if sets == Some(depth) {
                    sets = None;
                }
                depth = depth.saturating_sub(1);
            }
            Token::SemiColon => (table, columns) = (false, None),
            _ => {}
        }
        match here.as_deref() {
            Some("TABLE") if columns.is_none() => table = true,
            Some("GROUPING") => {
                if let Some((end, Token::Word(sets_word))) = next(at + 1)
                    && sets_word.value.eq_ignore_ascii_case("SETS")
                    && let Some((_, Token::LParen)) = next(end + 1)
                {
                    out.push(plain("GROUPING_SETS", token));
                    sets = Some(depth + 1);
                    at = end + 1;
                    continue;
                }
            }
            Some("AS")
                if columns == Some(depth)
                    && matches!(next(at + 1), Some((_, Token::LParen)))
                    && matches!(
                        out.iter().rev().find(|token| !matches!(token.token, Token::Whitespace(_))),
                        Some(TokenWithSpan { token: Token::Word(_), .. })
                    ) =>
            {
                for one in ["sql_variant", "GENERATED", "ALWAYS"] {
                    out.push(plain(one, token));
                    out.push(TokenWithSpan {
                        token: Token::Whitespace(sqlparser::tokenizer::Whitespace::Space),
                        span: token.span,
                    });
                }
            }
            Some("PERSISTED") if columns == Some(depth) => {
                at += 1;
                continue;
            }
            _ => {}
        }
        out.push(token.clone());
        at += 1;
    }
    out
}
