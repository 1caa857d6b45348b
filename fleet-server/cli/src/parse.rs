//! Values of flags that are more than a word or a number.

use drover_api::{ApprovalRule, OperatorRole, Stage};

/// The role of an operator.
pub(crate) fn role(text: &str) -> Result<OperatorRole, String> {
    OperatorRole::parse(text).ok_or_else(|| "write viewer, operator, releaser or admin".to_owned())
}

/// A role and a group that has it, as in `admin=fleet-admins`.
pub(crate) fn role_group(text: &str) -> Result<(OperatorRole, String), String> {
    match text.split_once('=') {
        Some((name, group)) if !group.is_empty() => Ok((role(name)?, group.to_owned())),
        _ => Err("write a role and a group: admin=fleet-admins".to_owned()),
    }
}

/// Seconds of `90s`, `15m`, `2h` or `7d`.
pub(crate) fn duration_secs(text: &str) -> Result<u64, String> {
    const FORM: &str = "write a whole number with its unit: 90s, 15m, 2h or 7d";
    let unit = text.chars().last().ok_or(FORM)?;
    let factor = match unit {
        's' => 1,
        'm' => 60,
        'h' => 3600,
        'd' => 24 * 3600,
        _ => return Err(FORM.into()),
    };
    let number: u64 = text
        .strip_suffix(unit)
        .and_then(|n| n.parse().ok())
        .ok_or(FORM)?;
    match number.checked_mul(factor) {
        Some(0) => Err("a duration is at least 1s".into()),
        Some(secs) if secs <= 3650 * 24 * 3600 => Ok(secs),
        _ => Err("a duration is at most 3650d".into()),
    }
}

/// Name and value of `site=oslo`.
pub(crate) fn label(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() && !value.is_empty() => {
            Ok((name.to_owned(), value.to_owned()))
        }
        _ => Err("write a name and a value: site=oslo".into()),
    }
}

/// Parts of `arch=aarch64,serial=10000000ab,label.site=oslo`.
pub(crate) fn approval_rule(text: &str) -> Result<ApprovalRule, String> {
    const FORM: &str = "write parts such as arch=aarch64, serial=10000000ab or label.site=oslo, \
                        with commas between them";
    let mut rule = ApprovalRule::default();
    for part in text.split(',') {
        let (name, value) = label(part).map_err(|_| FORM)?;
        match (name.as_str(), name.strip_prefix("label.")) {
            ("arch", _) => rule.arch = Some(value),
            ("serial", _) => rule.hardware_prefix = Some(value),
            (_, Some(name)) if !name.is_empty() => {
                rule.labels.insert(name.to_owned(), value);
            }
            _ => return Err(FORM.into()),
        }
    }
    Ok(rule)
}

/// Percent of `10%`, 0 to 100.
pub(crate) fn percent(text: &str) -> Result<u8, String> {
    let number = text.strip_suffix('%').and_then(|n| n.parse().ok());
    match number {
        Some(percent @ 0..=100) => Ok(percent),
        _ => Err("write a whole number of percent: 10%".into()),
    }
}

/// A number of devices, or a share of them.
pub(crate) fn stage(text: &str) -> Result<Stage, String> {
    let stage = match text.ends_with('%') {
        true => percent(text).ok().map(Stage::Percent),
        false => text.parse().ok().map(Stage::Count),
    };
    match stage {
        None | Some(Stage::Count(0) | Stage::Percent(0)) => {
            Err("write a number of devices or a share of them, above 0: 1, or 25%".into())
        }
        Some(stage) => Ok(stage),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_percents_and_stages_are_read_or_refused() {
        assert_eq!(label("a=b=c"), Ok(("a".into(), "b=c".into())));
        assert!(["", "a", "=b", "a="].iter().all(|t| label(t).is_err()));
        assert_eq!(percent("0%"), Ok(0));
        assert!(
            ["10", "101%", "-1%", "%", "1.5%"]
                .iter()
                .all(|t| percent(t).is_err())
        );
        assert_eq!(stage("3"), Ok(Stage::Count(3)));
        assert_eq!(stage("25%"), Ok(Stage::Percent(25)));
        assert!(
            ["0", "0%", "many", "-1", "101%"]
                .iter()
                .all(|t| stage(t).is_err())
        );
    }

    #[test]
    fn durations_have_a_number_and_a_unit() {
        assert_eq!(duration_secs("90s"), Ok(90));
        assert_eq!(duration_secs("15m"), Ok(900));
        assert_eq!(duration_secs("2h"), Ok(7200));
        assert_eq!(duration_secs("7d"), Ok(604_800));
        for bad in [
            "",
            "7",
            "d",
            "-1d",
            "1.5h",
            "7 d",
            "0s",
            "7w",
            "é",
            "4000d",
            "99999999999999999999s",
        ] {
            assert!(duration_secs(bad).is_err(), "{bad:?} was accepted");
        }
    }
}
