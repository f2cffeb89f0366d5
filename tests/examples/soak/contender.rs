//! Who is under load: our binary, or a peer.

use std::fs::{self, File};
use std::net::{SocketAddr, TcpListener};
use std::os::unix::process::ExitStatusExt as _;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use pilothouse_tests::{binary, request};
use tempfile::TempDir;

use crate::asked::Asked;
use crate::memory::{Group, Peak};
use crate::work::Signal;

/// How a server is started and spoken to. Words in braces are filled in.
struct Recipe {
    name: &'static str,
    arguments: &'static str,
    configuration: &'static str,
    ready: &'static str,
    samples: &'static str,
    /// Of the paths of Prometheus' query API.
    prefix: &'static str,
}

const OURS: Recipe = Recipe {
    name: "pilothouse",
    arguments: "serve --listen {addr} --data-dir {dir}/data --limit max_active_series=0 \
                --limit query_timeout_ms=30000",
    configuration: "",
    ready: "/ready",
    samples: "/api/v1/push",
    prefix: "/prometheus",
};

const PEERS: [Recipe; 3] = [
    Recipe {
        name: "prometheus",
        arguments: "--config.file={dir}/config.yml --storage.tsdb.path={dir}/data --web.listen-address={addr} \
                    --web.enable-remote-write-receiver --query.timeout=30s --log.level=error",
        configuration: "global:\n  scrape_interval: 15s\n",
        ready: "/-/ready",
        samples: "/api/v1/write",
        prefix: "",
    },
    Recipe {
        name: "victoria-metrics",
        arguments: "-storageDataPath={dir}/data -httpListenAddr={addr} -search.maxQueryDuration=30s \
                    -loggerLevel=ERROR",
        configuration: "",
        ready: "/health",
        samples: "/api/v1/write",
        prefix: "/prometheus",
    },
    Recipe {
        name: "loki",
        arguments: "-config.file={dir}/config.yml -target=all",
        configuration: LOKI,
        ready: "/ready",
        samples: "",
        prefix: "",
    },
];

/// One process, files, and no limits of rate: those are not what is measured.
const LOKI: &str = "\
auth_enabled: false
analytics: {reporting_enabled: false}
server:
  http_listen_address: 127.0.0.1
  http_listen_port: {port}
  grpc_listen_address: 127.0.0.1
  grpc_listen_port: {other_port}
  log_level: error
common:
  instance_addr: 127.0.0.1
  path_prefix: {dir}/data
  replication_factor: 1
  ring: {kvstore: {store: inmemory}}
  storage: {filesystem: {chunks_directory: {dir}/data/chunks, rules_directory: {dir}/data/rules}}
schema_config:
  configs:
    - {from: 2020-01-01, store: tsdb, object_store: filesystem, schema: v13, index: {prefix: index_, period: 24h}}
ingester:
  lifecycler: {min_ready_duration: 0s, final_sleep: 0s}
limits_config:
  ingestion_rate_mb: 4000
  ingestion_burst_size_mb: 4000
  per_stream_rate_limit: 2GB
  per_stream_rate_limit_burst: 2GB
  reject_old_samples: false
  query_timeout: 30s
";

/// Started again no more often than this.
const MOST_ENDS: usize = 200;
const LOOK_EVERY: Duration = Duration::from_millis(200);

pub(crate) struct Contender {
    pub(crate) name: &'static str,
    pub(crate) is_peer: bool,
    pub(crate) address: SocketAddr,
    recipe: &'static Recipe,
    memory_mib: u64,
    command: Vec<String>,
    log: Option<String>,
    running: Mutex<Running>,
    // Dropped in this order, the process is gone by then.
    group: Option<Group>,
    _directory: TempDir,
}

struct Running {
    child: Child,
    began: Instant,
    ends: Vec<String>,
    peak: Peak,
}

