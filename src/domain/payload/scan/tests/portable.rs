//! What vector instructions are to mean: eight words in plain Rust, by which they are judged and which runs anywhere.

use std::ops::{BitAnd, BitOr, BitXor, Not};

use super::super::lanes::{Block, Mask, OnLanes, Planes, Words};

/// Eight words.
#[derive(Clone, Copy)]
pub(super) struct Portable(Mask);

/// Does work without any vector instruction.
pub(super) fn run<J: OnLanes>(job: J) -> J::Output {
    job.run::<Portable>()
}

impl Portable {
    fn zip(self, other: Self, with: impl Fn(u64, u64) -> u64) -> Self {
        Self(std::array::from_fn(|word| with(self.0[word], other.0[word])))
    }
}

impl BitAnd for Portable {
    type Output = Self;

    fn bitand(self, other: Self) -> Self {
        self.zip(other, |one, two| one & two)
    }
}

impl BitOr for Portable {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        self.zip(other, |one, two| one | two)
    }
}

impl BitXor for Portable {
    type Output = Self;

    fn bitxor(self, other: Self) -> Self {
        self.zip(other, |one, two| one ^ two)
    }
}

impl Not for Portable {
    type Output = Self;

    fn not(self) -> Self {
        Self(self.0.map(|word| !word))
    }
}

impl Words for Portable {
    fn planes(block: &Block, planes: &mut Planes) {
        *planes = Planes::default();
        for (at, byte) in block.iter().enumerate() {
            for (bit, plane) in planes.iter_mut().enumerate() {
                plane[at / 64] |= u64::from(byte >> bit & 1) << (at % 64);
            }
        }
    }

    fn extract(bits: u64, mask: u64) -> u64 {
        let named = (0..64).filter(|at| mask >> at & 1 == 1);
        named
            .enumerate()
            .fold(0, |out, (to, from)| out | (bits >> from & 1) << to)
    }

    fn load(mask: &Mask) -> Self {
        Self(*mask)
    }

    fn store(self) -> Mask {
        self.0
    }

    fn splat(word: u64) -> Self {
        Self([word; 8])
    }

    fn is_zero(self) -> bool {
        self.0 == [0; 8]
    }

    fn up_within<const N: u32>(self) -> Self {
        Self(self.0.map(|word| word << N))
    }

    fn down_within<const N: u32>(self) -> Self {
        Self(self.0.map(|word| word >> N))
    }

    fn minus_within(self, other: Self) -> Self {
        self.zip(other, u64::wrapping_sub)
    }

    fn up_a_word(self, previous: Self) -> Self {
        Self(std::array::from_fn(|word| match word {
            0 => previous.0[7],
            _ => self.0[word - 1],
        }))
    }

    fn plus(self, superset: Self, carry: &mut u8) -> Self {
        Self(std::array::from_fn(|word| {
            let sum = u128::from(self.0[word]) + u128::from(superset.0[word]) + u128::from(*carry);
            *carry = (sum >> 64) as u8;
            sum as u64
        }))
    }

    fn tops(self) -> u8 {
        (0..8).fold(0, |tops, word| tops | ((self.0[word] >> 63) as u8) << word)
    }

    fn flip(self, words: u8) -> Self {
        Self(std::array::from_fn(|word| match words >> word & 1 {
            0 => self.0[word],
            _ => !self.0[word],
        }))
    }
}
