//! Statistics on two histograms over the same bins.
//!
//! All of them work on integer counts, so they are exact for the bins and know their sample
//! sizes. Which result is an alarm is decided elsewhere. Formulas are named with their sources;
//! the tests hold them against scipy's values.

mod distribution;

pub use distribution::{chi_square_sf, kolmogorov_sf};

/// Cells that both samples expect to hit less often than this are pooled (Cochran's rule).
const MIN_EXPECTED: f64 = 5.0;

/// Reference and observed counts over the same bins, neither of them empty.
#[derive(Debug, Clone, Copy)]
pub struct Pair<'a> {
    reference: &'a [u64],
    observed: &'a [u64],
    m: f64,
    n: f64,
}

/// Pearson's two-sample chi-square.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ChiSquare {
    /// The statistic.
    pub statistic: f64,
    /// Degrees of freedom; 0 if only one cell was left, and the test cannot reject.
    pub degrees: u32,
    /// Probability of a statistic at least this large without drift.
    pub p_value: f64,
}

/// Kolmogorov-Smirnov on bins.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Ks {
    /// Largest difference between the two cumulative shares at a bin edge, 0 to 1.
    pub statistic: f64,
    /// Asymptotic p-value; conservative, because only the edges are looked at.
    pub p_value: f64,
}

impl<'a> Pair<'a> {
    /// `None` if the two differ in length or either holds no samples.
    #[must_use]
    pub fn new(reference: &'a [u64], observed: &'a [u64]) -> Option<Self> {
        let total = |counts: &[u64]| counts.iter().map(|&c| c as f64).sum::<f64>();
        let (m, n) = (total(reference), total(observed));
        (reference.len() == observed.len() && m > 0.0 && n > 0.0).then_some(Self {
            reference,
            observed,
            m,
            n,
        })
    }

    /// Population stability index, `sum (p - q) ln (p / q)`, 0 and up.
    ///
    /// Shares are floored at half a count, `0.5 / n`, so that an empty bin costs what it is worth
    /// at this sample size. Source: Lewis, An Introduction to Credit Scoring (1994).
    #[must_use]
    pub fn psi(&self) -> f64 {
        let (floor_m, floor_n) = (0.5 / self.m, 0.5 / self.n);
        self.shares()
            .map(|(p, q)| (p.max(floor_m), q.max(floor_n)))
            .map(|(p, q)| (p - q) * libm::log(p / q))
            .sum()
    }

    /// PSI less its expectation without drift, `(bins - 1) (1/n + 1/m)`: an effect size that does
    /// not grow as samples shrink. It can be slightly negative.
    ///
    /// Source: Yurdakul, Statistical Properties of Population Stability Index (2018).
    #[must_use]
    pub fn psi_adjusted(&self) -> f64 {
        let bins = self.reference.len() as f64;
        self.psi() - (bins - 1.0) * (1.0 / self.n + 1.0 / self.m)
    }

    /// Pearson's chi-square of homogeneity, cells with an expected count below 5 pooled.
    ///
    /// `sum (a sqrt(n/m) - b sqrt(m/n))^2 / (a + b)`; source: Press et al., Numerical Recipes,
    /// equation 14.3.3. Pooling after Cochran, "Some methods for strengthening the common
    /// chi-square tests" (1954).
    #[must_use]
    pub fn chi_square(&self) -> ChiSquare {
        self.chi_square_pooled(MIN_EXPECTED)
    }

    /// Kolmogorov-Smirnov over the bin edges, with the asymptotic p-value.
    ///
    /// Source: Smirnov, "Table for estimating the goodness of fit of empirical distributions"
    /// (1948): `sqrt(nm / (n + m)) D` is asymptotically Kolmogorov's.
    #[must_use]
    pub fn ks(&self) -> Ks {
        let mut cumulative = 0.0;
        let mut statistic: f64 = 0.0;
        for (p, q) in self.shares() {
            cumulative += p - q;
            statistic = statistic.max(libm::fabs(cumulative));
        }
        let scale = libm::sqrt(self.n / (self.n + self.m) * self.m);
        Ks {
            statistic,
            p_value: kolmogorov_sf(scale * statistic),
        }
    }

    /// The smaller of both p-values, doubled (Bonferroni): KS sees shifts, chi-square shapes.
    #[must_use]
    pub fn p_value(&self) -> f64 {
        (2.0 * self.chi_square().p_value.min(self.ks().p_value)).min(1.0)
    }

    /// Jensen-Shannon distance with natural logarithms, 0 to `sqrt(ln 2)`.
    ///
    /// Source: Endres and Schindelin, "A new metric for probability distributions" (2003).
    #[must_use]
    pub fn js_distance(&self) -> f64 {
        let half = |p: f64, middle: f64| {
            if p > 0.0 {
                p * libm::log(p / middle)
            } else {
                0.0
            }
        };
        let divergence: f64 = self
            .shares()
            .map(|(p, q)| {
                let middle = f64::midpoint(p, q);
                f64::midpoint(half(p, middle), half(q, middle))
            })
            .sum();
        libm::sqrt(divergence.max(0.0))
    }

    fn shares(&self) -> impl Iterator<Item = (f64, f64)> {
        self.counts().map(|(a, b)| (a / self.m, b / self.n))
    }

    fn counts(&self) -> impl Iterator<Item = (f64, f64)> {
        self.reference
            .iter()
            .zip(self.observed)
            .map(|(&a, &b)| (a as f64, b as f64))
    }

    fn chi_square_pooled(&self, min_expected: f64) -> ChiSquare {
        let smaller_share = self.m.min(self.n) / (self.m + self.n);
        let is_small = |&(a, b): &(f64, f64)| (a + b) * smaller_share < min_expected;
        let kept = || self.counts().filter(|&(a, b)| a + b > 0.0);

        let (mut pool_a, mut pool_b) = (0.0, 0.0);
        for (a, b) in kept().filter(is_small) {
            pool_a += a;
            pool_b += b;
        }
        // A pool that is itself too small joins the smallest of the other cells.
        let joined = if pool_a + pool_b > 0.0 && is_small(&(pool_a, pool_b)) {
            kept()
                .enumerate()
                .filter(|(_, cell)| !is_small(cell))
                .min_by(|(_, x), (_, y)| (x.0 + x.1).total_cmp(&(y.0 + y.1)))
                .map(|(index, _)| index)
        } else {
            None
        };

        let mut statistic = 0.0;
        let mut cells = 0u32;
        let mut add = |a: f64, b: f64| {
            let difference = a * libm::sqrt(self.n / self.m) - b * libm::sqrt(self.m / self.n);
            statistic += difference * difference / (a + b);
            cells += 1;
        };
        for (index, cell) in kept().enumerate() {
            if is_small(&cell) {
                continue;
            }
            if joined == Some(index) {
                add(cell.0 + pool_a, cell.1 + pool_b);
            } else {
                add(cell.0, cell.1);
            }
        }
        if joined.is_none() && pool_a + pool_b > 0.0 {
            add(pool_a, pool_b);
        }

        let degrees = cells.saturating_sub(1);
        ChiSquare {
            statistic,
            degrees,
            p_value: chi_square_sf(statistic, degrees),
        }
    }
}

#[cfg(test)]
mod tests;
