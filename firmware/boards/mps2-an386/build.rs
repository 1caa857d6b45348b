//! Turns this board's `targets/` file into what the linker and the code need, so that no address
//! or frequency is written twice: `memory.x`, an empty `device.x` (the vector table in
//! `src/uart.rs` needs no aliases), and constants as environment variables.

use std::{env, error::Error, fmt::Write, fs, path::PathBuf};

const TARGET: &str = "../../../targets/mps2-an386/target.toml";

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed={TARGET}");
    println!("cargo::rerun-if-env-changed=DROVER_NODE_UID");
    let text = fs::read_to_string(TARGET).map_err(|e| format!("cannot read {TARGET}: {e}"))?;
    let target: toml::Table = text.parse()?;

    let out = PathBuf::from(env::var("OUT_DIR")?);
    let mut memory = String::from("MEMORY\n{\n");
    for (name, region) in table(&target, "memory")? {
        let region = region.as_table().ok_or("[memory.*] must be tables")?;
        let origin = integer(region, "origin")?;
        let length_kib = integer(region, "length_kib")?;
        writeln!(
            memory,
            "  {name} : ORIGIN = {origin:#010x}, LENGTH = {length_kib}K"
        )?;
    }
    memory.push_str("}\n");
    fs::write(out.join("memory.x"), memory)?;
    fs::write(out.join("device.x"), "")?;
    println!("cargo::rustc-link-search={}", out.display());

    let core_hz = integer(table(&target, "clock")?, "core_hz")?;
    let name = target.get("name").and_then(toml::Value::as_str);
    let name = name.ok_or("`name` must be a text")?;
    // The MPS2 has no number of its own; a second one on the same device gets another here.
    let uid = env::var("DROVER_NODE_UID").unwrap_or_else(|_| "6d70733200000001".into());
    let uid = u64::from_str_radix(&uid, 16)
        .ok()
        .filter(|_| uid.len() == 16)
        .ok_or("DROVER_NODE_UID must be 16 hexadecimal digits")?;
    fs::write(
        out.join("target.rs"),
        format!(
            "/// The board's name in `targets/`.\npub const NAME: &str = {name:?};\n\
             /// The frequency of the core and its SysTick.\npub const CORE_HZ: u32 = {core_hz};\n\
             /// This board's number.\npub const UID: [u8; 8] = {:?};\n",
            uid.to_be_bytes()
        ),
    )?;
    Ok(())
}

fn table<'a>(from: &'a toml::Table, key: &str) -> Result<&'a toml::Table, String> {
    let value = from.get(key).and_then(toml::Value::as_table);
    value.ok_or_else(|| format!("{TARGET}: no table [{key}]"))
}

fn integer(from: &toml::Table, key: &str) -> Result<i64, String> {
    let value = from.get(key).and_then(toml::Value::as_integer);
    value.ok_or_else(|| format!("{TARGET}: `{key}` must be an integer"))
}
