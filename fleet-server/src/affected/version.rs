//! The order of versions as advisories mean it: `2.9.0rc1 < 2.9.0 = 2.9 < 2.9.0.post1 < 2.10`.
//!
//! Components come from many ecosystems, so this takes any text and orders semantic versions,
//! those of Python, dates and plain numbers as their own rules do. It never refuses.

use std::cmp::Ordering;

/// Compares two versions.
pub(crate) fn compare(a: &str, b: &str) -> Ordering {
    let (a, b) = (Version::of(a), Version::of(b));
    let longest = a.numbers.len().max(b.numbers.len());
    for at in 0..longest {
        let order = numeric(a.number(at), b.number(at));
        if order != Ordering::Equal {
            return order;
        }
    }
    suffix(a.suffix, b.suffix)
}

struct Version<'a> {
    /// Numbers between dots, such as 2, 9 and 0.
    numbers: Vec<&'a str>,
    /// What follows them, such as `rc1`.
    suffix: &'a str,
}

impl<'a> Version<'a> {
    /// What is not written is 0.
    fn number(&self, at: usize) -> &'a str {
        self.numbers.get(at).copied().unwrap_or("")
    }

    fn of(text: &'a str) -> Self {
        let text = text.trim();
        let text = text.strip_prefix(['v', 'V']).unwrap_or(text);
        // Build metadata has no place in the order.
        let text = text.split('+').next().unwrap_or(text);
        let end = text.find(|c: char| !c.is_ascii_digit() && c != '.');
        let (numbers, suffix) = text.split_at(end.unwrap_or(text.len()));
        Self {
            numbers: numbers.split('.').collect(),
            suffix: suffix.trim_start_matches(['-', '_', '.']),
        }
    }
}

/// Digits as a number of any size; no digits are 0.
fn numeric(a: &str, b: &str) -> Ordering {
    let (a, b) = (a.trim_start_matches('0'), b.trim_start_matches('0'));
    a.len().cmp(&b.len()).then_with(|| a.cmp(b))
}

/// A suffix makes a version older, unless it says that it comes after.
fn suffix(a: &str, b: &str) -> Ordering {
    let rank = |text: &str| match text {
        "" => 1,
        _ if text.starts_with("post") => 2,
        _ => 0,
    };
    rank(a).cmp(&rank(b)).then_with(|| {
        let (mut a, mut b) = (runs(a), runs(b));
        loop {
            let order = match (a.next(), b.next()) {
                (None, None) => return Ordering::Equal,
                // As in semantic versions, more parts come later, and words after numbers.
                (None, Some(_)) => Ordering::Less,
                (Some(_), None) => Ordering::Greater,
                (Some(a), Some(b)) => match (is_number(a), is_number(b)) {
                    (true, true) => numeric(a, b),
                    (true, false) => Ordering::Less,
                    (false, true) => Ordering::Greater,
                    (false, false) => a.cmp(b),
                },
            };
            if order != Ordering::Equal {
                return order;
            }
        }
    })
}

fn is_number(run: &str) -> bool {
    run.starts_with(|c: char| c.is_ascii_digit())
}

/// The words and numbers of a suffix: `rc`, `1` of `rc1` as well as of `rc.1`.
fn runs(text: &str) -> impl Iterator<Item = &str> {
    text.split(['.', '-', '_']).flat_map(|part| {
        let mut rest = part;
        std::iter::from_fn(move || {
            let first = rest.chars().next()?.is_ascii_digit();
            let end = rest.find(|c: char| c.is_ascii_digit() != first);
            let (run, after) = rest.split_at(end.unwrap_or(rest.len()));
            rest = after;
            Some(run)
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_stand_in_their_order() {
        let rising = [
            "",
            "0.9",
            "1.0.0-alpha",
            "1.0.0-alpha.1",
            "1.0.0-alpha.beta",
            "1.0.0-beta.2",
            "1.0.0-beta.11",
            "1.0.0-rc.1",
            "1.0.0",
            "1.0.0.post1",
            "1.0.1",
            "1.2.9",
            "1.2.10",
            "2.9.0rc1",
            "2.9.0rc10",
            "v2.9",
            "2.10.0",
            "2026.9",
            "2026.10",
            "99999999999999999999999999999999999999999",
        ];
        for (i, a) in rising.iter().enumerate() {
            for (j, b) in rising.iter().enumerate() {
                assert_eq!(compare(a, b), i.cmp(&j), "{a:?} and {b:?}");
            }
        }
        for (a, b) in [
            ("1", "1.0.0"),
            ("v1.2", "1.2.0+local.7"),
            ("1.0rc1", "1.0.0-rc.1"),
        ] {
            assert_eq!(compare(a, b), Ordering::Equal, "{a:?} and {b:?}");
        }
        assert_eq!(compare("2026-09", "2026-10"), Ordering::Less);
    }
}
