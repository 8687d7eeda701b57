//! How AVX-512 and AVX2 work on eight words: the only unsafe code there is.
//!
//! A [`Cpu`] is the proof that its instructions were found at run time, and the words cannot be had outside the functions
//! that it calls: that is what "only within" means below.

use std::arch::x86_64::*;
use std::ops::{BitAnd, BitOr, BitXor, Not};

use super::{Block, Mask, OnLanes, Planes, Width, Words, carried};

/// Instructions that this processor has.
#[derive(Debug, Clone, Copy)]
pub(in super::super) struct Cpu(Width);

impl Cpu {
    /// The only constructor.
    pub(in super::super) fn with(width: Width) -> Option<Self> {
        let has_avx2 = is_x86_feature_detected!("avx2")
            && is_x86_feature_detected!("bmi1")
            && is_x86_feature_detected!("bmi2")
            && is_x86_feature_detected!("popcnt");
        let has = match width {
            Width::Avx512 => {
                has_avx2
                    && is_x86_feature_detected!("avx512f")
                    && is_x86_feature_detected!("avx512bw")
                    && is_x86_feature_detected!("avx512dq")
            }
            // AMD's processors, which alone have SSE4a, need hundreds of cycles for `pext` before Zen 3, which brought VAES.
            Width::Avx2 => has_avx2 && (is_x86_feature_detected!("vaes") || !is_x86_feature_detected!("sse4a")),
        };
        has.then_some(Self(width))
    }

    /// Does the work with these instructions.
    pub(in super::super) fn run<J: OnLanes>(self, job: J) -> J::Output {
        match self.0 {
            // SAFETY: `with` found the features that the function needs.
            Width::Avx512 => unsafe { avx512(job) },
            // SAFETY: as above.
            Width::Avx2 => unsafe { avx2(job) },
        }
    }
}

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx2,bmi1,bmi2,popcnt")]
fn avx512<J: OnLanes>(job: J) -> J::Output {
    job.run::<Zmm>()
}

#[target_feature(enable = "avx2,bmi1,bmi2,popcnt")]
fn avx2<J: OnLanes>(job: J) -> J::Output {
    job.run::<Ymms>()
}

/// Used only within [`avx512`], and so with its features.
#[derive(Clone, Copy)]
struct Zmm(__m512i);

/// The lower and the upper four words. Used only within [`avx2`], and so with its features.
#[derive(Clone, Copy)]
struct Ymms(__m256i, __m256i);

macro_rules! bitwise {
    ($trait:ident, $method:ident, $zmm:ident, $ymm:ident) => {
        impl $trait for Zmm {
            type Output = Self;

            #[inline(always)]
            fn $method(self, other: Self) -> Self {
                // SAFETY: only within `avx512`.
                Self(unsafe { $zmm(self.0, other.0) })
            }
        }

        impl $trait for Ymms {
            type Output = Self;

            #[inline(always)]
            fn $method(self, other: Self) -> Self {
                // SAFETY: only within `avx2`.
                unsafe { Self($ymm(self.0, other.0), $ymm(self.1, other.1)) }
            }
        }
    };
}

bitwise!(BitAnd, bitand, _mm512_and_si512, _mm256_and_si256);
bitwise!(BitOr, bitor, _mm512_or_si512, _mm256_or_si256);
bitwise!(BitXor, bitxor, _mm512_xor_si512, _mm256_xor_si256);

impl Not for Zmm {
    type Output = Self;

    #[inline(always)]
    fn not(self) -> Self {
        self ^ Self::splat(u64::MAX)
    }
}

impl Not for Ymms {
    type Output = Self;

    #[inline(always)]
    fn not(self) -> Self {
        self ^ Self::splat(u64::MAX)
    }
}

impl Words for Zmm {
    #[inline(always)]
    fn planes(block: &Block, planes: &mut Planes) {
        let (eighths, _) = block.as_chunks::<64>();
        let [p0, p1, p2, p3, p4, p5, p6, p7] = planes;
        let words = p0.iter_mut().zip(p1).zip(p2).zip(p3).zip(p4).zip(p5).zip(p6).zip(p7);
        for (bytes, (((((((w0, w1), w2), w3), w4), w5), w6), w7)) in eighths.iter().zip(words) {
            // SAFETY: only within `avx512`; the load is of 64 bytes behind a reference and needs no alignment.
            unsafe {
                let bytes = _mm512_loadu_si512(bytes.as_ptr().cast());
                *w0 = _mm512_test_epi8_mask(bytes, _mm512_set1_epi8(1));
                *w1 = _mm512_test_epi8_mask(bytes, _mm512_set1_epi8(1 << 1));
                *w2 = _mm512_test_epi8_mask(bytes, _mm512_set1_epi8(1 << 2));
                *w3 = _mm512_test_epi8_mask(bytes, _mm512_set1_epi8(1 << 3));
                *w4 = _mm512_test_epi8_mask(bytes, _mm512_set1_epi8(1 << 4));
                *w5 = _mm512_test_epi8_mask(bytes, _mm512_set1_epi8(1 << 5));
                *w6 = _mm512_test_epi8_mask(bytes, _mm512_set1_epi8(1 << 6));
                *w7 = _mm512_movepi8_mask(bytes);
            }
        }
    }

