//! The median of paired ratios and its 95 % interval, by order statistics: nothing is assumed of their distribution.

/// A median and its interval.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Estimate {
    pub(crate) median: f64,
    /// With fewer than six pairs there is no interval of 95 %: these are the least and the greatest ratio then.
    pub(crate) low: f64,
    pub(crate) high: f64,
}

impl Estimate {
    /// Of some values; none where there are none.
    pub(crate) fn of(mut values: Vec<f64>) -> Option<Self> {
        values.sort_by(f64::total_cmp);
        let count = values.len();
        let last = count.checked_sub(1)?;
        let outside = outside(count);
        Some(Self {
            median: f64::midpoint(values[last / 2], values[count / 2]),
            low: values[outside],
            high: values[last - outside],
        })
    }

    /// Whether it cannot be told from 1: its interval has 1 in it, or it is nearer to 1 than the null pair's interval reaches.
    pub(crate) fn is_equal(&self, null: &Self) -> bool {
        let spread = (null.low - 1.0).abs().max((null.high - 1.0).abs());
        (self.low <= 1.0 && 1.0 <= self.high) || (self.median - 1.0).abs() <= spread
    }
}

/// How many of so many values lie outside of the interval on each side: the most for which a fair coin shows that many heads
/// or fewer less often than once in forty.
fn outside(count: usize) -> usize {
    let mut probability = 0.5_f64.powi(i32::try_from(count).unwrap_or(i32::MAX));
    let mut sum = probability;
    let mut outside = 0;
    while sum <= 0.025 {
        probability *= (count - outside) as f64 / (outside + 1) as f64;
        sum += probability;
        outside += 1;
    }
    // The value at `outside - 1` from the end is the last one to be left out.
    outside.saturating_sub(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intervals_are_those_of_the_tables() {
        // Ranks of the confidence interval of the median, counted from 1: 10 and 21 of 30, 1 and 6 of 6, 18 and 33 of 50.
        assert_eq!([6, 30, 50].map(outside), [0, 9, 17]);
        assert_eq!([1, 2, 5].map(outside), [0; 3]);
    }

    #[test]
    fn medians() {
        assert_eq!(Estimate::of(Vec::new()), None);
        let of = |values: &[f64]| Estimate::of(values.to_vec()).expect("values");
        assert!((of(&[3.0, 1.0]).median - 2.0).abs() < f64::EPSILON);
        assert!((of(&[3.0, 1.0, 7.0]).median - 3.0).abs() < f64::EPSILON);
        let of_30 = of(&(1..=30).map(f64::from).collect::<Vec<_>>());
        assert_eq!((of_30.low, of_30.high), (10.0, 21.0));
    }

    #[test]
    fn what_the_null_pair_reaches_is_equal() {
        let estimate = |median, low, high| Estimate { median, low, high };
        let null = estimate(1.0, 0.98, 1.01);
        assert!(estimate(1.02, 1.01, 1.03).is_equal(&null));
        assert!(estimate(1.05, 0.99, 1.11).is_equal(&null));
        assert!(!estimate(1.05, 1.03, 1.07).is_equal(&null));
        assert!(!estimate(0.95, 0.94, 0.96).is_equal(&null));
    }
}
