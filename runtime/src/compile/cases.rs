//! Cases: batches cut into single inputs and outputs, joined again, and drawn where there
//! are none.

use drover_bundle::compile::{Array, Data, Graph};
use drover_bundle::{DType, Tensor, TensorError, TensorSpec};

use super::CompileError;

/// Inputs that are drawn when nobody gives any.
pub(super) const DRAWN: usize = 8;
/// What they are drawn from.
const SEED: u64 = 0x5eed;

/// Cuts a batch along its first axis into cases of `spec`'s shape, so that a batch of
/// `[32, 8, 8]` serves a model that takes `[1, 1, 8, 8]`.
pub(super) fn cut(
    batch: &Tensor,
    spec: &TensorSpec,
    what: &'static str,
    tensor: &'static str,
) -> Result<Vec<Tensor>, CompileError> {
    let shape: Vec<usize> = spec.shape.iter().map(|&d| d as usize).collect();
    let item = shape.iter().product::<usize>() * spec.dtype.size();
    let cases = batch.shape().first().copied().unwrap_or(0);
    let fits = cases > 0 && batch.dtype() == spec.dtype && batch.bytes().len() == cases * item;
    let parts = batch.bytes().chunks_exact(item.max(1));
    let parts = parts.map(|b| Tensor::from_bytes(spec.dtype, shape.clone(), b.to_vec()).ok());
    fits.then(|| parts.collect())
        .flatten()
        .ok_or_else(|| CompileError::Form {
            what,
            tensor,
            found: format!("{} {:?}", batch.dtype(), batch.shape()),
            wanted: Box::new(spec.clone()),
        })
}

/// Tensors of one shape as one, with a new first axis.
pub(crate) fn joined(cases: &[Tensor]) -> Result<Tensor, TensorError> {
    let (dtype, one) = cases
        .first()
        .map_or((DType::F32, &[][..]), |c| (c.dtype(), c.shape()));
    let shape = [&[cases.len()], one].concat();
    Tensor::from_bytes(
        dtype,
        shape,
        cases.iter().flat_map(|c| c.bytes()).copied().collect(),
    )
}

/// Takes the first axis apart again.
pub(super) fn parted(batch: &Tensor) -> Option<Vec<Tensor>> {
    let (&cases, shape) = batch.shape().split_first()?;
    let item = batch.bytes().len().checked_div(cases)?.max(1);
    let parts = batch.bytes().chunks_exact(item);
    parts
        .map(|b| Tensor::from_bytes(batch.dtype(), shape.to_vec(), b.to_vec()).ok())
        .collect()
}

/// Inputs that are the same on every machine: normal values for floats, over the range of the
/// quantiser that reads the input if one does; any value of an 8-bit integer; 0 or 1 for wider
/// integers, which are mostly indices or masks.
pub(super) fn drawn(spec: &TensorSpec, canonical: &Graph) -> Vec<Tensor> {
    let (centre, deviation) = quantiser_range(canonical).map_or((0.0, 1.0), |[low, high]| {
        // Three deviations to each side, so that the ends are reached and seldom passed.
        ((low + high) / 2.0, (high - low) / 6.0)
    });
    let shape: Vec<usize> = spec.shape.iter().map(|&d| d as usize).collect();
    let elements: usize = shape.iter().product();
    let mut random = Random(SEED);
    let mut element = |bytes: &mut Vec<u8>| match spec.dtype {
        DType::F32 => {
            bytes.extend((centre + deviation * random.normal()).to_le_bytes());
        }
        DType::I8 | DType::U8 => bytes.push(random.next() as u8),
        DType::I32 => bytes.extend(((random.next() & 1) as i32).to_le_bytes()),
        DType::I64 => bytes.extend(((random.next() & 1) as i64).to_le_bytes()),
    };
    let case = |_| {
        let mut bytes = Vec::with_capacity(elements * spec.dtype.size());
        for _ in 0..elements {
            element(&mut bytes);
        }
        Tensor::from_bytes(spec.dtype, shape.clone(), bytes).ok()
    };
    (0..DRAWN).filter_map(case).collect()
}

/// Least and largest real value of the quantiser that reads the graph's input.
fn quantiser_range(graph: &Graph) -> Option<[f32; 2]> {
    let input = *graph.inputs.first()?;
    let reader = graph.nodes.iter().find(|n| n.input(0) == Some(input))?;
    if !reader.is("QuantizeLinear") {
        return None;
    }
    let scale = graph.constant(reader.input(1)?)?.as_single_f32()?;
    let (zero, element) = match reader.input(2).and_then(|z| graph.constant(z)) {
        Some(zero) => (*zero.to_i32()?.first()?, zero.element()),
        None => (0, Array::new(vec![], Data::U8(vec![0]))?.element()),
    };
    let (low, high) = element.integer_range()?;
    Some([low, high].map(|q| (q - zero) as f32 * scale))
}

/// SplitMix64: small, and the same everywhere.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// The sum of twelve uniform values less six: near enough to normal, and without a
    /// function that processors round differently.
    fn normal(&mut self) -> f32 {
        let uniform = |n: u64| (n >> 40) as f32 / (1u64 << 24) as f32;
        (0..12).map(|_| uniform(self.next())).sum::<f32>() - 6.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(dtype: DType) -> TensorSpec {
        TensorSpec {
            name: "x".into(),
            dtype,
            shape: vec![1, 1000],
        }
    }

    #[test]
    fn what_is_drawn_is_normal_and_the_same_again() {
        let graph = Graph::default();
        let cases = drawn(&spec(DType::F32), &graph);
        assert_eq!(cases.len(), DRAWN);
        assert_eq!(cases, drawn(&spec(DType::F32), &graph));
        let values: Vec<f32> = cases.iter().flat_map(Tensor::to_f32).collect();
        let mean = values.iter().sum::<f32>() / values.len() as f32;
        let square = values.iter().map(|v| v * v).sum::<f32>() / values.len() as f32;
        assert!(
            mean.abs() < 0.05 && (square - 1.0).abs() < 0.05,
            "{mean} {square}"
        );
        let bytes = drawn(&spec(DType::I8), &graph);
        assert!(bytes[0].to_f32().iter().any(|&v| v < -100.0));
    }

    #[test]
    fn batches_come_apart_and_together() {
        let batch = Tensor::from_f32(vec![2, 1000], &[0.5; 2000]).unwrap();
        let cases = cut(&batch, &spec(DType::F32), "inputs", "input").unwrap();
        assert_eq!((cases.len(), cases[0].shape()), (2, &[1, 1000][..]));
        let whole = joined(&cases).unwrap();
        assert_eq!(whole.shape(), [2, 1, 1000]);
        assert_eq!(parted(&whole).unwrap(), cases);
        let error = cut(&batch, &spec(DType::I8), "inputs", "input").unwrap_err();
        assert!(error.to_string().contains("f32 [2, 1000]"), "{error}");
    }
}