    #[inline(always)]
    fn extract(bits: u64, mask: u64) -> u64 {
        // SAFETY: only within `avx512`.
        unsafe { _pext_u64(bits, mask) }
    }

    #[inline(always)]
    fn load(mask: &Mask) -> Self {
        // SAFETY: only within `avx512`; the load is of 64 bytes behind a reference and needs no alignment.
        Self(unsafe { _mm512_loadu_si512(mask.as_ptr().cast()) })
    }

    #[inline(always)]
    fn store(self) -> Mask {
        let mut mask = Mask::default();
        // SAFETY: only within `avx512`; the store is of 64 bytes behind a reference and needs no alignment.
        unsafe { _mm512_storeu_si512(mask.as_mut_ptr().cast(), self.0) };
        mask
    }

    #[inline(always)]
    fn splat(word: u64) -> Self {
        // SAFETY: only within `avx512`.
        Self(unsafe { _mm512_set1_epi64(word.cast_signed()) })
    }

    #[inline(always)]
    fn is_zero(self) -> bool {
        // SAFETY: only within `avx512`.
        unsafe { _mm512_test_epi64_mask(self.0, self.0) == 0 }
    }

    #[inline(always)]
    fn up_within<const N: u32>(self) -> Self {
        // SAFETY: only within `avx512`.
        Self(unsafe { _mm512_slli_epi64::<N>(self.0) })
    }

    #[inline(always)]
    fn down_within<const N: u32>(self) -> Self {
        // SAFETY: only within `avx512`.
        Self(unsafe { _mm512_srli_epi64::<N>(self.0) })
    }

    #[inline(always)]
    fn minus_within(self, other: Self) -> Self {
        // SAFETY: only within `avx512`.
        Self(unsafe { _mm512_sub_epi64(self.0, other.0) })
    }

    #[inline(always)]
    fn up_a_word(self, previous: Self) -> Self {
        // SAFETY: only within `avx512`.
        Self(unsafe { _mm512_alignr_epi64::<7>(self.0, previous.0) })
    }

    #[inline(always)]
    fn plus(self, superset: Self, carry: &mut u8) -> Self {
        // SAFETY: only within `avx512`.
        unsafe {
            let ones = _mm512_set1_epi64(-1);
            let sum = _mm512_add_epi64(self.0, superset.0);
            let made = _mm512_cmplt_epu64_mask(sum, self.0);
            let passed = _mm512_cmpeq_epi64_mask(sum, ones);
            let into = carried(made, passed, carry);
            Self(_mm512_mask_sub_epi64(sum, into, sum, ones))
        }
    }

    #[inline(always)]
    fn tops(self) -> u8 {
        // SAFETY: only within `avx512`.
        unsafe { _mm512_movepi64_mask(self.0) }
    }

    #[inline(always)]
    fn flip(self, words: u8) -> Self {
        // SAFETY: only within `avx512`.
        Self(unsafe { _mm512_mask_xor_epi64(self.0, words, self.0, _mm512_set1_epi64(-1)) })
    }
}

impl Ymms {
    /// All ones in the words that a bit names.
    #[inline(always)]
    fn named(words: u8) -> Self {
        // SAFETY: only within `avx2`.
        unsafe {
            let bits = _mm256_set1_epi64x(i64::from(words));
            let (low, high) = (_mm256_set_epi64x(8, 4, 2, 1), _mm256_set_epi64x(128, 64, 32, 16));
            Self(
                _mm256_cmpeq_epi64(_mm256_and_si256(bits, low), low),
                _mm256_cmpeq_epi64(_mm256_and_si256(bits, high), high),
            )
        }
    }
}

