//! The trace of the sender, carried in attributes.

use std::{fmt, str::FromStr};

use towpath_core::{Attributes, Message};

/// The attribute of the W3C trace context.
const TRACEPARENT: &str = "traceparent";
/// The attribute of its vendor data.
const TRACESTATE: &str = "tracestate";
/// What Google's clients write.
const GOOGLE: &str = "googclient_traceparent";
/// What AWS X-Ray writes.
const XRAY: &str = "AWSTraceHeader";
/// The longest attribute value that works everywhere.
const LONGEST_STATE: usize = 1_024;

/// Where a message comes from in a distributed trace: the W3C trace context, in the attributes
/// `traceparent` and `tracestate`.
///
/// ```
/// use towpath_core::Message;
/// use towpath_worker::TraceContext;
///
/// let context: TraceContext = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01".parse()?;
/// let message = context.inject(Message::new("hello"));
/// assert_eq!(TraceContext::of(&message), Some(context));
/// # Ok::<(), towpath_worker::TraceContextError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct TraceContext {
    /// The trace; never 0.
    pub trace_id: u128,
    /// The span that sent the message; never 0.
    pub span_id: u64,
    /// Whether the sender records the trace.
    pub sampled: bool,
    /// What vendors add, as it came.
    pub state: Option<String>,
}

impl TraceContext {
    /// A new trace.
    pub fn root() -> Self {
        Self {
            trace_id: fastrand::u128(1..),
            span_id: fastrand::u64(1..),
            sampled: true,
            state: None,
        }
    }

    /// A new span in the same trace.
    #[must_use]
    pub fn child(&self) -> Self {
        Self {
            span_id: fastrand::u64(1..),
            ..self.clone()
        }
    }

    /// The trace context of a received message; where it has none of the W3C, that of Google's
    /// clients or of AWS X-Ray. `None` where there is none that can be read.
    pub fn of(message: &Message) -> Option<Self> {
        let attributes = message.attributes();
        if let Some(mut context) = parse(attributes, TRACEPARENT) {
            context.state = attributes.get(TRACESTATE).map(str::to_owned);
            return Some(context);
        }
        parse(attributes, GOOGLE).or_else(|| from_xray(attributes.get(XRAY)?))
    }

    /// Sets the attributes of `message`. They count towards the number of attributes that the queue
    /// carries. Vendor data longer than 1,024 bytes is left out, as the W3C allows.
    #[must_use]
    pub fn inject(&self, message: Message) -> Message {
        let mut attributes = message.attributes().clone();
        attributes.insert(TRACEPARENT, self.to_string());
        match &self.state {
            Some(state) if !state.is_empty() && state.len() <= LONGEST_STATE => {
                attributes.insert(TRACESTATE, state.as_str());
            }
            _ => {
                attributes.remove(TRACESTATE);
            }
        }
        message.with_attributes(attributes)
    }
}

fn parse(attributes: &Attributes, name: &str) -> Option<TraceContext> {
    attributes.get(name)?.parse().ok()
}

/// `Root=1-5759e988-bd862e3fe1be46a994272793;Parent=53995c3f42cd8ad8;Sampled=1`.
fn from_xray(header: &str) -> Option<TraceContext> {
    let field = |name: &str| {
        header
            .split(';')
            .filter_map(|part| part.trim().split_once('='))
            .find_map(|(key, value)| (key == name).then_some(value))
    };
    let (version, rest) = field("Root")?.split_once('-')?;
    let (time, unique) = rest.split_once('-')?;
    if version != "1" {
        return None;
    }
    Some(TraceContext {
        trace_id: (u128::from(hex(time, 8)? as u64) << 96) | hex(unique, 24)?,
        span_id: u64::try_from(hex(field("Parent")?, 16)?).ok()?,
        sampled: field("Sampled") == Some("1"),
        state: None,
    })
    .filter(|context| context.trace_id != 0 && context.span_id != 0)
}

/// A number of exactly so many lowercase hexadecimal digits.
fn hex(text: &str, digits: usize) -> Option<u128> {
    let is_digit = |b: u8| matches!(b, b'0'..=b'9' | b'a'..=b'f');
    if text.len() != digits || !text.bytes().all(is_digit) {
        return None;
    }
    u128::from_str_radix(text, 16).ok()
}

/// The text is no W3C trace context.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct TraceContextError;

impl fmt::Display for TraceContextError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(
            "not a W3C traceparent; it is written \
             00-<32 hex digits of the trace>-<16 of the span>-<2 of the flags>",
        )
    }
}

impl std::error::Error for TraceContextError {}

/// Reads a `traceparent`. Later versions are read as far as this one knows them.
///
/// <https://www.w3.org/TR/trace-context/#traceparent-header>
impl FromStr for TraceContext {
    type Err = TraceContextError;

    fn from_str(text: &str) -> Result<Self, TraceContextError> {
        let read = || {
            let mut parts = text.splitn(5, '-');
            let version = hex(parts.next()?, 2)?;
            let trace_id = hex(parts.next()?, 32)?;
            let span_id = hex(parts.next()?, 16)?;
            let flags = hex(parts.next()?, 2)?;
            let has_more = parts.next().is_some();
            if version == 0xff || (version == 0 && has_more) || trace_id == 0 || span_id == 0 {
                return None;
            }
            Some(Self {
                trace_id,
                span_id: u64::try_from(span_id).ok()?,
                sampled: flags & 1 == 1,
                state: None,
            })
        };
        read().ok_or(TraceContextError)
    }
}

/// Writes a `traceparent`.
impl fmt::Display for TraceContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let flags = u8::from(self.sampled);
        write!(
            f,
            "00-{:032x}-{:016x}-{flags:02x}",
            self.trace_id, self.span_id
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EXAMPLE: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn a_context_survives_the_way_through_a_message() {
        let mut context: TraceContext = EXAMPLE.parse().unwrap();
        context.state = Some("vendor=1".into());
        let message = context.inject(Message::new("x").with_attribute("own", "1"));
        assert_eq!(message.attributes().get("traceparent"), Some(EXAMPLE));
        assert_eq!(message.attributes().get("own"), Some("1"));
        assert_eq!(TraceContext::of(&message), Some(context.clone()));
        let child = context.child();
        assert_eq!(child.trace_id, context.trace_id);
        assert_ne!(child.span_id, context.span_id);
    }

    #[test]
    fn bad_contexts_are_refused() {
        for text in [
            "",
            "00",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more",
            "00-+bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        ] {
            assert_eq!(
                text.parse::<TraceContext>(),
                Err(TraceContextError),
                "{text}"
            );
        }
        let later = format!("cc{}-what-comes-later", &EXAMPLE[2..]);
        assert!(later.parse::<TraceContext>().is_ok());
    }

    #[test]
    fn the_clouds_own_headers_are_a_fallback() {
        let google = Message::new("x").with_attribute("googclient_traceparent", EXAMPLE);
        assert_eq!(TraceContext::of(&google), EXAMPLE.parse().ok());
        let xray = Message::new("x").with_attribute(
            "AWSTraceHeader",
            "Root=1-5759e988-bd862e3fe1be46a994272793;Parent=53995c3f42cd8ad8;Sampled=1",
        );
        assert_eq!(
            TraceContext::of(&xray).unwrap().to_string(),
            "00-5759e988bd862e3fe1be46a994272793-53995c3f42cd8ad8-01"
        );
        let none = Message::new("x").with_attribute("AWSTraceHeader", "Root=1-5759e988");
        assert_eq!(TraceContext::of(&none), None);
    }
}
