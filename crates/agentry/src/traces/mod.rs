//! Traces: spans of all rooms, handed to a collector over OTLP. The only place that knows OpenTelemetry.
//!
//! The rooms make `tracing` spans of one target ([`agentry_core::trace::TARGET`]) that bring their ids along. [`SpanLayer`]
//! notes the ids for log lines, and turns spans that are kept into OpenTelemetry's form. [`Exporter`] sends them from a
//! bounded queue: who works never waits for a collector.

mod export;
mod fields;
mod layer;

pub use export::{Exporter, SpanSink};
pub use layer::{SpanLayer, TraceIds};
