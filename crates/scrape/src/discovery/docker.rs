//! `docker_sd_configs`: containers of a Docker daemon, asked over its socket or HTTP.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use ::http::HeaderMap;
use pilothouse_model::limits::DISCOVERY_SHARED_NETWORKS;
use pilothouse_model::{Labels, LabelsBuilder, Memory};
use pilothouse_net::HttpOptions;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::ask::Asker;
use super::group::ADDRESS;
use super::{DiscoveryError, Group, interval};
use crate::config;
use crate::config::sections::{DockerFilter, DockerSection};

#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// Without the path; what a socket is asked with names no real host.
    base: String,
    socket: Option<PathBuf>,
    port: u16,
    filters: Vec<DockerFilter>,
    host_networking_host: String,
    match_first_network: bool,
    refresh_interval: config::Duration,
    http: HttpOptions,
}

impl Settings {
    pub(super) fn new(section: &DockerSection, directory: &Path) -> Result<Self, String> {
        if section.host.is_empty() {
            return Err("host missing".to_owned());
        }
        let http = section.http(directory).map_err(|e| e.to_string())?;
        let (base, socket) = match section.host.split_once("://") {
            Some(("unix", path)) => ("http://docker".to_owned(), Some(PathBuf::from(path))),
            Some(("http" | "https", _)) => (section.host.trim_end_matches('/').to_owned(), None),
            Some(("tcp", host)) => (format!("http://{}", host.trim_end_matches('/')), None),
            _ => {
                return Err(format!("host {:?} is none of unix://, tcp://, http://, https://", section.host));
            }
        };
        Ok(Self {
            base,
            socket,
            port: section.port,
            filters: section.filters.clone(),
            host_networking_host: section.host_networking_host.clone(),
            match_first_network: section.match_first_network,
            refresh_interval: section.refresh_interval,
            http,
        })
    }

    pub(super) fn asker(&self, max_bytes: u64, memory: &Arc<Memory>) -> Asker {
        Asker::new(self.http.clone(), self.socket.clone(), max_bytes, memory)
    }

    /// The path of the list of containers, with the filters as the daemon reads them.
    fn containers_url(&self) -> String {
        let url = format!("{}/containers/json", self.base);
        if self.filters.is_empty() {
            return url;
        }
        let mut filters: BTreeMap<&str, BTreeMap<&str, bool>> = BTreeMap::new();
        for filter in &self.filters {
            let values = filters.entry(&filter.name).or_default();
            values.extend(filter.values.iter().map(|value| (value.as_str(), true)));
        }
        let filters = serde_json::to_string(&filters).unwrap_or_default();
        let query: String =
            form_urlencoded::Serializer::new(String::new()).append_pair("filters", &filters).finish();
        format!("{url}?{query}")
    }
}

#[derive(Debug)]
pub(super) struct Daemon {
    settings: Settings,
    asker: Asker,
}

impl Daemon {
    pub(super) fn new(settings: Settings, asker: Asker) -> Self {
        Self { settings, asker }
    }

    pub(super) fn interval(&self) -> Duration {
        interval(self.settings.refresh_interval)
    }

    pub(super) async fn refresh(&mut self) -> Result<Vec<Group>, DiscoveryError> {
        let containers: Vec<Container> = self.ask(&self.settings.containers_url()).await?;
        let networks: Vec<Network> = self.ask(&format!("{}/networks", self.settings.base)).await?;
        Ok(vec![Group { targets: targets(&containers, &networks, &self.settings), labels: Labels::empty() }])
    }

