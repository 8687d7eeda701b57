//! Which deliveries are traced, and the ids that their spans get. Pure but for the randomness that ids are made of.

use aws_lc_rs::rand;

use crate::domain::trace_context::{SpanId, TraceContext, TraceFlags, TraceId};

/// Bytes of randomness for one delivery: a trace's id, two spans', and the lot that is drawn.
const RANDOM_BYTES: usize = 16 + 8 + 8 + 8;

/// Decides as whoever sent the invocation did, and where nothing is said, one time in so many.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sampler {
    /// 0: never.
    one_in: u64,
}

/// The ids of a traced delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeliveryTrace {
    /// The dispatcher's, or one that begins here.
    pub trace: TraceId,
    /// The dispatcher's span; `None` where the trace begins here.
    pub(super) parent: Option<SpanId>,
    /// The delivery.
    pub(super) server: SpanId,
    /// What is sent to the endpoint.
    pub(super) client: SpanId,
    pub(super) flags: TraceFlags,
}

impl Sampler {
    pub(super) const fn new(one_in: u64) -> Self {
        Self { one_in }
    }

    /// The ids of a delivery that is to be traced. `named` is what the dispatcher says of its trace.
    pub(super) fn sample(self, named: Option<TraceContext>) -> Option<DeliveryTrace> {
        let may_be = named.map_or(self.one_in > 0, |context| context.flags.is_sampled());
        if !may_be {
            return None;
        }
        let mut random = [0; RANDOM_BYTES];
        rand::fill(&mut random).ok()?;
        self.draw(named, &random)
    }

    fn draw(self, named: Option<TraceContext>, random: &[u8; RANDOM_BYTES]) -> Option<DeliveryTrace> {
        let (trace, rest) = random.split_first_chunk()?;
        let (server, rest) = rest.split_first_chunk()?;
        let (client, lot) = rest.split_first_chunk()?;
        let lot = u64::from_be_bytes(*lot.first_chunk()?);
        let (trace, parent, flags) = match named {
            Some(context) if context.flags.is_sampled() => (context.trace, Some(context.span), context.flags),
            None if lot.checked_rem(self.one_in) == Some(0) => (TraceId::new(*trace)?, None, TraceFlags::RECORDED),
            Some(_) | None => return None,
        };
        Some(DeliveryTrace {
            trace,
            parent,
            server: SpanId::new(*server)?,
            client: SpanId::new(*client)?,
            flags,
        })
    }
}

impl DeliveryTrace {
    /// What the endpoint is told: its request comes from the client span.
    #[must_use]
    pub const fn outbound(&self) -> TraceContext {
        TraceContext {
            trace: self.trace,
            span: self.client,
            flags: self.flags,
        }
    }

    /// Whether the trace begins here: whatever else the request says of a trace is then of another one.
    #[must_use]
    pub const fn begins_here(&self) -> bool {
        self.parent.is_none()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn random(lot: u64) -> [u8; RANDOM_BYTES] {
        let mut random = [7; RANDOM_BYTES];
        *random.last_chunk_mut().unwrap() = lot.to_be_bytes();
        random
    }

    fn named(flags: &str) -> Option<TraceContext> {
        let text = format!("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-{flags}");
        TraceContext::parse(text.as_bytes())
    }

    #[test]
    fn the_dispatchers_word_decides_and_where_there_is_none_one_in_so_many() {
        for (what, one_in, named, lot, is_traced) in [
            ("sampled", 1, named("01"), 0, true),
            ("sampled, and no lot would be", 0, named("01"), 1, true),
            ("sampled, random", 0, named("03"), 1, true),
            ("not sampled", 1, named("00"), 0, false),
            ("not sampled, random", 1, named("02"), 0, false),
            ("every one", 1, None, 12_345, true),
            ("none", 0, None, 0, false),
            ("one in ten", 10, None, 20, true),
            ("one in ten, another", 10, None, 21, false),
        ] {
            let drawn = Sampler::new(one_in).draw(named, &random(lot));
            assert_eq!(drawn.is_some(), is_traced, "{what}");
        }
        assert!(Sampler::new(0).sample(None).is_none() && Sampler::new(1).sample(named("00")).is_none());
    }

    #[test]
    fn a_delivery_goes_on_with_the_dispatchers_trace_or_begins_one() {
        let (context, sampler) = (named("03").unwrap(), Sampler::new(1));
        let goes_on = sampler.sample(Some(context)).unwrap();
        assert_eq!((goes_on.trace, goes_on.parent), (context.trace, Some(context.span)));
        assert_eq!(
            (goes_on.outbound().span, goes_on.outbound().flags),
            (goes_on.client, context.flags)
        );
        assert!(!goes_on.begins_here() && goes_on.server != goes_on.client);
        let (one, other) = (sampler.sample(None).unwrap(), sampler.sample(None).unwrap());
        assert!(one.begins_here() && one.trace != other.trace && one.outbound().flags.is_sampled());
    }
}
