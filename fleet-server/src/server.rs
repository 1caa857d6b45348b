//! Brings a server up and takes it down.
//!
//! The order is: check everything that a person may have to mend (configuration, keys, data
//! folder, ports), then the database, then the parts that run. A failure leaves nothing
//! running and nothing half-written.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use tokio::net::TcpListener;
use tokio::sync::{Notify, mpsc, watch};
use tokio::task::JoinSet;

use crate::broker::{Broker, EmbeddedBroker, Endpoint, ExternalBroker, Gate, Login};
use crate::catalog::Catalogs;
use crate::certificate::{self, Limits};
use crate::config::{BrokerConfig, Config};
use crate::data_dir::DataDir;
use crate::error::listen_hint;
use crate::identity::Identity;
use crate::link::Link;
use crate::metrics::Metrics;
use crate::operator::Operators;
use crate::publisher::Publishers;
use crate::roots::Roots;
use crate::state::Core;
use crate::store::Store;
use crate::tls::{self, Authority, Front, FrontLimits, HttpListener, Peer, ServerCertificate};
use crate::{ServerError, catalog, clock, dispatch, http, ingest, random, rollout, transfer};

/// Messages of devices that wait at most.
const INCOMING: usize = 1024;

/// A running server. Dropping it ends it at once; [`Server::shutdown`] ends it in order.
pub struct Server {
    core: Arc<Core>,
    http: SocketAddr,
    stop: watch::Sender<bool>,
    tasks: JoinSet<&'static str>,
}

/// Starts a server.
///
/// # Errors
/// Any [`ServerError`]; nothing is left running then.
pub async fn start(config: Config) -> Result<Server, ServerError> {
    config.check()?;
    let operators = Operators::new(&config)?;
    let data = Arc::new(DataDir::open(&config.data_dir)?);
    let roots = Arc::new(Roots::open(data.clone(), &config.root)?);
    let identity = Identity::load(roots.clone(), &config)?;
    let listener = listen(config.http_listen).await?;
    let http = listener.local_addr().unwrap_or(config.http_listen);
    let store = Store::open(&data.database(), identity.fleet()).await?;
    transfer::restart_sequences(&store, &roots).await?;
    let operator_token = data.operator_token()?;
    let metrics = Arc::new(Metrics::default());
    let authority = Arc::new(Authority::open(&data, identity.fleet())?);
    let certificate = ServerCertificate::issue(&authority, &store, names(&config)).await?;
    let parts = BrokerParts {
        config: &config,
        store: &store,
        metrics: &metrics,
        authority: &authority,
        certificate: &certificate,
    };
    let (broker, broker_authorities) = parts.broker().await?;
    let https = match config.plain_http {
        true => None,
        false => Some(tls::server_config(&authority, certificate.clone(), false)?),
    };
    let connections = config.http_connections;
    let listener = HttpListener::new(listener, https, store.clone(), metrics.clone(), connections);
    let listener = listener.map_err(|source| ServerError::Listen {
        what: "the REST interface",
        addr: http,
        hint: listen_hint(&source),
        source,
    })?;
    let (sender, incoming) = mpsc::channel(INCOMING);
    let (link, link_task) = Link::new(broker.as_ref(), sender, metrics.clone());
    let core = Arc::new(Core {
        config,
        identity,
        roots,
        catalogs: Catalogs::default(),
        data,
        store: store.clone(),
        authority: authority.clone(),
        broker_authorities,
        broker,
        link,
        metrics,
        publishers: Publishers::default(),
        replan: Notify::new(),
        seen: Mutex::default(),
        sent: Mutex::default(),
        trusted: Mutex::default(),
        limits: Limits::default(),
        operator_token,
        operators,
        started_unix_ms: clock::unix_ms(),
    });

    let (stop, mut stopped) = watch::channel(false);
    let mut tasks = JoinSet::new();
    let router = http::router(core.clone()).into_make_service_with_connect_info::<Peer>();
    tasks.spawn(async move {
        let end = async move {
            // An error means that the server is gone, which ends it as well.
            let _ = stopped.wait_for(|stop| *stop).await;
        };
        let served = axum::serve(listener, router).with_graceful_shutdown(end);
        if let Err(error) = served.await {
            tracing::error!(%error, "the REST interface failed");
        }
        "REST interface"
    });
    spawn(&mut tasks, "broker link", link_task.run());
    spawn(&mut tasks, "ingest", ingest::run(core.clone(), incoming));
    spawn(&mut tasks, "planner", rollout::run(core.clone()));
    spawn(&mut tasks, "resync", dispatch::resync(core.clone()));
    spawn(&mut tasks, "catalog", catalog::run(core.clone()));
    let fresh = certificate.keep_fresh(authority, store);
    spawn(&mut tasks, "server certificate", fresh);
    let revocations = certificate::keep_revocations(core.clone());
    spawn(&mut tasks, "revocation list", revocations);
    tracing::info!(%http, fleet = core.identity.fleet(), "server started");
    Ok(Server {
        core,
        http,
        stop,
        tasks,
    })
}

