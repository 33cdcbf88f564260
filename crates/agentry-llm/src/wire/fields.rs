//! Optional fields of a request body.

use serde::ser::{Serialize, SerializeMap, Serializer};
use serde_json::Value;

/// Fields of an object; those that are null or an empty list are left out.
pub(crate) struct Fields<const N: usize>(pub [(&'static str, Value); N]);

impl<const N: usize> Fields<N> {
    fn present(&self) -> impl Iterator<Item = &(&'static str, Value)> {
        self.0.iter().filter(|(_, value)| !value.is_null() && value.as_array().is_none_or(|list| !list.is_empty()))
    }

    pub fn is_empty(&self) -> bool {
        self.present().next().is_none()
    }
}

impl<const N: usize> Serialize for Fields<N> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        self.present().try_for_each(|(name, value)| map.serialize_entry(name, value))?;
        map.end()
    }
}
