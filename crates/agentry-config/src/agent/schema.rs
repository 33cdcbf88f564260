//! The JSON Schema of an agent file, from the same declarations that read one.

use schemars::generate::SchemaSettings;
use serde_json::Value;

use super::raw::Agent;

/// Returns the JSON Schema (draft 2020-12) of an agent file: what `agentry schema` prints and editors complete from.
#[must_use]
pub fn agent_file_schema() -> Value {
    let schema = SchemaSettings::draft2020_12().into_generator().into_root_schema_for::<Agent>();
    let mut schema = schema.to_value();
    schema["title"] = "Agentry agent file".into();
    schema
}
