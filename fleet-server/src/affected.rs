//! Which devices run a component now: their active bundles by what the signed manifests name,
//! and the agent itself.
//!
//! It reads and never changes anything. What a manifest does not name is not guessed: devices
//! whose bundle names no components are listed apart.

mod version;

use std::cmp::Ordering;
use std::collections::HashMap;

use drover_api::{Affected, AffectedDevice, Component, Device, Release, UnknownDevice};

use crate::http::Refusal;
use crate::state::Core;

/// Name under which the agent of a device is a component.
const AGENT: &str = "drover-agent";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Operator {
    Less,
    LessOrEqual,
    Equal,
    GreaterOrEqual,
    Greater,
}

/// Operators as they are written; longer ones first, so that `<=` is not read as `<`.
const OPERATORS: [(&str, Operator); 5] = [
    ("<=", Operator::LessOrEqual),
    (">=", Operator::GreaterOrEqual),
    ("<", Operator::Less),
    (">", Operator::Greater),
    ("=", Operator::Equal),
];

/// A component by its name or package URL, and perhaps a bound of its version.
#[derive(Debug, PartialEq, Eq)]
struct Query<'a> {
    name: &'a str,
    bound: Option<(Operator, &'a str)>,
}

impl<'a> Query<'a> {
    fn parse(text: &'a str) -> Option<Self> {
        let at = text.find(['<', '=', '>']).unwrap_or(text.len());
        let (name, rest) = text.split_at(at);
        let name = name.trim();
        let bound = if rest.is_empty() {
            None
        } else {
            let (sign, operator) = OPERATORS.iter().find(|(sign, _)| rest.starts_with(sign))?;
            let version = rest.get(sign.len()..)?.trim();
            if version.is_empty() || version.contains(['<', '=', '>']) {
                return None;
            }
            Some((*operator, version))
        };
        (!name.is_empty()).then_some(Self { name, bound })
    }

    fn matches(&self, component: &Component) -> bool {
        let purl = component.purl.split(['@', '?', '#']).next();
        if self.name != component.name && purl != Some(self.name) {
            return false;
        }
        self.bound.is_none_or(|(operator, version)| {
            let order = version::compare(&component.version, version);
            match operator {
                Operator::Less => order == Ordering::Less,
                Operator::LessOrEqual => order != Ordering::Greater,
                Operator::Equal => order == Ordering::Equal,
                Operator::GreaterOrEqual => order != Ordering::Less,
                Operator::Greater => order == Ordering::Greater,
            }
        })
    }
}

/// The devices that run what `component` asks for: `NAME`, or `NAME<VERSION` with `<`, `<=`,
/// `=`, `>=` or `>`.
pub(crate) async fn affected(core: &Core, component: &str) -> Result<Affected, Refusal> {
    let query = Query::parse(component).ok_or_else(|| {
        Refusal::bad(format!(
            "{component:?} names no component: write a name, or a name and a version with <, \
             <=, =, >= or > between them, such as torch<2.9.1"
        ))
    })?;
    let releases = core.store.releases().await?;
    let releases: Vec<Release> = releases.into_iter().map(|r| r.summary).collect();
    Ok(find(&query, &core.store.devices().await?, &releases))
}

