//! A model that may run on this machine: loaded as its manifest says, and proven by its
//! golden vectors on this very CPU.
//!
//! Signatures and digests are not checked here: manifest and files come verified.

use drover_bundle::{GoldenVectors, Manifest, Scoring};

use crate::engine::{Engine, LoadOptions, Model};
use crate::error::{LoadError, SpecMismatch};
use crate::golden;
use crate::pipeline::{Pipeline, PipelineError};

/// A manifest with its model, ready to run.
pub struct LoadedBundle {
    manifest: Manifest,
    model: Box<dyn Model>,
}

impl std::fmt::Debug for LoadedBundle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LoadedBundle")
            .field("name", &self.manifest.name)
            .field("version", &self.manifest.version)
            .finish_non_exhaustive()
    }
}

impl LoadedBundle {
    /// Loads a bundle's model and runs its golden vectors.
    ///
    /// `model` and `golden` are the contents of the files of those roles.
    ///
    /// # Errors
    /// [`LoadError::Engine`] for a bundle validated with another engine,
    /// [`LoadError::Spec`] when graph and manifest differ, [`LoadError::Golden`] when this
    /// engine computes the model wrongly here, or what [`Engine::load`] says.
    pub fn load(
        engine: &dyn Engine,
        manifest: &Manifest,
        model: &[u8],
        golden: &[u8],
    ) -> Result<Self, LoadError> {
        if manifest.requires.engine != engine.name() {
            return Err(LoadError::Engine {
                wanted: manifest.requires.engine.clone(),
                offered: engine.name(),
            });
        }
        let vectors = GoldenVectors::decode(golden)?;
        let mut model = engine.load(model, &LoadOptions::for_manifest(manifest))?;
        compare_specs(manifest, model.as_ref())?;
        let classifier = matches!(manifest.output.scoring, Scoring::Classification { .. });
        golden::check(model.as_mut(), &vectors, manifest.tolerance, classifier)?;
        Ok(Self {
            manifest: manifest.clone(),
            model,
        })
    }

    /// The manifest that the model was loaded by.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// The model, to be run directly.
    pub fn model_mut(&mut self) -> &mut dyn Model {
        self.model.as_mut()
    }

    /// A pipeline around the model.
    ///
    /// # Errors
    /// What [`Pipeline::new`] says.
    pub fn into_pipeline(self) -> Result<Pipeline, PipelineError> {
        Pipeline::new(&self.manifest, self.model)
    }
}

/// Compares the tensors that a manifest declares with those of a model.
pub(crate) fn compare_specs(manifest: &Manifest, model: &dyn Model) -> Result<(), SpecMismatch> {
    let pairs = [
        ("input", &manifest.input.tensor, model.input()),
        ("output", &manifest.output.tensor, model.output()),
    ];
    for (what, declared, found) in pairs {
        if declared != found {
            return Err(SpecMismatch {
                what,
                manifest: Box::new(declared.clone()),
                model: Box::new(found.clone()),
            });
        }
    }
    Ok(())
}
