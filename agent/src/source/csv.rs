//! Replays a recording: a CSV file whose header names the columns.
//!
//! A column is numeric when its first value is a number or empty; the others (time stamps,
//! remarks) are no columns of the source. A later value that is no number ends the replay
//! with its line, because a recording that is silently mended gives other results than the
//! one that was looked at. Empty fields are missing readings.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use csv::{Reader, ReaderBuilder, StringRecord, Trim};

use super::{Columns, Feed, Row, Sender};
use crate::AgentError;
use crate::config::{self, Speed};

/// A recording that is open at its first row.
pub struct Replay {
    path: PathBuf,
    delimiter: u8,
    columns: Columns,
    /// Position of each column in the file.
    positions: Vec<usize>,
    time_position: Option<usize>,
    reader: Reader<File>,
    first: Option<StringRecord>,
    period: Option<Duration>,
    repeat: bool,
}

impl Replay {
    /// Opens the file and reads its header and first row.
    ///
    /// # Errors
    /// [`AgentError::File`] when there is no such file, [`AgentError::Csv`] when it has no
    /// header, no row or no numeric column.
    pub fn open(settings: &config::Source) -> Result<Self, AgentError> {
        let path = settings.path.clone();
        let delimiter = match settings.delimiter.as_bytes() {
            [delimiter] => *delimiter,
            _ => guess_delimiter(&path)?,
        };
        let mut reader = open(&path, delimiter)?;
        let header = reader
            .headers()
            .map_err(|error| unreadable(&path, &error))?
            .clone();
        let first = next(&mut reader, &path)?;
        let Some(sample) = &first else {
            return Err(refuse(&path, 1, "there is no row below the header"));
        };
        let is_numeric = |at: &usize| {
            let field = sample.get(*at).unwrap_or_default();
            field.is_empty() || field.parse::<f32>().is_ok()
        };
        let time_position = match settings.time_column.as_str() {
            "" => None,
            name => Some(header.iter().position(|h| h == name).ok_or_else(|| {
                let there: Vec<&str> = header.iter().collect();
                refuse(
                    &path,
                    1,
                    format!(
                        "there is no column {name:?} (source.time_column); there are {}",
                        there.join(", ")
                    ),
                )
            })?),
        };
        let positions: Vec<usize> = (0..header.len()).filter(is_numeric).collect();
        if positions.is_empty() {
            return Err(refuse(
                &path,
                2,
                format!(
                    "no field is a number; the fields were split at {:?}, set source.delimiter \
                     if that is wrong",
                    char::from(delimiter)
                ),
            ));
        }
        let names = positions.iter().filter_map(|&at| header.get(at));
        Ok(Self {
            columns: names.map(str::to_owned).collect(),
            positions,
            time_position,
            reader,
            first,
            delimiter,
            path,
            period: match settings.speed {
                Speed::Max => None,
                Speed::Factor(factor) => {
                    Duration::try_from_secs_f64(1.0 / (settings.rate_hz * factor)).ok()
                }
            },
            repeat: settings.repeat,
        })
    }

    /// Names of the numeric columns.
    pub fn columns(&self) -> &Columns {
        &self.columns
    }

    /// Sends all rows at the settings' pace, until the end or until nobody receives them.
    pub fn run(mut self, out: &Sender) {
        let mut rows = 0;
        let started = Instant::now();
        let last = loop {
            match self.next_row() {
                Ok(Some(row)) => {
                    if let Some(period) = self.period {
                        // Against the start, so that a slow row does not shift all that follow.
                        let due = period.mul_f64(rows as f64);
                        std::thread::sleep(due.saturating_sub(started.elapsed()));
                    }
                    if out.blocking_send(Feed::Row(row)).is_err() {
                        return;
                    }
                    rows += 1;
                }
                Ok(None) => break Feed::Ended { rows },
                Err(error) => break Feed::Failed(Arc::new(error)),
            }
        };
        // Nobody receives it only when the agent is going down.
        let _ = out.blocking_send(last);
    }

    /// The next row, from the start again at the end when that is asked for.
    ///
    /// # Errors
    /// [`AgentError::Csv`] with the line of a row that does not parse.
    pub fn next_row(&mut self) -> Result<Option<Row>, AgentError> {
        let record = match self.first.take() {
            Some(record) => Some(record),
            None => next(&mut self.reader, &self.path)?,
        };
        let record = match record {
            None if self.repeat => {
                self.reader = open(&self.path, self.delimiter)?;
                next(&mut self.reader, &self.path)?
            }
            record => record,
        };
        record.map(|record| self.parse(&record)).transpose()
    }

    fn parse(&self, record: &StringRecord) -> Result<Row, AgentError> {
        let parse = |(index, &at): (usize, &usize)| {
            let field = record.get(at).unwrap_or_default();
            if field.is_empty() {
                return Ok(f32::NAN);
            }
            field.parse().map_err(|_| {
                let name = self.columns.get(index).map_or("", String::as_str);
                let line = record.position().map_or(0, csv::Position::line);
                let why = format!("column {name:?} holds {field:?}, which is no number");
                refuse(&self.path, line, why)
            })
        };
        Ok(Row {
            columns: Arc::clone(&self.columns),
            values: self
                .positions
                .iter()
                .enumerate()
                .map(parse)
                .collect::<Result<_, _>>()?,
            time: self
                .time_position
                .and_then(|at| record.get(at))
                .map(Arc::from),
        })
    }
}

