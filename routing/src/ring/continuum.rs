//! A circle of points: a key belongs to the first point at or behind its
//! hash, and behind the last point comes the first again.
//!
//! The points lie sorted in one flat array, their owners in another, so that
//! a search touches four bytes a point. A jump table over the top bits of the
//! hash says where to start. It has two to four entries a point, so nearly
//! always the point sought is among the next three, and counting those that
//! lie before the hash needs no branch that could be mispredicted. A binary
//! search mispredicts every other of its ten steps.

/// Points of width `P` and the members that own them.
#[derive(Debug)]
pub struct Continuum<P> {
    /// Sorted, with `PADDING` more of the greatest value at the end.
    points: Vec<P>,
    /// `owners[i]` owns `points[i]`; the padding belongs to the owner of the
    /// first point, for hashes behind the last.
    owners: Vec<u16>,
    /// `starts[t]` is the first point whose top bits are `t` or more.
    starts: Vec<u32>,
    /// How far to shift a hash to the right to get its top bits.
    shift: u32,
}

/// Steps that are taken without a branch.
const PADDING: usize = 2;

/// The width of a point and of the hash that is looked up among them.
pub trait Point: Copy + Ord {
    /// Bits in a point.
    const BITS: u32;
    /// The greatest point. No point lies before a hash of this value unless
    /// it is smaller, so the padding stops every search.
    const MAX: Self;
    /// The point without its lowest `shift` bits, which leaves at most 24.
    fn top(self, shift: u32) -> usize;
}

impl Point for u32 {
    const BITS: u32 = u32::BITS;
    const MAX: u32 = u32::MAX;

    #[inline]
    fn top(self, shift: u32) -> usize {
        (self >> shift) as usize
    }
}

impl Point for u64 {
    const BITS: u32 = u64::BITS;
    const MAX: u64 = u64::MAX;

    #[inline]
    fn top(self, shift: u32) -> usize {
        (self >> shift) as usize
    }
}

impl<P: Point> Continuum<P> {
    /// A circle of these points, of which there must be at least one. Where
    /// two coincide the first given wins.
    pub fn new(mut placed: Vec<(P, u16)>) -> Continuum<P> {
        placed.sort_by_key(|&(point, _)| point);
        let mut points: Vec<P> = placed.iter().map(|&(point, _)| point).collect();
        let mut owners: Vec<u16> = placed.iter().map(|&(_, owner)| owner).collect();

        let bits = points.len().next_power_of_two().ilog2() + 1;
        let shift = P::BITS - bits.min(24);
        let tops = P::MAX.top(shift);
        let starts = (0..=tops)
            .map(|top| points.partition_point(|point| point.top(shift) < top) as u32)
            .collect();
        let first = owners.first().copied().unwrap_or_default();
        points.extend([P::MAX; PADDING + 1]);
        owners.extend([first; PADDING + 1]);
        Continuum {
            points,
            owners,
            starts,
            shift,
        }
    }

    /// The owner of the first point at or behind `hash`.
    #[inline]
    pub fn at(&self, hash: P) -> usize {
        let start = self.starts[hash.top(self.shift)] as usize;
        let next = &self.points[start..];
        let before: usize = next[..PADDING]
            .iter()
            .map(|&point| usize::from(point < hash))
            .sum();
        let mut at = start + before;
        if before == PADDING {
            at += next[PADDING..]
                .iter()
                .take_while(|&&point| point < hash)
                .count();
        }
        usize::from(self.owners[at])
    }

    /// How many points each of `members` members owns.
    pub fn points_of(&self, members: usize) -> Vec<usize> {
        let mut counts = vec![0; members];
        for &owner in &self.owners[..self.owners.len() - PADDING - 1] {
            counts[usize::from(owner)] += 1;
        }
        counts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_point_owns_and_the_last_wraps() {
        let circle = Continuum::new(vec![(30u32, 3), (10, 1), (20, 2), (u32::MAX - 1, 4)]);
        let check = |hash, owner| assert_eq!(circle.at(hash), owner, "{hash}");
        check(0, 1);
        check(10, 1);
        check(11, 2);
        check(20, 2);
        check(21, 3);
        check(31, 4);
        check(u32::MAX - 1, 4);
        check(u32::MAX, 1);
        assert_eq!(circle.points_of(5), [0, 1, 1, 1, 1]);
    }

    #[test]
    fn the_jump_table_agrees_with_a_plain_search() {
        for count in [1usize, 2, 3, 64, 100, 640] {
            let spread = |i: usize| (i as u32).wrapping_mul(0x9e37_79b1) >> (i % 3 * 8);
            let mut placed: Vec<(u32, u16)> = (0..count).map(|i| (spread(i), i as u16)).collect();
            let circle = Continuum::new(placed.clone());
            placed.sort_by_key(|&(point, _)| point);
            for i in 0..20_000u32 {
                let hash = i.wrapping_mul(0x85eb_ca6b);
                let found = placed.iter().find(|&&(point, _)| point >= hash);
                let owner = found.unwrap_or(&placed[0]).1;
                assert_eq!(circle.at(hash), usize::from(owner), "{count} {hash}");
            }
        }
    }
}
