//! The serial number of the board, where it tells one.

use std::io::Read as _;

use drover_wire::enrol::MAX_TEXT_BYTES;

/// Files that hold nothing but a serial number, in the order of preference: the device
/// tree's of small boards, and the firmware's of larger ones, which only root may read.
const FILES: [&str; 2] = [
    "/sys/firmware/devicetree/base/serial-number",
    "/sys/class/dmi/id/product_serial",
];
/// Older Raspberry Pis name it at the end of this file.
const CPU_INFO: &str = "/proc/cpuinfo";
/// A board with hundreds of processors has a long [`CPU_INFO`], and no serial in it.
const MAX_BYTES: u64 = 256 * 1024;

/// Empty where the board tells none.
pub(super) fn of_board() -> String {
    let whole = FILES.iter().filter_map(|path| read(path));
    let in_cpu_info = || read(CPU_INFO).and_then(|text| of_cpu_info(&text));
    let found = whole.filter_map(|text| clean(&text)).next();
    found.or_else(in_cpu_info).unwrap_or_default()
}

fn read(path: &str) -> Option<String> {
    let mut bytes = Vec::new();
    let file = std::fs::File::open(path).ok()?;
    file.take(MAX_BYTES).read_to_end(&mut bytes).ok()?;
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

fn of_cpu_info(text: &str) -> Option<String> {
    let line = text.lines().find_map(|line| line.strip_prefix("Serial"))?;
    clean(line.trim_start().strip_prefix(':')?)
}

/// Without the zero that ends it in a device tree; none when nothing is left, or when it is
/// nothing that the server would take.
fn clean(text: &str) -> Option<String> {
    let text = text.trim_matches(|c: char| c == '\0' || c.is_whitespace());
    let usable = !text.is_empty() && text.len() <= MAX_TEXT_BYTES;
    let plain = !text.chars().any(char::is_control);
    (usable && plain).then(|| text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn serials_are_found_in_what_boards_write() {
        assert_eq!(clean("100000003d1d1c36\0").unwrap(), "100000003d1d1c36");
        assert_eq!(clean("\0\n"), None);
        assert_eq!(clean("a\tb"), None);
        let text = "processor\t: 0\nHardware\t: BCM2835\nSerial\t\t: 00000000a1b2c3d4\n";
        assert_eq!(of_cpu_info(text).unwrap(), "00000000a1b2c3d4");
        assert_eq!(of_cpu_info("processor : 0\n"), None);
        assert!(of_board().len() <= MAX_TEXT_BYTES);
    }
}
