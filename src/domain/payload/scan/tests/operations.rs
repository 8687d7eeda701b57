//! Whether vector instructions mean what they are to mean, and each class is of the bytes that it names.

use std::ops::RangeInclusive;

use proptest::prelude::*;

use super::super::classes::Bytes;
use super::super::lanes::{BLOCK_BYTES, Cpu, Mask, OnLanes, Planes, Width, Words};
use super::portable;

/// Everything that is done with words, once.
#[derive(Clone, Copy)]
struct Everything {
    one: Mask,
    two: Mask,
    carry: u8,
}

impl OnLanes for Everything {
    type Output = Vec<Mask>;

    #[inline(always)]
    fn run<W: Words>(self) -> Vec<Mask> {
        let (one, two) = (W::load(&self.one), W::load(&self.two));
        let small = |number: u8| [u64::from(number), 0, 0, 0, 0, 0, 0, 0];
        let mut bytes = [0; BLOCK_BYTES];
        for (byte, place) in bytes.iter_mut().zip(0..) {
            let word: usize = place / 8;
            *byte = (self.one[word % 8] ^ self.two[word / 8]).to_le_bytes()[place % 8];
        }
        let mut planes = [[7; 8]; 8]; // overwritten, whatever it held
        W::planes(&bytes, &mut planes);
        let (mut sum_carry, mut parity_carry) = (self.carry, self.carry);
        let mut done = planes.to_vec();
        done.extend([
            (one & two).store(),
            (one | two).store(),
            (one ^ two).store(),
            (!one).store(),
            W::splat(self.one[0]).store(),
            one.up_within::<1>().store(),
            one.up_within::<32>().store(),
            one.down_within::<63>().store(),
            one.down_within::<60>().store(),
            one.minus_within(two).store(),
            one.up_a_word(two).store(),
            one.up(two).store(),
            one.parity(&mut parity_carry).store(),
            (one & two).plus(two, &mut sum_carry).store(),
            one.flip(self.two[0] as u8).store(),
            small(sum_carry),
            small(parity_carry),
            small(one.tops()),
            small(u8::from(one.is_zero())),
            small(u8::from((one & !one).is_zero())),
            small(W::extract(self.one[0], self.two[0]).count_ones() as u8),
            W::splat(W::extract(self.one[0], self.two[0])).store(),
        ]);
        done
    }
}

/// Words in which carries start, go on and end.
fn mask() -> impl Strategy<Value = Mask> {
    prop::array::uniform8(prop_oneof![
        any::<u64>(),
        Just(0),
        Just(u64::MAX),
        (0u32..64).prop_map(|bit| 1 << bit),
        (0u32..64).prop_map(|bit| u64::MAX << bit),
        (0u32..64).prop_map(|bit| u64::MAX >> bit),
    ])
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn vector_instructions_mean_what_they_are_to_mean(one in mask(), two in mask(), carry in 0u8..2) {
        let everything = Everything { one, two, carry };
        let meant = portable::run(everything);
        for width in [Width::Avx2, Width::Avx512] {
            if let Some(cpu) = Cpu::with(width) {
                prop_assert_eq!(&cpu.run(everything), &meant, "{:?}", width);
            }
        }
    }
}

/// The classes, in the order of [`CLASSES`].
struct Classes(Planes);

impl OnLanes for Classes {
    type Output = Vec<Mask>;

    fn run<W: Words>(self) -> Vec<Mask> {
        let bytes = Bytes::<W>::load(&self.0);
        [
            bytes.quote(),
            bytes.backslash(),
            bytes.control(),
            bytes.escapable(),
            bytes.letter_u(),
            bytes.hex(),
            bytes.space(),
            bytes.opening(),
            bytes.closing(),
            bytes.colon(),
            bytes.comma(),
            bytes.digit(),
            bytes.zero(),
            bytes.minus(),
            bytes.plus(),
            bytes.dot(),
            bytes.exponent(),
        ]
        .map(W::store)
        .to_vec()
    }
}

const CLASSES: [(&str, &[RangeInclusive<u8>]); 17] = [
    ("quote", &[b'"'..=b'"']),
    ("backslash", &[b'\\'..=b'\\']),
    ("control", &[0..=0x1f]),
    (
        "escapable",
        &[
            b'"'..=b'"',
            b'\\'..=b'\\',
            b'/'..=b'/',
            b'b'..=b'b',
            b'f'..=b'f',
            b'n'..=b'n',
            b'r'..=b'r',
            b't'..=b't',
        ],
    ),
    ("letter_u", &[b'u'..=b'u']),
    ("hex", &[b'0'..=b'9', b'a'..=b'f', b'A'..=b'F']),
    ("space", &[b' '..=b' ', b'\t'..=b'\t', b'\n'..=b'\n', b'\r'..=b'\r']),
    ("opening", &[b'{'..=b'{', b'['..=b'[']),
    ("closing", &[b'}'..=b'}', b']'..=b']']),
    ("colon", &[b':'..=b':']),
    ("comma", &[b','..=b',']),
    ("digit", &[b'0'..=b'9']),
    ("zero", &[b'0'..=b'0']),
    ("minus", &[b'-'..=b'-']),
    ("plus", &[b'+'..=b'+']),
    ("dot", &[b'.'..=b'.']),
    ("exponent", &[b'e'..=b'e', b'E'..=b'E']),
];

/// The planes of all bytes, twice: byte `n` stands at `n`.
struct AllBytes;

impl OnLanes for AllBytes {
    type Output = Planes;

    fn run<W: Words>(self) -> Planes {
        let mut planes = Planes::default();
        W::planes(&std::array::from_fn(|at| at as u8), &mut planes);
        planes
    }
}

#[test]
fn a_class_is_of_the_bytes_that_it_names_and_of_no_other() {
    let found = portable::run(Classes(portable::run(AllBytes)));
    for ((name, members), mask) in CLASSES.iter().zip(found) {
        for byte in 0..=u8::MAX {
            let is_member = members.iter().any(|range| range.contains(&byte));
            for at in [usize::from(byte), usize::from(byte) + 256] {
                assert_eq!(mask[at / 64] >> (at % 64) & 1 == 1, is_member, "{name} {byte:#x}");
            }
        }
    }
}
