//! Histograms of powers of two, and quantiles read off them.

use std::collections::BTreeMap;

/// Counts by exponent: the bucket with exponent `e` holds what is above 2^(e-1) and not above 2^e.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Histogram(BTreeMap<i32, u64>);

/// The upper bound of a bucket; `unit` is 1e-9 for durations (shown in seconds), else 1.
pub fn bucket_bound(exponent: i32, unit: f64) -> f64 {
    // A quotient by 1e9 is the correctly rounded number; a product with 1e-9 is not.
    if unit == 1.0 { 2f64.powi(exponent) } else { 2f64.powi(exponent) / (1.0 / unit).round() }
}

impl Histogram {
    /// Adds to a bucket.
    pub fn add(&mut self, exponent: i32, count: u64) {
        *self.0.entry(exponent).or_default() += count;
    }

    /// The value at quantile `q`, with the position inside a bucket interpolated on the logarithmic scale; 0 if there are no
    /// values.
    pub fn quantile(&self, q: f64, unit: f64) -> f64 {
        let total: u64 = self.0.values().sum();
        if total == 0 {
            return 0.0;
        }
        let wanted = (q * total as f64).ceil().max(1.0);
        let (mut below, mut lower) = (0.0, None);
        for (&exponent, &count) in &self.0 {
            let count = count as f64;
            if below + count == wanted {
                return bucket_bound(exponent, unit);
            }
            if below + count > wanted {
                let (upper, lower) = (f64::from(exponent), f64::from(lower.unwrap_or(exponent - 1)));
                let fraction = (wanted - below) / count;
                return 2f64.powf(lower + (upper - lower) * fraction) * unit;
            }
            below += count;
            lower = Some(exponent);
        }
        lower.map_or(0.0, |e| bucket_bound(e, unit))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn histogram(buckets: &[(i32, u64)]) -> Histogram {
        let mut h = Histogram::default();
        buckets.iter().for_each(|(e, n)| h.add(*e, *n));
        h
    }

    fn close(a: f64, b: f64) -> bool {
        (a - b).abs() <= 1e-12 * a.abs().max(b.abs())
    }

    #[test]
    fn quantiles_are_interpolated_inside_a_bucket() {
        let h = histogram(&[(10, 4), (12, 4)]);
        // The fourth of eight is the last of the first bucket.
        assert_eq!(h.quantile(0.5, 1.0), 1024.0);
        // The sixth is half way through the second bucket, whose lower bound is that of the bucket before.
        assert!(close(h.quantile(0.75, 1.0), 2048.0));
        assert_eq!(h.quantile(1.0, 1.0), 4096.0);
        // The first of four in the first bucket, whose lower bound is half its upper.
        assert!(close(h.quantile(0.0, 1.0), 2f64.powf(9.25)));
        assert_eq!(Histogram::default().quantile(0.5, 1.0), 0.0);
        assert_eq!(histogram(&[(20, 1)]).quantile(0.0, 1e-9), 0.001048576);
    }

    #[test]
    fn leaves_of_a_recorded_answer() {
        // metrics-quantile-008: the whole numbers 0..=499, of which 0 and 1 are dropped.
        let mut h = Histogram::default();
        for v in 2..500i64 {
            h.add(64 - (v as u64 - 1).leading_zeros() as i32, 1);
        }
        assert!(close(h.quantile(0.5, 1.0), 247.81590956701368), "{}", h.quantile(0.5, 1.0));
    }
}
