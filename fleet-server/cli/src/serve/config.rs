//! The server's configuration out of its sources: defaults, then the file, then environment
//! and flags.

use drover_server::{BrokerConfig, Config};

use super::Serve;
use crate::error::{CliError, Result};
use crate::file;

const MAX_CONFIG_BYTES: u64 = 1 << 20;

/// The configuration that `args` ask for.
pub(super) fn resolve(args: &Serve) -> Result<Config> {
    let mut config = match &args.config {
        None => Config::default(),
        Some(path) => {
            let bytes = file::read(path, MAX_CONFIG_BYTES, "a configuration")?;
            let text = String::from_utf8_lossy(&bytes);
            toml::from_str(&text).map_err(|source| CliError::Config {
                path: path.clone(),
                source: Box::new(source),
            })?
        }
    };
    set(&mut config.data_dir, &args.data);
    set(&mut config.root, &args.root);
    if let Some((first, next)) = args.fleet_keys.split_first() {
        config.fleet_key.clone_from(first);
        config.next_keys.extend(next.iter().cloned());
    }
    if let Some((first, next)) = args.catalog_keys.split_first() {
        config.catalog_key = Some(first.clone());
        config.next_keys.extend(next.iter().cloned());
    }
    if args.passphrase_file.is_some() {
        config.passphrase_file.clone_from(&args.passphrase_file);
    }
    set(&mut config.catalog_ttl_secs, &args.catalog_ttl);
    set(&mut config.http_listen, &args.http);
    config.plain_http |= args.plain_http;
    config.tls_names.extend(args.tls_names.iter().cloned());
    if let Some(mqtt) = args.mqtt {
        config.mqtt_listen = mqtt;
        config.broker = BrokerConfig::Embedded;
    }
    if let Some((host, port)) = &args.broker {
        match &mut config.broker {
            // What the file says of accounts and certificates goes with the flag's broker.
            BrokerConfig::External {
                host: named,
                port: at,
                ..
            } => (*named, *at) = (host.clone(), *port),
            BrokerConfig::Embedded => config.broker = BrokerConfig::external(host, *port),
        }
    }
    config.check()?;
    Ok(config)
}

fn set<T: Clone>(value: &mut T, given: &Option<T>) {
    if let Some(given) = given {
        value.clone_from(given);
    }
}

/// Host and port of `broker.example:8883`.
pub(super) fn broker(text: &str) -> std::result::Result<(String, u16), String> {
    let parts = text.rsplit_once(':');
    let parts = parts.and_then(|(host, port)| Some((host, port.parse().ok()?)));
    match parts {
        Some((host, port)) if !host.is_empty() && port != 0 => Ok((host.to_owned(), port)),
        _ => Err("write host and port: broker.example:8883".into()),
    }
}

/// The configuration to show: a password is there or not, and that is all.
pub(super) fn without_secrets(mut config: Config) -> Config {
    if let BrokerConfig::External {
        password: Some(password),
        ..
    } = &mut config.broker
    {
        *password = "(hidden)".to_owned();
    }
    config
}

/// Text of a configuration file, without secrets.
pub(super) fn to_toml(config: &Config) -> Result<String> {
    toml::to_string(&without_secrets(config.clone())).map_err(CliError::ShowConfig)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn brokers_have_host_and_port() {
        assert_eq!(broker("[::1]:1883"), Ok(("[::1]".into(), 1883)));
        assert!(
            ["", "host", ":1883", "host:0", "host:x"]
                .iter()
                .all(|t| broker(t).is_err())
        );
    }

    #[test]
    fn what_is_printed_reads_back_and_hides_the_password() {
        let config = Config {
            broker: BrokerConfig::External {
                host: "h".into(),
                port: 1,
                username: Some("u".into()),
                password: Some("hunter2".into()),
                plain: true,
                tls: None,
                revocation_list: None,
            },
            ..Config::default()
        };
        let text = to_toml(&config).unwrap();
        assert!(!text.contains("hunter2"), "{text}");
        toml::from_str::<Config>(&text).unwrap();
    }
}
