//! One test of the suite: a model of one node, its inputs and the outputs they should give.

use std::path::{Path, PathBuf};
use std::process::Command;

use prost::Message as _;
use tract_onnx::pb::tensor_shape_proto::{Dimension, dimension::Value as Dim};
use tract_onnx::pb::type_proto::{Tensor as TensorType, Value as Type};
use tract_onnx::pb::{ModelProto, TensorProto, TensorShapeProto, TypeProto};

/// The environment of `scripts/setup test`, and the places in it of what is needed here.
const PYTHON: &str = "../target/venv-models/bin/python";
const FOLDER: &str = "import onnx, os; print(os.path.dirname(onnx.__file__))";

/// A test with its first set of inputs and outputs.
#[derive(Clone)]
pub(crate) struct Case {
    /// The model; its inputs have the shapes of those below.
    pub(crate) model: ModelProto,
    /// What the model is given.
    pub(crate) inputs: Vec<TensorProto>,
    /// What it should make of it.
    pub(crate) outputs: Vec<TensorProto>,
}

/// The folder of all tests, or nothing, and a word why, where they are not installed.
pub(crate) fn folder() -> Option<PathBuf> {
    let missing = |why: &str| {
        println!("skipped: {why}; scripts/setup test installs ONNX's own tests");
        None
    };
    if let Some(folder) = std::env::var_os("DROVER_ONNX_TESTS") {
        return Some(PathBuf::from(folder));
    }
    let python = Path::new(env!("CARGO_MANIFEST_DIR")).join(PYTHON);
    let Ok(said) = Command::new(&python).args(["-c", FOLDER]).output() else {
        return missing(&format!("{} is not there", python.display()));
    };
    let package = PathBuf::from(String::from_utf8_lossy(&said.stdout).trim());
    let folder = package.join("backend/test/data/node");
    if !said.status.success() || !folder.is_dir() {
        return missing("the Python package onnx holds no tests");
    }
    Some(folder)
}

/// Names of all tests in `folder`, sorted.
pub(crate) fn names(folder: &Path) -> Vec<String> {
    let all = std::fs::read_dir(folder).unwrap();
    let name = |entry: std::io::Result<std::fs::DirEntry>| {
        let name = entry.unwrap().file_name().into_string().unwrap();
        name.strip_prefix("test_").map(str::to_owned)
    };
    let mut names: Vec<String> = all.filter_map(name).collect();
    names.sort_unstable();
    names
}

impl Case {
    /// Reads a test, or says why it is none for tensors alone.
    pub(crate) fn read(folder: &Path, name: &str) -> Result<Self, String> {
        let folder = folder.join(format!("test_{name}"));
        let model = std::fs::read(folder.join("model.onnx")).map_err(|e| e.to_string())?;
        let mut model = ModelProto::decode(&*model).map_err(|e| e.to_string())?;
        let graph = model.graph.as_mut().ok_or("no graph")?;
        let set = folder.join("test_data_set_0");
        let mut inputs = Vec::new();
        for (place, input) in graph.input.iter_mut().enumerate() {
            only_tensor(input.r#type.as_ref())?;
            let tensor = read_tensor(&set.join(format!("input_{place}.pb")))?;
            // Some declare open axes, for which a compiled model has no room.
            input.r#type = Some(kind(&tensor));
            inputs.push(tensor);
        }
        let mut outputs = Vec::new();
        for (place, output) in graph.output.iter().enumerate() {
            only_tensor(output.r#type.as_ref())?;
            outputs.push(read_tensor(&set.join(format!("output_{place}.pb")))?);
        }
        Ok(Self {
            model,
            inputs,
            outputs,
        })
    }

    /// The same with all inputs but the first as constants of the model, where exporters put
    /// weights, scales, axes and shapes.
    pub(crate) fn with_constants(self) -> Self {
        self.with_inputs(1)
    }

    /// The same with all inputs as constants of the model.
    pub(crate) fn all_constant(self) -> Self {
        self.with_inputs(0)
    }

    fn with_inputs(mut self, kept: usize) -> Self {
        if let Some(graph) = self.model.graph.as_mut() {
            let later = self.inputs.len().min(kept)..;
            let inputs = graph.input.drain(later.clone());
            for (input, mut tensor) in inputs.zip(self.inputs.drain(later)) {
                tensor.name = input.name;
                graph.initializer.push(tensor);
            }
        }
        self
    }

    /// The same with the output `place` alone.
    pub(crate) fn with_output(mut self, place: usize) -> Self {
        if let Some(graph) = self.model.graph.as_mut() {
            graph.output = vec![graph.output.swap_remove(place)];
        }
        self.outputs = vec![self.outputs.swap_remove(place)];
        self
    }

    /// The model's file.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        self.model.encode_to_vec()
    }
}

fn only_tensor(kind: Option<&TypeProto>) -> Result<(), String> {
    match kind.and_then(|k| k.value.as_ref()) {
        Some(Type::TensorType(_)) => Ok(()),
        _ => Err("it has a sequence or an optional value".to_owned()),
    }
}

fn read_tensor(path: &Path) -> Result<TensorProto, String> {
    let bytes = std::fs::read(path).map_err(|e| format!("{}: {e}", path.display()))?;
    TensorProto::decode(&*bytes).map_err(|e| e.to_string())
}

fn kind(tensor: &TensorProto) -> TypeProto {
    let size = |size: &i64| Dimension {
        denotation: String::new(),
        value: Some(Dim::DimValue(*size)),
    };
    let shape = TensorShapeProto {
        dim: tensor.dims.iter().map(size).collect(),
    };
    TypeProto {
        denotation: String::new(),
        value: Some(Type::TensorType(TensorType {
            elem_type: tensor.data_type,
            shape: Some(shape),
        })),
    }
}
