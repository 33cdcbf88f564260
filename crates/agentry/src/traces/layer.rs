//! Records the ids of spans for log lines, and sends ended spans to the exporter.

use std::time::SystemTime;

use agentry_core::trace::{SpanId, TARGET, TraceId};
use tracing::{Metadata, Subscriber, span};
use tracing_subscriber::Layer;
use tracing_subscriber::filter::{LevelFilter, filter_fn};
use tracing_subscriber::layer::Context;
use tracing_subscriber::registry::LookupSpan;

use super::export::SpanSink;
use super::fields::SpanFields;

/// The ids in log lines within a span.
#[derive(Debug, Clone, Copy)]
pub struct TraceIds {
    /// The trace.
    pub trace: TraceId,
    /// The span, where it is kept.
    pub span: Option<SpanId>,
}

/// An exported span that has not ended.
struct OpenSpan {
    start: SystemTime,
    fields: SpanFields,
}

/// See the module.
pub struct SpanLayer {
    sink: Option<SpanSink>,
}

impl SpanLayer {
    /// The layer, for spans of traces alone.
    pub fn filtered<S>(sink: Option<SpanSink>) -> impl Layer<S>
    where
        S: Subscriber + for<'a> LookupSpan<'a>,
    {
        let ours = |metadata: &Metadata<'_>| metadata.is_span() && metadata.target() == TARGET;
        Self { sink }.with_filter(filter_fn(ours).with_max_level_hint(LevelFilter::INFO))
    }
}

impl<S> Layer<S> for SpanLayer
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    fn on_new_span(&self, attributes: &span::Attributes<'_>, id: &span::Id, context: Context<'_, S>) {
        let Some(span) = context.span(id) else { return };
        let mut fields = SpanFields::default();
        attributes.record(&mut fields);
        let Some(trace) = fields.trace else { return };
        let mut extensions = span.extensions_mut();
        extensions.insert(TraceIds { trace, span: fields.span });
        if fields.span.is_some() && self.sink.is_some() {
            extensions.insert(OpenSpan { start: SystemTime::now(), fields });
        }
    }

    fn on_record(&self, id: &span::Id, values: &span::Record<'_>, context: Context<'_, S>) {
        let Some(span) = context.span(id) else { return };
        if let Some(open) = span.extensions_mut().get_mut::<OpenSpan>() {
            values.record(&mut open.fields);
        }
    }

    fn on_close(&self, id: span::Id, context: Context<'_, S>) {
        let (Some(sink), Some(span)) = (&self.sink, context.span(&id)) else { return };
        let open = span.extensions_mut().remove::<OpenSpan>();
        if let Some(OpenSpan { start, fields }) = open
            && let Some(data) = fields.into_data(span.name(), start, SystemTime::now())
        {
            sink.send(data);
        }
    }
}