    async fn ask<T: DeserializeOwned>(&mut self, url: &str) -> Result<T, DiscoveryError> {
        let every = self.interval();
        let answer = self.asker.get(url, HeaderMap::new(), every).await?;
        serde_json::from_slice(&answer.body).map_err(|e| DiscoveryError::Malformed(format!("{url}: {e}")))
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct Container {
    id: String,
    names: Option<Vec<String>>,
    image: String,
    #[serde(rename = "ImageID")]
    image_id: String,
    labels: Option<BTreeMap<String, String>>,
    host_config: HostConfig,
    network_settings: Option<NetworkSettings>,
    ports: Option<Vec<Port>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct HostConfig {
    network_mode: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct NetworkSettings {
    networks: Option<BTreeMap<String, Option<Endpoint>>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Endpoint {
    #[serde(rename = "NetworkID")]
    network_id: String,
    #[serde(rename = "IPAddress")]
    ip: String,
    #[serde(rename = "GlobalIPv6Address")]
    ipv6: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Port {
    #[serde(rename = "IP")]
    ip: Option<String>,
    private_port: u16,
    public_port: Option<u16>,
    #[serde(rename = "Type")]
    kind: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct Network {
    id: String,
    name: String,
    scope: String,
    internal: bool,
    ingress: bool,
    labels: Option<BTreeMap<String, String>>,
}

impl Container {
    fn networks(&self) -> Vec<(&str, &Endpoint)> {
        let all = self.network_settings.as_ref().and_then(|settings| settings.networks.as_ref());
        all.into_iter().flatten().filter_map(|(name, n)| n.as_ref().map(|n| (name.as_str(), n))).collect()
    }

    /// Its own networks, or those of the container whose network it uses.
    fn reachable_by<'c>(&'c self, all: &'c [Container]) -> Vec<(&'c str, &'c Endpoint)> {
        let mut at = self;
        for _ in 0..DISCOVERY_SHARED_NETWORKS {
            let networks = at.networks();
            let other = at.host_config.network_mode.strip_prefix("container:");
            match other.and_then(|id| all.iter().find(|c| c.id == id)) {
                Some(next) if networks.is_empty() => at = next,
                _ => return networks,
            }
        }
        Vec::new()
    }

    fn labels(&self) -> Option<LabelsBuilder> {
        let name = self.names.as_ref()?.first()?;
        let mut labels = LabelsBuilder::default();
        labels
            .set("__meta_docker_container_id", &self.id)
            .set("__meta_docker_container_name", name)
            .set("__meta_docker_container_network_mode", &self.host_config.network_mode)
            .set("__meta_docker_container_image", &self.image)
            .set("__meta_docker_container_image_id", &self.image_id);
        for (name, value) in self.labels.iter().flatten() {
            labels.set(&format!("__meta_docker_container_label_{}", sanitized(name)), value);
        }
        Some(labels)
    }
}

impl Endpoint {
    fn address(&self) -> &str {
        if self.ip.is_empty() { &self.ipv6 } else { &self.ip }
    }
}

impl Network {
    fn add_to(&self, labels: &mut LabelsBuilder) {
        labels
            .set("__meta_docker_network_id", &self.id)
            .set("__meta_docker_network_name", &self.name)
            .set("__meta_docker_network_scope", &self.scope)
            .set("__meta_docker_network_internal", &self.internal.to_string())
            .set("__meta_docker_network_ingress", &self.ingress.to_string());
        for (name, value) in self.labels.iter().flatten() {
            labels.set(&format!("__meta_docker_network_label_{}", sanitized(name)), value);
        }
    }
}

/// One target a container, network and TCP port; one with the default port where a container
/// shows none.
pub(super) fn targets(containers: &[Container], networks: &[Network], settings: &Settings) -> Vec<Labels> {
    let mut targets = Vec::new();
    for container in containers {
        let Some(common) = container.labels() else { continue };
        let mut reachable = container.reachable_by(containers);
        if settings.match_first_network {
            reachable.truncate(1);
        }
        for (_, endpoint) in reachable {
            let mut labels = common.clone();
            labels.set("__meta_docker_network_ip", endpoint.address());
            if let Some(network) = networks.iter().find(|n| n.id == endpoint.network_id) {
                network.add_to(&mut labels);
            }
            let tcp: Vec<&Port> = container.ports.iter().flatten().filter(|p| p.kind == "tcp").collect();
            if tcp.is_empty() {
                let address = match container.host_config.network_mode.as_str() {
                    "host" => settings.host_networking_host.clone(),
                    _ => with_port(endpoint.address(), settings.port),
                };
                targets.push(labels.set(ADDRESS, &address).build());
            }
            targets.extend(tcp.into_iter().map(|port| of_port(labels.clone(), endpoint.address(), port)));
        }
    }
    targets
}

fn of_port(mut labels: LabelsBuilder, ip: &str, port: &Port) -> Labels {
    labels.set("__meta_docker_port_private", &port.private_port.to_string());
    if let Some(public) = port.public_port.filter(|number| *number > 0) {
        labels.set("__meta_docker_port_public", &public.to_string());
        labels.set("__meta_docker_port_public_ip", port.ip.as_deref().unwrap_or(""));
    }
    labels.set(ADDRESS, &with_port(ip, port.private_port)).build()
}

fn with_port(host: &str, port: u16) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

/// Names of Docker's labels hold dots and dashes; labels of metrics had better not.
fn sanitized(name: &str) -> String {
    name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect()
}
