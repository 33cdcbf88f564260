//! Notes the ids of spans for log lines, and hands spans that are kept to the exporter when they end.

use std::time::SystemTime;

use agentry_core::trace::{SpanId, TARGET, TraceId};
use tracing::{Metadata, Subscriber, span};
use tracing_subscriber::Layer;
use tracing_subscriber::filter::{LevelFilter, filter_fn};
use tracing_subscriber::layer::Context;
use tracing_subscriber::registry::LookupSpan;

use super::export::SpanSink;
use super::fields::Fields;

/// The ids that a log line within a span shows.
#[derive(Debug, Clone, Copy)]
pub struct Ids {
    /// The trace.
    pub trace: TraceId,
    /// The span, where it is kept.
    pub span: Option<SpanId>,
}

/// A span that is kept, until it ends.
struct Open {
    start: SystemTime,
    fields: Fields,
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
        let mut fields = Fields::default();
        attributes.record(&mut fields);
        let Some(trace) = fields.trace else { return };
        let mut extensions = span.extensions_mut();
        extensions.insert(Ids { trace, span: fields.span });
        if fields.span.is_some() && self.sink.is_some() {
            extensions.insert(Open { start: SystemTime::now(), fields });
        }
    }

    fn on_record(&self, id: &span::Id, values: &span::Record<'_>, context: Context<'_, S>) {
        let Some(span) = context.span(id) else { return };
        if let Some(open) = span.extensions_mut().get_mut::<Open>() {
            values.record(&mut open.fields);
        }
    }

    fn on_close(&self, id: span::Id, context: Context<'_, S>) {
        let (Some(sink), Some(span)) = (&self.sink, context.span(&id)) else { return };
        let open = span.extensions_mut().remove::<Open>();
        if let Some(Open { start, fields }) = open
            && let Some(data) = fields.into_data(span.name(), start, SystemTime::now())
        {
            sink.send(data);
        }
    }
}
