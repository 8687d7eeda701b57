//! Whether brackets match and are not too deep, and which names stand at the top level.

use super::DEPTH_MAX;
use super::grammar::GrammarFound;
use super::lanes::Words;

/// The open containers, and what was not yet compared with them.
///
/// What matters to nesting, a few bytes here and there, is drawn together into words of events. In such a word
/// neighbours are settled side by side, all at once; after a few rounds only closing brackets and then opening ones are
/// left, and those are compared with the stack at once.
pub(super) struct Nesting {
    /// One bit each, the innermost lowest: 1 for an object.
    open: u128,
    depth: u32,
    /// The least depth since it was last asked for.
    least: u32,
    is_bad: bool,
    /// Whether the last event settled was a closing bracket.
    has_closed: bool,
    events: Events,
}

/// What happens to the stack, one bit each, the first lowest. What neither opens nor closes is a *demand*: that the
/// innermost container is of a kind.
#[derive(Default, Clone, Copy)]
struct Events {
    opening: u64,
    closing: u64,
    /// Of objects.
    object: u64,
    count: u32,
}

impl Nesting {
    pub(super) fn new() -> Self {
        Self {
            open: 0,
            depth: 0,
            least: 0,
            is_bad: false,
            has_closed: false,
            events: Events::default(),
        }
    }

    /// Takes the next block.
    #[inline(always)]
    pub(super) fn block<W: Words>(&mut self, found: &GrammarFound) {
        let brackets = found.opening.iter().zip(found.closing);
        let marks = found.demanding.iter().zip(found.object);
        for ((opening, closing), (demanding, object)) in brackets.zip(marks) {
            let all = opening | closing | demanding;
            let full = self.events.append(Events {
                opening: W::extract(*opening, all),
                closing: W::extract(closing, all),
                object: W::extract(object, all),
                count: all.count_ones(),
            });
            if let Some(full) = full {
                self.settle::<W>(full);
            }
        }
    }

    /// Compares all that was taken. The least depth since it was last done; `None` if a bracket, comma or colon did not
    /// fit its container, or one was too deep.
    #[inline(always)]
    pub(super) fn least_depth<W: Words>(&mut self) -> Option<u32> {
        let events = std::mem::take(&mut self.events);
        self.settle::<W>(events);
        let least = std::mem::replace(&mut self.least, self.depth);
        (!self.is_bad).then_some(least)
    }

    /// How many containers are open, as of the last comparison.
    pub(super) fn depth(&self) -> u32 {
        self.depth
    }

    #[inline(always)]
    fn settle<W: Words>(&mut self, mut events: Events) {
        self.is_bad = self.is_bad || events.exceed_depth(self.depth);
        if self.is_bad {
            return; // the depth may mean nothing from here on
        }
        // Between a closing bracket and a container in an object there is a colon, which is an event. Where there is
        // none, a comma is, and that demands an array.
        let mut in_array = events.opening & (events.closing << 1 | u64::from(self.has_closed));
        if events.count > 0 {
            self.has_closed = events.closing >> (events.count - 1) & 1 == 1;
        }
        let mut bad = 0;
        while events.settle_neighbours::<W>(&mut in_array, &mut bad) {}
        // Closing brackets, perhaps a demand, opening brackets.
        let closing = events.closing.count_ones();
        let opening = events.opening.count_ones();
        let wrong = (u128::from(events.object) ^ self.open) & u128::from(events.closing);
        self.is_bad |= (bad != 0) | (wrong != 0) | (closing > self.depth);
        self.depth = self.depth.saturating_sub(closing);
        self.least = self.least.min(self.depth);
        self.open >>= closing;
        if closing < events.count {
            let next = 1 << closing;
            let demands = (events.opening & next == 0) | (in_array & next != 0);
            let is_object = events.opening & next == 0 && events.object & next != 0;
            self.is_bad |= demands && (self.depth == 0 || (self.open & 1 == 1) != is_object);
        }
        let opened = events.object & events.opening;
        let first = events.count.wrapping_sub(opening);
        // The first of them becomes the outermost.
        let opened = opened
            .unbounded_shr(first)
            .reverse_bits()
            .unbounded_shr(64u32.wrapping_sub(opening));
        self.open = self.open << opening | u128::from(opened);
        self.depth += opening;
    }
}

