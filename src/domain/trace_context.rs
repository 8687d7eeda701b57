//! Which trace a request is part of, as W3C Trace Context writes it in `traceparent`.

/// The length of a `traceparent` of version 0.
const TRACEPARENT_LEN: usize = 55;

/// Set where whoever sends the request records it (W3C Trace Context, section 3.2.2.5).
const SAMPLED: u8 = 1;

/// The flags that have a meaning: sampled, and random (W3C Trace Context Level 2).
const KNOWN_FLAGS: u8 = 0b11;

/// A trace's id. Never all zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct TraceId([u8; 16]);

/// A span's id. Never all zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct SpanId([u8; 8]);

/// What is known of a trace beside its ids. Only flags that have a meaning.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct TraceFlags(u8);

/// What a request says of the trace that it is part of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TraceContext {
    /// The trace.
    pub trace: TraceId,
    /// The span that the request comes from.
    pub span: SpanId,
    /// Whether that span is recorded.
    pub flags: TraceFlags,
}

/// ASCII of a known length, made without an allocation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Written<const N: usize>([u8; N]);

impl TraceId {
    /// The id that these bytes are; `None` where all of them are zero.
    #[must_use]
    pub fn new(bytes: [u8; 16]) -> Option<Self> {
        bytes.iter().any(|byte| *byte != 0).then_some(Self(bytes))
    }

    /// The bytes.
    #[must_use]
    pub const fn bytes(&self) -> &[u8; 16] {
        &self.0
    }

    /// As the log has it.
    #[must_use]
    pub fn written(self) -> Written<32> {
        let mut digits = [0; 32];
        write_hex(&self.0, &mut digits);
        Written(digits)
    }
}

impl SpanId {
    /// The id that these bytes are; `None` where all of them are zero.
    #[must_use]
    pub fn new(bytes: [u8; 8]) -> Option<Self> {
        bytes.iter().any(|byte| *byte != 0).then_some(Self(bytes))
    }

    /// The bytes.
    #[must_use]
    pub const fn bytes(&self) -> &[u8; 8] {
        &self.0
    }
}

impl TraceFlags {
    /// Of a trace that begins here and is recorded.
    pub const RECORDED: Self = Self(SAMPLED);

    /// Whether whoever sent the request records it.
    #[must_use]
    pub const fn is_sampled(self) -> bool {
        self.0 & SAMPLED != 0
    }

    /// The bits.
    #[must_use]
    pub const fn bits(self) -> u8 {
        self.0
    }
}

impl TraceContext {
    /// Reads a `traceparent`: version 0 exactly, of later versions what they have in common with it.
    #[must_use]
    pub fn parse(traceparent: &[u8]) -> Option<Self> {
        let (known, further) = traceparent.split_at_checked(TRACEPARENT_LEN)?;
        let mut parts = known.split(|byte| *byte == b'-');
        let [version] = read_hex(parts.next()?)?;
        let (trace, span) = (read_hex(parts.next()?)?, read_hex(parts.next()?)?);
        let [flags] = read_hex(parts.next()?)?;
        let is_whole = match version {
            0 => further.is_empty(),
            0xff => false,
            _ => further.first().is_none_or(|byte| *byte == b'-'),
        };
        let context = Self {
            trace: TraceId::new(trace)?,
            span: SpanId::new(span)?,
            flags: TraceFlags(flags & KNOWN_FLAGS),
        };
        is_whole.then_some(context)
    }

    /// The `traceparent` of a request that comes from this span.
    #[must_use]
    pub fn traceparent(&self) -> Written<TRACEPARENT_LEN> {
        let mut text = *b"00-00000000000000000000000000000000-0000000000000000-00";
        let fields: [&[u8]; 4] = [&[0], &self.trace.0, &self.span.0, &[self.flags.0]];
        for (digits, bytes) in text.split_mut(|byte| *byte == b'-').zip(fields) {
            write_hex(bytes, digits);
        }
        Written(text)
    }
}

impl<const N: usize> Written<N> {
    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or_default() // it is ASCII
    }
}

fn write_hex(bytes: &[u8], digits: &mut [u8]) {
    let digit = |nibble: u8| {
        if nibble < 10 {
            b'0' + nibble
        } else {
            b'a' + (nibble - 10)
        }
    };
    for (byte, pair) in bytes.iter().zip(digits.chunks_exact_mut(2)) {
        if let [high, low] = pair {
            (*high, *low) = (digit(byte >> 4), digit(byte & 0xf));
        }
    }
}

/// Exactly so many bytes, in lower-case digits.
fn read_hex<const N: usize>(digits: &[u8]) -> Option<[u8; N]> {
    if digits.len() != N * 2 {
        return None;
    }
    let mut bytes = [0; N];
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        let [high, low] = pair else { return None };
        *byte = nibble(*high)? << 4 | nibble(*low)?;
    }
    Some(bytes)
}

const fn nibble(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
    const SPAN: &str = "b7ad6b7169203331";

    #[test]
    fn a_traceparent_says_trace_span_and_whether_it_is_recorded() {
        for (text, is_sampled) in [
            (format!("00-{TRACE}-{SPAN}-01"), true),
            (format!("00-{TRACE}-{SPAN}-00"), false),
            (format!("00-{TRACE}-{SPAN}-02"), false),
            (format!("00-{TRACE}-{SPAN}-ff"), true),
            (format!("01-{TRACE}-{SPAN}-01"), true),
            (format!("cc-{TRACE}-{SPAN}-01-what-comes-later"), true),
        ] {
            let context = TraceContext::parse(text.as_bytes()).unwrap();
            assert_eq!(context.trace.written().as_str(), TRACE, "{text}");
            assert_eq!(context.flags.is_sampled(), is_sampled, "{text}");
        }
    }

    #[test]
    fn what_is_not_well_formed_names_no_trace() {
        let (no_trace, no_span) = ("0".repeat(32), "0".repeat(16));
        for bad in [
            String::new(),
            "00".into(),
            "garbage-garbage-garbage-garbage-garbage-garbage-garbage".into(),
            format!("00-{no_trace}-{SPAN}-01"),
            format!("00-{TRACE}-{no_span}-01"),
            format!("00-{}-{SPAN}-01", TRACE.to_uppercase()),
            format!("00-{TRACE}-{SPAN}-0"),
            format!("00-{TRACE}-{SPAN}-0g"),
            format!("00-{TRACE}-{SPAN}-01-later"),
            format!("00-{TRACE}-{SPAN}-011"),
            format!("01-{TRACE}-{SPAN}-011"),
            format!("ff-{TRACE}-{SPAN}-01"),
            format!("00-{TRACE}{SPAN}--01"),
            format!(" 0-{TRACE}-{SPAN}-01"),
        ] {
            assert_eq!(TraceContext::parse(bad.as_bytes()), None, "{bad}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_reads_back(trace in 1_u128.., span in 1_u64.., flags in 0_u8..=KNOWN_FLAGS) {
            let context = TraceContext {
                trace: TraceId::new(trace.to_be_bytes()).unwrap(),
                span: SpanId::new(span.to_be_bytes()).unwrap(),
                flags: TraceFlags(flags),
            };
            let text = context.traceparent();
            prop_assert_eq!(text.as_str(), format!("00-{trace:032x}-{span:016x}-{flags:02x}"));
            prop_assert_eq!(TraceContext::parse(text.as_str().as_bytes()), Some(context));
        }

        #[test]
        fn no_bytes_are_more_than_it_can_read(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
            let _ = TraceContext::parse(&bytes);
        }
    }
}