fn find(query: &Query<'_>, devices: &[Device], releases: &[Release]) -> Affected {
    let by_digest: HashMap<&str, &Release> =
        releases.iter().map(|r| (r.digest.as_str(), r)).collect();
    let mut found = Affected {
        items: Vec::new(),
        unknown: Vec::new(),
    };
    for device in devices {
        let agent = Component {
            name: AGENT.into(),
            version: device.agent_version.clone(),
            purl: String::new(),
        };
        let mut add = |component: &Component, bundle| {
            if query.matches(component) {
                found.items.push(AffectedDevice {
                    device: device.id.clone(),
                    name: device.name.clone(),
                    component: component.clone(),
                    bundle,
                });
            }
        };
        add(&agent, None);
        let Some(bundle) = &device.active else {
            continue;
        };
        let release = by_digest.get(bundle.digest.as_str());
        let components = release.map_or(&[][..], |r| &r.components);
        for component in components {
            add(component, Some(bundle.clone()));
        }
        if components.is_empty() && query.name != AGENT {
            found.unknown.push(UnknownDevice {
                device: device.id.clone(),
                name: device.name.clone(),
                bundle: bundle.clone(),
            });
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use drover_api::Running;
    use serde_json::json;

    use super::*;

    fn component(name: &str, version: &str, purl: &str) -> Component {
        Component {
            name: name.into(),
            version: version.into(),
            purl: purl.into(),
        }
    }

    // From JSON, as an older server wrote it: what later fields say has no part in this.
    fn release(digest: &str, components: Vec<Component>) -> Release {
        serde_json::from_value(json!({
            "name": "pump", "version": "1", "digest": digest, "counter": 1, "description": "",
            "total_bytes": 1, "chunks": 1, "arch": [], "files": [], "components": components,
            "created_unix_s": 1, "published_unix_s": 2, "sent_bytes": 0,
        }))
        .unwrap()
    }

    fn device(id: &str, agent_version: &str, active: Option<&str>) -> Device {
        let active = active.map(|digest| Running {
            name: "pump".into(),
            version: "1".into(),
            digest: digest.into(),
            counter: 1,
        });
        serde_json::from_value(json!({
            "id": id, "name": "", "labels": {}, "arch": "", "agent_version": agent_version,
            "memory_bytes": 0, "approved": true, "enrolled_unix_s": 1, "assignment_wanted": 0,
            "assignment_accepted": 0, "active": active, "phase": { "phase": "unknown" },
            "observations": 0,
        }))
        .unwrap()
    }

    #[test]
    fn queries_are_read_or_refused() {
        let query = |name, bound| Some(Query { name, bound });
        assert_eq!(Query::parse("torch"), query("torch", None));
        let at_most = Some((Operator::LessOrEqual, "2.9"));
        assert_eq!(Query::parse("torch <= 2.9"), query("torch", at_most));
        let equal = Some((Operator::Equal, "1"));
        assert_eq!(Query::parse("pkg:pypi/a=1"), query("pkg:pypi/a", equal));
        for wrong in [
            "", "<1", "torch<", "torch<<1", "torch=<1", "a<1<2", "torch==",
        ] {
            assert_eq!(Query::parse(wrong), None, "{wrong:?} was accepted");
        }
    }

    #[test]
    fn devices_are_found_by_what_they_run_now() {
        let torch = |version| component("torch", version, "pkg:pypi/torch@x");
        let releases = [
            release("old", vec![torch("2.9.0"), component("scaler", "1", "")]),
            release("new", vec![torch("2.10.0")]),
            release("silent", vec![]),
        ];
        let devices = [
            device("a", "0.1.0", Some("old")),
            device("b", "0.2.0", Some("new")),
            device("c", "0.2.0", Some("silent")),
            device("d", "0.1.9", Some("unpublished")),
            device("e", "", None),
        ];
        let ask = |text| {
            let found = find(&Query::parse(text).unwrap(), &devices, &releases);
            let items: String = found.items.iter().map(|i| i.device.as_str()).collect();
            let unknown: String = found.unknown.iter().map(|u| u.device.as_str()).collect();
            (items, unknown)
        };
        let is = |items: &str, unknown: &str| (items.to_owned(), unknown.to_owned());
        assert_eq!(ask("torch<2.10"), is("a", "cd"));
        assert_eq!(ask("torch<=2.10"), is("ab", "cd"));
        assert_eq!(ask("torch>2.9"), is("b", "cd"));
        assert_eq!(ask("torch>=2.9"), is("ab", "cd"));
        assert_eq!(ask("torch=2.10"), is("b", "cd"));
        assert_eq!(ask("pkg:pypi/torch"), is("ab", "cd"));
        assert_eq!(ask("scaler"), is("a", "cd"));
        assert_eq!(ask("Torch"), is("", "cd"));
        assert_eq!(ask("drover-agent>=0.1.9"), is("bcd", ""));
    }
}
