//! Where strings are, and whether what is in them may be.

use super::classes::Bytes;
use super::lanes::{Mask, Words};

/// Every second bit, from the second on.
const ODD: u64 = 0xAAAA_AAAA_AAAA_AAAA;

/// What is carried from block to block.
pub(super) struct Strings<W> {
    bad: W,
    /// One within a string.
    inside: u8,
    /// A word's lowest bit: whether the word ends with an escape's backslash.
    escape: W,
    /// The escaped characters that do not stand for one.
    unicode: W,
}

/// Where strings are in a block.
#[derive(Default, Clone, Copy)]
pub(super) struct StringsFound {
    /// All that is neither a string nor its quotes.
    pub(super) outside: Mask,
    pub(super) opening: Mask,
}

impl StringsFound {
    /// Whether no token starts in it, and nothing that the next steps look at.
    #[inline(always)]
    pub(super) fn is_text(&self) -> bool {
        let all = self.outside.iter().chain(&self.opening);
        all.fold(0, |some, word| some | word) == 0
    }
}

impl<W: Words> Strings<W> {
    #[inline(always)]
    pub(super) fn new() -> Self {
        Self {
            bad: W::splat(0),
            inside: 0,
            escape: W::splat(0),
            unicode: W::splat(0),
        }
    }

    /// Whether a rule was broken.
    #[inline(always)]
    pub(super) fn is_bad(&self) -> bool {
        !self.bad.is_zero()
    }

    /// Whether the bytes so far end within a string.
    #[inline(always)]
    pub(super) fn is_inside(&self) -> bool {
        self.inside != 0
    }

    /// Takes the next block.
    #[inline(always)]
    pub(super) fn block(&mut self, bytes: Bytes<W>, found: &mut StringsFound) {
        let backslash = bytes.backslash();
        let escaped = self.escaped(backslash);
        let quote = bytes.quote() & !escaped;
        let inside = quote.parity(&mut self.inside);
        self.bad = self.bad | bytes.control() & inside;
        let unicode = escaped & !bytes.escapable();
        if !(unicode | self.unicode).is_zero() {
            let second = unicode.up(self.unicode);
            let digits = second | unicode.up_within::<2>() | unicode.up_within::<3>() | unicode.up_within::<4>();
            let previous = unicode.up_a_word(self.unicode);
            let carried = previous.down_within::<62>() | previous.down_within::<61>() | previous.down_within::<60>();
            self.bad = self.bad | unicode & !bytes.letter_u() | (digits | carried) & !bytes.hex();
            self.unicode = unicode;
        }
        *found = StringsFound {
            outside: (!(inside | quote)).store(),
            opening: (quote & inside).store(),
        };
    }

    /// The bytes that stand behind a backslash which is not itself behind one.
    #[inline(always)]
    fn escaped(&mut self, backslash: W) -> W {
        let mut carried = W::splat(0).up_a_word(self.escape);
        loop {
            // In a run of backslashes every second one escapes; the difference carries to the run's end, and whether
            // it ends on an odd place tells if its last one does.
            let starts = backslash & !carried;
            let odd = W::splat(ODD);
            let ends = (starts.up_within::<1>() | odd).minus_within(starts) ^ odd;
            let escape = (ends & backslash).down_within::<63>();
            let needed = escape.up_a_word(self.escape);
            // Once more where an escape straddles words, which is seldom.
            if (needed ^ carried).is_zero() {
                self.escape = escape;
                return ends ^ (backslash | carried);
            }
            carried = needed;
        }
    }
}
