//! Bytes kept in pieces of few sizes, so that memory which one value leaves
//! behind fits the next.
//!
//! An allocator hands out blocks of few sizes, each from pages of its own, and
//! what a page has free is of no use to another size. Blocks of more than
//! 84 KiB come from pages of 4 MiB, so under values of any size an L1 of 64 MiB
//! took 120 MiB (record `l1-memory`). Here no block is larger than a piece,
//! except for the list of a value's pieces:
//!
//! ```text
//!   up to 16 KiB   [ value ]
//!   longer         [ list ] -> [ 16 KiB ] [ 16 KiB ] ... [ the rest ]
//! ```
//!
//! There is no free list of ours: it saved another 3 %, but would have to be
//! bounded, locked and shared by all threads.

/// The longest piece in bytes. Shorter ones leave whole pages of the allocator
/// free and touch others instead, until it gives the free ones back a second
/// later: at 4 KiB, that was 18 % of the capacity for a moment.
pub const PIECE: usize = 16 << 10;

/// Immutable bytes. Two of them are equal if their bytes are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pieces(Kept);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Kept {
    One(Box<[u8]>),
    /// Boxed, so that a short value is not made longer by it.
    Many(Box<Many>),
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Many {
    len: usize,
    /// At least two, all but the last of [`PIECE`] bytes, and none empty.
    pieces: Box<[Box<[u8]>]>,
}

impl Pieces {
    /// How many bytes they are.
    #[inline]
    pub fn len(&self) -> usize {
        match &self.0 {
            Kept::One(piece) => piece.len(),
            Kept::Many(many) => many.len,
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The first of them: all, or at least [`PIECE`].
    pub fn head(&self) -> &[u8] {
        match &self.0 {
            Kept::One(piece) => piece,
            Kept::Many(many) => many.pieces.first().map_or(&[], |piece| piece),
        }
    }

    /// Append all of them.
    #[inline]
    pub fn write_to(&self, out: &mut Vec<u8>) {
        match &self.0 {
            Kept::One(piece) => out.extend_from_slice(piece),
            Kept::Many(many) => {
                out.reserve(many.len);
                let pieces = many.pieces.iter();
                pieces.for_each(|piece| out.extend_from_slice(piece));
            }
        }
    }

    /// All of them in one.
    pub fn to_vec(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.len());
        self.write_to(&mut out);
        out
    }

    /// Bytes of memory that they take, what the allocator adds included.
    pub fn memory(&self) -> usize {
        match &self.0 {
            Kept::One(piece) => block(piece.len()),
            Kept::Many(many) => {
                let pieces = many.pieces.iter().map(|piece| block(piece.len()));
                let list = block(size_of_val(&*many.pieces));
                block(size_of::<Many>()) + list + pieces.sum::<usize>()
            }
        }
    }
}

impl From<&[u8]> for Pieces {
    fn from(bytes: &[u8]) -> Pieces {
        if bytes.len() <= PIECE {
            return Pieces(Kept::One(bytes.into()));
        }
        Pieces(Kept::Many(Box::new(Many {
            len: bytes.len(),
            pieces: bytes.chunks(PIECE).map(Box::from).collect(),
        })))
    }
}

/// A copy all the same: a vector's own block may be larger than its bytes.
impl From<Vec<u8>> for Pieces {
    fn from(bytes: Vec<u8>) -> Pieces {
        Pieces::from(bytes.as_slice())
    }
}

/// The size of the block that an allocation of `len` bytes is given.
///
/// mimalloc (`mi_bin` in its `page-queue.c`) has a size every 16 bytes up to
/// 64, and from there on four between a power of two and the next.
pub const fn block(len: usize) -> usize {
    let step = match len {
        0 => return 0,
        1..=64 => 16,
        _ => 1usize << ((len - 1).ilog2() - 2),
    };
    len.next_multiple_of(step)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn bytes(len: usize) -> Vec<u8> {
        (0..len).map(|at| (at * 31 + at / 251) as u8).collect()
    }

    fn check(bytes: &[u8]) {
        let pieces = Pieces::from(bytes);
        assert_eq!(pieces.len(), bytes.len());
        assert_eq!(pieces.is_empty(), bytes.is_empty());
        assert!(pieces.to_vec() == bytes, "{} bytes differ", bytes.len());
        let mut out = b"before".to_vec();
        pieces.write_to(&mut out);
        assert!(out.strip_prefix(b"before") == Some(bytes));
        assert_eq!(pieces.head(), &bytes[..bytes.len().min(PIECE)]);
        assert_eq!(pieces, pieces.clone());
        assert_eq!(pieces, Pieces::from(bytes.to_vec()));
    }

    #[test]
    fn bytes_of_every_length_around_a_piece_are_the_same_again() {
        (0..=300).for_each(|len| check(&bytes(len)));
        for pieces in [1, 2, 3, 16] {
            let len = pieces * PIECE;
            (len - 20..=len + 20).for_each(|len| check(&bytes(len)));
        }
    }

    #[test]
    fn one_byte_makes_them_different_wherever_it_is() {
        for len in [1, PIECE, PIECE + 1, 3 * PIECE - 1] {
            let whole = bytes(len);
            for at in [0, len / 2, len - 1] {
                let mut other = whole.clone();
                other[at] ^= 1;
                assert_ne!(Pieces::from(whole.clone()), Pieces::from(other), "{at}");
            }
        }
        assert_ne!(Pieces::from(&b"aa"[..]), Pieces::from(&b"a"[..]));
    }

    #[test]
    fn a_short_value_is_as_small_as_its_box() {
        assert_eq!(size_of::<Pieces>(), size_of::<Box<[u8]>>());
    }

    /// As mimalloc's own list of its sizes has them.
    #[test]
    fn blocks_have_the_allocators_sizes() {
        let sizes = [
            16, 32, 48, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384, 448, 512, 640, 768,
            896, 1024, 1280, 1536, 1792, 2048, 2560, 3072, 3584, 4096, 5120,
        ];
        assert_eq!(block(0), 0);
        let mut at = 1;
        for size in sizes {
            (at..=size).for_each(|len| assert_eq!(block(len), size, "{len}"));
            at = size + 1;
        }
    }

    #[test]
    fn what_they_take_is_little_more_than_they_are() {
        for (len, memory) in [
            (0, 0),
            (1, 16),
            (PIECE, PIECE),
            // A header, a list of two and a block for the last byte.
            (PIECE + 1, 32 + 32 + PIECE + 16),
            (4 * PIECE, 32 + 64 + 4 * PIECE),
        ] {
            assert_eq!(Pieces::from(vec![0; len]).memory(), memory, "{len}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_the_same_again(
            bytes in prop::collection::vec(any::<u8>(), 0..50_000),
        ) {
            check(&bytes);
            let memory = Pieces::from(bytes.as_slice()).memory();
            prop_assert!(memory >= bytes.len());
            prop_assert!(memory <= bytes.len() + bytes.len() / 4 + 64);
        }
    }
}