fn open(path: &Path, delimiter: u8) -> Result<Reader<File>, AgentError> {
    let file = File::open(path).map_err(AgentError::file("open the recording", path))?;
    Ok(ReaderBuilder::new()
        .delimiter(delimiter)
        .trim(Trim::All)
        .from_reader(file))
}

fn next(reader: &mut Reader<File>, path: &Path) -> Result<Option<StringRecord>, AgentError> {
    let mut record = StringRecord::new();
    match reader.read_record(&mut record) {
        Ok(true) => Ok(Some(record)),
        Ok(false) => Ok(None),
        Err(error) => Err(unreadable(path, &error)),
    }
}

/// The separator that the header has more of; a single column gives the comma.
fn guess_delimiter(path: &Path) -> Result<u8, AgentError> {
    use std::io::{BufRead as _, BufReader, Read as _};
    /// A header longer than this is none.
    const HEADER_MAX: u64 = 256 * 1024;
    let failed = || AgentError::file("read the recording", path);
    let file = File::open(path).map_err(AgentError::file("open the recording", path))?;
    let mut header = Vec::new();
    BufReader::new(file.take(HEADER_MAX))
        .read_until(b'\n', &mut header)
        .map_err(failed())?;
    let count = |wanted| header.iter().filter(|&&byte| byte == wanted).count();
    Ok(if count(b';') > count(b',') {
        b';'
    } else {
        b','
    })
}

fn refuse(path: &Path, line: u64, why: impl Into<String>) -> AgentError {
    AgentError::Csv {
        path: path.to_owned(),
        line,
        why: why.into(),
    }
}

fn unreadable(path: &Path, error: &csv::Error) -> AgentError {
    let line = error.position().map_or(1, csv::Position::line);
    let why = match error.kind() {
        csv::ErrorKind::UnequalLengths {
            expected_len, len, ..
        } => format!("the row has {len} fields, the header {expected_len}"),
        csv::ErrorKind::Utf8 { .. } => "the text is not UTF-8".to_owned(),
        _ => error.to_string(),
    };
    refuse(path, line, why)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn replay(text: &str, change: impl FnOnce(&mut config::Source)) -> Result<Vec<Row>, String> {
        let folder = tempfile::tempdir().unwrap();
        let mut settings = config::Source {
            path: folder.path().join("rows.csv"),
            ..config::Source::default()
        };
        change(&mut settings);
        std::fs::write(&settings.path, text).unwrap();
        let mut replay = Replay::open(&settings).map_err(|error| error.to_string())?;
        let mut rows = Vec::new();
        while let Some(row) = replay.next_row().map_err(|error| error.to_string())? {
            rows.push(row);
            if rows.len() == 10 {
                break;
            }
        }
        Ok(rows)
    }

    #[test]
    fn both_delimiters_give_the_same_rows() {
        let text = "time;a;b;note\n10:00;1.5;-2;x\n10:01;;3e1;y\n";
        for text in [text.to_owned(), text.replace(';', ",")] {
            let rows = replay(&text, |s| s.time_column = "time".into()).unwrap();
            assert_eq!(*rows[0].columns, ["a", "b"]);
            assert_eq!(rows[0].values, [1.5, -2.0]);
            assert_eq!(rows[0].time.as_deref(), Some("10:00"));
            assert!(rows[1].values[0].is_nan(), "an empty field is missing");
            assert_eq!(rows[1].values[1], 30.0);
            assert_eq!(rows.len(), 2);
        }
        let rows = replay("a|b\n1|2\n", |s| s.delimiter = "|".into()).unwrap();
        assert_eq!(rows[0].values, [1.0, 2.0]);
    }

    #[test]
    fn a_bad_row_is_named_by_its_line() {
        let message = replay("a,b\n1,2\n3,oops\n", |_| {}).unwrap_err();
        assert!(
            message.ends_with("line 3: column \"b\" holds \"oops\", which is no number"),
            "{message}"
        );
        let message = replay("a,b\n1,2\n3\n", |_| {}).unwrap_err();
        assert!(
            message.ends_with("line 3: the row has 1 fields, the header 2"),
            "{message}"
        );
        let message = replay("a,b\n", |_| {}).unwrap_err();
        assert!(message.contains("no row below the header"), "{message}");
        let message = replay("a b\nx y\n", |_| {}).unwrap_err();
        assert!(message.contains("set source.delimiter"), "{message}");
        let message = replay("a\n1\n", |s| s.time_column = "when".into()).unwrap_err();
        assert!(message.contains("there are a"), "{message}");
    }

    #[test]
    fn a_recording_starts_over_when_asked() {
        let rows = replay("a\n1\n2\n", |s| s.repeat = true).unwrap();
        let values: Vec<f32> = rows.iter().map(|row| row.values[0]).collect();
        assert_eq!(values, [1.0, 2.0, 1.0, 2.0, 1.0, 2.0, 1.0, 2.0, 1.0, 2.0]);
    }
}