impl Contender {
    /// Starts it below the ceiling and waits until it is ready.
    pub(crate) fn start(asked: &Asked) -> Self {
        let (recipe, binary): (&'static Recipe, PathBuf) = match &asked.peer {
            None => (&OURS, binary()),
            Some((name, binary)) => {
                let recipe = PEERS.iter().find(|recipe| recipe.name == name).expect("a peer that is known");
                (recipe, binary.into())
            }
        };
        let directory = tempfile::tempdir().unwrap();
        let (address, other) = (free_address(), free_address());
        let filled = |text: &str| {
            text.replace("{addr}", &address.to_string())
                .replace("{port}", &address.port().to_string())
                .replace("{other_port}", &other.port().to_string())
                .replace("{dir}", directory.path().to_str().unwrap())
        };
        fs::create_dir(directory.path().join("data")).unwrap();
        fs::write(directory.path().join("config.yml"), filled(recipe.configuration)).unwrap();
        let mut command = vec![binary.to_str().unwrap().to_owned()];
        command.extend(filled(recipe.arguments).split_whitespace().map(str::to_owned));
        if asked.peer.is_none() && asked.share > 0 {
            command.extend(["--memory-limit".to_owned(), format!("{}MiB", asked.memory * asked.share / 100)]);
        }
        let group = Group::make(asked.memory);
        let child = spawn(&command, group.as_ref(), asked.log.as_deref());
        let running = Running { child, began: Instant::now(), ends: Vec::new(), peak: Peak::default() };
        let contender = Self {
            name: recipe.name,
            is_peer: asked.peer.is_some(),
            address,
            recipe,
            memory_mib: asked.memory,
            command,
            log: asked.log.clone(),
            running: Mutex::new(running),
            group,
            _directory: directory,
        };
        contender.wait_until_ready();
        contender
    }

    pub(crate) fn push_path(&self, signal: Signal) -> &'static str {
        match signal {
            Signal::Samples => self.recipe.samples,
            Signal::Lines => "/loki/api/v1/push",
        }
    }

    pub(crate) fn prefix(&self) -> &'static str {
        self.recipe.prefix
    }

    pub(crate) fn ceiling(&self) -> String {
        let how = if self.group.is_some() { "enforced by the kernel" } else { "watched" };
        format!("ceiling {} MiB, {how}", self.memory_mib)
    }

    /// Looks after it for as long as it is there.
    pub(crate) fn watch(self: &Arc<Self>) {
        let contender = Arc::downgrade(self);
        std::thread::spawn(move || {
            while let Some(contender) = contender.upgrade() {
                contender.look();
                drop(contender);
                std::thread::sleep(LOOK_EVERY);
            }
        });
    }

    fn look(&self) {
        let mut running = self.running.lock().unwrap();
        let process = running.child.id();
        running.peak.look(process, self.group.as_ref());
        let Ok(Some(status)) = running.child.try_wait() else { return };
        if running.ends.len() >= MOST_ENDS {
            return;
        }
        let how = status.signal().map_or_else(|| status.to_string(), |signal| format!("signal {signal}"));
        let text = format!("after {} s by {how}", running.began.elapsed().as_secs());
        println!("ended {text}, started again");
        running.ends.push(text);
        running.child = spawn(&self.command, self.group.as_ref(), self.log.as_deref());
    }

    pub(crate) fn peak(&self) -> Peak {
        self.running.lock().unwrap().peak
    }

    pub(crate) fn ends(&self) -> Vec<String> {
        self.running.lock().unwrap().ends.clone()
    }

    /// How often the kernel has killed for memory.
    pub(crate) fn kills(&self) -> u64 {
        self.group.as_ref().map_or(0, Group::kills)
    }

    /// `kill -9`, nothing is flushed; the next one runs below the same ceiling.
    pub(crate) fn kill_and_start(&self) {
        {
            let mut running = self.running.lock().unwrap();
            let _ = running.child.kill();
            let _ = running.child.wait();
            running.child = spawn(&self.command, self.group.as_ref(), self.log.as_deref());
        }
        self.wait_until_ready();
    }

    fn wait_until_ready(&self) {
        let deadline = Instant::now() + Duration::from_secs(300);
        while Instant::now() < deadline {
            if request(self.address, "GET", self.recipe.ready, &[], b"")
                .is_ok_and(|answer| answer.status == 200)
            {
                return;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        println!("not ready within five minutes");
    }
}

impl Drop for Contender {
    fn drop(&mut self) {
        let running = self.running.get_mut().unwrap();
        let _ = running.child.kill();
        let _ = running.child.wait();
    }
}

/// In the group from its first instruction on, so that it finds its ceiling.
fn spawn(command: &[String], group: Option<&Group>, log: Option<&str>) -> Child {
    let mut starting = match group {
        None => Command::new(&command[0]),
        Some(group) => {
            let mut shell = Command::new("sh");
            shell.args(["-c", "echo $$ > \"$0\" && exec \"$@\""]).arg(group.door()).arg(&command[0]);
            shell
        }
    };
    let told = log.map_or_else(Stdio::null, |path| {
        Stdio::from(File::options().create(true).append(true).open(path).unwrap())
    });
    starting.args(&command[1..]).stdout(Stdio::null()).stderr(told).spawn().unwrap()
}

fn free_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}