impl Words for Ymms {
    #[inline(always)]
    fn planes(block: &Block, planes: &mut Planes) {
        let (eighths, _) = block.as_chunks::<64>();
        let [p0, p1, p2, p3, p4, p5, p6, p7] = planes;
        let words = p0.iter_mut().zip(p1).zip(p2).zip(p3).zip(p4).zip(p5).zip(p6).zip(p7);
        for (bytes, (((((((w0, w1), w2), w3), w4), w5), w6), w7)) in eighths.iter().zip(words) {
            // SAFETY: only within `avx2`; the loads are of 64 bytes behind a reference and need no alignment.
            unsafe {
                let at = bytes.as_ptr().cast::<__m256i>();
                let mut halves = Self(_mm256_loadu_si256(at), _mm256_loadu_si256(at.add(1)));
                for word in [w7, w6, w5, w4, w3, w2, w1, w0] {
                    let low = _mm256_movemask_epi8(halves.0).cast_unsigned();
                    let high = _mm256_movemask_epi8(halves.1).cast_unsigned();
                    *word = u64::from(low) | u64::from(high) << 32;
                    halves = Self(_mm256_add_epi8(halves.0, halves.0), _mm256_add_epi8(halves.1, halves.1));
                }
            }
        }
    }

    #[inline(always)]
    fn extract(bits: u64, mask: u64) -> u64 {
        // SAFETY: only within `avx2`.
        unsafe { _pext_u64(bits, mask) }
    }

    #[inline(always)]
    fn load(mask: &Mask) -> Self {
        let at = mask.as_ptr().cast::<__m256i>();
        // SAFETY: only within `avx2`; the loads are of 64 bytes behind a reference and need no alignment.
        unsafe { Self(_mm256_loadu_si256(at), _mm256_loadu_si256(at.add(1))) }
    }

    #[inline(always)]
    fn store(self) -> Mask {
        let mut mask = Mask::default();
        let at = mask.as_mut_ptr().cast::<__m256i>();
        // SAFETY: only within `avx2`; the stores are of 64 bytes behind a reference and need no alignment.
        unsafe {
            _mm256_storeu_si256(at, self.0);
            _mm256_storeu_si256(at.add(1), self.1);
        }
        mask
    }

    #[inline(always)]
    fn splat(word: u64) -> Self {
        // SAFETY: only within `avx2`.
        unsafe {
            let words = _mm256_set1_epi64x(word.cast_signed());
            Self(words, words)
        }
    }

    #[inline(always)]
    fn is_zero(self) -> bool {
        // SAFETY: only within `avx2`.
        unsafe {
            let either = _mm256_or_si256(self.0, self.1);
            _mm256_testz_si256(either, either) == 1
        }
    }

    #[inline(always)]
    fn up_within<const N: u32>(self) -> Self {
        // SAFETY: only within `avx2`.
        unsafe {
            let by = _mm256_set1_epi64x(i64::from(N));
            Self(_mm256_sllv_epi64(self.0, by), _mm256_sllv_epi64(self.1, by))
        }
    }

    #[inline(always)]
    fn down_within<const N: u32>(self) -> Self {
        // SAFETY: only within `avx2`.
        unsafe {
            let by = _mm256_set1_epi64x(i64::from(N));
            Self(_mm256_srlv_epi64(self.0, by), _mm256_srlv_epi64(self.1, by))
        }
    }

    #[inline(always)]
    fn minus_within(self, other: Self) -> Self {
        // SAFETY: only within `avx2`.
        unsafe { Self(_mm256_sub_epi64(self.0, other.0), _mm256_sub_epi64(self.1, other.1)) }
    }

    #[inline(always)]
    fn up_a_word(self, previous: Self) -> Self {
        // SAFETY: only within `avx2`.
        unsafe {
            let low = _mm256_blend_epi32::<0b1100_0000>(self.0, previous.1);
            let high = _mm256_blend_epi32::<0b1100_0000>(self.1, self.0);
            Self(
                _mm256_permute4x64_epi64::<0b10_01_00_11>(low),
                _mm256_permute4x64_epi64::<0b10_01_00_11>(high),
            )
        }
    }

    #[inline(always)]
    fn plus(self, superset: Self, carry: &mut u8) -> Self {
        // SAFETY: only within `avx2`.
        let sum = unsafe {
            Self(
                _mm256_add_epi64(self.0, superset.0),
                _mm256_add_epi64(self.1, superset.1),
            )
        };
        let made = self | superset & !sum; // in each word's highest bit
        // SAFETY: only within `avx2`.
        let passed = unsafe {
            let ones = _mm256_set1_epi64x(-1);
            Self(_mm256_cmpeq_epi64(sum.0, ones), _mm256_cmpeq_epi64(sum.1, ones))
        };
        let into = carried(made.tops(), passed.tops(), carry);
        sum.minus_within(Self::named(into))
    }

    #[inline(always)]
    fn tops(self) -> u8 {
        // SAFETY: only within `avx2`.
        let (low, high) = unsafe {
            (
                _mm256_movemask_pd(_mm256_castsi256_pd(self.0)),
                _mm256_movemask_pd(_mm256_castsi256_pd(self.1)),
            )
        };
        (low | high << 4) as u8
    }

    #[inline(always)]
    fn flip(self, words: u8) -> Self {
        self ^ Self::named(words)
    }
}
