//! From the file's words to checked types. Every refusal names line, column and the fix.

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    time::Duration,
};

use keyferry_sandbox::Settings;
use serde_saphyr::{Location, Spanned};

use super::{
    BrokerAddress, ByteSize, ConfigError, Consistency, Encryption, Identifiers, Limits, Pipeline, Source,
    Table, Target, error, raw,
};
use crate::{model::TableName, witness::Level};

/// SQL Server's and Snowflake's own bounds, in characters.
const MAX_SOURCE_NAME: usize = 128;
const MAX_TARGET_NAME: usize = 200;

pub(super) struct Checker<'a> {
    pub file: &'a Path,
    pub dir: &'a Path,
}

type Checked<T> = Result<T, ConfigError>;

impl Checker<'_> {
    pub(super) fn pipeline(&self, raw: raw::Pipeline) -> Checked<Pipeline> {
        let identifiers = self.identifiers(raw.target.identifiers.as_ref())?;
        Ok(Pipeline {
            file: self.file.to_owned(),
            name: self.name(raw.pipeline, "the pipeline's name", MAX_SOURCE_NAME)?,
            broker: BrokerAddress {
                socket: self.path(raw.broker.socket),
                server_uid: raw.broker.server_uid,
                service_account_token: raw.broker.service_account_token.map(|path| self.path(path)),
            },
            source: self.source(raw.source)?,
            target: self.target(raw.target, identifiers)?,
            limits: self.limits(raw.limits)?,
            verify: self.level(raw.verify.as_ref())?,
            sandbox: Settings { mode: raw.sandbox.mode, strict: raw.sandbox.strict },
            connect_ports: raw.sandbox.connect_ports,
            tables: self.tables(raw.tables, identifiers)?,
        })
    }

    fn level(&self, word: Option<&Spanned<String>>) -> Checked<Level> {
        let Some(word) = word else { return Ok(Level::default()) };
        match Level::parse(&word.value) {
            Some(level) => Ok(level),
            None => self.unknown_value(word.referenced, &word.value, &Level::WORDS),
        }
    }

    fn source(&self, raw: raw::Source) -> Checked<Source> {
        let encrypt = match &raw.encrypt {
            None => Encryption::Required,
            Some(word) => match word.value.as_str() {
                "required" => Encryption::Required,
                "strict" => Encryption::Strict,
                "login_only" => Encryption::LoginOnly,
                "off" if raw.allow_plaintext => Encryption::Off,
                "off" => {
                    return self.refuse(
                        word.referenced,
                        "`encrypt: off` sends rows in the clear; write `allow_plaintext: true` beside it if that \
                         is meant, or `encrypt: required`",
                    );
                }
                other => {
                    return self.unknown_value(
                        word.referenced,
                        other,
                        &["required", "strict", "login_only", "off"],
                    );
                }
            },
        };
        let consistency = match &raw.consistency {
            None => Consistency::PerChunk,
            Some(word) => match word.value.as_str() {
                "per_chunk" => Consistency::PerChunk,
                "read_committed" => Consistency::ReadCommitted,
                "per_run" if raw.database_snapshot.is_some() => Consistency::PerRunSnapshot,
                "per_run" if raw.read_intent => {
                    return self.refuse(
                        word.referenced,
                        "`per_run` takes locks, which a readable secondary ignores: name a `database_snapshot`, or leave \
                         `read_intent` out",
                    );
                }
                "per_run" => Consistency::PerRunBarrier,
                other => {
                    return self.unknown_value(
                        word.referenced,
                        other,
                        &["per_chunk", "per_run", "read_committed"],
                    );
                }
            },
        };
        if let Some(snapshot) = &raw.database_snapshot
            && consistency != Consistency::PerRunSnapshot
        {
            return self.refuse(
                snapshot.referenced,
                "`database_snapshot` is one point in time for the whole run; write `consistency: per_run` beside it",
            );
        }
        let port = match raw.port {
            Some(port) if port.value == 0 => return self.refuse(port.referenced, "port 0 reaches no server"),
            port => port.map(|p| p.value),
        };
        Ok(Source {
            host: raw.host.map(|h| self.name(h, "the host", 253)).transpose()?,
            port,
            database: self.name(raw.database, "the database", MAX_SOURCE_NAME)?,
            grant: self.name(raw.grant, "the grant", MAX_SOURCE_NAME)?,
            encrypt,
            ca_file: raw.ca_file.map(|p| self.path(p)),
            certificate_sha256: raw.certificate_sha256.map(|pin| self.pin(&pin)).transpose()?,
            consistency,
            database_snapshot: raw
                .database_snapshot
                .map(|name| self.name(name, "the database snapshot", MAX_SOURCE_NAME))
                .transpose()?,
            read_intent: raw.read_intent,
            silence: self.seconds(raw.silence_seconds, "silence_seconds", 300)?,
        })
    }

    fn target(&self, raw: raw::Target, identifiers: Identifiers) -> Checked<Target> {
        let name = |text, what| self.name(text, what, MAX_TARGET_NAME).map(|n| identifiers.apply(&n));
        let allow = raw.stage_endpoint_allow.into_iter().map(|host| {
            let valid =
                host.value.rsplit_once(':').is_some_and(|(h, p)| !h.is_empty() && p.parse::<u16>().is_ok());
            if valid {
                Ok(host.value)
            } else {
                self.refuse(host.referenced, format!("`{}` is not HOST:PORT", host.value))
            }
        });
        Ok(Target {
            grant: self.name(raw.grant, "the grant", MAX_SOURCE_NAME)?,
            role: raw.role,
            warehouse: raw.warehouse,
            database: name(raw.database, "the database")?,
            schema: name(raw.schema, "the schema")?,
            identifiers,
            tags: raw.tags,
            ca_file: raw.ca_file.map(|p| self.path(p)),
            stage_endpoint_allow: allow.collect::<Checked<_>>()?,
            stage: raw.stage.map_or_else(|| Ok("KEYFERRY_STAGE".into()), |stage| name(stage, "the stage"))?,
        })
    }

    fn limits(&self, raw: raw::Limits) -> Checked<Limits> {
        let limits = Limits {
            connections: self.number(raw.connections, "connections", 4, 1..=64)? as usize,
            committers: self.number(raw.committers, "committers", 2, 1..=16)? as usize,
            batch_rows: self.number(raw.batch_rows, "batch_rows", 50_000, 1..=1_000_000)? as usize,
            chunk: ByteSize::mib(self.number(raw.chunk_mib, "chunk_mib", 512, 1..=65_536)?),
            chunk_rows: match raw.chunk_rows {
                None => None,
                rows => Some(self.number(rows, "chunk_rows", 0, 2..=10_000_000_000)?),
            },
            file: ByteSize::mib(self.number(raw.file_mib, "file_mib", 128, 1..=4_096)?),
            memory: ByteSize::mib(self.number(raw.memory_mib, "memory_mib", 512, 16..=1_048_576)?),
            value: match raw.value_mib {
                None => None,
                value => Some(ByteSize::mib(self.number(value, "value_mib", 0, 1..=128)?)),
            },
            spool_dir: raw.spool_dir.map_or_else(std::env::temp_dir, |dir| self.path(dir)),
            patience: self.seconds(raw.patience_seconds, "patience_seconds", 300)?,
        };
        Ok(limits)
    }

    fn tables(
        &self,
        raw: Spanned<Vec<Spanned<raw::Table>>>,
        identifiers: Identifiers,
    ) -> Checked<Vec<Table>> {
        if raw.value.is_empty() {
            return self.refuse(
                raw.referenced,
                "`tables` is empty; name at least one, for example\n  - { source: dbo.Customers }",
            );
        }
        let mut targets = HashMap::new();
        let mut tables = Vec::with_capacity(raw.value.len());
        for entry in raw.value {
            let place = entry.referenced;
            let table = self.table(entry, identifiers)?;
            if let Some(other) = targets.insert(table.target.clone(), table.source.clone()) {
                return self.refuse(
                    place,
                    format!(
                        "{} and {other} would both become {}; give one of them another `target`",
                        table.source, table.target
                    ),
                );
            }
            tables.push(table);
        }
        Ok(tables)
    }

    fn table(&self, entry: Spanned<raw::Table>, identifiers: Identifiers) -> Checked<Table> {
        let raw = entry.value;
        if let Some(mode) = &raw.mode {
            match mode.value.as_str() {
                "full" => {}
                later @ ("append" | "incremental" | "merge" | "change_tracking") => {
                    return self.not_yet(mode.referenced, &format!("mode `{later}`"), "use `mode: full`");
                }
                other => {
                    return self.unknown_value(
                        mode.referenced,
                        other,
                        &["full", "append", "incremental", "merge", "change_tracking"],
                    );
                }
            }
        }
        for (name, place) in [("watermark", &raw.watermark), ("key", &raw.key)] {
            if let Some(place) = place {
                return self.not_yet(
                    place.referenced,
                    &format!("`{name}`"),
                    "remove it: `mode: full` needs none",
                );
            }
        }
        let columns = raw.columns.unwrap_or(raw::Columns { exclude: Vec::new(), hash: None });
        if let Some(hash) = &columns.hash {
            return self.not_yet(hash.referenced, "`hash`", "exclude the column, or let it cross as it is");
        }
        let place = raw.source.referenced;
        let source = table_name(&raw.source.value)
            .or_else(|hint| self.refuse(place, format!("`{}` names no table: {hint}", raw.source.value)))?;
        let target = match raw.target {
            Some(target) => self.name(target, "the target", MAX_TARGET_NAME)?,
            None => source.name.clone(),
        };
        let exclude =
            columns.exclude.into_iter().map(|c| self.name(c, "an excluded column", MAX_SOURCE_NAME));
        Ok(Table {
            source,
            target: identifiers.apply(&target),
            exclude: exclude.collect::<Checked<_>>()?,
            line: place.line(),
        })
    }

    fn identifiers(&self, word: Option<&Spanned<String>>) -> Checked<Identifiers> {
        let Some(word) = word else { return Ok(Identifiers::Upper) };
        match word.value.as_str() {
            "upper" => Ok(Identifiers::Upper),
            "exact" => Ok(Identifiers::Exact),
            other => self.unknown_value(word.referenced, other, &["upper", "exact"]),
        }
    }

    fn number(
        &self,
        given: Option<Spanned<u64>>,
        key: &str,
        default: u64,
        range: std::ops::RangeInclusive<u64>,
    ) -> Checked<u64> {
        match given {
            None => Ok(default),
            Some(number) if range.contains(&number.value) => Ok(number.value),
            Some(number) => self.refuse(
                number.referenced,
                format!("{key} is {}; it must be from {} to {}", number.value, range.start(), range.end()),
            ),
        }
    }

    fn seconds(&self, given: Option<Spanned<u64>>, key: &str, default: u64) -> Checked<Duration> {
        Ok(Duration::from_secs(self.number(given, key, default, 1..=86_400)?))
    }

    fn name(&self, text: Spanned<String>, what: &str, longest: usize) -> Checked<String> {
        if text.value.trim().is_empty() {
            self.refuse(text.referenced, format!("{what} is empty"))
        } else if text.value.chars().count() > longest {
            self.refuse(text.referenced, format!("{what} is longer than {longest} characters"))
        } else if text.value.chars().any(char::is_control) {
            self.refuse(text.referenced, format!("{what} has a control character"))
        } else {
            Ok(text.value)
        }
    }

    fn pin(&self, pin: &Spanned<String>) -> Checked<[u8; 32]> {
        let digits = pin.value.replace(':', "");
        let bytes = hex::decode(digits).ok().and_then(|bytes| <[u8; 32]>::try_from(bytes).ok());
        bytes.map_or_else(
            || {
                self.refuse(
                    pin.referenced,
                    "certificate_sha256 is not 64 hexadecimal digits; print it with \
                     `openssl x509 -in server.pem -noout -fingerprint -sha256`",
                )
            },
            Ok,
        )
    }

    fn path(&self, path: PathBuf) -> PathBuf {
        self.dir.join(path)
    }

    fn unknown_value<T>(&self, place: Location, found: &str, known: &[&str]) -> Checked<T> {
        self.refuse(place, error::unknown("value", found, known))
    }

    fn not_yet<T>(&self, place: Location, what: &str, instead: &str) -> Checked<T> {
        self.refuse(place, format!("{what} is not carried yet; {instead}"))
    }

    fn refuse<T>(&self, place: Location, message: impl Into<String>) -> Checked<T> {
        Err(ConfigError::at(self.file, place, message))
    }
}

