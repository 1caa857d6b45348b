//! How far apart two samples of a stream must be before they count as independent.
//!
//! Sensor streams repeat themselves: at a lag-1 correlation of 0.9 a chi-square test at 5 % fires
//! on 73 % of the windows without any drift. Keeping every `stride`-th sample restores the
//! nominal rate. This module owns that stride and nothing else.

/// Longest stride: beyond it a window would hold too few samples to test anything.
pub(crate) const MAX_STRIDE: u32 = 256;
/// Correlation between kept samples that is taken as none.
const RESIDUAL: f64 = 0.05;

/// Lag-1 autocorrelation of a stream, over the neighbouring pairs in which both values are
/// finite; 0 for a constant stream. `mean` is that of the finite values.
///
/// Source: Box and Jenkins, Time Series Analysis, equation 2.1.11 (biased estimator).
pub(crate) fn lag1(values: &[f32], mean: f64) -> f64 {
    let mut variance = 0.0;
    let mut covariance = 0.0;
    let mut previous: Option<f64> = None;
    for &value in values {
        if !value.is_finite() {
            previous = None;
            continue;
        }
        let deviation = f64::from(value) - mean;
        variance += deviation * deviation;
        if let Some(before) = previous {
            covariance += before * deviation;
        }
        previous = Some(deviation);
    }
    if variance > 0.0 {
        (covariance / variance).clamp(-1.0, 1.0)
    } else {
        0.0
    }
}

/// The thinning stride for a lag-1 correlation estimated from `n` values: the lag at which a
/// first-order autoregressive stream has forgotten all but 5 %, `ceil(ln 0.05 / ln rho)`.
///
/// A correlation within two standard errors of zero, `2 / sqrt(n)`, counts as zero: thinning by
/// noise would throw away half of an independent sample.
pub(crate) fn stride(rho: f64, n: usize) -> u32 {
    let noise = 2.0 / libm::sqrt(n.max(1) as f64);
    if rho <= RESIDUAL || rho <= noise {
        return 1;
    }
    if rho >= 1.0 {
        return MAX_STRIDE;
    }
    let lag = libm::ceil(libm::log(RESIDUAL) / libm::log(rho));
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "clamped to 1..=MAX_STRIDE first"
    )]
    let stride = lag.clamp(1.0, f64::from(MAX_STRIDE)) as u32;
    stride
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stride_follows_the_formula() {
        assert_eq!(stride(0.9, 10_000), 29); // ln .05 / ln .9 = 28.4
        assert_eq!(stride(0.5, 10_000), 5); // 4.3
        assert_eq!(stride(0.04, 10_000), 1);
        assert_eq!(stride(-0.7, 10_000), 1);
        assert_eq!(stride(0.15, 89), 1, "within the noise of 89 values");
        assert_eq!(stride(0.9999, 10_000), MAX_STRIDE);
        assert_eq!(stride(1.0, 10_000), MAX_STRIDE);
    }

    #[test]
    fn lag1_of_known_streams() {
        let alternating: Vec<f32> = (0..1000)
            .map(|i| if i % 2 == 0 { 1.0 } else { -1.0 })
            .collect();
        assert!((lag1(&alternating, 0.0) + 0.999).abs() < 1e-9);
        assert_eq!(lag1(&[3.0; 50], 3.0), 0.0);
        let ramp: Vec<f32> = (0..1000u16).map(f32::from).collect();
        assert!(lag1(&ramp, 499.5) > 0.99);
        assert_eq!(
            lag1(&[1.0, f32::NAN, -1.0], 0.0),
            0.0,
            "no pair of neighbours"
        );
    }
}
