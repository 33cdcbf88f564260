//! One declaration per mapping of an agent file: fields, their other names, whether they are required, and their
//! meaning. The reader and the JSON Schema are both generated from it, so they cannot disagree.

use serde_json::{Map, Value, json};

use crate::yaml::Span;

/// A key's other names: `(key, other names)`.
pub(crate) type Aliases = &'static [(&'static str, &'static [&'static str])];

/// The state of a key while a mapping is read.
pub(crate) struct Slot<T> {
    pub seen: Option<Span>,
    pub value: Option<T>,
}

impl<T> Default for Slot<T> {
    fn default() -> Self {
        Self { seen: None, value: None }
    }
}

/// Returns the name of a field as files spell it.
pub(crate) fn key_of(field: &'static str) -> &'static str {
    field.strip_prefix("r#").unwrap_or(field)
}

/// Adds the other names of keys to the schema of a mapping, and lets a required key be given by any of its names.
pub(crate) fn add_aliases(schema: &mut Map<String, Value>, aliases: Aliases) {
    let mut either = Vec::new();
    for (field, others) in aliases.iter().filter(|(_, others)| !others.is_empty()) {
        let key = &key_of(field);
        let Some(Value::Object(properties)) = schema.get_mut("properties") else { continue };
        let Some(meaning) = properties.get(*key).cloned() else { continue };
        for other in *others {
            let mut meaning = meaning.clone();
            if let Value::Object(fields) = &mut meaning {
                fields.insert("description".to_owned(), format!("Another name of `{key}`.").into());
            }
            properties.insert((*other).to_owned(), meaning);
        }
        if let Some(Value::Array(required)) = schema.get_mut("required")
            && let Some(at) = required.iter().position(|name| name == key)
        {
            required.remove(at);
            let names = std::iter::once(key).chain(others.iter());
            either.push(json!({ "anyOf": names.map(|name| json!({ "required": [name] })).collect::<Vec<_>>() }));
        }
    }
    if !either.is_empty() {
        schema.insert("allOf".to_owned(), either.into());
    }
}

/// Declares a mapping: `required field | "other name": Type` or `optional field: Type`.
macro_rules! record {
    (@type required $ty:ty) => { $ty };
    (@type optional $ty:ty) => { Option<$ty> };
    (@take required $slot:ident) => { $slot.value? };
    (@take optional $slot:ident) => { $slot.value };
    (@needed required $slot:ident $key:expr, $needed:ident, $missing:ident, $meant:ident) => {
        $needed.push($key);
        if $slot.seen.is_none() && !$meant.contains(&$key) {
            $missing.push($key);
        }
    };
    (@needed optional $slot:ident $key:expr, $needed:ident, $missing:ident, $meant:ident) => {};
    (@absent required $value:ident) => { false };
    (@absent optional $value:ident) => { $crate::agent::read::is_null($value) };
    (
        $(#[$meta:meta])*
        $vis:vis struct $name:ident = $what:literal {
            $( $(#[$field_meta:meta])* $need:ident $field:ident $(| $alias:literal)* : $ty:ty ),* $(,)?
        }
    ) => {
        $(#[$meta])*
        #[derive(Debug, schemars::JsonSchema)]
        #[schemars(deny_unknown_fields, transform = Self::with_aliases)]
        $vis struct $name {
            $( $(#[$field_meta])* pub $field: $crate::agent::record::record!(@type $need $ty), )*
        }

        impl $name {
            fn with_aliases(schema: &mut schemars::Schema) {
                $crate::agent::record::add_aliases(
                    schema.ensure_object(),
                    &[ $( (stringify!($field), &[ $($alias),* ]), )* ],
                );
            }
        }

        impl $crate::agent::read::FromNode for $name {
            fn read(
                node: &$crate::yaml::Node<'_>,
                cx: &mut $crate::agent::read::Reader<'_, '_>,
            ) -> Option<Self> {
                use $crate::agent::record::{Slot, key_of};
                let keys: &[&'static str] = &[ $( key_of(stringify!($field)), $($alias,)* )* ];
                let entries = cx.entries(node, keys)?;
                $( let mut $field = Slot::<$ty>::default(); )*
                let mut meant: Vec<&'static str> = Vec::new();
                for (key, value) in entries {
                    let text: &str = &key.text;
                    $(
                        if text == key_of(stringify!($field)) $( || text == $alias )* {
                            if let Some(first) = $field.seen {
                                cx.twice(key, key_of(stringify!($field)), first);
                            } else {
                                $field.seen = Some(key.span);
                                if !$crate::agent::record::record!(@absent $need value) {
                                    $field.value = cx.value(key, value);
                                }
                            }
                            continue;
                        }
                    )*
                    meant.extend(cx.unknown(key, $what, keys));
                }
                #[allow(unused_mut)]
                let (mut needed, mut missing): (Vec<&str>, Vec<&str>) = (Vec::new(), Vec::new());
                $( $crate::agent::record::record!(@needed $need $field key_of(stringify!($field)), needed, missing, meant); )*
                if !missing.is_empty() {
                    cx.missing(node, &missing, $what, &needed);
                }
                Some(Self { $( $field: $crate::agent::record::record!(@take $need $field), )* })
            }
        }
    };
}

pub(crate) use record;
