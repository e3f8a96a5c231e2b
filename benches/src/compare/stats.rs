//! Medians over rounds.

/// The middle of some numbers (the mean of the two middle ones); `None` without any.
pub fn median(numbers: &[f64]) -> Option<f64> {
    let mut sorted: Vec<f64> = numbers.iter().copied().filter(|n| n.is_finite()).collect();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match sorted.len() {
        0 => None,
        n if n % 2 == 1 => Some(sorted[middle]),
        _ => Some((sorted[middle - 1] + sorted[middle]) / 2.0),
    }
}

/// The smallest and the largest.
pub fn range(numbers: &[f64]) -> Option<(f64, f64)> {
    let finite = || numbers.iter().copied().filter(|n| n.is_finite());
    Some((finite().reduce(f64::min)?, finite().reduce(f64::max)?))
}

/// The median of the ratios of two peers, round by round: what disturbs the
/// machine for a while disturbs both halves of a pair.
pub fn paired(ours: &[f64], theirs: &[f64]) -> Option<f64> {
    let ratios: Vec<f64> = ours
        .iter()
        .zip(theirs)
        .map(|(ours, theirs)| ours / theirs)
        .collect();
    median(&ratios)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians_and_pairs() {
        assert_eq!(median(&[3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), Some(2.5));
        assert_eq!(median(&[]), None);
        assert_eq!(median(&[f64::NAN, 1.0]), Some(1.0));
        assert_eq!(range(&[2.0, 1.0, 3.0]), Some((1.0, 3.0)));
        assert_eq!(range(&[]), None);
        // The second round was disturbed for both.
        assert_eq!(paired(&[1.0, 10.0, 1.0], &[2.0, 20.0, 2.0]), Some(0.5));
        assert_eq!(paired(&[1.0], &[]), None);
    }
}
