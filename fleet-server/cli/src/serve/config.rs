//! The server's configuration out of its sources: defaults, then the file, then environment
//! and flags.

use std::path::PathBuf;

use clap::Args;
use drover_api::OperatorRole;
use drover_server::{BrokerConfig, Config, OidcConfig};

use super::Serve;
use crate::error::{CliError, Result};
use crate::{file, parse};

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
    config.require_approval |= args.require_approval;
    if let Some(percent) = args.max_unstaged_share {
        config.max_unstaged_share = f64::from(percent) / 100.0;
    }
    args.oidc.apply(&mut config)?;
    config.check()?;
    Ok(config)
}

/// Where operators log in apart from the server itself.
#[derive(Debug, Args)]
pub(super) struct Oidc {
    /// Address of an OpenID Connect issuer, as it names itself in its tokens
    #[arg(long, value_name = "URL", env = "DROVER_OIDC_ISSUER")]
    oidc_issuer: Option<String>,
    /// What the issuer calls this server
    #[arg(long, value_name = "ID", env = "DROVER_OIDC_CLIENT_ID")]
    oidc_client_id: Option<String>,
    /// File with the client's secret, where the issuer insists on one
    #[arg(long, value_name = "FILE", env = "DROVER_OIDC_CLIENT_SECRET_FILE")]
    oidc_client_secret_file: Option<PathBuf>,
    /// Claim that names a person's groups [default: groups]
    #[arg(long, value_name = "CLAIM")]
    oidc_role_claim: Option<String>,
    /// Group whose members have a role, such as admin=fleet-admins; may be repeated
    #[arg(long = "oidc-role", value_name = "ROLE=GROUP", value_parser = parse::role_group)]
    oidc_roles: Vec<(OperatorRole, String)>,
}

impl Oidc {
    fn apply(&self, config: &mut Config) -> Result<()> {
        let given = self.oidc_issuer.is_some()
            || self.oidc_client_id.is_some()
            || self.oidc_client_secret_file.is_some()
            || self.oidc_role_claim.is_some()
            || !self.oidc_roles.is_empty();
        if !given {
            return Ok(());
        }
        let named = config.oidc.take();
        let mut oidc = match (&self.oidc_issuer, &self.oidc_client_id, named) {
            (_, _, Some(named)) => named,
            (Some(issuer), Some(client), None) => OidcConfig::new(issuer, client),
            _ => {
                let why = "name the issuer as well: --oidc-issuer and --oidc-client-id";
                return Err(CliError::Usage(why.to_owned()));
            }
        };
        set(&mut oidc.issuer, &self.oidc_issuer);
        set(&mut oidc.client_id, &self.oidc_client_id);
        set(&mut oidc.role_claim, &self.oidc_role_claim);
        if self.oidc_client_secret_file.is_some() {
            oidc.client_secret_file
                .clone_from(&self.oidc_client_secret_file);
        }
        for (role, group) in &self.oidc_roles {
            oidc.roles.entry(*role).or_default().push(group.clone());
        }
        config.oidc = Some(oidc);
        Ok(())
    }
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
