//! Trace context: the data of W3C Trace Context, and whether this process exports spans of a trace.
//!
//! A *trace* spans a piece of work from submission to delivery, over every process that takes part. A [`Trace`] is
//! propagated: the trace id and the parent span. A piece of work that has a span of its own has a [`SpanContext`].

use std::fmt;
use std::num::NonZeroU64;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The target of the spans that make up traces; spans of other targets are not exported.
pub const TARGET: &str = "agentry::trace";

/// A W3C trace id.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct TraceId(pub u128);

impl fmt::Display for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl fmt::Debug for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TraceId({self})")
    }
}

impl FromStr for TraceId {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.len() != 32 {
            return Err("a trace id has 32 hex digits");
        }
        u128::from_str_radix(text, 16).map(Self).map_err(|_| "a trace id has 32 hex digits")
    }
}

/// Serializes a type as the text of its `Display`, and parses it by its `FromStr`.
macro_rules! serde_as_text {
    ($($type:ty),*) => {$(
        impl Serialize for $type {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                std::borrow::Cow::<'de, str>::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
            }
        }
    )*};
}

serde_as_text!(TraceId, Parent);

/// A W3C span id; zero is invalid (W3C Trace Context §3.2.2.4).
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct SpanId(pub NonZeroU64);

impl SpanId {
    /// Returns the span id with these bits.
    #[must_use]
    pub fn new(bits: u64) -> Self {
        Self(NonZeroU64::new(bits).unwrap_or(NonZeroU64::MIN))
    }

    /// Returns a span id from the random half of an id (a UUID of version 7).
    #[must_use]
    pub fn of_id(id: &[u8; 16]) -> Self {
        let mut half = [0; 8];
        half.copy_from_slice(&id[8..]);
        Self::new(u64::from_be_bytes(half))
    }

    /// Returns a span id derived from this one and a number: always the same, and as different from others as a random
    /// one (SplitMix64, Steele et al. 2014). Stored traces depend on the values.
    #[must_use]
    pub fn derive(self, number: u64) -> Self {
        let mut bits = self.0.get().wrapping_add(number.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        Self::new(bits ^ (bits >> 31))
    }

    /// As [`Self::derive`], with a text instead of a number.
    #[must_use]
    pub fn derive_from(self, text: &str) -> Self {
        let named = self.derive(text.len() as u64);
        text.as_bytes().chunks(8).fold(named, |span, chunk| {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            span.derive(u64::from_le_bytes(word))
        })
    }
}

impl fmt::Display for SpanId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl fmt::Debug for SpanId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SpanId({self})")
    }
}

/// The parent span of a piece of work, and whether the originator of the trace samples it. Written `<16 hex>-<2 hex>`,
/// the end of a `traceparent`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Parent {
    /// The span.
    pub span: SpanId,
    /// The *sampled* flag.
    pub sampled: bool,
}

impl fmt::Display for Parent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{:02x}", self.span, u8::from(self.sampled))
    }
}

impl FromStr for Parent {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let shape = "a parent is written <16 hex>-<2 hex>, and not zero";
        let (span, flags) = text.split_once('-').ok_or(shape)?;
        if !is_hex(span, 16) || !is_hex(flags, 2) {
            return Err(shape);
        }
        let span = u64::from_str_radix(span, 16).ok().and_then(NonZeroU64::new).ok_or(shape)?;
        let flags = u8::from_str_radix(flags, 16).map_err(|_| shape)?;
        // Other flags are reserved (W3C Trace Context §3.2.2.5).
        Ok(Self { span: SpanId(span), sampled: flags & 1 == 1 })
    }
}

fn is_hex(text: &str, digits: usize) -> bool {
    text.len() == digits && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

/// The propagated context of a piece of work: its trace and its parent span. Without a parent the trace begins with the
/// work.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trace {
    /// The trace.
    pub id: TraceId,
    /// Parent span.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<Parent>,
}

impl Trace {
    /// Starts a trace with these random bits; zero is not a trace id (W3C Trace Context §3.2.2.3).
    #[must_use]
    pub fn begin(bits: u128) -> Self {
        Self { id: TraceId(bits.max(1)), parent: None }
    }

