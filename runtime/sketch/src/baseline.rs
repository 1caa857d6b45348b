//! What the training data looked like: the reference that live data is compared with.
//!
//! A baseline is built once, from held-out rows that went through the deployed model, and travels
//! signed inside the bundle. Its counts are thinned exactly as live data will be, because it is
//! made by the same sketch. A decoded baseline has been checked: edges finite and increasing,
//! counts as many as bins. It never holds raw values.

use crate::{
    BinSketch, Edges, MAX_BASELINE_BYTES, MAX_BINS, MIN_BINS, SketchError,
    autocorrelation::{self, MAX_STRIDE},
    codec,
};
use alloc::{string::String, vec::Vec};
use serde::{Deserialize, Serialize};

/// Most features in one baseline or profile.
pub const MAX_FEATURES: usize = 512;
/// Longest feature name in bytes.
pub const MAX_NAME_BYTES: usize = 64;

const VERSION: u8 = 1;
/// Thinned baseline samples wanted per bin; a shorter baseline gets fewer bins.
const SAMPLES_PER_BIN: usize = 5;

/// The reference of one feature.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FeatureBaseline {
    name: String,
    edges: Edges,
    counts: Vec<u64>,
    n_ref: u64,
    missing: u64,
    longest_run: u64,
    stride: u32,
    rho1: f32,
    min: f32,
    max: f32,
    mean: f32,
    std: f32,
}

impl FeatureBaseline {
    /// Builds the reference of one feature from its baseline values **in stream order** (the
    /// order carries the autocorrelation). NaN means missing; infinities are left out.
    ///
    /// At most `bins` bins come out: fewer where quantiles tie, where the feature has fewer
    /// distinct values, or where the thinned baseline has less than five samples per bin.
    ///
    /// # Errors
    /// `Bins` or `Name` if those are out of bounds, `NoValues` if no value is finite.
    pub fn from_values(name: &str, values: &[f32], bins: usize) -> Result<Self, SketchError> {
        if !(MIN_BINS..=MAX_BINS).contains(&bins) {
            return Err(SketchError::Bins { asked: bins });
        }
        validate_name(name)?;
        let mut sorted: Vec<f32> = values.iter().copied().filter(|v| v.is_finite()).collect();
        sorted.sort_unstable_by(f32::total_cmp);
        let (Some(&min), Some(&max)) = (sorted.first(), sorted.last()) else {
            return Err(SketchError::NoValues {
                feature: String::from(name),
            });
        };

        let mean = sorted.iter().map(|&v| f64::from(v)).sum::<f64>() / sorted.len() as f64;
        let rho1 = autocorrelation::lag1(values, mean);
        let stride = autocorrelation::stride(rho1, sorted.len());
        let thinned = sorted.len() / stride as usize;
        let bins = bins.min((thinned / SAMPLES_PER_BIN).max(MIN_BINS));

        let mut sketch = BinSketch::with(Edges::from_sorted(&sorted, bins), min, max, stride);
        for &value in values {
            sketch.update(value);
        }
        let counts = sketch.counts();
        #[expect(
            clippy::cast_possible_truncation,
            reason = "mean and deviation of f32 values lie in the range of f32"
        )]
        Ok(Self {
            name: String::from(name),
            edges: Edges::from_sorted(&sorted, bins),
            counts: counts.bins.clone(),
            n_ref: counts.n,
            missing: counts.missing,
            longest_run: counts.longest_run,
            stride,
            rho1: rho1 as f32,
            min,
            max,
            mean: counts.mean as f32,
            std: counts.std() as f32,
        })
    }

    /// The feature's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The bin edges.
    #[must_use]
    pub fn edges(&self) -> &Edges {
        &self.edges
    }

    /// Thinned baseline samples per bin.
    #[must_use]
    pub fn counts(&self) -> &[u64] {
        &self.counts
    }

    /// Finite baseline values before thinning.
    #[must_use]
    pub fn n_ref(&self) -> u64 {
        self.n_ref
    }

    /// Missing baseline values.
    #[must_use]
    pub fn missing(&self) -> u64 {
        self.missing
    }

    /// Longest run of one unchanged value in the baseline.
    #[must_use]
    pub fn longest_run(&self) -> u64 {
        self.longest_run
    }

    /// Every how many-th value enters the bins; at least 1.
    #[must_use]
    pub fn stride(&self) -> u32 {
        self.stride
    }

    /// Lag-1 autocorrelation, -1 to 1; 0 for a constant feature.
    #[must_use]
    pub fn rho1(&self) -> f32 {
        self.rho1
    }

    /// Smallest baseline value.
    #[must_use]
    pub fn min(&self) -> f32 {
        self.min
    }

    /// Largest baseline value.
    #[must_use]
    pub fn max(&self) -> f32 {
        self.max
    }

    /// Mean of the baseline values.
    #[must_use]
    pub fn mean(&self) -> f32 {
        self.mean
    }

    /// Population standard deviation of the baseline values.
    #[must_use]
    pub fn std(&self) -> f32 {
        self.std
    }

    fn validate(&self) -> Result<(), SketchError> {
        validate_name(&self.name)?;
        self.edges.validate()?;
        let refuse = |what| Err(SketchError::Malformed { what });
        if self.counts.len() != self.edges.bins() {
            return refuse("counts and bins differ in number");
        }
        let thinned = self
            .counts
            .iter()
            .try_fold(0u64, |sum, &count| sum.checked_add(count));
        if thinned.is_none_or(|thinned| thinned == 0 || thinned > self.n_ref) {
            return refuse("baseline counts do not fit the number of values");
        }
        if self.stride == 0 || self.stride > MAX_STRIDE {
            return refuse("the thinning stride is out of bounds");
        }
        let moments = [self.min, self.max, self.mean, self.std, self.rho1];
        if moments.iter().any(|value| !value.is_finite()) {
            return refuse("a baseline moment is not finite");
        }
        if self.min > self.max || self.std < 0.0 || self.rho1.abs() > 1.0 {
            return refuse("baseline moments contradict each other");
        }
        Ok(())
    }
}

