//! Tail probabilities of the two distributions that the tests need.
//!
//! Pure functions of f64, good to about 1e-12 relative in the ranges that drift tests use.

use core::f64::consts::PI;

const MAX_TERMS: u32 = 2000;
const EPSILON: f64 = 1e-16;

/// Probability that a chi-square variable with `degrees` degrees of freedom exceeds `x`.
/// With 0 degrees it is 1: nothing was tested.
#[must_use]
pub fn chi_square_sf(x: f64, degrees: u32) -> f64 {
    if degrees == 0 || x.is_nan() || x <= 0.0 {
        return 1.0;
    }
    if x.is_infinite() {
        return 0.0;
    }
    gamma_q(f64::from(degrees) / 2.0, x / 2.0)
}

/// Probability that Kolmogorov's limit variable exceeds `x`.
///
/// Two series for the same function; each is used where it converges in a few terms. Sources:
/// Kolmogorov (1933), `2 sum (-1)^(k-1) exp(-2 k^2 x^2)`; Feller, "On the Kolmogorov-Smirnov
/// limit theorems for empirical distributions" (1948), the theta-transformed form.
#[must_use]
pub fn kolmogorov_sf(x: f64) -> f64 {
    if x.is_nan() || x <= 0.0 {
        return 1.0;
    }
    if x < 1.0 {
        let scale = libm::sqrt(2.0 * PI) / x;
        let exponent = -PI * PI / (8.0 * x * x);
        let sum: f64 = (1..=5)
            .map(|k| f64::from(2 * k - 1))
            .map(|odd| libm::exp(exponent * odd * odd))
            .sum();
        return (1.0 - scale * sum).clamp(0.0, 1.0);
    }
    let sum: f64 = (1..=10)
        .map(|k| {
            let k = f64::from(k);
            let term = libm::exp(-2.0 * k * k * x * x);
            if k % 2.0 == 1.0 { term } else { -term }
        })
        .sum();
    (2.0 * sum).clamp(0.0, 1.0)
}

/// Regularised upper incomplete gamma function Q(a, x) for a > 0, x > 0.
///
/// Below `a + 1` the series of NIST DLMF 8.7.1 (for P = 1 - Q), above it the continued fraction
/// of DLMF 8.9.2, evaluated by Lentz's method as modified by Thompson and Barnett (1986).
fn gamma_q(a: f64, x: f64) -> f64 {
    let front = libm::exp(a * libm::log(x) - x - libm::lgamma(a));
    if x < a + 1.0 {
        let mut term = 1.0 / a;
        let mut sum = term;
        for k in 1..=MAX_TERMS {
            term *= x / (a + f64::from(k));
            sum += term;
            if term < sum * EPSILON {
                break;
            }
        }
        return (1.0 - front * sum).clamp(0.0, 1.0);
    }
    // b_k = x + 2k + 1 - a stays above 1 here, so no denominator can vanish.
    let mut b = x + 1.0 - a;
    let mut d = 1.0 / b;
    let mut c = 1e300;
    let mut fraction = d;
    for k in 1..=MAX_TERMS {
        let k = f64::from(k);
        let numerator = -k * (k - a);
        b += 2.0;
        d = 1.0 / (numerator * d + b);
        c = b + numerator / c;
        let step = c * d;
        fraction *= step;
        if libm::fabs(step - 1.0) < EPSILON {
            break;
        }
    }
    (front * fraction).clamp(0.0, 1.0)
}
