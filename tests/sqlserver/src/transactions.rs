//! Transaction manager requests (MS-TDS 2.2.6.9), turned into the T-SQL that means the same.

use crate::packet::{Reader, WireError};
use crate::rpc::skip_headers;

const BEGIN: u16 = 5;
const COMMIT: u16 = 7;
const ROLLBACK: u16 = 8;
const SAVE: u16 = 9;
/// The flag by which a commit or rollback begins the next transaction at once.
const AND_BEGIN: u8 = 0x01;

/// The batch that a request stands for.
pub(crate) fn statement(body: &[u8]) -> Result<String, WireError> {
    let mut reader = Reader::new(body, "transaction request");
    skip_headers(&mut reader)?;
    match reader.u16()? {
        BEGIN => begin(&mut reader),
        COMMIT => {
            name(&mut reader)?;
            Ok(format!("COMMIT TRANSACTION{}", and_begin(&mut reader)?))
        }
        ROLLBACK => {
            let name = name(&mut reader)?;
            Ok(format!("ROLLBACK TRANSACTION{name}{}", and_begin(&mut reader)?))
        }
        SAVE => Ok(format!("SAVE TRANSACTION{}", name(&mut reader)?)),
        other => Err(WireError::malformed("transaction request", format!("kind {other}"))),
    }
}

fn begin(reader: &mut Reader<'_>) -> Result<String, WireError> {
    let isolation = match reader.u8()? {
        0 => "",
        1 => "SET TRANSACTION ISOLATION LEVEL READ UNCOMMITTED; ",
        2 => "SET TRANSACTION ISOLATION LEVEL READ COMMITTED; ",
        3 => "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ; ",
        4 => "SET TRANSACTION ISOLATION LEVEL SERIALIZABLE; ",
        5 => "SET TRANSACTION ISOLATION LEVEL SNAPSHOT; ",
        other => return Err(WireError::malformed("transaction request", format!("isolation level {other}"))),
    };
    Ok(format!("{isolation}BEGIN TRANSACTION{}", name(reader)?))
}

/// A name in brackets with a blank before it, or nothing.
fn name(reader: &mut Reader<'_>) -> Result<String, WireError> {
    let bytes = usize::from(reader.u8()?);
    let name = reader.utf16(bytes / 2)?;
    Ok(if name.is_empty() { String::new() } else { format!(" [{}]", name.replace(']', "]]")) })
}

fn and_begin(reader: &mut Reader<'_>) -> Result<String, WireError> {
    if reader.is_empty() || reader.u8()? & AND_BEGIN == 0 {
        return Ok(String::new());
    }
    Ok(format!("; {}", begin(reader)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(rest: &[u8]) -> Vec<u8> {
        let mut body = vec![4, 0, 0, 0];
        body.extend(rest);
        body
    }

    #[test]
    fn requests_become_their_statements() {
        let snapshot = statement(&request(&[5, 0, 5, 0])).unwrap();
        assert_eq!(snapshot, "SET TRANSACTION ISOLATION LEVEL SNAPSHOT; BEGIN TRANSACTION");
        assert_eq!(statement(&request(&[7, 0, 0, 0])).unwrap(), "COMMIT TRANSACTION");
        assert_eq!(statement(&request(&[8, 0, 2, b'a', 0, 0])).unwrap(), "ROLLBACK TRANSACTION [a]");
        assert!(statement(&request(&[99, 0])).is_err());
    }
}
