//! The keys of a configuration file, read from the structs that serde fills: path, type, default, comment.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail, ensure};
use syn::{
    Attribute, Expr, Fields, GenericArgument, Item, ItemEnum, ItemStruct, Lit, Meta, PathArguments, Type,
};

/// How a value is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// As YAML text.
    Text,
    /// A number or a truth value.
    Plain,
}

/// One key.
#[derive(Clone, Debug)]
pub(super) struct Key {
    /// From the document's root; `[]` for each of a list, NAME for each of a map.
    pub(super) path: String,
    /// The type in words; empty for a section.
    pub(super) kind: String,
    /// How its value is written.
    pub(super) form: Form,
    /// Whether the file must have it.
    pub(super) required: bool,
    /// The value without it.
    pub(super) default: Option<String>,
    /// What it is.
    pub(super) what: String,
}

/// The workspace's folder.
pub(super) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().map(Path::to_owned).unwrap_or_default()
}

/// All keys below the struct `document`, in the order in which they stand.
pub(super) fn read(files: &[&str], document: &str) -> Result<Vec<Key>> {
    let mut types = Types::default();
    for name in files {
        let text = fs::read_to_string(root().join(name)).with_context(|| format!("read {name}"))?;
        for item in syn::parse_file(&text).with_context(|| format!("parse {name}"))?.items {
            match item {
                Item::Struct(item) => drop(types.structs.insert(item.ident.to_string(), item)),
                Item::Enum(item) => drop(types.enums.insert(item.ident.to_string(), item)),
                _ => {}
            }
        }
    }
    let mut keys = Vec::new();
    let root = types.structs.get(document).with_context(|| format!("no struct {document}"))?;
    types.walk(root, "", &mut keys)?;
    Ok(keys)
}

#[derive(Default)]
struct Types {
    structs: BTreeMap<String, ItemStruct>,
    enums: BTreeMap<String, ItemEnum>,
}

impl Types {
    fn walk(&self, item: &ItemStruct, prefix: &str, keys: &mut Vec<Key>) -> Result<()> {
        let all_default = has_serde(&item.attrs, "default");
        let Fields::Named(fields) = &item.fields else { bail!("{} has no named fields", item.ident) };
        for field in &fields.named {
            let name = field.ident.as_ref().context("a field's name")?.to_string();
            let what = comment(&field.attrs);
            ensure!(
                !what.is_empty(),
                "{}.{name} has no comment, and the reference is made of them",
                item.ident
            );
            let (what, default) = split_default(&what);
            if what == "Not carried yet." {
                continue;
            }
            let (optional, suffix, leaf) = unwrap(&field.ty)?;
            let path = format!("{prefix}{name}");
            let required = !optional && !all_default && !has_serde(&field.attrs, "default");
            let section = self.structs.get(&leaf).filter(|item| matches!(item.fields, Fields::Named(_)));
            let nested =
                section.is_some_and(|item| !has_serde(&item.attrs, "try_from")) || self.is_choice(&leaf);
            let (kind, form) = if nested { (String::new(), Form::Text) } else { words(&leaf, suffix)? };
            keys.push(Key { path: path.clone(), kind, form, required, default, what });
            let below = format!("{path}{suffix}.");
            if !nested {
            } else if let Some(section) = section {
                self.walk(section, &below, keys)?;
            } else {
                self.choose(&self.enums[&leaf], &below, keys)?;
            }
        }
        Ok(())
    }

    fn is_choice(&self, name: &str) -> bool {
        self.enums.get(name).is_some_and(|item| {
            item.variants.iter().all(|variant| matches!(variant.fields, Fields::Unnamed(_)))
                && !has_serde(&item.attrs, "try_from")
        })
    }

    /// An enum of which the file names one variant as a key.
    fn choose(&self, item: &ItemEnum, prefix: &str, keys: &mut Vec<Key>) -> Result<()> {
        for variant in &item.variants {
            let name = serde_value(&variant.attrs, "rename")
                .unwrap_or_else(|| variant.ident.to_string().to_ascii_lowercase());
            let inner = variant.fields.iter().next().context("a variant with a struct")?;
            let (_, _, leaf) = unwrap(&inner.ty)?;
            let below = self.structs.get(&leaf).with_context(|| format!("no struct {leaf}"))?;
            let path = format!("{prefix}{name}");
            let what = comment(&variant.attrs);
            keys.push(Key {
                path: path.clone(),
                kind: String::new(),
                form: Form::Text,
                required: false,
                default: None,
                what,
            });
            self.walk(below, &format!("{path}."), keys)?;
        }
        Ok(())
    }
}

