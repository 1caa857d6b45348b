//! `drover drift`: how far live data have moved from the training data.

use clap::{Args, Subcommand};
use drover_api::{DeviceDrift, DriftStatus, Level};

use crate::args::Global;
use crate::error::Result;
use crate::link;
use crate::output::{Output, word};
use crate::table::Table;

#[derive(Debug, Subcommand)]
pub(crate) enum Drift {
    /// Show the worst feature of each device, and of the fleet
    Status(Status),
}

#[derive(Debug, Args)]
pub(crate) struct Status {
    /// Only this model
    #[arg(long, value_name = "NAME")]
    model: Option<String>,
}

pub(crate) fn run(command: Drift, global: &Global, out: &Output) -> Result<()> {
    let Drift::Status(args) = command;
    let mut drift = link::client(global)?.drift()?;
    if let Some(model) = &args.model {
        drift.retain(|d| d.model == *model);
    }
    out.show(&drift, || table(&drift))
}

fn table(drift: &[DriftStatus]) -> Table {
    let header = ["MODEL", "DEVICE", "FEATURE", "PSI", "P", "VERDICT", "WHY"];
    let mut table = Table::new(&header, "no drift profiles have arrived");
    for status in drift {
        let model = format!("{}@{}", status.model, status.version);
        for device in &status.devices {
            table.row(device_row(&model, device));
        }
        table.row(fleet_row(&model, status));
    }
    table
}

fn device_row(model: &str, device: &DeviceDrift) -> [String; 7] {
    let name = match device.name.as_str() {
        "" => &device.device,
        name => name,
    };
    let worst = device.features.iter().max_by(|a, b| {
        let by_level = a.level.cmp(&b.level);
        by_level.then(psi_of(a.psi).total_cmp(&psi_of(b.psi)))
    });
    let (feature, psi, p, why) = match worst {
        Some(f) => (f.feature.clone(), f.psi, f.p_value, f.why.clone()),
        None => ("-".to_owned(), None, None, String::new()),
    };
    let level = word(&device.level);
    [
        model.into(),
        name.into(),
        feature,
        number(psi),
        p_value(p),
        level,
        why,
    ]
}

fn fleet_row(model: &str, status: &DriftStatus) -> [String; 7] {
    let worst = status.fleet.iter().max_by(|a, b| {
        let by_level = a.level.cmp(&b.level);
        by_level.then(psi_of(a.psi).total_cmp(&psi_of(b.psi)))
    });
    let (feature, psi, level, why) = match worst {
        Some(f) => {
            let (alarming, assessed) = (f.devices_alarming, f.devices_assessed);
            let why = format!("{alarming} of {assessed} devices alarm on it");
            (f.feature.clone(), f.psi, f.level, why)
        }
        None => ("-".to_owned(), None, Level::Unknown, String::new()),
    };
    [
        model.into(),
        "fleet".into(),
        feature,
        number(psi),
        p_value(None),
        word(&level),
        why,
    ]
}

fn psi_of(psi: Option<f64>) -> f64 {
    psi.unwrap_or(f64::NEG_INFINITY)
}

fn number(value: Option<f64>) -> String {
    value.map_or_else(|| "-".to_owned(), |v| format!("{v:.3}"))
}

fn p_value(p: Option<f64>) -> String {
    match p {
        None => "-".to_owned(),
        Some(p) if p < 0.001 => format!("{p:.1e}"),
        Some(p) => format!("{p:.3}"),
    }
}

#[cfg(test)]
mod tests {
    use drover_api::{FeatureDrift, FleetFeatureDrift};

    use super::*;

    fn feature(name: &str, level: Level, psi: f64) -> FeatureDrift {
        FeatureDrift {
            feature: name.into(),
            level,
            samples: 100,
            psi: Some(psi),
            p_value: Some(1e-9),
            missing_rate: 0.0,
            out_of_range_rate: 0.0,
            why: "moved far".into(),
        }
    }

    #[test]
    fn the_worst_feature_stands_for_its_device_and_the_fleet_comes_last() {
        let status = DriftStatus {
            model: "pump".into(),
            version: "1.0.0".into(),
            digest: String::new(),
            level: Level::Alarm,
            fleet: vec![FleetFeatureDrift {
                feature: "temperature".into(),
                level: Level::Warning,
                devices_alarming: 1,
                devices_assessed: 3,
                psi: Some(0.12345),
            }],
            devices: vec![DeviceDrift {
                device: "abc".into(),
                name: String::new(),
                level: Level::Alarm,
                profiles: 1,
                windows: 100,
                start_unix_ms: 0,
                end_unix_ms: 1,
                features: vec![
                    feature("flow", Level::Stable, 0.9),
                    feature("temperature", Level::Alarm, 0.5),
                ],
            }],
        };
        assert_eq!(
            table(&[status]).render(false),
            "pump@1.0.0\tabc\ttemperature\t0.500\t1.0e-9\talarm\tmoved far\n\
             pump@1.0.0\tfleet\ttemperature\t0.123\t-\twarning\t1 of 3 devices alarm on it\n"
        );
    }
}
