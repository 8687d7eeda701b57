//! How a payload is read 512 bytes at a time: the fast twin, which says that all is well, or nothing.
//!
//! A block is turned into the eight planes of its bytes' bits, and each question is asked of all its bytes at once.
//! Blocks go through the questions by the chunk: strings, scalars, neighbours, nesting, literals, names. Whatever is
//! not well is left to the scalar twin, so that there is one place that names the fault.

use super::classes::Bytes;
use super::grammar::{Grammar, GrammarFound};
use super::lanes::{BLOCK_BYTES, Block, Cpu, OnLanes, Planes, Words};
use super::member::{ReadMembers, may_matter};
use super::nesting::{Nesting, TopLevel};
use super::scalar::Scanner;
use super::scalars::{Scalars, ScalarsFound, are_literals};
use super::strings::{Strings, StringsFound};
use super::{Reads, Scan};

/// The blocks that go through a step together, so that the processor works on several at a time. After a chunk a broken
/// rule is acted on.
const CHUNK_BLOCKS: usize = 4;

/// Reads a whole payload; `None` if there is anything to say against it, or this processor cannot.
pub(super) fn scan(body: &[u8], reads: Reads) -> Option<Scan<'_>> {
    Cpu::best()?.run(Payload(body, reads))
}

/// A whole payload, and what is read of it.
pub(super) struct Payload<'a>(pub(super) &'a [u8], pub(super) Reads);

impl<'a> OnLanes for Payload<'a> {
    type Output = Option<Scan<'a>>;

    #[inline(always)]
    fn run<W: Words>(self) -> Self::Output {
        let Self(body, reads) = self;
        let mut members = Members::new(simdutf8::basic::from_utf8(body).ok()?, reads);
        let is_empty = members.scanner.is_empty_object().ok()?;
        let (blocks, rest) = body.as_chunks::<BLOCK_BYTES>();
        let last = padded(rest);
        let mut blocks = blocks.iter().chain((!rest.is_empty()).then_some(&last));
        let mut pass = Pass::<W>::new();
        let mut chunk = Chunk::default();
        while chunk.fill::<W>(&mut blocks) > 0 {
            pass.chunk(&mut chunk, &mut members)?;
        }
        if pass.strings.is_inside() | (pass.nesting.depth() != 0) {
            return None;
        }
        // A token after the outermost object's end breaks a rule, but for one last comma (and a string after it).
        let is_space = |byte: &u8| matches!(byte, b' ' | b'\n' | b'\r' | b'\t');
        let insert_at = body.iter().rposition(|byte| !is_space(byte))?;
        (body.get(insert_at) == Some(&b'}')).then_some(Scan {
            insert_at,
            is_empty,
            stated: members.found.stated,
        })
    }
}

/// The end of a payload and space behind it.
fn padded(rest: &[u8]) -> Block {
    let mut block = [b' '; BLOCK_BYTES];
    for (to, from) in block.iter_mut().zip(rest) {
        *to = *from;
    }
    block
}

/// A few blocks, and what each step found in them.
#[derive(Default)]
struct Chunk {
    count: usize,
    planes: [Planes; CHUNK_BLOCKS],
    strings: [StringsFound; CHUNK_BLOCKS],
    scalars: [ScalarsFound; CHUNK_BLOCKS],
    grammar: [GrammarFound; CHUNK_BLOCKS],
}

impl Chunk {
    /// Takes the next blocks; how many there are.
    #[inline(always)]
    fn fill<'b, W: Words>(&mut self, blocks: &mut impl Iterator<Item = &'b Block>) -> usize {
        self.count = 0;
        for (planes, block) in self.planes.iter_mut().zip(blocks) {
            W::planes(block, planes);
            self.count += 1;
        }
        self.count
    }
}

/// What is carried from chunk to chunk.
struct Pass<W> {
    strings: Strings<W>,
    scalars: Scalars<W>,
    grammar: Grammar<W>,
    nesting: Nesting,
    at: usize,
}

impl<W: Words> Pass<W> {
    #[inline(always)]
    fn new() -> Self {
        Self {
            strings: Strings::new(),
            scalars: Scalars::new(),
            grammar: Grammar::new(),
            nesting: Nesting::new(),
            at: 0,
        }
    }

    /// Takes the next chunk; `None` if something is wrong.
    #[inline(always)]
    fn chunk(&mut self, chunk: &mut Chunk, members: &mut Members<'_>) -> Option<()> {
        let Chunk {
            count,
            planes,
            strings,
            scalars,
            grammar,
        } = chunk;
        for (found, planes) in strings.iter_mut().zip(&*planes).take(*count) {
            self.strings.block(Bytes::load(planes), found);
        }
        if strings.iter().take(*count).all(StringsFound::is_text) {
            self.at += *count * BLOCK_BYTES;
            return Some(());
        }
        for ((found, strings), planes) in scalars.iter_mut().zip(&*strings).zip(&*planes).take(*count) {
            self.scalars
                .block(Bytes::load(planes), W::load(&strings.outside), found);
        }
        let both = strings.iter().zip(&*scalars);
        for ((found, (strings, scalars)), planes) in grammar.iter_mut().zip(both).zip(&*planes).take(*count) {
            self.grammar.block(Bytes::load(planes), strings, scalars, found);
        }
        let depth = self.nesting.depth();
        for found in grammar.iter().take(*count) {
            self.nesting.block::<W>(found);
        }
        let least_depth = self.nesting.least_depth::<W>()?;
        if self.strings.is_bad() | self.scalars.is_bad() | self.grammar.is_bad() {
            return None;
        }
        let mut at = self.at;
        for found in scalars.iter().take(*count) {
            for literals in &found.literals {
                if !are_literals(members.body, *literals, at) {
                    return None;
                }
                at += 64;
            }
        }
        if least_depth <= 1 {
            members.names(grammar.get(..*count).unwrap_or_default(), depth, self.at)?;
        }
        self.at = at;
        Some(())
    }
}

/// Reads members of the outermost object where they are found.
struct Members<'a> {
    body: &'a [u8],
    scanner: Scanner<'a>,
    found: ReadMembers<'a>,
}

impl<'a> Members<'a> {
    fn new(text: &'a str, reads: Reads) -> Self {
        Self {
            body: text.as_bytes(),
            scanner: Scanner::new(text),
            found: ReadMembers::none(reads),
        }
    }

    /// Reads the members whose names are in blocks, which start at a depth and an offset; `None` if there is something
    /// to be said against one.
    #[inline(never)]
    fn names(&mut self, blocks: &[GrammarFound], depth: u32, mut at: usize) -> Option<()> {
        let mut top_level = TopLevel::below(depth);
        for found in blocks {
            let brackets = found.opening.iter().zip(&found.closing);
            for (names, (opening, closing)) in found.names.iter().zip(brackets) {
                for offset in ones(top_level.names(*names, *opening, *closing)) {
                    let quote = at + offset;
                    let name = self.body.get(quote + 1..).unwrap_or_default();
                    if may_matter(name, self.found.reads) {
                        self.scanner.member_at(quote, &mut self.found).ok()?;
                    }
                }
                at += 64;
            }
        }
        Some(())
    }
}

/// The places of a mask's ones.
#[inline(always)]
pub(super) fn ones(mut mask: u64) -> impl Iterator<Item = usize> {
    std::iter::from_fn(move || {
        let place = (mask != 0).then_some(mask.trailing_zeros() as usize);
        mask &= mask.wrapping_sub(1);
        place
    })
}
