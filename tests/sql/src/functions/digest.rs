//! Digests and encodings.

use aws_lc_rs::digest;

use crate::{
    bind::{Binder, operators::exact},
    cast::strings::{hex, unhex},
    error::SqlError,
    expr::Typed,
    functions::{Arguments, take},
    types::{DataType, Length},
    value::Value,
};

pub(crate) fn call(
    binder: &Binder<'_>,
    name: &str,
    arguments: &mut Arguments,
) -> Result<Option<Typed>, SqlError> {
    let snowflake = binder.is_snowflake();
    let text = DataType::String { length: DataType::SNOWFLAKE_DEFAULT_TEXT };
    let bytes = DataType::Bytes { length: DataType::SNOWFLAKE_DEFAULT_BYTES };
    let number = DataType::Number { precision: 38, scale: 0 };
    let typed = match (name, snowflake) {
        ("HASHBYTES", false) => {
            let Some(list) = take(arguments, 2..=2) else { return Ok(None) };
            let of = list[1].ty.clone();
            let code_page = of.collation().filter(|_| of.has_code_page());
            if !(of.is_text() || of.is_binary() || of == DataType::Null) {
                return Err(SqlError::mssql(
                    8116,
                    format!(
                        "Argument data type {} is invalid for argument 2 of hashbytes function.",
                        of.name()
                    ),
                ));
            }
            let ty = DataType::VarBinary { length: Length::Fixed(8000) };
            binder.strict(list, ty, move |values| {
                let Value::Text(algorithm) = &values[0] else { return Ok(Value::Null) };
                let input = match &values[1] {
                    Value::Bytes(bytes) => bytes.to_vec(),
                    Value::Text(text) => match code_page {
                        Some(collation) => collation.encode(text).into_owned(),
                        None => text.utf16le(),
                    },
                    _ => return Ok(Value::Null),
                };
                Ok(match algorithm.lossy().to_ascii_uppercase().as_str() {
                    "MD5" => Value::bytes(md5(&input)),
                    "SHA" | "SHA1" => sha(&digest::SHA1_FOR_LEGACY_USE_ONLY, &input),
                    "SHA2_256" => sha(&digest::SHA256, &input),
                    "SHA2_512" => sha(&digest::SHA512, &input),
                    _ => Value::Null,
                })
            })
        }
        ("MD5" | "MD5_HEX", true) => {
            of_bytes(binder, arguments, text, |input| Value::text(hex(&md5(input)).to_lowercase()))?
        }
        ("MD5_BINARY", true) => of_bytes(binder, arguments, bytes, |input| Value::bytes(md5(input)))?,
        ("MD5_NUMBER_LOWER64", true) => of_bytes(binder, arguments, number, |input| half(&md5(input), 8))?,
        ("MD5_NUMBER_UPPER64", true) => of_bytes(binder, arguments, number, |input| half(&md5(input), 0))?,
        ("SHA1" | "SHA1_HEX", true) => of_bytes(binder, arguments, text, |input| {
            Value::text(hex(digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, input).as_ref()).to_lowercase())
        })?,
        ("SHA2" | "SHA2_HEX" | "SHA2_BINARY", true) => {
            let Some(list) = take(arguments, 1..=2) else { return Ok(None) };
            let binary = name == "SHA2_BINARY";
            let bad = |bits: i128| {
                SqlError::snowflake(100_183, "22023", format!("Invalid digest size {bits} for SHA2"))
            };
            binder.strict(list, if binary { bytes } else { text }, move |values| {
                let Some(input) = input_of(&values[0]) else { return Ok(Value::Null) };
                let bits = values.get(1).map_or(256, |bits| exact(bits).trunc());
                let algorithm = match bits {
                    224 => &digest::SHA224,
                    256 => &digest::SHA256,
                    384 => &digest::SHA384,
                    512 => &digest::SHA512,
                    other => return Err(bad(other)),
                };
                let digest = digest::digest(algorithm, &input);
                Ok(if binary {
                    Value::bytes(digest.as_ref())
                } else {
                    Value::text(hex(digest.as_ref()).to_lowercase())
                })
            })
        }
        ("HEX_ENCODE", true) => {
            let Some(list) = take(arguments, 1..=2) else { return Ok(None) };
            binder.strict(list, text, |values| {
                let upper = values.get(1).is_none_or(|case| exact(case).unscaled != 0);
                Ok(input_of(&values[0]).map_or(Value::Null, |input| {
                    let digits = hex(&input);
                    Value::text(if upper { digits } else { digits.to_lowercase() })
                }))
            })
        }
        ("HEX_DECODE_BINARY" | "TRY_HEX_DECODE_BINARY" | "HEX_DECODE_STRING", true) => {
            let Some(list) = take(arguments, 1..=1) else { return Ok(None) };
            let quiet = name.starts_with("TRY");
            let as_text = name.ends_with("STRING");
            binder.strict(list, if as_text { text } else { bytes }, move |values| {
                let Value::Text(digits) = &values[0] else { return Ok(Value::Null) };
                match unhex(&digits.lossy()) {
                    Some(bytes) if as_text => Ok(Value::text(String::from_utf8_lossy(&bytes))),
                    Some(bytes) => Ok(Value::bytes(bytes)),
                    None if quiet => Ok(Value::Null),
                    None => Err(SqlError::snowflake(
                        100_115,
                        "22000",
                        format!(
                            "The following string is not a legal hex-encoded value: '{}'",
                            crate::error::quote(digits.lossy())
                        ),
                    )),
                }
            })
        }
        ("TO_BINARY" | "TRY_TO_BINARY", true) => {
            let Some(list) = take(arguments, 1..=2) else { return Ok(None) };
            let quiet = name.starts_with("TRY");
            binder.strict(list, bytes, move |values| {
                let format = match values.get(1) {
                    Some(Value::Text(format)) => format.lossy().to_ascii_uppercase().replace('-', ""),
                    _ => "HEX".to_owned(),
                };
                match (&values[0], format.as_str()) {
                    (Value::Bytes(_), _) => Ok(values[0].clone()),
                    (Value::Text(text), "UTF8") => Ok(Value::bytes(text.lossy().as_bytes())),
                    (Value::Text(text), "HEX") => match unhex(&text.lossy()) {
                        Some(bytes) => Ok(Value::bytes(bytes)),
                        None if quiet => Ok(Value::Null),
                        None => Err(SqlError::snowflake(
                            100_115,
                            "22000",
                            format!(
                                "The following string is not a legal hex-encoded value: '{}'",
                                crate::error::quote(text.lossy())
                            ),
                        )),
                    },
                    _ => Err(SqlError::snowflake(
                        100_183,
                        "22023",
                        format!("Invalid binary format '{format}'"),
                    )),
                }
            })
        }
        _ => return Ok(None),
    };
    Ok(Some(typed))
}

