//! The setting: `auto`, `tempo`, or a list of columns as in Tempo's settings.

use std::{collections::HashSet, fmt};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::block::{DedicatedColumn, DedicatedScope, DedicatedType, Version, leaves::dedicated_limits};

const AUTO: &str = "auto";
const TEMPO: &str = "tempo";

/// Which attributes get columns of their own in blocks that are written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum DedicatedColumns {
    /// Chosen for each block from its own attributes ([`choose`](super::choose)).
    Auto,
    /// Tempo's defaults ([`DedicatedColumn::defaults`]), the same in each block.
    #[default]
    Tempo,
    /// These, whether they occur or not; none if the list is empty.
    List(Vec<DedicatedSetting>),
}

/// One column of the list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DedicatedSetting {
    /// The attribute's key.
    pub name: String,
    /// What it is attached to: `span` (if nothing is said), `resource` or `event`.
    #[serde(default)]
    pub scope: DedicatedScope,
    /// Its type: `string` (if nothing is said) or `int`.
    #[serde(default, rename = "type")]
    pub kind: DedicatedType,
    /// `blob` for long strings that are mostly different.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub options: Vec<String>,
}

impl DedicatedColumns {
    /// The columns as `meta.json` has them; `None` if they are chosen for each block.
    pub fn listed(&self) -> Option<Vec<DedicatedColumn>> {
        let column =
            |s: &DedicatedSetting| DedicatedColumn { options: s.options.clone(), ..DedicatedColumn::new(s.scope, &s.name, s.kind) };
        match self {
            Self::Auto => None,
            Self::Tempo => Some(DedicatedColumn::defaults()),
            Self::List(list) => Some(list.iter().map(column).collect()),
        }
    }

    /// A list in which every column has a meaning; the error says which has not.
    fn checked(list: Vec<DedicatedSetting>) -> Result<Self, String> {
        let mut seen = HashSet::new();
        for column in &list {
            let DedicatedSetting { name, scope, kind, options } = column;
            if name.is_empty() {
                return Err("a dedicated column needs a name".to_owned());
            }
            if *scope == DedicatedScope::Resource && name == "service.name" {
                return Err("service.name of resources has a column in any case".to_owned());
            }
            if !seen.insert((*scope, name)) {
                return Err(format!("{name} is there twice for the same scope"));
            }
            if let Some(option) = options.iter().find(|o| !["blob", "array"].contains(&o.as_str())) {
                return Err(format!("{name} has the unknown option {option}: known are blob and array"));
            }
            let (strings, ints) = dedicated_limits(Version::V5, (*scope).into());
            let limit = if *kind == DedicatedType::String { strings } else { ints };
            if list.iter().filter(|c| (c.scope, c.kind) == (*scope, *kind)).count() > limit {
                return Err(format!("more than {limit} columns for one scope and type, as {name} has them"));
            }
        }
        Ok(Self::List(list))
    }
}

impl Serialize for DedicatedColumns {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Auto => serializer.serialize_str(AUTO),
            Self::Tempo => serializer.serialize_str(TEMPO),
            Self::List(list) => list.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for DedicatedColumns {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl<'de> de::Visitor<'de> for Visitor {
            type Value = DedicatedColumns;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("`auto`, `tempo` or a list of columns such as {name: http.route, scope: span, type: string}")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Self::Value, E> {
                match text {
                    AUTO => Ok(DedicatedColumns::Auto),
                    TEMPO => Ok(DedicatedColumns::Tempo),
                    _ => Err(E::invalid_value(de::Unexpected::Str(text), &self)),
                }
            }

            fn visit_seq<A: de::SeqAccess<'de>>(self, seq: A) -> Result<Self::Value, A::Error> {
                let list = Vec::deserialize(de::value::SeqAccessDeserializer::new(seq))?;
                DedicatedColumns::checked(list).map_err(de::Error::custom)
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

impl JsonSchema for DedicatedColumns {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "DedicatedColumns".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let list = generator.subschema_for::<Vec<DedicatedSetting>>();
        json_schema!({ "anyOf": [{ "const": AUTO }, { "const": TEMPO }, list] })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(json: &str) -> Result<DedicatedColumns, String> {
        serde_json::from_str(json).map_err(|e| e.to_string())
    }

    #[test]
    fn a_list_is_what_it_says() {
        assert_eq!(parse(r#""auto""#), Ok(DedicatedColumns::Auto));
        assert_eq!(parse(r#""tempo""#).unwrap().listed(), Some(DedicatedColumn::defaults()));
        assert_eq!(parse("[]").unwrap().listed(), Some(vec![]));
        let list = parse(r#"[{"name":"a"},{"scope":"event","name":"a","type":"int"},{"name":"b","options":["blob"]}]"#).unwrap();
        assert_eq!(parse(&serde_json::to_string(&list).unwrap()), Ok(list.clone()));
        let blob =
            DedicatedColumn { options: vec!["blob".to_owned()], ..DedicatedColumn::new(DedicatedScope::Span, "b", DedicatedType::String) };
        let due = vec![
            DedicatedColumn::new(DedicatedScope::Span, "a", DedicatedType::String),
            DedicatedColumn::new(DedicatedScope::Event, "a", DedicatedType::Int),
            blob,
        ];
        assert_eq!(list.listed(), Some(due));
    }

    #[test]
    fn what_has_no_meaning_is_refused() {
        let many: Vec<String> = (0..6).map(|i| format!(r#"{{"name":"k{i}","type":"int"}}"#)).collect();
        for (json, why) in [
            (r#""none""#, "`auto`, `tempo` or a list"),
            ("5", "`auto`, `tempo` or a list"),
            (r#"[{"name":""}]"#, "needs a name"),
            (r#"[{"name":"service.name","scope":"resource"}]"#, "in any case"),
            (r#"[{"name":"a"},{"name":"a","type":"int"}]"#, "a is there twice"),
            (r#"[{"name":"a","options":["clob"]}]"#, "unknown option clob"),
            (r#"[{"name":"a","scope":"link"}]"#, "unknown variant `link`"),
            (r#"[{"nam":"a"}]"#, "unknown field `nam`"),
            (&format!("[{}]", many.join(",")), "more than 5 columns"),
        ] {
            let error = parse(json).unwrap_err();
            assert!(error.contains(why), "{json}: {error}");
        }
    }
}