/// Whether a type is optional, what its path continues with, and the type inside.
fn unwrap(ty: &Type) -> Result<(bool, &'static str, String)> {
    let Type::Path(path) = ty else { bail!("a type that is no path") };
    let last = path.path.segments.last().context("an empty path")?;
    let arguments: Vec<&Type> = match &last.arguments {
        PathArguments::AngleBracketed(list) => list
            .args
            .iter()
            .filter_map(
                |argument| if let GenericArgument::Type(inner) = argument { Some(inner) } else { None },
            )
            .collect(),
        _ => Vec::new(),
    };
    Ok(match (last.ident.to_string().as_str(), arguments.as_slice()) {
        ("Option", [inner]) => {
            let (_, suffix, leaf) = unwrap(inner)?;
            (true, suffix, leaf)
        }
        ("Spanned", [inner]) => unwrap(inner)?,
        ("Vec", [inner]) => (false, "[]", unwrap(inner)?.2),
        ("BTreeMap", [_, inner]) => (false, ".NAME", unwrap(inner)?.2),
        (name, []) => (false, "", name.to_owned()),
        (name, _) => bail!("the reference does not know the type {name}"),
    })
}

/// A type in a user's words. An unknown one is an error, so that the page never says nothing.
fn words(leaf: &str, suffix: &str) -> Result<(String, Form)> {
    let (one, form) = match leaf {
        "String" => ("text", Form::Text),
        "bool" => ("true or false", Form::Plain),
        "u16" | "u32" | "u64" | "usize" => ("number", Form::Plain),
        "PathBuf" => ("path", Form::Text),
        "Duration" => ("duration (`60s`, `5m`, `1h 30m`)", Form::Text),
        "SocketAddr" => ("address:port", Form::Text),
        "HttpsUrl" => ("`https://` address", Form::Text),
        "VaultField" => ("field of the Vault secret", Form::Text),
        "VaultPath" => ("path in Vault", Form::Text),
        "ServicePrincipal" => ("SPN (`MSSQLSvc/host:port`)", Form::Text),
        "AccountName" => ("account identifier", Form::Text),
        "SnowflakeName" => ("Snowflake name", Form::Text),
        "GrantName" | "PipelineName" => ("name", Form::Text),
        "ServiceAccountName" => ("`namespace/name`", Form::Text),
        "Group" => ("group", Form::Text),
        "Mode" => ("mode", Form::Text),
        "Use" => ("use", Form::Text),
        "Enforcement" => ("`enforce`, `report` or `off`", Form::Text),
        "AuditCopy" => ("`stdout` or `syslog`", Form::Text),
        other => bail!("the reference has no words for the type {other}"),
    };
    Ok((
        match suffix {
            "[]" => format!("list of {one}"),
            ".NAME" => format!("map of name to {one}"),
            _ => one.to_owned(),
        },
        form,
    ))
}

/// `What it is. Default: `5`.` in its two parts.
fn split_default(comment: &str) -> (String, Option<String>) {
    match comment.split_once(" Default: `") {
        Some((what, rest)) => {
            (what.to_owned(), Some(rest.trim_end_matches('.').trim_end_matches('`').to_owned()))
        }
        None => (comment.to_owned(), None),
    }
}

fn comment(attributes: &[Attribute]) -> String {
    let lines = attributes.iter().filter_map(|attribute| match &attribute.meta {
        Meta::NameValue(pair) if pair.path.is_ident("doc") => match &pair.value {
            Expr::Lit(literal) => match &literal.lit {
                Lit::Str(text) => Some(text.value().trim().to_owned()),
                _ => None,
            },
            _ => None,
        },
        _ => None,
    });
    lines.collect::<Vec<_>>().join(" ")
}

fn has_serde(attributes: &[Attribute], word: &str) -> bool {
    serde_parts(attributes).iter().any(|(name, _)| name == word)
}

fn serde_value(attributes: &[Attribute], word: &str) -> Option<String> {
    serde_parts(attributes).into_iter().find(|(name, _)| name == word).and_then(|(_, value)| value)
}

/// `#[serde(a, b = "c")]` as pairs.
fn serde_parts(attributes: &[Attribute]) -> Vec<(String, Option<String>)> {
    let mut parts = Vec::new();
    for attribute in attributes.iter().filter(|attribute| attribute.path().is_ident("serde")) {
        let read = attribute.parse_nested_meta(|meta| {
            let name = meta.path.get_ident().map(ToString::to_string).unwrap_or_default();
            let value = match meta.value() {
                Ok(value) => Some(value.parse::<syn::LitStr>()?.value()),
                Err(_) => None,
            };
            parts.push((name, value));
            Ok(())
        });
        assert!(read.is_ok(), "a serde attribute that cannot be read");
    }
    parts
}
