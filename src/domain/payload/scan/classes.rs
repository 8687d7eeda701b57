//! Which bytes of a block are of which class, out of the eight planes of their bits.

use super::lanes::{Planes, Words};

/// The planes of a block's bits. Each class is worked out where it is asked for.
#[derive(Clone, Copy)]
pub(super) struct Bytes<W> {
    b0: W,
    b1: W,
    b2: W,
    b3: W,
    b4: W,
    b5: W,
    b6: W,
    b7: W,
}

impl<W: Words> Bytes<W> {
    #[inline(always)]
    pub(super) fn load(planes: &Planes) -> Self {
        let [b0, b1, b2, b3, b4, b5, b6, b7] = planes;
        Self {
            b0: W::load(b0),
            b1: W::load(b1),
            b2: W::load(b2),
            b3: W::load(b3),
            b4: W::load(b4),
            b5: W::load(b5),
            b6: W::load(b6),
            b7: W::load(b7),
        }
    }

    // --- Rows of sixteen, by the upper four bits ---

    #[inline(always)]
    fn row_0(self) -> W {
        !(self.b7 | self.b6 | self.b5 | self.b4)
    }

    #[inline(always)]
    fn row_2(self) -> W {
        !(self.b7 | self.b6 | self.b4) & self.b5
    }

    #[inline(always)]
    fn row_3(self) -> W {
        !(self.b7 | self.b6) & self.b5 & self.b4
    }

    #[inline(always)]
    fn rows_4_and_6(self) -> W {
        !(self.b7 | self.b4) & self.b6
    }

    #[inline(always)]
    fn rows_5_and_7(self) -> W {
        !self.b7 & self.b6 & self.b4
    }

    // --- Columns, by the lower four bits ---

    #[inline(always)]
    fn column_0(self) -> W {
        !(self.b3 | self.b2 | self.b1 | self.b0)
    }

    #[inline(always)]
    fn column_2(self) -> W {
        !(self.b3 | self.b2 | self.b0) & self.b1
    }

    #[inline(always)]
    fn column_5(self) -> W {
        !(self.b3 | self.b1) & self.b2 & self.b0
    }

    #[inline(always)]
    fn column_9(self) -> W {
        self.b3 & !(self.b2 | self.b1) & self.b0
    }

    #[inline(always)]
    fn column_a(self) -> W {
        self.b3 & !self.b2 & self.b1 & !self.b0
    }

    #[inline(always)]
    fn column_b(self) -> W {
        self.b3 & !self.b2 & self.b1 & self.b0
    }

    #[inline(always)]
    fn column_c(self) -> W {
        self.b3 & self.b2 & !(self.b1 | self.b0)
    }

    #[inline(always)]
    fn column_d(self) -> W {
        self.b3 & self.b2 & !self.b1 & self.b0
    }

    #[inline(always)]
    fn column_e(self) -> W {
        self.b3 & self.b2 & self.b1 & !self.b0
    }

    #[inline(always)]
    fn column_f(self) -> W {
        self.b3 & self.b2 & self.b1 & self.b0
    }

    // --- Within strings ---

    #[inline(always)]
    pub(super) fn quote(self) -> W {
        self.row_2() & self.column_2()
    }

    #[inline(always)]
    pub(super) fn backslash(self) -> W {
        self.rows_5_and_7() & !self.b5 & self.column_c()
    }

    /// Below 0x20.
    #[inline(always)]
    pub(super) fn control(self) -> W {
        !(self.b7 | self.b6 | self.b5)
    }

    /// `"`, `\`, `/`, `b`, `f`, `n`, `r` and `t`.
    #[inline(always)]
    pub(super) fn escapable(self) -> W {
        let bfn = self.rows_4_and_6() & self.b5 & self.b1 & !self.b0 & (self.b2 | !self.b3); // columns 2, 6 and e
        let rt = self.rows_5_and_7() & self.b5 & !(self.b3 | self.b0) & (self.b2 ^ self.b1); // columns 2 and 4
        self.quote() | self.backslash() | self.row_2() & self.column_f() | bfn | rt
    }

    #[inline(always)]
    pub(super) fn letter_u(self) -> W {
        self.rows_5_and_7() & self.b5 & self.column_5()
    }

    #[inline(always)]
    pub(super) fn hex(self) -> W {
        let one_to_six = !self.b3 & (self.b2 | self.b1 | self.b0) & !(self.b2 & self.b1 & self.b0);
        self.digit() | self.rows_4_and_6() & one_to_six
    }

    // --- Between tokens, and tokens of one byte ---

    /// Space, tab, line feed, carriage return.
    #[inline(always)]
    pub(super) fn space(self) -> W {
        self.row_0() & (self.column_9() | self.column_a() | self.column_d()) | self.row_2() & self.column_0()
    }

    /// `{` and `[`.
    #[inline(always)]
    pub(super) fn opening(self) -> W {
        self.rows_5_and_7() & self.column_b()
    }

    /// `}` and `]`.
    #[inline(always)]
    pub(super) fn closing(self) -> W {
        self.rows_5_and_7() & self.column_d()
    }

    /// Of brackets: curly.
    #[inline(always)]
    pub(super) fn curly(self) -> W {
        self.b5
    }

    #[inline(always)]
    pub(super) fn colon(self) -> W {
        self.row_3() & self.column_a()
    }

    #[inline(always)]
    pub(super) fn comma(self) -> W {
        self.row_2() & self.column_c()
    }

    // --- Numbers and literals ---

    #[inline(always)]
    pub(super) fn digit(self) -> W {
        self.row_3() & !(self.b3 & (self.b2 | self.b1))
    }

    #[inline(always)]
    pub(super) fn zero(self) -> W {
        self.row_3() & self.column_0()
    }

    #[inline(always)]
    pub(super) fn minus(self) -> W {
        self.row_2() & self.column_d()
    }

    #[inline(always)]
    pub(super) fn plus(self) -> W {
        self.row_2() & self.column_b()
    }

    #[inline(always)]
    pub(super) fn dot(self) -> W {
        self.row_2() & self.column_e()
    }

    /// `e` and `E`.
    #[inline(always)]
    pub(super) fn exponent(self) -> W {
        self.rows_4_and_6() & self.column_5()
    }

    /// Small letters, and other bytes that are part of neither a number nor a token.
    #[inline(always)]
    pub(super) fn letter(self) -> W {
        self.b6 & self.b5
    }
}