    /// Returns the trace of a `traceparent` (`00-<32 hex>-<16 hex>-<2 hex>`); `None` if it is malformed.
    #[must_use]
    pub fn of_traceparent(text: &str) -> Option<Self> {
        let (version, rest) = text.split_once('-')?;
        let (trace, rest) = rest.split_once('-')?;
        if !is_hex(version, 2) || version == "ff" || !is_hex(trace, 32) {
            return None;
        }
        // Later versions may add fields after the flags; this one must not.
        let parent = if version == "00" { rest } else { rest.get(..19)? };
        let more = rest.get(19..).unwrap_or_default();
        if !(more.is_empty() || more.starts_with('-')) {
            return None;
        }
        let id = trace.parse().ok().filter(|id: &TraceId| id.0 != 0)?;
        Some(Self { id, parent: Some(parent.parse().ok()?) })
    }

    /// Returns the `traceparent` header of this context; a trace without a parent uses its own id as the span.
    #[must_use]
    pub fn traceparent(&self) -> String {
        let low = u64::try_from(self.id.0 & u128::from(u64::MAX)).unwrap_or(1);
        let parent = self.parent.unwrap_or(Parent { span: SpanId::new(low), sampled: false });
        format!("00-{}-{parent}", self.id)
    }
}

/// The sampling decision of a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Sampling {
    /// Exports no spans; the flags of others are propagated unchanged.
    #[default]
    Off,
    /// Exports the spans of some traces.
    On {
        /// Share of the traces, in units of 2^-63.
        share: u64,
        /// True if the parent's sampled flag decides for traces that began elsewhere.
        follows_parent: bool,
    },
}

/// The share of [`Sampling::On`] that is every trace.
pub const EVERY_TRACE: u64 = 1 << 63;

impl Sampling {
    /// Samples every trace, except those whose parent is not sampled.
    pub const ALL: Self = Self::On { share: EVERY_TRACE, follows_parent: true };

    /// Returns whether spans of a trace are exported; `None` if none ever are. The decision depends on the trace's id,
    /// so that every process makes the same one (OpenTelemetry's `TraceIdRatioBased`: the low 63 bits).
    #[must_use]
    pub fn keeps(self, trace: &Trace) -> Option<bool> {
        match (self, trace.parent) {
            (Self::Off, _) => None,
            (Self::On { follows_parent: true, .. }, Some(parent)) => Some(parent.sampled),
            (Self::On { share, .. }, _) => {
                let low = u64::try_from(trace.id.0 & u128::from(u64::MAX)).unwrap_or(0);
                Some(low >> 1 < share)
            }
        }
    }
}

/// The span context of a piece of work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SpanContext {
    /// The trace and the parent span.
    pub trace: Trace,
    /// The span's id, if it is exported.
    pub span: SpanId,
    /// True if the span is exported; `None` if this process exports none.
    kept: Option<bool>,
}

impl SpanContext {
    /// Returns the context of a span for work that came with `trace`.
    #[must_use]
    pub fn of(sampling: Sampling, trace: Trace, span: SpanId) -> Self {
        Self { trace, span, kept: sampling.keeps(&trace) }
    }

    /// Returns the context of a child span.
    #[must_use]
    pub fn child(&self, span: SpanId) -> Self {
        Self { trace: self.propagate(), span, kept: self.kept }
    }

    /// Returns whether the span is exported.
    #[must_use]
    pub fn is_exported(&self) -> bool {
        self.kept == Some(true)
    }

    /// Returns the context to propagate to work that this span causes: its parent is this span, or, if this span is not
    /// exported, this span's own parent.
    #[must_use]
    pub fn propagate(&self) -> Trace {
        let parent = match self.kept {
            Some(true) => Some(Parent { span: self.span, sampled: true }),
            Some(false) => {
                Some(Parent { span: self.trace.parent.map_or(self.span, |parent| parent.span), sampled: false })
            }
            None => self.trace.parent,
        };
        Trace { parent, ..self.trace }
    }

    /// Returns the `traceparent` header of an outgoing request.
    #[must_use]
    pub fn traceparent(&self) -> String {
        let Trace { id, parent } = self.propagate();
        let parent = parent.unwrap_or(Parent { span: self.span, sampled: false });
        Trace { id, parent: Some(parent) }.traceparent()
    }