impl Events {
    /// Adds more events. Returns 64 of them once there are as many, and keeps the rest.
    #[inline(always)]
    fn append(&mut self, more: Self) -> Option<Self> {
        let by = self.count;
        self.opening |= more.opening << by;
        self.closing |= more.closing << by;
        self.object |= more.object << by;
        self.count += more.count;
        if self.count < u64::BITS {
            return None;
        }
        let full = Self {
            count: u64::BITS,
            ..*self
        };
        let taken = u64::BITS - by;
        *self = Self {
            opening: more.opening.unbounded_shr(taken),
            closing: more.closing.unbounded_shr(taken),
            object: more.object.unbounded_shr(taken),
            count: self.count - u64::BITS,
        };
        Some(full)
    }

    /// Whether they lead from a depth to one that is not accepted.
    #[inline(always)]
    fn exceed_depth(&self, depth: u32) -> bool {
        if depth + self.opening.count_ones() <= DEPTH_MAX {
            return false;
        }
        let mut depth = depth;
        (0..self.count).any(|place| {
            let has = |events: u64| (events >> place & 1) as u32;
            depth = depth.wrapping_add(has(self.opening)).wrapping_sub(has(self.closing));
            depth > DEPTH_MAX
        })
    }

    /// Settles what stands beside what it belongs to, and takes it away; whether there was something.
    #[inline(always)]
    fn settle_neighbours<W: Words>(&mut self, in_array: &mut u64, bad: &mut u64) -> bool {
        let all = u64::MAX.unbounded_shr(u64::BITS - self.count);
        let demands = all & !(self.opening | self.closing);
        let differs_from_previous = self.object ^ self.object << 1;
        // What follows an opening bracket, or a demand of the same container.
        let known = (self.opening | demands) << 1;
        *bad |= *in_array & known & self.object << 1;
        *in_array &= !known;
        *bad |= (demands | self.closing) & known & differs_from_previous;
        // A demand after a closing bracket is settled where the next one closes the same container, by the line above.
        let settled_by_next = demands & !known & self.closing >> 1;
        let closed = self.closing & self.opening << 1;
        let pairs = closed >> 1;
        let gone = demands & known | settled_by_next | closed | pairs & !*in_array;
        // The pairs that followed a comma leave the demand for an array.
        self.opening &= !pairs;
        self.object &= !pairs;
        *in_array &= !pairs;
        let keep = all & !gone;
        self.opening = W::extract(self.opening, keep);
        self.closing = W::extract(self.closing, keep);
        self.object = W::extract(self.object, keep);
        *in_array = W::extract(*in_array, keep);
        self.count = keep.count_ones();
        gone != 0
    }
}

/// Where the top level is.
pub(super) struct TopLevel {
    depth: u32,
}

impl TopLevel {
    /// With so many containers open.
    pub(super) fn below(depth: u32) -> Self {
        Self { depth }
    }

    /// Of the names in the next 64 bytes, those that stand in the outermost object.
    #[inline(always)]
    pub(super) fn names(&mut self, names: u64, opening: u64, closing: u64) -> u64 {
        let before = self.depth;
        self.depth = before
            .wrapping_add(opening.count_ones())
            .wrapping_sub(closing.count_ones());
        if names == 0 || before.wrapping_sub(closing.count_ones()).cast_signed() > 1 {
            return 0;
        }
        let mut depth = before;
        let mut below = if depth > 1 { u64::MAX } else { 0 };
        let mut brackets = opening | closing;
        while brackets != 0 {
            let bit = brackets & brackets.wrapping_neg();
            brackets ^= bit;
            depth = depth.wrapping_add(u32::from(opening & bit != 0));
            if depth == 2 {
                below ^= bit.wrapping_neg(); // from here on
            }
            depth = depth.wrapping_sub(u32::from(closing & bit != 0));
        }
        names & !below
    }
}
