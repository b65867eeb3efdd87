//! The secret bundle: one version of one KV entry, as Vault keeps it.

use std::{collections::HashMap, fmt};

use serde::de::{self, Deserialize, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::{
    error::{ErrorClass, UpstreamError, UpstreamName},
    secret::Secret,
    shape::Shape,
};

/// One version of the entry. Every text in it is treated as a secret until a grant's configuration names
/// it as a setting.
pub(super) struct Bundle {
    version: u64,
    /// `mount/path`, for messages.
    place: String,
    fields: HashMap<String, Field>,
}

/// A field's value; what is no text can be in the entry, but serves nothing here.
enum Field {
    Text(Secret),
    Other,
}

impl Bundle {
    pub(super) fn new(version: u64, place: String, fields: Fields) -> Self {
        Self { version, place, fields: fields.0 }
    }

    /// The entry's version in Vault.
    pub(super) fn version(&self) -> u64 {
        self.version
    }

    /// A field that is a secret.
    pub(super) fn secret(&self, key: &str) -> Result<&Secret, UpstreamError> {
        match self.fields.get(key) {
            Some(Field::Text(secret)) if !secret.expose().is_empty() => Ok(secret),
            Some(Field::Text(_)) => Err(self.lacks(key, "the field is empty")),
            Some(Field::Other) => Err(self.lacks(key, "the field is not a text")),
            None => Err(self.lacks(key, "there is no such field")),
        }
    }

    /// A field that the configuration names as a setting. What does not look like one is refused unseen: it
    /// may be a secret that was written under the wrong key.
    pub(super) fn setting(&self, key: &str, shape: Shape) -> Result<&str, UpstreamError> {
        let text = self.secret(key)?.expose().trim();
        if shape.fits(text) {
            return Ok(text);
        }
        Err(UpstreamError::new(
            UpstreamName::Vault,
            ErrorClass::Configuration,
            format!("taking `{key}` from {} (version {})", self.place, self.version),
            format!("the field does not read like {}", shape.reads()),
            "see whether two fields are swapped, and write each value under its own key",
        ))
    }

    /// True when both hold the same text under every one of these keys.
    pub(super) fn agrees(&self, other: &Self, keys: &[&str]) -> bool {
        keys.iter().all(|key| match (self.fields.get(*key), other.fields.get(*key)) {
            (Some(Field::Text(one)), Some(Field::Text(two))) => one.expose() == two.expose(),
            _ => false,
        })
    }

    fn lacks(&self, key: &str, found: &str) -> UpstreamError {
        UpstreamError::new(
            UpstreamName::Vault,
            ErrorClass::NotFound,
            format!("taking `{key}` from {} (version {})", self.place, self.version),
            found,
            "write it there, or correct the key that the configuration names",
        )
    }
}

/// The entry's fields, as they are read from Vault's answer.
pub(super) struct Fields(HashMap<String, Field>);

impl<'de> Deserialize<'de> for Fields {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        HashMap::deserialize(deserializer).map(Self)
    }
}

impl<'de> Deserialize<'de> for Field {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Any;
        impl<'de> Visitor<'de> for Any {
            type Value = Field;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a value")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Field, E> {
                self.visit_string(text.to_owned())
            }
            fn visit_string<E: de::Error>(self, text: String) -> Result<Field, E> {
                Secret::new(text).map(Field::Text).map_err(E::custom)
            }
            fn visit_bool<E>(self, _: bool) -> Result<Field, E> {
                Ok(Field::Other)
            }
            fn visit_i64<E>(self, _: i64) -> Result<Field, E> {
                Ok(Field::Other)
            }
            fn visit_u64<E>(self, _: u64) -> Result<Field, E> {
                Ok(Field::Other)
            }
            fn visit_f64<E>(self, _: f64) -> Result<Field, E> {
                Ok(Field::Other)
            }
            fn visit_unit<E>(self) -> Result<Field, E> {
                Ok(Field::Other)
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Field, A::Error> {
                while seq.next_element::<IgnoredAny>()?.is_some() {}
                Ok(Field::Other)
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Field, A::Error> {
                while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
                Ok(Field::Other)
            }
        }
        deserializer.deserialize_any(Any)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bundle(json: &str) -> Bundle {
        Bundle::new(7, "secret/pipelines/a".to_owned(), serde_json::from_str(json).unwrap())
    }

    #[test]
    fn a_missing_field_is_named_with_its_place_and_version() {
        let bundle = bundle(r#"{"a": "x"}"#);
        let error = bundle.secret("keytab_base64").err().unwrap();
        assert_eq!(error.class(), ErrorClass::NotFound);
        let text = error.to_string();
        assert!(
            text.contains("`keytab_base64`") && text.contains("secret/pipelines/a (version 7)"),
            "{text}"
        );
    }

    #[test]
    fn a_field_that_is_no_text_is_refused_only_when_it_is_asked_for() {
        let bundle =
            bundle(r#"{"good": " host ", "n": 1, "l": [1, {"x": 2}], "o": {"p": [null]}, "z": null}"#);
        assert_eq!(bundle.setting("good", Shape::Host).unwrap(), "host");
        for key in ["n", "l", "o", "z"] {
            assert!(bundle.secret(key).err().unwrap().to_string().contains("not a text"));
        }
    }

    #[test]
    fn a_secret_in_the_place_of_a_setting_is_refused_and_only_its_key_is_shown() {
        let bundle =
            bundle(r#"{"client_id": "cs~one-to-find-nowhere", "pem": "-----BEGIN\nAAAA", "empty": ""}"#);
        for shape in [Shape::Application, Shape::Tenant, Shape::Host, Shape::Principal, Shape::SnowflakeUser]
        {
            let error = bundle.setting("client_id", shape).err().unwrap().to_string();
            assert!(error.contains("`client_id`") && error.contains("swapped"), "{error}");
            assert!(!error.contains("one-to-find-nowhere"), "{error}");
            assert!(bundle.setting("pem", shape).is_err() && bundle.setting("empty", shape).is_err());
        }
    }
}
