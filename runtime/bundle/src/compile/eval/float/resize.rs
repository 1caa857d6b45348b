//! `Resize` and `Upsample`: to the nearest element, or by interpolation along each axis.
//!
//! Not here: smoothing before an image shrinks (`antialias`), and cutting a region out
//! (`tf_crop_and_resize`).

use super::super::{Call, Outcome};
use crate::compile::array::{Array, Data};
use crate::compile::eval::layout::argument::{
    array, axes, floats, integers, size, strides, volume,
};
use crate::compile::eval::layout::select::{grid, select};
use crate::compile::graph::Attribute;

/// How many times an axis grows, and its lengths.
struct Axis {
    scale: f64,
    from: usize,
    length: usize,
}

impl Axis {
    fn scaled(from: usize, scale: f32) -> Result<Self, String> {
        let scale = f64::from(scale);
        if !(scale.is_finite() && scale > 0.0) {
            return Err(format!("nothing is scaled by {scale}"));
        }
        let length = (from as f64 * scale).floor() as usize;
        Ok(Self {
            scale,
            from,
            length,
        })
    }

    /// Where element `to` of the result lies among those of the input.
    fn coordinate(&self, call: &Call<'_>, to: usize) -> Result<f64, String> {
        let (place, scale) = (to as f64, self.scale);
        let last = self.from.saturating_sub(1) as f64;
        let half = (place + 0.5) / scale - 0.5;
        Ok(match call.node.text("coordinate_transformation_mode") {
            Some("asymmetric") => place / scale,
            // Before the attribute came, with operator set 11, it was always so.
            None if call.opset < 11 => place / scale,
            Some("pytorch_half_pixel" | "align_corners") if self.length <= 1 => 0.0,
            Some("align_corners") => place * last / (self.length - 1) as f64,
            None | Some("half_pixel" | "pytorch_half_pixel") => half,
            Some("half_pixel_symmetric") => {
                let exact = scale * self.from as f64;
                let adjusted = self.length as f64 / exact;
                half + self.from as f64 / 2.0 * (1.0 - adjusted)
            }
            Some(mode) => return Err(format!("the reference does not know \"{mode}\"")),
        })
    }

    fn nearest(&self, call: &Call<'_>, to: usize) -> Result<usize, String> {
        let at = self.coordinate(call, to)?;
        let rounded = match call.node.text("nearest_mode") {
            Some("floor") => at.floor(),
            None if call.opset < 11 => at.floor(),
            None | Some("round_prefer_floor") => (at - 0.5).ceil(),
            Some("round_prefer_ceil") => (at + 0.5).floor(),
            Some("ceil") => at.ceil(),
            Some(mode) => return Err(format!("the reference does not know \"{mode}\"")),
        };
        Ok(rounded.clamp(0.0, self.from.saturating_sub(1) as f64) as usize)
    }

    /// The elements around, and their weights.
    fn around(&self, call: &Call<'_>, to: usize, cubic: bool) -> Result<Vec<(usize, f64)>, String> {
        let at = self.coordinate(call, to)?;
        let (first, rest) = (at.floor(), at - at.floor());
        let weights = match cubic {
            false => vec![(0.0, 1.0 - rest), (1.0, rest)],
            true => {
                let a = f64::from(call.float_or("cubic_coeff_a", -0.75));
                let near = |x: f64| ((a + 2.0) * x - (a + 3.0)) * x * x + 1.0;
                let far = |x: f64| ((a * x - 5.0 * a) * x + 8.0 * a) * x - 4.0 * a;
                vec![
                    (-1.0, far(1.0 + rest)),
                    (0.0, near(rest)),
                    (1.0, near(1.0 - rest)),
                    (2.0, far(2.0 - rest)),
                ]
            }
        };
        let last = self.from.saturating_sub(1) as f64;
        let inside = |step: f64| (0.0..=last).contains(&(first + step));
        let exclude = call.int_or("exclude_outside", 0) != 0;
        let kept = weights.iter().filter(|(s, _)| !exclude || inside(*s));
        let sum: f64 = if exclude {
            kept.clone().map(|(_, w)| w).sum()
        } else {
            1.0
        };
        let place = |step: f64| (first + step).clamp(0.0, last) as usize;
        Ok(kept.map(|&(s, weight)| (place(s), weight / sum)).collect())
    }
}

fn sampled(call: &Call<'_>, input: &Array, sizes: &[Axis]) -> Outcome {
    let shape: Vec<usize> = sizes.iter().map(|a| a.length).collect();
    volume(&shape)?;
    if input.is_empty() {
        return Err("nothing is near in an empty value".to_owned());
    }
    match call.node.text("mode") {
        None | Some("nearest") => {
            let mut lists = Vec::with_capacity(shape.len());
            for (axis, stride) in sizes.iter().zip(strides(input.shape())) {
                let list = (0..axis.length).map(|to| Ok(axis.nearest(call, to)? * stride));
                lists.push(list.collect::<Result<Vec<_>, String>>()?);
            }
            select(input, shape, &grid(&lists)).map(|a| vec![a])
        }
        Some("linear" | "cubic") if call.int_or("antialias", 0) == 0 => {
            interpolated(call, input, sizes)
        }
        Some(mode) => Err(format!("the reference does not know this mode \"{mode}\"")),
    }
}

