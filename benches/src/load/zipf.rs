//! Zipf-distributed ranks: rank `k` of `n` is drawn with probability
//! proportional to `1 / k^s`.
//!
//! Rejection-inversion after Hörmann and Derflinger ("Rejection-inversion to
//! generate variates from monotone discrete distributions", 1996): constant
//! time and no table, whatever the number of keys. The idea: invert the
//! integral `H` of the continuous curve `x^-s`, round to the nearest rank, and
//! accept when the point falls under that rank's bar. About nine draws in ten
//! are accepted at once.

use super::rng::Rng;

/// A distribution over the ranks `0..n`, 0 being the most frequent.
#[derive(Clone, Debug)]
pub struct Zipf {
    n: u64,
    s: f64,
    h_first: f64,
    h_last: f64,
    shortcut: f64,
}

impl Zipf {
    /// `s` = 0 is uniform; caches see about 0.7 to 1.2.
    pub fn new(n: u64, s: f64) -> Zipf {
        let n = n.max(1);
        let s = if s.is_finite() { s.max(0.0) } else { 0.0 };
        Zipf {
            n,
            s,
            h_first: integral(1.5, s) - 1.0,
            h_last: integral(n as f64 + 0.5, s),
            shortcut: 2.0 - integral_inverse(integral(2.5, s) - bar(2.0, s), s),
        }
    }

    /// Draw one rank.
    pub fn sample(&self, rng: &mut Rng) -> u64 {
        if self.s == 0.0 {
            return rng.below(self.n);
        }
        loop {
            let u = self.h_last + rng.unit() * (self.h_first - self.h_last);
            let x = integral_inverse(u, self.s);
            let k = (x + 0.5).floor().clamp(1.0, self.n as f64);
            if k - x <= self.shortcut || u >= integral(k + 0.5, self.s) - bar(k, self.s) {
                return k as u64 - 1;
            }
        }
    }
}

/// The height of rank `x`.
fn bar(x: f64, s: f64) -> f64 {
    (-s * x.ln()).exp()
}

/// The integral of `x^-s`, written so that `s` = 1 is not a special case.
fn integral(x: f64, s: f64) -> f64 {
    let log = x.ln();
    expm1_over(log * (1.0 - s)) * log
}

/// The inverse of [`integral`].
fn integral_inverse(y: f64, s: f64) -> f64 {
    let t = (y * (1.0 - s)).max(-1.0);
    (ln1p_over(t) * y).exp()
}

/// `(e^x - 1) / x`, with its limit 1 at 0.
fn expm1_over(x: f64) -> f64 {
    if x.abs() > 1e-8 {
        x.exp_m1() / x
    } else {
        1.0 + x / 2.0
    }
}

/// `ln(1 + x) / x`, with its limit 1 at 0.
fn ln1p_over(x: f64) -> f64 {
    if x.abs() > 1e-8 {
        x.ln_1p() / x
    } else {
        1.0 - x / 2.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The drawn share of the first ranks is what the formula says.
    fn check(n: u64, s: f64) {
        let zipf = Zipf::new(n, s);
        let mut rng = Rng::new(42);
        let draws = 400_000;
        let mut seen = vec![0u64; n as usize];
        for _ in 0..draws {
            seen[zipf.sample(&mut rng) as usize] += 1;
        }
        let total: f64 = (1..=n).map(|k| (k as f64).powf(-s)).sum();
        for k in 1..=n.min(5) {
            let expected = (k as f64).powf(-s) / total;
            let drawn = seen[k as usize - 1] as f64 / f64::from(draws);
            let noise = 5.0 * (expected / f64::from(draws)).sqrt();
            assert!(
                (drawn - expected).abs() < noise,
                "n {n} s {s} rank {k}: drawn {drawn}, expected {expected}"
            );
        }
    }

    #[test]
    fn shares_follow_the_formula() {
        for s in [0.0, 0.5, 0.99, 1.0, 1.2, 2.0] {
            check(1000, s);
        }
        check(1, 1.0);
        check(2, 1.0);
    }

    #[test]
    fn a_large_keyspace_stays_in_range() {
        let zipf = Zipf::new(1 << 40, 1.0);
        let mut rng = Rng::new(1);
        assert!((0..10_000).all(|_| zipf.sample(&mut rng) < 1 << 40));
    }
}
