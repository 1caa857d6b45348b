//! QuantizeLinear, DequantizeLinear and DynamicQuantizeLinear.
//!
//! Parameters are one for all, one for each index of an axis, or one for each block along an
//! axis.

use super::parameter::{Parameters, integers, saturate, usable};
use super::{CONTRIB, Call, Outcome};
use crate::compile::array::{Array, Data, ElementType};
use crate::compile::eval::layout::argument;

/// `y = saturate(round(x / scale) + zero)`.
pub(super) fn quantise(call: &Call<'_>) -> Outcome {
    let x = call.input(0)?;
    let scale = call.input(1)?;
    let parameters = Parameters::of(call, 1, 2)?;
    let wanted = call.node.int("output_dtype").filter(|code| *code != 0);
    let element = match (call.optional(2), wanted) {
        (Some(zero), _) => zero.element(),
        (None, Some(code)) => ElementType(i32::try_from(code).unwrap_or_default()),
        (None, None) => ElementType::U8,
    };
    let range = element.integer_range();
    let range = range.ok_or_else(|| format!("nothing is quantised to {element}"))?;
    parameters.scale.iter().try_for_each(|s| usable(*s))?;
    let reals = reals(x)?;
    let place = places(call, x, scale, parameters.scale.len())?;
    let values: Vec<i32> = reals
        .iter()
        .enumerate()
        .map(|(n, x)| {
            let p = place.of(n);
            saturate(x / parameters.scale[p], parameters.zero[p], range)
        })
        .collect();
    let array = Array::integers(element, x.shape().to_vec(), &values);
    Ok(vec![array.ok_or("the result does not fit its type")?])
}

/// `y = (x - zero) * scale`.
pub(super) fn dequantise(call: &Call<'_>) -> Outcome {
    let x = call.input(0)?;
    let scale = call.input(1)?;
    let parameters = Parameters::of(call, 1, 2)?;
    let q = integers(x)?;
    let place = places(call, x, scale, parameters.scale.len())?;
    let values = q
        .iter()
        .enumerate()
        .map(|(n, q)| {
            let p = place.of(n);
            (i64::from(*q) - i64::from(parameters.zero[p])) as f32 * parameters.scale[p]
        })
        .collect();
    let array = Array::new(x.shape().to_vec(), Data::F32(values));
    Ok(vec![array.ok_or("the result does not fit its shape")?])
}

/// Quantises to the least range of 8 bits that holds all elements and zero.
pub(super) fn dynamic(call: &Call<'_>) -> Outcome {
    let x = call.input(0)?;
    let reals = x.as_f32().ok_or("only f32 is quantised")?;
    let (values, scale, zero) = dynamically(reals);
    let y = Array::new(x.shape().to_vec(), Data::U8(values));
    let zero = Array::new(Vec::new(), Data::U8(vec![zero]));
    match (y, zero) {
        (Some(y), Some(zero)) => Ok(vec![y, Array::scalar(scale), zero]),
        _ => Err("the result does not fit its shape".to_owned()),
    }
}

/// The quantised values, their scale and their zero point.
pub(super) fn dynamically(reals: &[f32]) -> (Vec<u8>, f32, u8) {
    let least = reals.iter().copied().fold(0.0, f32::min);
    let most = reals.iter().copied().fold(0.0, f32::max);
    // onnxruntime's answer to the division by zero that ONNX leaves open.
    let scale = match most == least {
        true => 1.0,
        false => (most - least) / 255.0,
    };
    // A cast to u8 saturates.
    let zero = (0.0 - least / scale).round_ties_even() as u8;
    let value = |x: &f32| saturate(x / scale, i32::from(zero), (0, 255)) as u8;
    (reals.iter().map(value).collect(), scale, zero)
}

fn reals(x: &Array) -> Result<Vec<f32>, String> {
    match x.as_f32() {
        Some(reals) => Ok(reals.to_vec()),
        None => {
            let wide = x.to_f64();
            let wide = wide.ok_or_else(|| format!("{} is not quantised", x.element()))?;
            Ok(wide.into_iter().map(|v| v as f32).collect())
        }
    }
}

/// Which parameter belongs to which element.
struct Places {
    /// Elements of one index of the axis.
    inner: usize,
    /// Length of the axis.
    length: usize,
    /// Indices of the axis that share a parameter.
    block: usize,
    /// Parameters along the axis.
    count: usize,
    /// Whether parameters differ off the axis too.
    blocked: bool,
}

impl Places {
    fn of(&self, element: usize) -> usize {
        let along = (element / self.inner % self.length / self.block).min(self.count - 1);
        if !self.blocked {
            return along;
        }
        let outer = element / (self.inner * self.length);
        (outer * self.count + along) * self.inner + element % self.inner
    }
}

fn places(call: &Call<'_>, x: &Array, scale: &Array, parameters: usize) -> Result<Places, String> {
    if parameters == 1 || x.is_empty() {
        return Ok(Places {
            inner: 1,
            length: 1,
            block: 1,
            count: 1,
            blocked: false,
        });
    }
    let axis = call.node.int("axis");
    if axis.is_none() && call.node.domain == CONTRIB {
        return Err("many scales need an axis".to_owned());
    }
    let axis = argument::axis(axis.unwrap_or(1), x.rank())?;
    let shape = x.shape();
    let inner = shape[axis + 1..].iter().product();
    let length = shape[axis];
    let block = call.node.int("block_size").unwrap_or(0);
    let block = usize::try_from(block).map_err(|_| "a block is negative")?;
    if block == 0 {
        return match parameters == length {
            true => Ok(Places {
                inner,
                length,
                block: 1,
                count: length,
                blocked: false,
            }),
            false => Err(format!("{parameters} scales do not fit {length} channels")),
        };
    }
    let mut wanted = shape.to_vec();
    wanted[axis] = length.div_ceil(block);
    if scale.shape() != wanted || scale.len() != parameters {
        return Err(format!("scales of blocks have shape {wanted:?}"));
    }
    Ok(Places {
        inner,
        length,
        block,
        count: wanted[axis],
        blocked: true,
    })
}
