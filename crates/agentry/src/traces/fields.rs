//! The fields of a span: ids, well-known OpenTelemetry fields, and attributes.

use std::borrow::Cow;
use std::fmt;
use std::time::SystemTime;

use agentry_core::trace::{SpanId, TraceId};
use opentelemetry::trace::{self as otel, SpanContext, SpanKind, Status, TraceFlags, TraceState};
use opentelemetry::{InstrumentationScope, KeyValue, Value};
use opentelemetry_sdk::trace::{SpanData, SpanEvents, SpanLinks};
use tracing::field::{Field, Visit};

/// The longest text of an attribute, in bytes; the rest is cut.
const MAX_TEXT: usize = 4_096;

/// The fields of a span.
#[derive(Default)]
pub struct SpanFields {
    pub trace: Option<TraceId>,
    /// The span id, if the span is exported.
    pub span: Option<SpanId>,
    parent: Option<u64>,
    name: Option<String>,
    kind: Option<SpanKind>,
    /// The kind of failure, from `error.type`.
    failed: Option<String>,
    attributes: Vec<KeyValue>,
}

impl SpanFields {
    /// The span as it is exported.
    pub fn into_data(self, name: &'static str, start: SystemTime, end: SystemTime) -> Option<SpanData> {
        let (trace, span) = (self.trace?, self.span?);
        let context = SpanContext::new(
            otel::TraceId::from_bytes(trace.0.to_be_bytes()),
            otel::SpanId::from_bytes(span.0.get().to_be_bytes()),
            TraceFlags::SAMPLED,
            false,
            TraceState::NONE,
        );
        Some(SpanData {
            span_context: context,
            parent_span_id: self.parent.map_or(otel::SpanId::INVALID, |id| otel::SpanId::from_bytes(id.to_be_bytes())),
            parent_span_is_remote: false,
            span_kind: self.kind.unwrap_or(SpanKind::Internal),
            name: self.name.map_or(Cow::Borrowed(name), Cow::Owned),
            start_time: start,
            end_time: end,
            attributes: self.attributes,
            dropped_attributes_count: 0,
            events: SpanEvents::default(),
            links: SpanLinks::default(),
            status: self.failed.map_or(Status::Unset, Status::error),
            instrumentation_scope: InstrumentationScope::builder("agentry")
                .with_version(env!("CARGO_PKG_VERSION"))
                .build(),
        })
    }

    /// Attributes only of spans that are kept: the ids come first.
    fn attribute(&mut self, field: &Field, value: impl FnOnce() -> Value) {
        if self.span.is_some() {
            self.attributes.push(KeyValue::new(field.name(), value()));
        }
    }

    fn text(&mut self, field: &Field, text: impl FnOnce() -> String) {
        if self.span.is_none() {
            return;
        }
        match field.name() {
            "otel.name" => self.name = Some(text()),
            "otel.kind" => {
                self.kind = match text().as_str() {
                    "server" => Some(SpanKind::Server),
                    "client" => Some(SpanKind::Client),
                    "producer" => Some(SpanKind::Producer),
                    "consumer" => Some(SpanKind::Consumer),
                    _ => None,
                }
            }
            name => {
                let text = cut(text());
                if name == "error.type" {
                    self.failed = Some(text.clone());
                }
                self.attributes.push(KeyValue::new(name, text));
            }
        }
    }
}

fn cut(mut text: String) -> String {
    if text.len() > MAX_TEXT {
        text.truncate(text.floor_char_boundary(MAX_TEXT));
    }
    text
}

impl Visit for SpanFields {
    fn record_u128(&mut self, field: &Field, value: u128) {
        if field.name() == "trace_id" {
            self.trace = Some(TraceId(value));
        }
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        match field.name() {
            "span_id" => self.span = Some(SpanId::new(value)),
            "parent_id" => self.parent = Some(value),
            _ => self.attribute(field, || Value::I64(i64::try_from(value).unwrap_or(i64::MAX))),
        }
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.attribute(field, || Value::I64(value));
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.attribute(field, || Value::F64(value));
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.attribute(field, || Value::Bool(value));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.text(field, || value.to_owned());
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.text(field, || format!("{value:?}"));
    }
}