    /// Returns the id of the parent span, for the field `parent_id` of a span.
    #[must_use]
    pub fn parent_id(&self) -> Option<u64> {
        self.trace.parent.map(|parent| parent.span.0.get())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    #[test]
    fn a_traceparent_round_trips_with_its_flag() {
        for text in [GOOD, &GOOD.replace("-01", "-00")] {
            assert_eq!(Trace::of_traceparent(text).unwrap().traceparent(), text);
        }
        let later = GOOD.replacen("00", "01", 1) + "-what-else";
        assert_eq!(Trace::of_traceparent(&later), Trace::of_traceparent(GOOD));
        assert!(Trace::of_traceparent(&GOOD.replace("-01", "-ff")).unwrap().parent.unwrap().sampled);
    }

    #[test]
    fn what_is_no_traceparent_is_ignored() {
        for bad in [
            "",
            "00",
            "00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01",
            "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "00-00000000000000000000000000000000-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-1",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-more",
            "01-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-011",
            "01-0af7651916cd43dd8448eb211c80319c-b7ad6b716920333é-01",
            "00-0af7651916cd43dd8448eb211c80319c",
        ] {
            assert_eq!(Trace::of_traceparent(bad), None, "{bad}");
        }
    }

    #[test]
    fn what_travels_is_stored_as_it_is_written() {
        let trace = Trace::of_traceparent(GOOD).unwrap();
        let json = serde_json::to_value(trace).unwrap();
        assert_eq!(json["parent"], "b7ad6b7169203331-01");
        assert_eq!(serde_json::from_value::<Trace>(json).unwrap(), trace);
        let bare = serde_json::json!({"id": "0af7651916cd43dd8448eb211c80319c"});
        assert_eq!(serde_json::from_value::<Trace>(bare).unwrap(), Trace { parent: None, ..trace });
    }

    #[test]
    fn who_keeps_spans_puts_its_own_in_between() {
        let (trace, own) = (Trace::of_traceparent(GOOD).unwrap(), SpanId::new(7));
        let place = SpanContext::of(Sampling::ALL, trace, own);
        assert!(place.is_exported());
        assert_eq!(place.propagate().parent, Some(Parent { span: own, sampled: true }));
        let below = place.child(SpanId::new(8));
        assert_eq!(below.traceparent(), "00-0af7651916cd43dd8448eb211c80319c-0000000000000008-01");
        assert_eq!(below.parent_id(), Some(7));
    }

    #[test]
    fn who_keeps_none_passes_on_what_came() {
        let (trace, own) = (Trace::of_traceparent(GOOD).unwrap(), SpanId::new(7));
        let off = SpanContext::of(Sampling::Off, trace, own);
        assert!(!off.is_exported() && off.propagate() == trace && off.traceparent() == GOOD);
        let unkept = Trace::of_traceparent(&GOOD.replace("-01", "-00")).unwrap();
        assert_eq!(SpanContext::of(Sampling::ALL, unkept, own).propagate(), unkept);
        // A trace that begins here and is not sampled: no other process may sample it.
        let never = Sampling::On { share: 0, follows_parent: true };
        let begun = SpanContext::of(never, Trace::begin(5), own).propagate();
        assert_eq!(begun.parent, Some(Parent { span: own, sampled: false }));
        assert_eq!(SpanContext::of(Sampling::Off, Trace::begin(5), own).propagate(), Trace::begin(5));
    }

    #[test]
    fn a_share_of_traces_is_kept_by_their_ids() {
        let half = Sampling::On { share: EVERY_TRACE / 2, follows_parent: true };
        let kept = |bits: u128| half.keeps(&Trace::begin(bits));
        assert_eq!((kept(1), kept(u128::from(u64::MAX) / 2 - 1)), (Some(true), Some(true)));
        assert_eq!((kept(u128::from(u64::MAX)), kept(1 << 63)), (Some(false), Some(false)));
        assert_eq!(Sampling::ALL.keeps(&Trace::begin(u128::MAX)), Some(true));
        let deaf = Sampling::On { share: EVERY_TRACE, follows_parent: false };
        assert_eq!(deaf.keeps(&Trace::of_traceparent(&GOOD.replace("-01", "-00")).unwrap()), Some(true));
    }

    #[test]
    fn derived_spans_differ() {
        let span = SpanId::new(1);
        let mut seen: Vec<u64> = (0..1_000).map(|n| span.derive(n).0.get()).collect();
        seen.extend(["a", "b", "aaaaaaaaa", "aaaaaaaab"].map(|text| span.derive_from(text).0.get()));
        seen.sort_unstable();
        let all = seen.len();
        seen.dedup();
        assert_eq!(seen.len(), all);
        assert_eq!(span.derive(3), span.derive(3));
    }
}
