//! Where settings come from, and which overrule which: defaults, file, environment, flags.
//!
//! A key that does not exist is an error that names the key and where it stands, because a
//! typo that is ignored is found months later on a roof.

use std::path::Path;

use serde::Deserialize as _;
use toml::{Table, Value};

use super::Config;
use crate::AgentError;

/// Read when `--config` is not given, if it exists.
pub const DEFAULT_FILE: &str = "/etc/drover/agent.toml";
const ENV_PREFIX: &str = "DROVER_AGENT_";
/// Variables with the prefix that are no settings.
const ENV_OTHER: [&str; 1] = ["DROVER_AGENT_CONFIG"];

/// A setting from outside the file: where it stands, its dotted key and its text.
#[derive(Clone, Debug)]
pub struct Override {
    /// Name of the variable or flag, for messages.
    pub place: String,
    /// Dotted key, as in `source.speed`.
    pub key: String,
    /// Value as text; its type follows from the setting.
    pub value: String,
}

impl Config {
    /// Defaults, overruled by `file` (or [`DEFAULT_FILE`], if it exists), then `environment`
    /// (names and values of all variables), then `flags`.
    ///
    /// # Errors
    /// [`AgentError::File`] when the file cannot be read, [`AgentError::Config`] when a key or
    /// value does not fit.
    pub fn load(
        file: Option<&Path>,
        environment: impl IntoIterator<Item = (String, String)>,
        flags: &[Override],
    ) -> Result<Self, AgentError> {
        let default = Path::new(DEFAULT_FILE);
        let file = file.or_else(|| default.exists().then_some(default));
        let mut config = file.map_or_else(|| Ok(Self::default()), Self::read)?;
        for change in from_environment(environment)?.iter().chain(flags) {
            config = config.overruled(change)?;
        }
        config.check()?;
        Ok(config)
    }

    /// All settings as TOML.
    ///
    /// # Errors
    /// Only when a path is not UTF-8.
    pub fn to_toml(&self) -> Result<String, AgentError> {
        toml::to_string(self).map_err(|error| AgentError::Config {
            place: "settings".into(),
            why: error.to_string(),
        })
    }

    fn read(path: &Path) -> Result<Self, AgentError> {
        let text = std::fs::read_to_string(path)
            .map_err(AgentError::file("read the settings file", path))?;
        Self::parse(&text, path)
    }

    /// Reads the text of the settings file at `path`; whether the values fit each other is
    /// not looked at.
    ///
    /// # Errors
    /// [`AgentError::Config`], which names the line.
    pub fn parse(text: &str, path: &Path) -> Result<Self, AgentError> {
        toml::from_str(text).map_err(|error| {
            let line = error
                .span()
                .and_then(|span| text.get(..span.start))
                .map_or(1, |before| before.matches('\n').count() + 1);
            AgentError::Config {
                place: format!("settings file {} line {line}", path.display()),
                why: error.message().trim_end().replace('\n', ", "),
            }
        })
    }

    fn overruled(&self, change: &Override) -> Result<Self, AgentError> {
        let refuse = |why: String| AgentError::Config {
            place: change.place.clone(),
            why,
        };
        let mut table = Table::try_from(self).map_err(|error| refuse(error.to_string()))?;
        let Some(setting) = find(&mut table, &change.key) else {
            return Err(refuse(format!(
                "there is no setting {}; `drover-agent print-config` lists all",
                change.key
            )));
        };
        let parsed = match setting {
            Value::String(_) => Some(Value::String(change.value.clone())),
            Value::Integer(_) => change.value.parse().ok().map(Value::Integer),
            Value::Float(_) => change.value.parse().ok().map(Value::Float),
            Value::Boolean(_) => change.value.parse().ok().map(Value::Boolean),
            _ => None,
        };
        // A factor leaves the setting a number; "max" must still be able to follow.
        let is_speed = change.key == "source.speed";
        *setting = match parsed {
            Some(value) if !is_speed => value,
            _ if is_speed => Value::String(change.value.clone()),
            _ => {
                return Err(refuse(format!(
                    "{:?} is no {}",
                    change.value,
                    setting.type_str()
                )));
            }
        };
        Self::deserialize(Value::Table(table))
            .map_err(|error| refuse(error.message().trim_end().replace('\n', ", ")))
    }
}

fn find<'a>(table: &'a mut Table, key: &str) -> Option<&'a mut Value> {
    match key.split_once('.') {
        Some((section, rest)) => find(table.get_mut(section)?.as_table_mut()?, rest),
        None => table.get_mut(key).filter(|value| !value.is_table()),
    }
}

