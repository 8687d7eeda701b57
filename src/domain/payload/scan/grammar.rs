//! Which token may follow which: RFC 8259 as bit operations, but for what nesting decides.
//!
//! A mask has one bit for each byte of a block; what crosses into the next block is carried. No step loops over tokens,
//! so that the cost of a byte does not depend on what it is.

use super::classes::Bytes;
use super::lanes::{Mask, Words};
use super::scalars::ScalarsFound;
use super::strings::StringsFound;

/// What is carried from block to block.
pub(super) struct Grammar<W> {
    bad: W,
    after_brace: Next,
    value_expected: Next,
    after_comma: Next,
    after_name: Next,
    in_object: Next,
    in_array: Next,
}

/// What nesting looks at in a block.
#[derive(Default, Clone, Copy)]
pub(super) struct GrammarFound {
    pub(super) opening: Mask,
    pub(super) closing: Mask,
    /// Tokens that stand only in a container of one kind, which the neighbours cannot tell: the first comma or colon
    /// after a closing bracket.
    pub(super) demanding: Mask,
    /// Of opening, closing and demanding tokens: those of objects.
    pub(super) object: Mask,
    /// The opening quotes of names, and of strings after a comma.
    pub(super) names: Mask,
}

impl<W: Words> Grammar<W> {
    /// Before the first token, as after a colon: one value is expected.
    #[inline(always)]
    pub(super) fn new() -> Self {
        Self {
            bad: W::splat(0),
            after_brace: Next::default(),
            value_expected: Next { carry: 1 },
            after_comma: Next::default(),
            after_name: Next::default(),
            in_object: Next::default(),
            in_array: Next::default(),
        }
    }

    /// Whether a rule was broken. What is found then means nothing.
    #[inline(always)]
    pub(super) fn is_bad(&self) -> bool {
        !self.bad.is_zero()
    }

    /// Takes the next block.
    #[inline(always)]
    pub(super) fn block(
        &mut self,
        bytes: Bytes<W>,
        strings: &StringsFound,
        scalars: &ScalarsFound,
        found: &mut GrammarFound,
    ) {
        let outside = W::load(&strings.outside);
        let string = W::load(&strings.opening);
        let opening = bytes.opening() & outside;
        let closing = bytes.closing() & outside;
        let colon = bytes.colon() & outside;
        let comma = bytes.comma() & outside;
        let curly = bytes.curly();
        let values = opening | string | W::load(&scalars.starts);
        let starts = values | closing | colon | comma;
        let braces = opening & curly;
        let brackets = opening & !curly;

        let after_brace = self.after_brace.of(braces, starts);
        let value_expected = self.value_expected.of(brackets | colon, starts);
        let after_comma = self.after_comma.of(comma, starts);
        let value_ended = starts & !(after_brace | value_expected | after_comma);
        let mut bad = after_brace & !(string | closing & curly);
        // A square bracket after a colon does not fit its object, which is seen there.
        bad = bad | value_expected & !(values | closing & !curly);
        bad = bad | after_comma & !values;
        bad = bad | value_ended & !(comma | closing | colon);

        // A string before a colon is a name, and a colon follows nothing else. In an object each comma is followed by
        // one, in an array by none: both demand a container of their kind.
        let names = string & (after_brace | after_comma);
        let after_name = self.after_name.of(names, starts);
        bad = bad | colon & !after_name;
        bad = bad | after_name & closing & curly;
        let in_array = after_comma & !string | after_name & comma;
        let marks = opening | closing | colon | in_array;
        let follows_object = self.in_object.of(braces | colon, marks);
        let follows_array = self.in_array.of(brackets | in_array & !opening, marks);
        bad = bad | follows_object & in_array | follows_array & colon;
        let open_question = (colon | in_array) & !(follows_object | follows_array);
        self.bad = self.bad | bad;
        *found = GrammarFound {
            opening: opening.store(),
            closing: closing.store(),
            demanding: open_question.store(),
            object: ((opening | closing) & curly | colon).store(),
            names: names.store(),
        };
    }
}

/// The tokens that follow tokens of a kind, whatever lies between them.
#[derive(Default)]
pub(super) struct Next {
    carry: u8,
}

impl Next {
    /// For each of `from` the next one in `all`, of which `from` is a part.
    #[inline(always)]
    pub(super) fn of<W: Words>(&mut self, from: W, all: W) -> W {
        // A token added to itself is carried on through all that is no token, into the next one's place; and a token's
        // place has a bit of its own to add, or none, twice.
        from.plus(from | !all, &mut self.carry) & all
    }
}
