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

use crate::broker::{Broker, EmbeddedBroker, ExternalBroker, Gate, Login};
use crate::config::{BrokerConfig, Config};
use crate::data_dir::DataDir;
use crate::error::listen_hint;
use crate::identity::Identity;
use crate::link::Link;
use crate::metrics::Metrics;
use crate::publisher::Publishers;
use crate::state::Core;
use crate::store::Store;
use crate::{ServerError, clock, dispatch, http, ingest, random, rollout};

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
    let identity = Identity::load(&config.root, &config.fleet_key)?;
    let data = Arc::new(DataDir::open(&config.data_dir)?);
    let listener = listen(config.http_listen).await?;
    let http = listener.local_addr().unwrap_or(config.http_listen);
    let store = Store::open(&data.database(), identity.fleet()).await?;
    let operator_token = data.operator_token()?;
    let broker = broker(&config, &store).await?;

    let metrics = Arc::new(Metrics::default());
    let (sender, incoming) = mpsc::channel(INCOMING);
    let (link, link_task) = Link::new(broker.as_ref(), sender, metrics.clone());
    let core = Arc::new(Core {
        config,
        identity,
        data,
        store,
        broker,
        link,
        metrics,
        publishers: Publishers::default(),
        replan: Notify::new(),
        seen: Mutex::default(),
        sent: Mutex::default(),
        operator_token,
        started_unix_ms: clock::unix_ms(),
    });

    let (stop, mut stopped) = watch::channel(false);
    let mut tasks = JoinSet::new();
    let router = http::router(core.clone());
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

async fn broker(config: &Config, store: &Store) -> Result<Box<dyn Broker>, ServerError> {
    match &config.broker {
        BrokerConfig::Embedded => {
            let gate = Gate::new(store.clone())?;
            let broker = EmbeddedBroker::new(config.mqtt_listen, gate);
            broker.start().await?;
            Ok(Box::new(broker))
        }
        BrokerConfig::External {
            host,
            port,
            username,
            password,
        } => Ok(Box::new(ExternalBroker {
            host: host.clone(),
            port: *port,
            login: Login {
                client_id: format!("drover-server-{}", random::id()?),
                credentials: username
                    .clone()
                    .map(|user| (user, password.clone().unwrap_or_default())),
            },
        })),
    }
}
