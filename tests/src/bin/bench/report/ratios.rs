//! One contender against another, pair by pair.

use std::collections::BTreeMap;

use crate::{
    contenders::{NO_FILTER, NO_FILTER_NULL, NULL, PLAIN},
    results::{Results, Slice},
    statistics::Estimate,
};

/// What of a measurement is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Of {
    Rate,
    Median,
    P99,
}

impl Of {
    fn value(self, slice: &Slice) -> Option<f64> {
        match self {
            Self::Rate => Some(slice.rate),
            Self::Median => slice.median_ns.map(|ns| ns as f64),
            Self::P99 => slice.p99_ns.map(|ns| ns as f64),
        }
    }
}

impl Results {
    /// Values by round.
    fn values(&self, trial: &str, id: &str, of: Of) -> BTreeMap<u32, f64> {
        let slices = self.slices.iter();
        let own = slices.filter(|slice| slice.trial == trial && slice.id == id);
        own.filter_map(|slice| Some((slice.round, of.value(slice)?)))
            .collect()
    }

    /// What was measured; none where it was not.
    pub(crate) fn absolute(&self, trial: &str, id: &str, of: Of) -> Option<Estimate> {
        Estimate::of(self.values(trial, id, of).into_values().collect())
    }

    /// One over the other, in each round.
    pub(crate) fn ratio(&self, trial: &str, id: &str, to: &str, of: Of) -> Option<Estimate> {
        let below = self.values(trial, to, of);
        let above = self.values(trial, id, of);
        let ratios = above
            .iter()
            .filter_map(|(round, value)| Some(value / below.get(round)?));
        Estimate::of(ratios.collect())
    }

    /// Whom everybody in a trial is compared with; none where nobody was measured.
    pub(crate) fn base(&self, trial: &str) -> Option<&'static str> {
        let bases = [PLAIN, NO_FILTER, "drop-nft-ip"];
        bases
            .into_iter()
            .find(|id| self.absolute(trial, id, Of::Rate).is_some())
    }

    /// The null pair's; where there is none, nothing is taken for equal but what has 1 in its interval.
    pub(crate) fn null(&self, trial: &str, of: Of) -> Estimate {
        let exact = Estimate {
            median: 1.0,
            low: 1.0,
            high: 1.0,
        };
        let pairs = [(NULL, PLAIN), (NO_FILTER_NULL, NO_FILTER)];
        let measured = pairs
            .into_iter()
            .find_map(|(id, to)| self.ratio(trial, id, to, of));
        measured.unwrap_or(exact)
    }
}
