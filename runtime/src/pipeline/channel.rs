//! Which column of a source is which channel of a model.
//!
//! Names must be equal, apart from spaces around them and a byte order mark before the
//! first: a guess would feed a model with the wrong sensor and nobody would know.

use drover_bundle::InputSpec;

use super::error::PipelineError;

/// Picks a model's channels out of the fields of a source, in the model's order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChannelMap {
    indices: Vec<usize>,
}

impl ChannelMap {
    /// Finds every channel of `input` in the header of a source.
    ///
    /// # Errors
    /// [`PipelineError::MissingChannels`] lists all that are missing and what there is,
    /// [`PipelineError::AmbiguousChannel`] when a name occurs twice.
    pub fn from_header(header: &[&str], input: &InputSpec) -> Result<Self, PipelineError> {
        let clean = |name: &str| name.trim_start_matches('\u{feff}').trim().to_owned();
        let columns: Vec<String> = header.iter().map(|name| clean(name)).collect();
        let mut indices = Vec::with_capacity(input.channels.len());
        let mut missing = Vec::new();
        for channel in &input.channels {
            let mut found = columns
                .iter()
                .enumerate()
                .filter(|(_, c)| **c == channel.name);
            match (found.next(), found.next()) {
                (Some((index, _)), None) => indices.push(index),
                (None, _) => missing.push(channel.name.clone()),
                (Some(_), Some(_)) => {
                    return Err(PipelineError::AmbiguousChannel {
                        channel: channel.name.clone(),
                    });
                }
            }
        }
        if !missing.is_empty() {
            return Err(PipelineError::MissingChannels {
                missing,
                present: columns,
            });
        }
        Ok(Self { indices })
    }

    /// Index of each channel in the fields of the source.
    pub fn indices(&self) -> &[usize] {
        &self.indices
    }

    /// Writes the channels of one record into `row`. Fields that the record lacks are NaN,
    /// which the pipeline takes as missing.
    pub fn pick(&self, fields: &[f32], row: &mut Vec<f32>) {
        row.clear();
        let value = |&index: &usize| fields.get(index).copied().unwrap_or(f32::NAN);
        row.extend(self.indices.iter().map(value));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pipeline::tests::input_spec;

    #[test]
    fn channels_are_picked_in_the_order_of_the_model() {
        let spec = input_spec(&["flow", "pressure"], 1, 1);
        let header = ["\u{feff}time", " pressure", "flow ", "label"];
        let map = ChannelMap::from_header(&header, &spec).unwrap();
        assert_eq!(map.indices(), [2, 1]);
        let mut row = Vec::new();
        map.pick(&[0.0, 1.5, 2.5, 1.0], &mut row);
        assert_eq!(row, [2.5, 1.5]);
        map.pick(&[0.0, 1.5], &mut row);
        assert!(row[0].is_nan() && row[1] == 1.5);
    }

    #[test]
    fn one_message_names_all_that_is_missing_and_what_there_is() {
        let spec = input_spec(&["flow", "pressure", "current"], 1, 1);
        let error = ChannelMap::from_header(&["time", "pressure"], &spec).unwrap_err();
        assert_eq!(
            error.to_string(),
            "source has no column for \"flow\", \"current\"; it has \"time\", \"pressure\""
        );
        let error = ChannelMap::from_header(&["flow", "flow"], &spec).unwrap_err();
        assert!(
            error
                .to_string()
                .contains("more than one column named \"flow\"")
        );
    }
}
