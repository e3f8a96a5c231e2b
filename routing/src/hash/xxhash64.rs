//! xxHash64 (Yann Collet; github.com/Cyan4973/xxHash, doc/xxhash_spec.md)
//! with a seed of 0, for the points of Envoy's ring and for checksums.

const P1: u64 = 0x9e37_79b1_85eb_ca87;
const P2: u64 = 0xc2b2_ae3d_27d4_eb4f;
const P3: u64 = 0x1656_67b1_9e37_79f9;
const P4: u64 = 0x85eb_ca77_c2b2_ae63;
const P5: u64 = 0x27d4_eb2f_1656_67c5;

/// The hash of these bytes.
pub fn hash(bytes: &[u8]) -> u64 {
    let (stripes, mut rest) = bytes.as_chunks::<32>();
    let mut hash = if stripes.is_empty() {
        P5
    } else {
        converge(stripes)
    };
    hash = hash.wrapping_add(bytes.len() as u64);

    while let Some((lane, behind)) = rest.split_first_chunk::<8>() {
        hash ^= round(0, u64::from_le_bytes(*lane));
        hash = hash.rotate_left(27).wrapping_mul(P1).wrapping_add(P4);
        rest = behind;
    }
    if let Some((half, behind)) = rest.split_first_chunk::<4>() {
        hash ^= u64::from(u32::from_le_bytes(*half)).wrapping_mul(P1);
        hash = hash.rotate_left(23).wrapping_mul(P2).wrapping_add(P3);
        rest = behind;
    }
    for &byte in rest {
        hash ^= u64::from(byte).wrapping_mul(P5);
        hash = hash.rotate_left(11).wrapping_mul(P1);
    }

    hash = (hash ^ (hash >> 33)).wrapping_mul(P2);
    hash = (hash ^ (hash >> 29)).wrapping_mul(P3);
    hash ^ (hash >> 32)
}

/// Four lanes over whole stripes, brought together.
fn converge(stripes: &[[u8; 32]]) -> u64 {
    let mut lanes = [P1.wrapping_add(P2), P2, 0, P1.wrapping_neg()];
    for stripe in stripes {
        for (lane, input) in lanes.iter_mut().zip(stripe.as_chunks::<8>().0) {
            *lane = round(*lane, u64::from_le_bytes(*input));
        }
    }
    let turned = [1, 7, 12, 18].iter().zip(lanes);
    let start = turned.fold(0u64, |sum, (&bits, lane)| {
        sum.wrapping_add(lane.rotate_left(bits))
    });
    lanes.iter().fold(start, |hash, &lane| {
        (hash ^ round(0, lane)).wrapping_mul(P1).wrapping_add(P4)
    })
}

fn round(lane: u64, input: u64) -> u64 {
    lane.wrapping_add(input.wrapping_mul(P2))
        .rotate_left(31)
        .wrapping_mul(P1)
}

#[cfg(test)]
mod tests {
    use super::hash;

    /// Source: the test vectors published with xxHash, seed 0, and Envoy,
    /// `test/common/common/hash_test.cc`.
    #[test]
    fn published_vectors() {
        assert_eq!(hash(b""), 0xef46_db37_51d8_e999);
        assert_eq!(hash(b"a"), 0xd24e_c4f1_a98c_6e5b);
        assert_eq!(hash(b"abc"), 0x44bc_2cf5_ad77_0999);
        assert_eq!(hash(b"foo"), 3728699739546630719);
        assert_eq!(hash(b"foo\nbar"), 8917841378505826757);
        assert_eq!(hash(b"lyft"), 4400747396090729504);
        assert_eq!(
            hash(b"Nobody inspects the spammish repetition"),
            0xfbce_a83c_8a37_8bf1
        );
    }
}
