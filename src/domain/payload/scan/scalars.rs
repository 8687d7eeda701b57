//! Where numbers and literals are, and whether the numbers are well-formed.
//!
//! `-? (0 | 1-9 0-9*) (. 0-9+)? ([eE] [+-]? 0-9+)?`, as rules on neighbours.

use super::classes::Bytes;
use super::grammar::Next;
use super::lanes::{Mask, Words};
use super::planes::ones;

/// What is carried from block to block.
pub(super) struct Scalars<W> {
    bad: W,
    scalar: Moved<W>,
    letter: Moved<W>,
    digit: Moved<W>,
    needs_digit: Moved<W>,
    exponent: Moved<W>,
    sign: Moved<W>,
    lead: Moved<W>,
    fraction_end: Next,
    exponent_end: Next,
}

/// Where scalars are in a block.
#[derive(Default, Clone, Copy)]
pub(super) struct ScalarsFound {
    /// Where they start.
    pub(super) starts: Mask,
    /// Of these, what is to be a literal.
    pub(super) literals: Mask,
}

impl<W: Words> Scalars<W> {
    #[inline(always)]
    pub(super) fn new() -> Self {
        Self {
            bad: W::splat(0),
            scalar: Moved::new(),
            letter: Moved::new(),
            digit: Moved::new(),
            needs_digit: Moved::new(),
            exponent: Moved::new(),
            sign: Moved::new(),
            lead: Moved::new(),
            fraction_end: Next::default(),
            exponent_end: Next::default(),
        }
    }

    /// Whether a rule was broken.
    #[inline(always)]
    pub(super) fn is_bad(&self) -> bool {
        !self.bad.is_zero()
    }

    /// Takes the next block. Literals are trusted to be what they start as: who looks at them refuses the rest.
    #[inline(always)]
    pub(super) fn block(&mut self, bytes: Bytes<W>, outside: W, found: &mut ScalarsFound) {
        let other = bytes.opening() | bytes.closing() | bytes.colon() | bytes.comma() | bytes.space();
        let scalar = outside & !other;
        let starts = scalar & !self.scalar.up(scalar);
        let literals = starts & bytes.letter();
        *found = ScalarsFound {
            starts: starts.store(),
            literals: literals.store(),
        };

        let digit = scalar & bytes.digit();
        let minus = scalar & bytes.minus();
        let plus = scalar & bytes.plus();
        let dot = scalar & bytes.dot();
        let e = scalar & bytes.exponent();
        let letter = scalar & bytes.letter() | e;
        let after_digit = self.digit.up(digit);
        // In a number an `e` follows a digit; all other letters follow letters, back to a literal's first.
        let exponent = e & after_digit;
        let after_exponent = self.exponent.up(exponent);
        let signed = digit | minus | plus;
        let mut bad = scalar & !(signed | dot | letter) | starts & !(digit | minus | literals);
        bad = bad | letter & !(exponent | starts | self.letter.up(letter));
        // What stands beside what.
        bad = bad | self.needs_digit.up(minus | plus | dot) & !digit;
        bad = bad | after_exponent & !signed;
        bad = bad | (minus & !starts | plus) & !after_exponent;
        // No digit after a leading zero.
        let first_digit = starts | self.sign.up(starts & minus);
        bad = bad | self.lead.up(first_digit & bytes.zero()) & digit;
        // One fraction, then one exponent.
        bad = bad | self.fraction_end.of(dot, !digit) & dot;
        bad = bad | self.exponent_end.of(exponent, !signed) & (dot | exponent);
        self.bad = self.bad | bad;
    }
}

/// Whether `true`, `false` or `null` stands wherever a mask says, and then something that ends it.
#[inline(always)]
pub(super) fn are_literals(body: &[u8], literals: u64, at: usize) -> bool {
    ones(literals).fold(true, |all, offset| all & is_literal(body, at + offset))
}

#[inline(always)]
fn is_literal(body: &[u8], at: usize) -> bool {
    let rest = body.get(at..).unwrap_or_default();
    let word = rest.first_chunk::<8>().copied().unwrap_or_else(|| {
        let mut word = [b' '; 8]; // past the end nothing is right anyway
        for (to, from) in word.iter_mut().zip(rest) {
            *to = *from;
        }
        word
    });
    let word = u64::from_le_bytes(word);
    let four = word & 0xffff_ffff;
    let is_four = (four == u64::from(u32::from_le_bytes(*b"true"))) | (four == u64::from(u32::from_le_bytes(*b"null")));
    let is_five = word & 0xff_ffff_ffff == u64::from_le_bytes(*b"false\0\0\0");
    let end = (word >> if is_four { 32 } else { 40 }) as u8;
    let ends = (end == b'}') | (end == b']') | (1u64.unbounded_shl(end.into()) & ENDS != 0);
    (is_four | is_five) & ends
}

/// The bytes below 64 that may follow a literal.
const ENDS: u64 = 1 << b' ' | 1 << b'\n' | 1 << b'\r' | 1 << b'\t' | 1 << b',';

/// A mask moved to the next bytes.
struct Moved<W> {
    previous: W,
}

impl<W: Words> Moved<W> {
    #[inline(always)]
    fn new() -> Self {
        Self { previous: W::splat(0) }
    }

    #[inline(always)]
    fn up(&mut self, mask: W) -> W {
        let moved = mask.up(self.previous);
        self.previous = mask;
        moved
    }
}