fn input_of(value: &Value) -> Option<Vec<u8>> {
    match value {
        Value::Text(text) => Some(text.lossy().into_owned().into_bytes()),
        Value::Bytes(bytes) => Some(bytes.to_vec()),
        _ => None,
    }
}

fn of_bytes(
    binder: &Binder<'_>,
    arguments: &mut Arguments,
    ty: DataType,
    function: impl Fn(&[u8]) -> Value + Send + Sync + 'static,
) -> Result<Typed, SqlError> {
    let Some(list) = take(arguments, 1..=1) else {
        return Err(crate::functions::unknown(binder, "digest", &[]));
    };
    let list = list
        .into_iter()
        .map(|one| {
            if one.ty.is_text() || one.ty.is_binary() {
                Ok(one)
            } else {
                binder.cast(one, &binder.wide_text())
            }
        })
        .collect::<Result<Vec<_>, _>>()?;
    Ok(binder.strict(list, ty, move |values| {
        Ok(input_of(&values[0]).map_or(Value::Null, |input| function(&input)))
    }))
}

fn sha(algorithm: &'static digest::Algorithm, input: &[u8]) -> Value {
    Value::bytes(digest::digest(algorithm, input).as_ref())
}

/// Eight bytes of a digest as an unsigned big-endian number.
fn half(digest: &[u8; 16], from: usize) -> Value {
    let number = digest[from..from + 8].iter().fold(0_u64, |number, byte| number << 8 | u64::from(*byte));
    Value::number(i128::from(number))
}

/// RFC 1321. The digest library here has no MD5, and the databases' functions need it.
pub(crate) fn md5(input: &[u8]) -> [u8; 16] {
    const SHIFTS: [[u32; 4]; 4] = [[7, 12, 17, 22], [5, 9, 14, 20], [4, 11, 16, 23], [6, 10, 15, 21]];
    let mut state: [u32; 4] = [0x6745_2301, 0xefcd_ab89, 0x98ba_dcfe, 0x1032_5476];
    let mut padded = input.to_vec();
    padded.push(0x80);
    padded.resize((padded.len() + 8).next_multiple_of(64), 0);
    let end = padded.len() - 8;
    padded[end..].copy_from_slice(&(input.len() as u64 * 8).to_le_bytes());
    for block in padded.chunks_exact(64) {
        let words: Vec<u32> = block
            .chunks_exact(4)
            .map(|word| u32::from_le_bytes([word[0], word[1], word[2], word[3]]))
            .collect();
        let [mut a, mut b, mut c, mut d] = state;
        for i in 0..64_usize {
            let (mix, at) = match i / 16 {
                0 => ((b & c) | (!b & d), i),
                1 => ((d & b) | (!d & c), (5 * i + 1) % 16),
                2 => (b ^ c ^ d, (3 * i + 5) % 16),
                _ => (c ^ (b | !d), (7 * i) % 16),
            };
            let constant = (((i + 1) as f64).sin().abs() * 4_294_967_296.0) as u32;
            let sum = a.wrapping_add(mix).wrapping_add(constant).wrapping_add(words[at]);
            (a, d, c) = (d, c, b);
            b = b.wrapping_add(sum.rotate_left(SHIFTS[i / 16][i % 4]));
        }
        for (word, add) in state.iter_mut().zip([a, b, c, d]) {
            *word = word.wrapping_add(add);
        }
    }
    let mut out = [0; 16];
    for (bytes, word) in out.chunks_exact_mut(4).zip(state) {
        bytes.copy_from_slice(&word.to_le_bytes());
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn md5_agrees_with_rfc_1321() {
        let shown = |text: &str| hex(&md5(text.as_bytes())).to_lowercase();
        assert_eq!(shown(""), "d41d8cd98f00b204e9800998ecf8427e");
        assert_eq!(shown("message digest"), "f96b697d7cb7938d525a2f31aaf161d0");
        assert_eq!(
            shown("12345678901234567890123456789012345678901234567890123456789012345678901234567890"),
            "57edf4a22be3c955ac49da2e2107b67a"
        );
        // Lengths around the block's end, where the padding needs a block of its own.
        assert_eq!(hex(&md5(&[b'a'; 63])).to_lowercase(), "b06521f39153d618550606be297466d5");
        assert_eq!(hex(&md5(&[b'a'; 64])).to_lowercase(), "014842d480b571495a4a0363793f7367");
    }
}