impl Server {
    /// Address of the REST interface.
    pub fn http_addr(&self) -> SocketAddr {
        self.http
    }

    /// Address of the embedded broker; none for an external one.
    pub fn broker_addr(&self) -> Option<SocketAddr> {
        self.core.broker.local_addr()
    }

    /// Waits until a part of the server ends, which none does by itself.
    ///
    /// # Errors
    /// Always [`ServerError::Ended`].
    pub async fn wait(&mut self) -> Result<(), ServerError> {
        match self.tasks.join_next().await {
            Some(Ok(name)) => Err(ServerError::Ended(name)),
            Some(Err(_)) => Err(ServerError::Ended("task")),
            None => Ok(()),
        }
    }

    /// Ends the server: requests under way are answered, the broker closes, the database is
    /// flushed.
    pub async fn shutdown(mut self) {
        self.stop.send_replace(true);
        let patience = std::time::Duration::from_secs(5);
        let answered = async {
            while let Some(ended) = self.tasks.join_next().await {
                if matches!(ended, Ok("REST interface")) {
                    return;
                }
            }
        };
        if tokio::time::timeout(patience, answered).await.is_err() {
            tracing::warn!("requests were cut off");
        }
        self.tasks.shutdown().await;
        self.core.publishers.close().await;
        if self.core.broker.local_addr().is_some()
            && let Err(error) = self.core.broker.stop().await
        {
            tracing::warn!(%error, "the broker did not stop in order");
        }
        self.core.store.close().await;
        tracing::info!("server stopped");
    }
}

fn spawn(
    tasks: &mut JoinSet<&'static str>,
    name: &'static str,
    part: impl Future<Output = ()> + Send + 'static,
) {
    tasks.spawn(async move {
        part.await;
        name
    });
}

async fn listen(addr: SocketAddr) -> Result<TcpListener, ServerError> {
    TcpListener::bind(addr)
        .await
        .map_err(|source| ServerError::Listen {
            what: "the REST interface",
            addr,
            hint: listen_hint(&source),
            source,
        })
}

/// What a broker is made of.
struct BrokerParts<'a> {
    config: &'a Config,
    store: &'a Store,
    metrics: &'a Arc<Metrics>,
    authority: &'a Arc<Authority>,
    certificate: &'a Arc<ServerCertificate>,
}

impl BrokerParts<'_> {
    /// The broker, started if it is ours, and the authorities that vouch for it.
    async fn broker(&self) -> Result<(Box<dyn Broker>, Vec<Vec<u8>>), ServerError> {
        let own = vec![self.authority.certificate().to_vec()];
        match &self.config.broker {
            BrokerConfig::Embedded => {
                let gate = Gate::new()?;
                let front = Front::new(
                    tls::server_config(self.authority, self.certificate.clone(), true)?,
                    self.store.clone(),
                    self.metrics.clone(),
                    FrontLimits {
                        connections: self.config.mqtt_connections,
                        handshakes: self.config.mqtt_handshakes,
                    },
                    gate.front_password(),
                );
                let listen = self.config.mqtt_listen;
                let clients = self.config.mqtt_connections;
                let broker = EmbeddedBroker::new(listen, gate, front, clients);
                broker.start().await?;
                Ok((Box::new(broker), own))
            }
            BrokerConfig::External {
                host,
                port,
                username,
                password,
                plain,
                tls,
                revocation_list,
            } => {
                let (tls, authorities) = match (plain, tls) {
                    (true, _) => (None, own),
                    (false, Some(files)) => {
                        let (config, authorities) = tls::client_config_of(files)?;
                        (Some(config), authorities)
                    }
                    (false, None) => (Some(self.certificate.client_config(self.authority)?), own),
                };
                let is_ours = self.config.broker.is_of_own_authority();
                let broker = ExternalBroker {
                    endpoint: Endpoint {
                        host: host.clone(),
                        port: *port,
                        tls,
                    },
                    login: Login {
                        client_id: format!("drover-server-{}", random::id()?),
                        credentials: username
                            .clone()
                            .map(|user| (user, password.clone().unwrap_or_default())),
                    },
                    revocation_list: revocation_list.clone(),
                    authority: is_ours.then(|| self.authority.clone()),
                    store: self.store.clone(),
                };
                Ok((Box::new(broker), authorities))
            }
        }
    }
}

/// Every name and address that the server's certificate is for.
fn names(config: &Config) -> Vec<String> {
    let mut names: Vec<String> = ["localhost", "127.0.0.1", "::1"].map(str::to_owned).into();
    names.extend(config.tls_names.iter().cloned());
    names.extend(config.advertised_broker_host.clone());
    for addr in [config.http_listen, config.mqtt_listen] {
        if !addr.ip().is_unspecified() {
            names.push(addr.ip().to_string());
        }
    }
    names.sort();
    names.dedup();
    names
}