/// `schema.table`, each part plain or in brackets (`[my schema].[a.b]`, `]]` for a bracket).
fn table_name(text: &str) -> Result<TableName, String> {
    let (schema, rest) = part(text)?;
    let Some(rest) = rest.strip_prefix('.') else {
        return Err(format!("write the schema too, for example `dbo.{text}`"));
    };
    let (name, rest) = part(rest)?;
    if rest.is_empty() {
        Ok(TableName { schema, name })
    } else {
        Err("write two parts, `schema.table`; a dot inside a name needs brackets, `dbo.[a.b]`".into())
    }
}

fn part(text: &str) -> Result<(String, &str), String> {
    let (name, rest) = match text.strip_prefix('[') {
        None => {
            let end = text.find('.').unwrap_or(text.len());
            (text[..end].to_owned(), &text[end..])
        }
        Some(inside) => {
            let mut name = String::new();
            let mut rest = inside;
            loop {
                let end = rest.find(']').ok_or("a bracket is not closed")?;
                name.push_str(&rest[..end]);
                rest = &rest[end + 1..];
                match rest.strip_prefix(']') {
                    Some(after) => {
                        name.push(']');
                        rest = after;
                    }
                    None => break (name, rest),
                }
            }
        }
    };
    if name.trim().is_empty() {
        Err("a part is empty; write `schema.table`".into())
    } else if name.chars().count() > MAX_SOURCE_NAME || name.chars().any(char::is_control) {
        Err("a part is longer than 128 characters or has a control character".into())
    } else {
        Ok((name, rest))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_name_may_carry_dots_and_brackets_in_brackets() {
        let name = table_name("[my schema].[a.b]]c]").unwrap();
        assert_eq!((name.schema.as_str(), name.name.as_str()), ("my schema", "a.b]c"));
    }

    #[test]
    fn a_table_name_without_a_schema_is_refused_with_the_likely_one() {
        assert!(table_name("Customers").unwrap_err().contains("dbo.Customers"));
        assert!(table_name("a.b.c").is_err());
        assert!(table_name("dbo.").is_err());
    }
}