fn from_environment(
    variables: impl IntoIterator<Item = (String, String)>,
) -> Result<Vec<Override>, AgentError> {
    let defaults = Table::try_from(Config::default()).map_err(|error| AgentError::Config {
        place: "defaults".into(),
        why: error.to_string(),
    })?;
    let keys = keys_of(&defaults, "");
    let mut found = Vec::new();
    for (name, value) in variables {
        let Some(short) = name.strip_prefix(ENV_PREFIX) else {
            continue;
        };
        if ENV_OTHER.contains(&name.as_str()) {
            continue;
        }
        let wanted = short.to_ascii_lowercase();
        let Some(key) = keys.iter().find(|key| key.replace('.', "_") == wanted) else {
            return Err(AgentError::Config {
                place: format!("environment variable {name}"),
                why: "names no setting; `drover-agent print-config` lists all, and \
                      DROVER_AGENT_SOURCE_SPEED is source.speed"
                    .into(),
            });
        };
        found.push(Override {
            place: format!("environment variable {name}"),
            key: key.clone(),
            value,
        });
    }
    Ok(found)
}

fn keys_of(table: &Table, prefix: &str) -> Vec<String> {
    table
        .iter()
        .flat_map(|(name, value)| match value {
            Value::Table(section) => keys_of(section, &format!("{prefix}{name}.")),
            _ => vec![format!("{prefix}{name}")],
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Speed;

    fn load(text: &str, env: &[(&str, &str)], flags: &[(&str, &str)]) -> Result<Config, String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("agent.toml");
        std::fs::write(&path, text).unwrap();
        let env = env.iter().map(|(n, v)| ((*n).into(), (*v).into()));
        let flags: Vec<_> = flags
            .iter()
            .map(|(key, value)| Override {
                place: format!("--set {key}"),
                key: (*key).into(),
                value: (*value).into(),
            })
            .collect();
        Config::load(Some(&path), env, &flags).map_err(|error| error.to_string())
    }

    #[test]
    fn flags_overrule_the_environment_and_that_the_file() {
        let text = "data_folder = \"/a\"\n[source]\nspeed = 3\nrate_hz = 2\n";
        let env = [
            ("DROVER_AGENT_SOURCE_SPEED", "10x"),
            ("DROVER_AGENT_SOURCE_LOOP", "true"),
            ("DROVER_AGENT_CONFIG", "ignored"),
            ("PATH", "/bin"),
        ];
        let config = load(text, &env, &[("source.speed", "max")]).unwrap();
        assert_eq!(config.source.speed, Speed::Max);
        assert_eq!((config.source.rate_hz, config.source.repeat), (2.0, true));
        assert_eq!(config.socket_path(), Path::new("/a/agent.sock"));
        let config = load(text, &env, &[]).unwrap();
        assert_eq!(config.source.speed, Speed::Factor(10.0));
    }

    #[test]
    fn a_typo_names_the_key_and_the_place() {
        type Pairs = &'static [(&'static str, &'static str)];
        let cases: [(&str, Pairs, Pairs, &[&str]); 7] = [
            (
                "[source]\nkind = \"csv\"\nspead = 1\n",
                &[],
                &[],
                &["agent.toml line 3", "spead", "`speed`"],
            ),
            ("[sauce]\n", &[], &[], &["agent.toml line 1", "sauce"]),
            (
                "[source]\nspeed = \"fast\"\n",
                &[],
                &[],
                &["line 2", "\"fast\" is no speed"],
            ),
            (
                "",
                &[("DROVER_AGENT_SOURCE_SPED", "1")],
                &[],
                &["DROVER_AGENT_SOURCE_SPED", "no setting"],
            ),
            (
                "",
                &[("DROVER_AGENT_SOURCE_RATE_HZ", "quick")],
                &[],
                &["DROVER_AGENT_SOURCE_RATE_HZ", "\"quick\" is no float"],
            ),
            (
                "",
                &[],
                &[("source", "csv")],
                &["--set source", "no setting source"],
            ),
            (
                "",
                &[],
                &[("source.kind", "tape")],
                &["--set source.kind", "tape"],
            ),
        ];
        for (text, env, flags, wanted) in cases {
            let message = load(text, env, flags).unwrap_err();
            for part in wanted {
                assert!(message.contains(part), "{message:?} lacks {part:?}");
            }
            assert!(!message.contains('\n'), "{message:?} is more than one line");
        }
    }

    #[test]
    fn the_readme_lists_the_defaults() {
        let readme = include_str!("../../README.md");
        let listing = readme
            .split("<!-- defaults -->\n```toml\n")
            .nth(1)
            .and_then(|rest| rest.split("```").next())
            .unwrap();
        assert_eq!(listing, Config::default().to_toml().unwrap());
    }
}
