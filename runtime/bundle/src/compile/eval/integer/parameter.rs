//! Scales and zero points, checked against what they belong to.
//!
//! Also the two conversions everything here ends in, [`Parameters::real`] and [`saturate`].

use super::Call;
use crate::compile::array::{Array, ElementType};

/// How integers stand for real numbers: one pair of scale and zero point, or many.
pub(super) struct Parameters {
    pub(super) scale: Vec<f32>,
    /// As many as scales.
    pub(super) zero: Vec<i32>,
}

impl Parameters {
    /// Takes a scale and an optional zero point, of which either may be given once for all.
    pub(super) fn new(scale: &Array, zero: Option<&Array>) -> Result<Self, String> {
        let scale = scale.as_f32().ok_or("a scale is not of f32")?.to_vec();
        if scale.is_empty() || !scale.iter().all(|s| s.is_finite()) {
            return Err("a scale is empty or not finite".to_owned());
        }
        let zero = match zero {
            Some(zero) => integers(zero)?,
            None => vec![0],
        };
        let count = scale.len().max(zero.len());
        Ok(Self {
            scale: stretched(scale, count)?,
            zero: stretched(zero, count)?,
        })
    }

    /// The parameters at inputs `scale` and `zero`.
    pub(super) fn of(call: &Call<'_>, scale: usize, zero: usize) -> Result<Self, String> {
        Self::new(call.input(scale)?, call.optional(zero))
    }

    /// The only scale and zero point; an error where there are many.
    pub(super) fn single(&self) -> Result<Single, String> {
        match (self.scale.as_slice(), self.zero.as_slice()) {
            ([scale], [zero]) => Ok(Single {
                scale: *scale,
                zero: *zero,
            }),
            _ => Err("only one scale and zero point is allowed here".to_owned()),
        }
    }
}

/// One scale and zero point.
#[derive(Clone, Copy)]
pub(super) struct Single {
    pub(super) scale: f32,
    pub(super) zero: i32,
}

impl Single {
    pub(super) fn of(call: &Call<'_>, scale: usize, zero: usize) -> Result<Self, String> {
        Parameters::of(call, scale, zero)?.single()
    }

    pub(super) fn real(self, q: i32) -> f32 {
        (i64::from(q) - i64::from(self.zero)) as f32 * self.scale
    }
}

/// What results are quantised to.
#[derive(Clone, Copy)]
pub(super) struct Target {
    pub(super) element: ElementType,
    pub(super) scale: f32,
    pub(super) zero: i32,
    range: (i32, i32),
}

impl Target {
    /// Scale and zero point at these inputs; without a zero point the type is `element`.
    pub(super) fn of(
        call: &Call<'_>,
        scale: usize,
        zero: usize,
        element: ElementType,
    ) -> Result<Self, String> {
        let single = Single::of(call, scale, zero)?;
        let element = call.optional(zero).map_or(element, Array::element);
        let range = element.integer_range();
        let range = range.ok_or_else(|| format!("nothing is quantised to {element}"))?;
        usable(single.scale)?;
        Ok(Self {
            element,
            scale: single.scale,
            zero: single.zero,
            range,
        })
    }

    /// Quantises a real number.
    pub(super) fn quantised(self, real: f32) -> i32 {
        self.scaled(real / self.scale)
    }

    /// Quantises a number of steps.
    pub(super) fn scaled(self, steps: f32) -> i32 {
        saturate(steps, self.zero, self.range)
    }

    /// Rounds a number of steps that has the zero point in it.
    pub(super) fn stepped(self, steps: f32) -> i32 {
        saturate(steps, 0, self.range)
    }

    /// Quantised values as an array.
    pub(super) fn array(self, shape: Vec<usize>, values: &[i32]) -> Result<Vec<Array>, String> {
        let array = Array::integers(self.element, shape, values);
        Ok(vec![array.ok_or("the result does not fit its shape")?])
    }
}

/// Rounds half to even, adds the zero point and keeps within the range. NaN becomes the zero
/// point.
pub(super) fn saturate(steps: f32, zero: i32, range: (i32, i32)) -> i32 {
    // A cast from a float saturates, so no value is outside of what i64 can add.
    let rounded = i64::from(steps.round_ties_even() as i32) + i64::from(zero);
    rounded.clamp(i64::from(range.0), i64::from(range.1)) as i32
}

/// Refuses a scale that nothing can be divided by.
pub(super) fn usable(scale: f32) -> Result<(), String> {
    match scale.is_finite() && scale > 0.0 {
        true => Ok(()),
        false => Err(format!("a scale of {scale} divides nothing")),
    }
}

/// The elements of an integer array of up to 32 bits.
pub(super) fn integers(array: &Array) -> Result<Vec<i32>, String> {
    let element = array.element();
    array
        .to_i32()
        .ok_or_else(|| format!("{element} is no type of quantised values"))
}

/// One value as often as there are channels, or one for each.
pub(super) fn stretched<T: Copy>(values: Vec<T>, count: usize) -> Result<Vec<T>, String> {
    match values.as_slice() {
        [one] => Ok(vec![*one; count]),
        _ if values.len() == count => Ok(values),
        _ => Err(format!(
            "{} parameters do not fit {count} channels",
            values.len()
        )),
    }
}