/// One axis after the other.
fn interpolated(call: &Call<'_>, input: &Array, sizes: &[Axis]) -> Outcome {
    let cubic = call.node.text("mode") == Some("cubic");
    let mut shape = input.shape().to_vec();
    let mut values: Vec<f64> = floats(input)?.iter().map(|&x| f64::from(x)).collect();
    for (n, axis) in sizes.iter().enumerate() {
        // An axis of the same length is not always the same: corners may be aligned.
        if axis.length == axis.from && axis.scale == 1.0 {
            continue;
        }
        let around = (0..axis.length).map(|to| axis.around(call, to, cubic));
        let around = around.collect::<Result<Vec<_>, _>>()?;
        let inner: usize = shape[n + 1..].iter().product();
        shape[n] = axis.length;
        let mut next = Vec::with_capacity(volume(&shape)?);
        for block in values.chunks_exact((axis.from * inner).max(1)) {
            for weights in &around {
                for column in 0..inner {
                    let part =
                        |&(place, weight): &(usize, f64)| weight * block[place * inner + column];
                    next.push(weights.iter().map(part).sum());
                }
            }
        }
        values = next;
    }
    let values = values.into_iter().map(|x| x as f32).collect();
    array(shape, Data::F32(values)).map(|a| vec![a])
}

fn by_scales(input: &Array, named: &[usize], scales: &[f32]) -> Result<Vec<Axis>, String> {
    if scales.len() != named.len() {
        return Err(format!("{scales:?} does not scale {} axes", named.len()));
    }
    let mut sizes = kept(input);
    for (&axis, &scale) in named.iter().zip(scales) {
        sizes[axis] = Axis::scaled(input.shape()[axis], scale)?;
    }
    Ok(sizes)
}

/// To lengths, or with one scale for all so that none is larger, or none smaller, than told.
fn by_lengths(
    call: &Call<'_>,
    input: &Array,
    named: &[usize],
    lengths: &[i64],
) -> Result<Vec<Axis>, String> {
    if lengths.len() != named.len() {
        return Err(format!("{lengths:?} does not size {} axes", named.len()));
    }
    let mut sizes = kept(input);
    for (&axis, &length) in named.iter().zip(lengths) {
        let (from, length) = (input.shape()[axis], size(length)?);
        let scale = length as f64 / from.max(1) as f64;
        sizes[axis] = Axis {
            scale,
            from,
            length,
        };
    }
    let scales = named.iter().map(|&n| sizes[n].scale);
    let scale = match call.node.text("keep_aspect_ratio_policy") {
        Some("not_larger") => scales.fold(f64::INFINITY, f64::min),
        Some("not_smaller") => scales.fold(0.0, f64::max),
        _ => return Ok(sizes),
    };
    for &axis in named {
        let axis = &mut sizes[axis];
        axis.scale = scale;
        axis.length = (axis.from as f64 * scale).round() as usize;
    }
    Ok(sizes)
}

fn kept(input: &Array) -> Vec<Axis> {
    let same = |&length: &usize| Axis {
        scale: 1.0,
        from: length,
        length,
    };
    input.shape().iter().map(same).collect()
}

/// By scales, or to sizes.
pub(super) fn resize(call: &Call<'_>) -> Outcome {
    let input = call.input(0)?;
    volume(input.shape())?;
    let named = match call.node.ints("axes") {
        Some(named) => axes(named, input.rank())?,
        None => (0..input.rank()).collect(),
    };
    let place = if call.opset < 11 { 1 } else { 2 };
    let sizes = match call.optional(place).filter(|s| !s.is_empty()) {
        Some(scales) => by_scales(input, &named, floats(scales)?)?,
        None => by_lengths(call, input, &named, &integers(call.input(3)?)?)?,
    };
    sampled(call, input, &sizes)
}

/// What `Resize` was before operator set 10.
pub(super) fn upsample(call: &Call<'_>) -> Outcome {
    let input = call.input(0)?;
    volume(input.shape())?;
    let named: Vec<usize> = (0..input.rank()).collect();
    let scales = match (call.optional(1), call.node.attributes.get("scales")) {
        (Some(scales), _) => floats(scales)?.to_vec(),
        (None, Some(Attribute::Floats(scales))) => scales.clone(),
        _ => return Err("it has no scales".to_owned()),
    };
    sampled(call, input, &by_scales(input, &named, &scales)?)
}
