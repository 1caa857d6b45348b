//! The rules that a manifest obeys: checked before it is signed and after it is verified, so
//! that nothing later needs to ask whether a field makes sense.

use drover_trust::mutation::{Check, is_disabled};

use super::{
    Component, Decision, FileRole, MAX_COMPONENTS, MAX_FILES, MAX_TOTAL_BYTES, Manifest,
    ManifestError, Normalisation, Quantisation, Scoring, TensorSpec, Tolerance, Validated,
    is_file_name, is_model_name,
};
use crate::tensor::DType;

impl Manifest {
    /// Every rule that a manifest obeys.
    ///
    /// # Errors
    /// [`ManifestError::Field`] for the first rule that is broken.
    pub fn check(&self) -> Result<(), ManifestError> {
        if !is_model_name(&self.name) {
            return refuse("name", "use 1 to 64 of a-z, 0-9 and '-'");
        }
        if self.version.is_empty() || self.version.len() > 64 || !self.version.is_ascii() {
            return refuse("version", "use 1 to 64 ASCII characters");
        }
        if self.counter == 0 {
            return refuse("counter", "counters start at 1");
        }
        if self.description.len() > 1024 {
            return refuse("description", "at most 1024 bytes");
        }
        self.check_files()?;
        self.check_input()?;
        self.check_output()?;
        self.check_origin()?;
        self.check_numerics()?;
        match self.tolerance {
            Tolerance::RangeFraction(f) if !(f.is_finite() && (0.0..1.0).contains(&f)) => {
                refuse("tolerance", "a range fraction lies in 0..1")
            }
            _ => Ok(()),
        }
    }

    fn check_files(&self) -> Result<(), ManifestError> {
        if self.files.len() > MAX_FILES {
            return refuse("files", format!("more than {MAX_FILES} files"));
        }
        for (i, file) in self.files.iter().enumerate() {
            if !is_file_name(&file.name) && !is_disabled(Check::FileNames) {
                return refuse("files", format!("{:?} is not a plain file name", file.name));
            }
            if self.files.iter().take(i).any(|f| f.name == file.name) {
                return refuse("files", format!("{} is listed twice", file.name));
            }
        }
        let count = |role| self.files.iter().filter(|f| f.role == role).count();
        if count(FileRole::Model) != 1 || count(FileRole::Golden) != 1 {
            return refuse("files", "exactly one model and one set of golden vectors");
        }
        if count(FileRole::Baseline) > 1 {
            return refuse("files", "at most one baseline");
        }
        let total = self
            .files
            .iter()
            .try_fold(0u64, |sum, f| sum.checked_add(f.size))
            .filter(|&t| t <= MAX_TOTAL_BYTES);
        let Some(total) = total else {
            return refuse("files", format!("more than {MAX_TOTAL_BYTES} bytes in all"));
        };
        let size = self.chunking.chunk_bytes;
        if size == 0 || size as usize > drover_wire::limits::MAX_CHUNK_BYTES {
            return refuse("chunking", "chunk size out of bounds");
        }
        if total.div_ceil(u64::from(size)) != self.chunking.digests.len() as u64 {
            return refuse("chunking", "number of digests does not match the files");
        }
        Ok(())
    }

    fn check_input(&self) -> Result<(), ManifestError> {
        let input = &self.input;
        check_tensor("input.tensor", &input.tensor)?;
        if input.channels.is_empty() || input.channels.len() > 1024 {
            return refuse("input.channels", "between 1 and 1024 channels");
        }
        if input.window.rows == 0 || input.window.stride == 0 {
            return refuse("input.window", "rows and stride are at least 1");
        }
        let elements = u64::from(input.window.rows) * input.channels.len() as u64;
        if elements != elements_of(&input.tensor) {
            return refuse(
                "input.window",
                format!(
                    "{} rows of {} channels do not fill a tensor of shape {:?}",
                    input.window.rows,
                    input.channels.len(),
                    input.tensor.shape
                ),
            );
        }
        match &input.normalisation {
            Normalisation::None => {}
            Normalisation::ZScore { mean, std, clip } => {
                if mean.len() != input.channels.len() || std.len() != input.channels.len() {
                    return refuse("input.normalisation", "one mean and std per channel");
                }
                if !mean.iter().all(|m| m.is_finite())
                    || !std.iter().all(|s| s.is_finite() && *s > 0.0)
                    || !positive(*clip)
                {
                    return refuse("input.normalisation", "std and clip must be above zero");
                }
            }
            Normalisation::CalibratedZScore {
                rows,
                epsilon,
                clip,
            } => {
                if *rows < 2 || *rows > 1_000_000 || !positive(*epsilon) || !positive(*clip) {
                    return refuse(
                        "input.normalisation",
                        "2 to 1000000 rows, epsilon and clip above zero",
                    );
                }
            }
        }
        check_quantisation("input.quantisation", &input.tensor, input.quantisation)
    }

