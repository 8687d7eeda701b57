//! How the enriched payload is made without copying: the original bytes around the inserted ones.

use std::io::IoSlice;

use bytes::{Buf, Bytes};

/// A payload of three pieces: what stands before the final brace, the inserted members, the rest.
///
/// Its length is exact, and it is written as one gathered buffer.
#[derive(Debug, Clone)]
pub struct Enriched {
    head: Bytes,
    fragment: Bytes,
    tail: Bytes,
}

/// Puts a fragment, which starts with a comma, before the brace at `insert_at`. An object without members gets it
/// without the comma. Copies nothing.
#[must_use]
pub fn splice(mut body: Bytes, insert_at: usize, is_empty: bool, mut fragment: Bytes) -> Enriched {
    let tail = body.split_off(insert_at.min(body.len()));
    if is_empty {
        fragment.advance(1.min(fragment.len()));
    }
    Enriched {
        head: body,
        fragment,
        tail,
    }
}

impl Enriched {
    /// The pieces in order. Together they are the bytes that are sent.
    #[must_use]
    pub fn pieces(&self) -> [&[u8]; 3] {
        [&self.head, &self.fragment, &self.tail]
    }
}

impl Buf for Enriched {
    fn remaining(&self) -> usize {
        self.head.len() + self.fragment.len() + self.tail.len()
    }

    fn chunk(&self) -> &[u8] {
        self.pieces()
            .into_iter()
            .find(|piece| !piece.is_empty())
            .unwrap_or_default()
    }

    fn chunks_vectored<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        let full = self.pieces().into_iter().filter(|piece| !piece.is_empty());
        slices
            .iter_mut()
            .zip(full)
            .map(|(slice, piece)| *slice = IoSlice::new(piece))
            .count()
    }

    fn advance(&mut self, mut n: usize) {
        for piece in [&mut self.head, &mut self.fragment, &mut self.tail] {
            let step = n.min(piece.len());
            piece.advance(step);
            n -= step;
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]
mod tests {
    use proptest::prelude::*;

    use super::super::scan;
    use super::*;

    fn enriched(body: &str, fragment: &'static str) -> Enriched {
        let found = scan(body.as_bytes()).unwrap();
        splice(
            Bytes::from(body.to_owned()),
            found.insert_at,
            found.is_empty,
            Bytes::from_static(fragment.as_bytes()),
        )
    }

    #[test]
    fn the_members_go_before_the_final_brace_and_everything_else_stays() {
        for (body, spliced) in [
            ("{}", r#"{"s":1}"#),
            (" { } \n", " { \"s\":1} \n"),
            (r#"{"a":"}"}"#, r#"{"a":"}","s":1}"#),
            ("{\"a\":{} \n}\t", "{\"a\":{} \n,\"s\":1}\t"),
        ] {
            let joined = enriched(body, r#","s":1"#).pieces().concat();
            assert_eq!(String::from_utf8(joined).unwrap(), spliced);
        }
    }

    proptest! {
        #[test]
        fn it_reads_alike_in_any_steps(steps in prop::collection::vec(0usize..9, 0..20)) {
            let mut buffer = enriched(r#"{"some":"thing"} "#, r#","secrets":{}"#);
            let whole = buffer.pieces().concat();
            let mut read = Vec::new();
            for step in steps {
                let step = step.min(buffer.chunk().len());
                read.extend_from_slice(&buffer.chunk()[..step]);
                buffer.advance(step);
                let mut slices = [IoSlice::new(&[]); 3];
                let filled = buffer.chunks_vectored(&mut slices);
                prop_assert_eq!(slices[..filled].iter().map(|slice| slice.len()).sum::<usize>(), buffer.remaining());
            }
            while buffer.has_remaining() {
                let chunk = buffer.chunk().to_vec();
                buffer.advance(chunk.len());
                read.extend(chunk);
            }
            prop_assert_eq!(read, whole);
        }
    }
}
