//! Parts of requests that OpenAI's and Ollama's protocols share.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::super::prompt::ToolOffer;

/// A tool that a request offers.
#[derive(Debug, Deserialize)]
pub(super) struct WireTool<'a> {
    #[serde(borrow)]
    pub(super) function: WireFunction<'a>,
}

#[derive(Debug, Deserialize)]
pub(super) struct WireFunction<'a> {
    #[serde(borrow)]
    pub(super) name: Cow<'a, str>,
    #[serde(borrow)]
    parameters: Option<&'a RawValue>,
}

impl<'a> WireTool<'a> {
    pub(super) fn offer(self) -> ToolOffer<'a> {
        ToolOffer { name: self.function.name, schema: self.function.parameters.map(|raw| raw.get().into()) }
    }
}

/// One stop sequence, or a list of them.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub(super) enum StopSequences<'a> {
    One(#[serde(borrow)] Cow<'a, str>),
    Several(#[serde(borrow)] Vec<Cow<'a, str>>),
}

impl<'a> StopSequences<'a> {
    pub(super) fn into_vec(self) -> Vec<Cow<'a, str>> {
        match self {
            Self::One(one) => vec![one],
            Self::Several(several) => several,
        }
    }
}