    fn check_output(&self) -> Result<(), ManifestError> {
        let output = &self.output;
        check_tensor("output.tensor", &output.tensor)?;
        check_quantisation("output.quantisation", &output.tensor, output.quantisation)?;
        let elements = elements_of(&output.tensor);
        match &output.scoring {
            Scoring::First => {}
            Scoring::ReconstructionMse => {
                if elements != elements_of(&self.input.tensor) {
                    return refuse("output.scoring", "a reconstruction has the input's size");
                }
            }
            Scoring::Classification { labels, .. } => {
                if labels.len() as u64 != elements {
                    return refuse("output.scoring", "one label per output element");
                }
            }
        }
        let median = match output.decision {
            Decision::None => return Ok(()),
            Decision::Threshold {
                threshold,
                median_of,
            } => {
                if !threshold.is_finite() {
                    return refuse("output.decision", "the threshold is not finite");
                }
                median_of
            }
            Decision::CalibratedQuantile {
                windows,
                quantile,
                factor,
                median_of,
            } => {
                if !(2..=1_000_000).contains(&windows)
                    || !(0.0..=1.0).contains(&quantile)
                    || !factor.is_finite()
                {
                    return refuse(
                        "output.decision",
                        "2 to 1000000 windows, quantile in 0..=1, finite factor",
                    );
                }
                median_of
            }
        };
        if median % 2 == 0 || median > 1001 {
            return refuse("output.decision", "median_of is odd and at most 1001");
        }
        Ok(())
    }

    fn check_numerics(&self) -> Result<(), ManifestError> {
        let Some(validated) = &self.numerics else {
            return Ok(());
        };
        let compiler = &validated.compiler;
        if compiler.is_empty() || compiler.len() > 128 || compiler.chars().any(char::is_control) {
            return refuse(
                "numerics",
                "name the compiler in at most 128 bytes of one line",
            );
        }
        if validated.cases == 0 {
            return refuse("numerics", "nothing is validated without a case");
        }
        match validated.is_sound() {
            true => Ok(()),
            false => refuse(
                "numerics",
                "differences are finite and not negative, a step is above zero, a share at most 1",
            ),
        }
    }

    fn check_origin(&self) -> Result<(), ManifestError> {
        let lineage = &self.lineage;
        for text in [
            &lineage.training_run,
            &lineage.data_version,
            &lineage.commit,
            &lineage.approved_by,
        ] {
            if text.len() > 256 || text.chars().any(char::is_control) {
                return refuse("lineage", "at most 256 bytes of one line each");
            }
        }
        if self.components.len() > MAX_COMPONENTS {
            return refuse("components", format!("more than {MAX_COMPONENTS}"));
        }
        for (i, component) in self.components.iter().enumerate() {
            check_component(component)?;
            let same = |c: &Component| c.name == component.name && c.version == component.version;
            if self.components.iter().take(i).any(same) {
                let (name, version) = (&component.name, &component.version);
                return refuse("components", format!("{name} {version} is listed twice"));
            }
        }
        Ok(())
    }
}

impl Validated {
    fn is_sound(&self) -> bool {
        let not_negative = |x: f32| x.is_finite() && x >= 0.0;
        not_negative(self.max_abs)
            && not_negative(self.mean_abs)
            && not_negative(self.range)
            && self.step.is_none_or(positive)
            && (0.0..=1.0).contains(&self.argmax)
    }
}

fn check_component(component: &Component) -> Result<(), ManifestError> {
    let Component {
        name,
        version,
        purl,
    } = component;
    let visible =
        |text: &str, most| text.len() <= most && text.bytes().all(|b| b.is_ascii_graphic());
    // The operators stand between name and version in what an operator asks for.
    if name.is_empty() || !visible(name, 128) || name.contains(['<', '=', '>']) {
        return refuse(
            "components",
            format!(
                "{name:?} is no name: use 1 to 128 visible ASCII characters without <, = and >"
            ),
        );
    }
    if version.is_empty() || !visible(version, 64) {
        return refuse(
            "components",
            format!("{name} needs a version of 1 to 64 visible ASCII characters"),
        );
    }
    if !(purl.is_empty() || purl.starts_with("pkg:") && visible(purl, 512)) {
        return refuse(
            "components",
            format!("{name} has {purl:?}, which is no package URL (pkg:type/name@version)"),
        );
    }
    Ok(())
}

fn refuse(field: &'static str, why: impl Into<String>) -> Result<(), ManifestError> {
    Err(ManifestError::Field {
        field,
        why: why.into(),
    })
}

fn positive(x: f32) -> bool {
    x.is_finite() && x > 0.0
}

fn elements_of(tensor: &TensorSpec) -> u64 {
    tensor
        .shape
        .iter()
        .fold(1u64, |n, &d| n.saturating_mul(u64::from(d)))
}

fn check_tensor(field: &'static str, tensor: &TensorSpec) -> Result<(), ManifestError> {
    let elements = elements_of(tensor);
    if tensor.shape.len() > 8 || elements == 0 || elements > 1 << 26 {
        return refuse(field, format!("shape {:?} is out of bounds", tensor.shape));
    }
    Ok(())
}

fn check_quantisation(
    field: &'static str,
    tensor: &TensorSpec,
    quantisation: Option<Quantisation>,
) -> Result<(), ManifestError> {
    match (tensor.dtype, quantisation) {
        (DType::F32, None) => Ok(()),
        (DType::F32, Some(_)) => refuse(field, "float tensors have none"),
        (_, None) => refuse(field, "integer tensors need scale and zero point"),
        (_, Some(q)) if !positive(q.scale) => refuse(field, "the scale must be above zero"),
        (_, Some(_)) => Ok(()),
    }
}
