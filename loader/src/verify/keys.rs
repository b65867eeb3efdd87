//! Keys as both servers order them: which types can be searched by ranges, and their literals at the target.

use crate::model::SourceType;

/// Why ranges of this key do not mean the same rows on both sides.
pub(crate) fn unordered(source: SourceType) -> Option<&'static str> {
    match source {
        SourceType::UniqueIdentifier => {
            Some("SQL Server orders a uniqueidentifier by its last bytes, Snowflake its text")
        }
        SourceType::Bit => Some("a bit has two values only"),
        SourceType::Real | SourceType::Float => Some("a float's printed form does not name it exactly"),
        SourceType::Decimal { scale: 38, .. } => Some("its numbers are text at Snowflake"),
        SourceType::TinyInt
        | SourceType::SmallInt
        | SourceType::Int
        | SourceType::BigInt
        | SourceType::Decimal { .. }
        | SourceType::Money
        | SourceType::SmallMoney
        | SourceType::Date
        | SourceType::SmallDateTime
        | SourceType::DateTime
        | SourceType::DateTime2 { .. }
        | SourceType::Binary { .. } => None,
        _ => Some("SQL Server orders it by its collation, or pads it, and Snowflake compares bytes"),
    }
}

/// The target's literal of a key value that SQL Server printed; `None` when the text is not of the expected form.
pub(crate) fn target_literal(source: SourceType, text: &str) -> Option<String> {
    let made_of = |more: &str| {
        !text.is_empty() && text.len() < 64 && text.chars().all(|c| c.is_ascii_digit() || more.contains(c))
    };
    match source {
        SourceType::TinyInt | SourceType::SmallInt | SourceType::Int | SourceType::BigInt => {
            text.parse::<i64>().ok().map(|number| number.to_string())
        }
        SourceType::Decimal { .. } | SourceType::Money | SourceType::SmallMoney => {
            made_of("-.").then(|| text.to_owned())
        }
        SourceType::Date => made_of("-").then(|| format!("'{text}'::DATE")),
        SourceType::SmallDateTime | SourceType::DateTime | SourceType::DateTime2 { .. } => {
            made_of("-:. T").then(|| format!("'{}'::TIMESTAMP_NTZ(9)", text.replace('T', " ")))
        }
        SourceType::Binary { .. } => {
            let digits = text.strip_prefix("0x").or_else(|| text.strip_prefix("0X"))?;
            let whole = digits.len().is_multiple_of(2) && digits.bytes().all(|b| b.is_ascii_hexdigit());
            whole.then(|| format!("TO_BINARY('{digits}', 'HEX')"))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_key_type_that_both_order_alike_has_a_literal_at_the_target() {
        let written = [
            target_literal(SourceType::BigInt, "-9223372036854775808"),
            target_literal(SourceType::Decimal { precision: 10, scale: 2 }, "-12.50"),
            target_literal(SourceType::Date, "0001-01-01"),
            target_literal(SourceType::DateTime, "2020-02-29 23:59:59.997"),
            target_literal(SourceType::DateTime2 { scale: 7 }, "9999-12-31T23:59:59.9999999"),
            target_literal(SourceType::Binary { bytes: 2 }, "0x00FF"),
        ];
        let written: Vec<_> = written.into_iter().map(|l| l.expect("a literal")).collect();
        insta::assert_snapshot!(written.join("\n"), @r"
        -9223372036854775808
        -12.50
        '0001-01-01'::DATE
        '2020-02-29 23:59:59.997'::TIMESTAMP_NTZ(9)
        '9999-12-31 23:59:59.9999999'::TIMESTAMP_NTZ(9)
        TO_BINARY('00FF', 'HEX')
        ");
        assert_eq!(target_literal(SourceType::Int, "1 OR 1=1"), None);
        assert_eq!(target_literal(SourceType::Date, "2020-01-01'"), None);
        assert_eq!(target_literal(SourceType::NVarChar { units: 9 }, "a"), None);
    }

    #[test]
    fn keys_that_the_servers_order_differently_are_not_searched() {
        assert!(unordered(SourceType::UniqueIdentifier).is_some());
        assert!(unordered(SourceType::NVarChar { units: 9 }).is_some());
        assert!(unordered(SourceType::VarBinary { bytes: 9 }).is_some());
        assert!(unordered(SourceType::Decimal { precision: 38, scale: 37 }).is_none());
    }
}
