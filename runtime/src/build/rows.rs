//! Rows of a CSV file in the order of a model's channels, read as they are asked for.

use std::fs::File;
use std::io::{self, BufRead, Read};
use std::path::{Path, PathBuf};

use drover_bundle::InputSpec;

use super::BuildError;
use crate::error::BoxError;
use crate::pipeline::ChannelMap;

/// Rows until the first that is wrong.
pub(super) struct Rows {
    path: PathBuf,
    channels: Vec<String>,
    columns: ChannelMap,
    reader: csv::Reader<File>,
    record: csv::StringRecord,
    /// Why the rows ended early.
    pub(super) failed: Option<BuildError>,
}

impl Rows {
    pub(super) fn open(path: &Path, input: &InputSpec) -> Result<Self, BuildError> {
        let unreadable = |source| BuildError::Read {
            path: path.to_owned(),
            source,
        };
        let unusable = |source: BoxError| BuildError::Baseline {
            path: path.to_owned(),
            source,
        };
        let mut head = String::new();
        let file = File::open(path).map_err(unreadable)?;
        // Of a first line that is longer or not text, the reader will say what is wrong.
        let _ = io::BufReader::new(file.take(64 * 1024)).read_line(&mut head);
        let delimiter = match head.matches(';').count() > head.matches(',').count() {
            true => b';',
            false => b',',
        };
        let mut reader = csv::ReaderBuilder::new()
            .delimiter(delimiter)
            .from_path(path)
            .map_err(|e| unusable(e.into()))?;
        let header = reader.headers().map_err(|e| unusable(e.into()))?;
        let header: Vec<&str> = header.iter().collect();
        let columns = ChannelMap::from_header(&header, input).map_err(|e| unusable(e.into()))?;
        Ok(Self {
            path: path.to_owned(),
            channels: input.channels.iter().map(|c| c.name.clone()).collect(),
            columns,
            reader,
            record: csv::StringRecord::new(),
            failed: None,
        })
    }

    fn read(&mut self) -> Result<Option<Vec<f32>>, BuildError> {
        let more = self.reader.read_record(&mut self.record);
        let more = more.map_err(|e| BuildError::Baseline {
            path: self.path.clone(),
            source: e.into(),
        })?;
        if !more {
            return Ok(None);
        }
        let mut row = Vec::with_capacity(self.channels.len());
        for (&index, channel) in self.columns.indices().iter().zip(&self.channels) {
            let text = self.record.get(index).unwrap_or("").trim();
            let value = match text {
                "" => Ok(f32::NAN),
                text => text.parse(),
            };
            row.push(value.map_err(|_| BuildError::Number {
                path: self.path.clone(),
                line: self.record.position().map_or(0, csv::Position::line),
                column: channel.clone(),
                text: text.to_owned(),
            })?);
        }
        Ok(Some(row))
    }
}

impl Iterator for Rows {
    type Item = Vec<f32>;

    fn next(&mut self) -> Option<Vec<f32>> {
        self.read().unwrap_or_else(|error| {
            self.failed = Some(error);
            None
        })
    }
}
