//! Eight 64-bit words at a time: a block's bits as masks, and arithmetic on them, with the processor's widest lanes.

use std::ops::{BitAnd, BitOr, BitXor, Not};

/// How many bytes are looked at together.
pub(super) const BLOCK_BYTES: usize = 512;

/// The bytes that are looked at together.
pub(super) type Block = [u8; BLOCK_BYTES];

/// One bit for each byte of a block: the first byte's is the first word's lowest.
pub(super) type Mask = [u64; 8];

/// Bit by bit, from the lowest: where it is set in a block's bytes.
pub(super) type Planes = [Mask; 8];

/// A mask in registers. What is said of `previous` means the mask of the block before.
pub(super) trait Words:
    Copy + BitAnd<Output = Self> + BitOr<Output = Self> + BitXor<Output = Self> + Not<Output = Self>
{
    /// Where each bit is set.
    fn planes(block: &Block, planes: &mut Planes);
    /// The bits that a mask names, side by side.
    fn extract(bits: u64, mask: u64) -> u64;
    fn load(mask: &Mask) -> Self;
    fn store(self) -> Mask;
    /// The same word eight times.
    fn splat(word: u64) -> Self;
    fn is_zero(self) -> bool;
    /// Each word by itself, moved up.
    fn up_within<const N: u32>(self) -> Self;
    /// Each word by itself, moved down.
    fn down_within<const N: u32>(self) -> Self;
    /// Each word by itself.
    fn minus_within(self, other: Self) -> Self;
    /// Moved up by a word.
    fn up_a_word(self, previous: Self) -> Self;
    /// The sum with a mask that has all of these bits, as of numbers of 512 bits.
    fn plus(self, superset: Self, carry: &mut u8) -> Self;
    /// Each word's highest bit.
    fn tops(self) -> u8;
    /// The words that a bit names, inverted.
    fn flip(self, words: u8) -> Self;

    /// Moved up by a bit.
    #[inline(always)]
    fn up(self, previous: Self) -> Self {
        self.up_within::<1>() | self.up_a_word(previous).down_within::<63>()
    }

    /// Each bit becomes the parity of the bits up to it.
    #[inline(always)]
    fn parity(self, carry: &mut u8) -> Self {
        let bits = self ^ self.up_within::<1>();
        let bits = bits ^ bits.up_within::<2>();
        let bits = bits ^ bits.up_within::<4>();
        let bits = bits ^ bits.up_within::<8>();
        let bits = bits ^ bits.up_within::<16>();
        let bits = bits ^ bits.up_within::<32>();
        let mut tops = bits.tops();
        tops ^= tops << 1;
        tops ^= tops << 2;
        tops ^= tops << 4;
        let flipped = tops << 1 ^ 0u8.wrapping_sub(*carry);
        *carry ^= tops >> 7;
        bits.flip(flipped)
    }
}

/// Which words a carry goes into, and out of the last one: it starts where it is made and goes on where it is passed.
#[inline(always)]
fn carried(made: u8, passed: u8, carry: &mut u8) -> u8 {
    let sum = (u32::from(made) << 1 | u32::from(*carry)) + u32::from(passed);
    *carry = (sum >> 8) as u8;
    sum as u8 ^ passed
}

/// Work that is compiled once for each kind of lanes. Its `run` is to be `#[inline(always)]`.
pub(super) trait OnLanes {
    type Output;
    fn run<W: Words>(self) -> Self::Output;
}

/// Kinds of lanes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Width {
    /// AVX-512 F, BW and DQ.
    Avx512,
    /// AVX2.
    Avx2,
}

#[cfg(target_arch = "x86_64")]
mod x86;
#[cfg(target_arch = "x86_64")]
pub(super) use x86::Cpu;

/// A processor without lanes that are made use of: there is none to be had.
#[cfg(not(target_arch = "x86_64"))]
#[derive(Debug, Clone, Copy)]
pub(super) enum Cpu {}

#[cfg(not(target_arch = "x86_64"))]
impl Cpu {
    pub(super) fn with(_: Width) -> Option<Self> {
        None
    }

    pub(super) fn run<J: OnLanes>(self, _: J) -> J::Output {
        match self {}
    }
}

impl Cpu {
    /// The best there is; `None` where the scalar twin works alone.
    pub(super) fn best() -> Option<Self> {
        Self::with(Width::Avx512).or_else(|| Self::with(Width::Avx2))
    }
}
