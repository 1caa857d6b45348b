//! What a fuzz target does before libFuzzer takes over: it writes its seeds where it is told.

use std::io;
use std::path::Path;

/// Names the folder for seeds; the program ends when they are written.
const VARIABLE: &str = "DROVER_FUZZ_SEEDS";

/// Writes `seeds` and ends the process, if that is asked for.
pub fn seeds(seeds: fn() -> Vec<Vec<u8>>) {
    let Some(folder) = std::env::var_os(VARIABLE) else {
        return;
    };
    match write(Path::new(&folder), &seeds()) {
        Ok(()) => std::process::exit(0),
        Err(error) => {
            eprintln!("cannot write seeds to {}: {error}", folder.display());
            std::process::exit(1);
        }
    }
}

fn write(folder: &Path, seeds: &[Vec<u8>]) -> io::Result<()> {
    std::fs::create_dir_all(folder)?;
    for (number, seed) in seeds.iter().enumerate() {
        std::fs::write(folder.join(format!("seed-{number:03}")), seed)?;
    }
    Ok(())
}
