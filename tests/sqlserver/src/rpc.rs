//! The RPC request (MS-TDS 2.2.6.6): which procedure, with which arguments.

use keyferry_sql::Collation;

use crate::packet::{Reader, WireError};
use crate::parameters::{self, Argument};

/// More arguments than SQL Server allows (2,100) are refused.
const MAX_ARGUMENTS: usize = 2_100;
/// Calls that one message may hold.
const MAX_CALLS: usize = 100_000;
const BY_NUMBER: u16 = 0xFFFF;
/// What separates two calls: before TDS 7.2 and since, and the form in which nothing is executed.
const BATCH_FLAGS: [u8; 3] = [0x80, 0xFF, 0xFE];

/// The procedures that clients call by number or name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Procedure {
    ExecuteSql,
    Prepare,
    Execute,
    PrepareAndExecute,
    Unprepare,
    Other(String),
}

impl Procedure {
    fn from_number(number: u16) -> Self {
        match number {
            10 => Self::ExecuteSql,
            11 => Self::Prepare,
            12 => Self::Execute,
            13 => Self::PrepareAndExecute,
            15 => Self::Unprepare,
            other => Self::Other(format!("(number {other})")),
        }
    }

    fn from_name(name: String) -> Self {
        let bare = name.trim_start_matches("sys.").trim_start_matches("[sys].").trim_matches(['[', ']']);
        match bare.to_ascii_lowercase().as_str() {
            "sp_executesql" => Self::ExecuteSql,
            "sp_prepare" => Self::Prepare,
            "sp_execute" => Self::Execute,
            "sp_prepexec" => Self::PrepareAndExecute,
            "sp_unprepare" => Self::Unprepare,
            _ => Self::Other(name),
        }
    }
}

/// One call.
#[derive(Debug)]
pub(crate) struct Call {
    pub(crate) procedure: Procedure,
    pub(crate) arguments: Vec<Argument>,
}

impl Call {
    /// Reads a message body, headers included: one call, or several that are to run one after the other.
    pub(crate) fn parse(body: &[u8], collation: Collation) -> Result<Vec<Self>, WireError> {
        let mut reader = Reader::new(body, "RPC request");
        skip_headers(&mut reader)?;
        let mut calls = Vec::new();
        loop {
            if calls.len() == MAX_CALLS {
                let found = format!("more than {MAX_CALLS} calls in one message");
                return Err(WireError::malformed("RPC request", found));
            }
            let (call, more) = Self::read(&mut reader, collation)?;
            calls.push(call);
            if !more || reader.is_empty() {
                return Ok(calls);
            }
        }
    }

    /// Reads one call; true: another one follows.
    fn read(reader: &mut Reader<'_>, collation: Collation) -> Result<(Self, bool), WireError> {
        let procedure = match reader.u16()? {
            BY_NUMBER => Procedure::from_number(reader.u16()?),
            units => Procedure::from_name(reader.utf16(usize::from(units))?),
        };
        reader.u16()?; // options: recompile, no metadata
        let mut arguments = Vec::new();
        while let Some(first) = reader.rest().first() {
            // A parameter begins with the length of its name, which is at most 128.
            if BATCH_FLAGS.contains(first) {
                reader.u8()?;
                return Ok((Self { procedure, arguments }, true));
            }
            if arguments.len() == MAX_ARGUMENTS {
                return Err(WireError::malformed(
                    "RPC request",
                    format!("more than {MAX_ARGUMENTS} arguments"),
                ));
            }
            arguments.push(parameters::read(reader, collation)?);
        }
        Ok((Self { procedure, arguments }, false))
    }
}

/// Skips `ALL_HEADERS`, which every request begins with.
pub(crate) fn skip_headers(reader: &mut Reader<'_>) -> Result<(), WireError> {
    let total = reader.u32()? as usize;
    let rest = total.checked_sub(4).ok_or_else(|| {
        WireError::malformed("request", format!("headers of {total} bytes; a TDS 7.2 client is expected"))
    })?;
    let mut headers = Reader::new(reader.take(rest)?, "request headers");
    while !headers.is_empty() {
        let length = headers.u32()? as usize;
        let body = length.checked_sub(6);
        headers.u16()?; // its type: notification, transaction, trace
        let body = body.ok_or_else(|| WireError::malformed("request headers", format!("length {length}")))?;
        headers.take(body)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use keyferry_sql::Value;

    use super::*;

    const HEADERS: [u8; 22] = [22, 0, 0, 0, 18, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0];

    #[test]
    fn a_call_by_number_with_a_parameter_is_read() {
        let mut body = HEADERS.to_vec();
        body.extend([0xFF, 0xFF, 15, 0, 0, 0, 0, 0, 0x26, 4, 4, 7, 0, 0, 0]);
        let calls = Call::parse(&body, Collation::default()).unwrap();
        assert_eq!((calls.len(), &calls[0].procedure), (1, &Procedure::Unprepare));
        assert_eq!(calls[0].arguments[0].value, Value::Int(7));
    }

    #[test]
    fn several_calls_in_one_message_are_told_apart() {
        let one = [0xFF, 0xFF, 15, 0, 0, 0, 0, 0, 0x26, 4, 4, 7, 0, 0, 0];
        for separator in BATCH_FLAGS {
            let body: Vec<u8> =
                HEADERS.into_iter().chain(one).chain([separator]).chain(one).chain([separator]).collect();
            assert_eq!(Call::parse(&body, Collation::default()).unwrap().len(), 2);
        }
    }

    #[test]
    fn several_calls_of_one_message_are_read_in_their_order() {
        let one = |number: u8| [0xFF, 0xFF, 15, 0, 0, 0, 0, 0, 0x26, 4, 4, number, 0, 0, 0];
        let body = [&HEADERS[..], &one(7), &[0xFF], &one(8), &[0x80], &one(9)].concat();
        let calls = Call::parse(&body, Collation::default()).unwrap();
        let numbers: Vec<&Value> = calls.iter().map(|call| &call.arguments[0].value).collect();
        assert_eq!(numbers, [&Value::Int(7), &Value::Int(8), &Value::Int(9)]);
    }

    #[test]
    fn headers_that_overrun_or_do_not_advance_are_refused() {
        for bytes in [
            [3, 0, 0, 0, 0, 0, 0, 0, 0, 0],
            [200, 0, 0, 0, 18, 0, 0, 0, 2, 0],
            [10, 0, 0, 0, 0, 0, 0, 0, 2, 0],
        ] {
            assert!(skip_headers(&mut Reader::new(&bytes, "test")).is_err());
        }
    }
}
