//! Runs the `drover` program and holds what it answered.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// What one run gave.
#[derive(Debug)]
pub(crate) struct Run {
    /// Exit code.
    pub(crate) code: i32,
    /// Standard output.
    pub(crate) out: String,
    /// Standard error.
    pub(crate) err: String,
}

impl Run {
    /// Standard output of a run that succeeded.
    pub(crate) fn ok(self) -> String {
        assert_eq!(self.code, 0, "{}", self.err);
        self.out
    }

    /// The message of a run that failed with exit code 1, printing no result.
    pub(crate) fn refused(self) -> String {
        assert_eq!((self.code, self.out.as_str()), (1, ""), "{}", self.err);
        assert!(self.err.starts_with("error: "), "{}", self.err);
        self.err
    }
}

/// Runs `drover` with `args`, in an environment without variables of ours.
pub(crate) fn drover<A: AsRef<std::ffi::OsStr>>(args: impl IntoIterator<Item = A>) -> Run {
    run(args, &[])
}

/// [`drover`] with one variable that names a file.
pub(crate) fn drover_with<A: AsRef<std::ffi::OsStr>>(
    variable: &str,
    file: &Path,
    args: impl IntoIterator<Item = A>,
) -> Run {
    run(args, &[(variable, file)])
}

fn run<A: AsRef<std::ffi::OsStr>>(
    args: impl IntoIterator<Item = A>,
    variables: &[(&str, &Path)],
) -> Run {
    let mut command = Command::new(env!("CARGO_BIN_EXE_drover"));
    command.args(args).env_remove("SOURCE_DATE_EPOCH");
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("DROVER_") {
            command.env_remove(name);
        }
    }
    command.envs(variables.iter().copied());
    let output = command.output().expect("the program starts");
    ended(&output)
}

fn ended(output: &Output) -> Run {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("output is UTF-8");
    Run {
        code: output.status.code().expect("no signal ended it"),
        out: text(&output.stdout),
        err: text(&output.stderr),
    }
}

/// Makes keys with two release keys, of which both must sign, in `folder/keys`.
pub(crate) fn keys(folder: &Path) -> PathBuf {
    let keys = folder.join("keys");
    let args =
        "keys init --no-passphrase --fleet test --release-keys 2 --release-threshold 2 --out";
    let args = args.split(' ').map(PathBuf::from);
    drover(args.chain([keys.clone()])).ok();
    keys
}