/// The references of all features of one bundle, in the order in which profiles list them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Baseline {
    features: Vec<FeatureBaseline>,
}

impl Baseline {
    /// Puts features together.
    ///
    /// # Errors
    /// `FeatureCount` for none or too many, `DuplicateName` for a name used twice.
    pub fn new(features: Vec<FeatureBaseline>) -> Result<Self, SketchError> {
        let baseline = Self { features };
        baseline.validate()?;
        Ok(baseline)
    }

    /// The features in order.
    #[must_use]
    pub fn features(&self) -> &[FeatureBaseline] {
        &self.features
    }

    /// The stored form: version byte 1, then postcard.
    ///
    /// # Errors
    /// `TooLarge` beyond [`MAX_BASELINE_BYTES`].
    pub fn encode(&self) -> Result<Vec<u8>, SketchError> {
        codec::encode(VERSION, self, MAX_BASELINE_BYTES)
    }

    /// Reads and checks the stored form.
    ///
    /// # Errors
    /// `UnknownVersion`, `TooLarge`, or what is wrong with the content.
    pub fn decode(bytes: &[u8]) -> Result<Self, SketchError> {
        let baseline: Self = codec::decode(VERSION, bytes, MAX_BASELINE_BYTES)?;
        baseline.validate()?;
        Ok(baseline)
    }

    fn validate(&self) -> Result<(), SketchError> {
        if self.features.is_empty() || self.features.len() > MAX_FEATURES {
            return Err(SketchError::FeatureCount {
                features: self.features.len(),
            });
        }
        let mut names: Vec<&str> = self.features.iter().map(FeatureBaseline::name).collect();
        names.sort_unstable();
        if let Some((name, _)) = names.iter().zip(names.iter().skip(1)).find(|(a, b)| a == b) {
            return Err(SketchError::DuplicateName {
                name: String::from(*name),
            });
        }
        self.features.iter().try_for_each(FeatureBaseline::validate)
    }
}

fn validate_name(name: &str) -> Result<(), SketchError> {
    if name.is_empty() || name.len() > MAX_NAME_BYTES {
        return Err(SketchError::Name { bytes: name.len() });
    }
    Ok(())
}
