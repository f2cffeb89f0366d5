//! Groups as they are read, files that change, and a daemon that knows containers.

use std::time::Duration;

use pilothouse_model::Labels;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::{ADDRESS, Discovery, Group, file, start};
use crate::config::sections::{FileSection, JobSection};

fn section(yaml: &str) -> JobSection {
    serde_norway::from_str(&format!("{{job_name: j, {yaml}}}")).unwrap()
}

fn addresses(groups: &[Group]) -> Vec<String> {
    groups.iter().flat_map(Group::addresses).map(str::to_owned).collect()
}

#[test]
fn lists_in_json_and_yaml() {
    let also = ("__meta_url", "u");
    let json = br#"[{"targets": ["a:1", "b:2"], "labels": {"x": "y"}}, {"targets": []}]"#;
    let groups = Group::list_from_json(json, also).unwrap();
    assert_eq!(addresses(&groups), ["a:1", "b:2"]);
    assert_eq!(groups[0].labels, Labels::from_pairs([("x", "y"), ("__meta_url", "u")]));
    assert_eq!(groups.len(), 2);
    let groups = Group::list_from_yaml("- targets: ['a:1']\n  labels: {n: 7}\n", also).unwrap();
    assert_eq!(groups[0].labels.value("n"), "7");
    assert!(Group::list_from_yaml("", also).unwrap().is_empty());
    for (bad, why) in [
        (&b"[null]"[..], "nil target group item found"),
        (b"[{\"target\": []}]", "unknown field `target`"),
        (b"{}", "expected a sequence"),
        (b"[{\"labels\": {\"\": \"x\"}}]", "is not a valid label name"),
    ] {
        let error = Group::list_from_json(bad, also).unwrap_err().to_string();
        assert!(error.contains(why), "{error}");
    }
}

#[tokio::test]
async fn files_are_read_again_when_they_change_and_kept_while_they_are_broken() {
    let directory = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(directory.path().join(name), text).unwrap();
    write("a.json", r#"[{"targets": ["a:1"]}]"#);
    let section = FileSection { files: vec!["*.json".into(), "b.yml".into()], ..FileSection::default() };
    let settings = file::Settings::new(&section, directory.path()).unwrap();
    let mut files = file::Files::new(&settings, 1 << 20);
    let first = files.refresh().await.unwrap().unwrap();
    assert_eq!(addresses(&first), ["a:1"]);
    let path = directory.path().join("a.json").display().to_string();
    assert_eq!(first[0].labels, Labels::from_pairs([("__meta_filepath", path)]));
    assert_eq!(files.refresh().await.unwrap(), None);
    write("b.yml", "- targets: ['b:1', 'b:2']\n");
    assert_eq!(addresses(&files.refresh().await.unwrap().unwrap()), ["a:1", "b:1", "b:2"]);
    write("a.json", "[{ broken");
    assert_eq!(addresses(&files.refresh().await.unwrap().unwrap()), ["a:1", "b:1", "b:2"]);
    std::fs::remove_file(directory.path().join("a.json")).unwrap();
    assert_eq!(addresses(&files.refresh().await.unwrap().unwrap()), ["b:1", "b:2"]);
    let small = file::Files::new(&settings, 3).refresh().await.unwrap().unwrap();
    assert!(small.is_empty(), "too long a file is no file");
}

const CONTAINERS: &str = r#"[
 {"Id": "web", "Names": ["/web"], "Image": "nginx", "ImageID": "sha256:1", "Labels": {"com.docker.x": "y"},
  "HostConfig": {"NetworkMode": "front"},
  "Ports": [{"IP": "0.0.0.0", "PrivatePort": 80, "PublicPort": 8080, "Type": "tcp"}, {"PrivatePort": 53, "Type": "udp"}],
  "NetworkSettings": {"Networks": {"front": {"NetworkID": "n1", "IPAddress": "10.0.0.2"}, "back": null}}},
 {"Id": "side", "Names": ["/side"], "HostConfig": {"NetworkMode": "container:web"}, "NetworkSettings": {"Networks": {}}},
 {"Id": "host", "Names": ["/host"], "HostConfig": {"NetworkMode": "host"},
  "NetworkSettings": {"Networks": {"host": {"NetworkID": "n2", "IPAddress": ""}}}},
 {"Id": "two", "Names": ["/two"], "HostConfig": {"NetworkMode": "b"},
  "NetworkSettings": {"Networks": {"b": {"NetworkID": "n1", "GlobalIPv6Address": "fd00::1"},
                                   "c": {"NetworkID": "n1", "IPAddress": "10.0.0.9"}}}},
 {"Id": "nameless", "Names": null, "HostConfig": {}}
]"#;
const NETWORKS: &str =
    r#"[{"Id": "n1", "Name": "front", "Scope": "local", "Internal": true, "Labels": {"a-b": "c"}}]"#;

/// A daemon on a socket that knows these containers.
async fn daemon(socket: tokio::net::UnixListener) {
    loop {
        let Ok((mut stream, _)) = socket.accept().await else { return };
        let mut request = vec![0; 4096];
        let read = stream.read(&mut request).await.unwrap_or(0);
        let asked = String::from_utf8_lossy(&request[..read]).into_owned();
        let body = if asked.starts_with("GET /networks") { NETWORKS } else { CONTAINERS };
        assert!(
            asked.starts_with("GET /networks")
                || asked.contains("filters=%7B%22status%22%3A%7B%22running%22%3Atrue"),
            "{asked}"
        );
        let head = format!(
            "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        let _ = stream.write_all([head.as_bytes(), body.as_bytes()].concat().as_slice()).await;
    }
}

#[tokio::test]
async fn containers_of_a_daemon() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("docker.sock");
    let serving = tokio::spawn(daemon(tokio::net::UnixListener::bind(&path).unwrap()));
    let yaml = format!(
        "docker_sd_configs: [{{host: 'unix://{}', filters: [{{name: status, values: [running]}}]}}]",
        path.display()
    );
    let discoveries = Discovery::of(&section(&yaml), directory.path()).unwrap();
    let (found, tasks) = start(&discoveries, "j", 1 << 20, &Default::default());
    tokio::time::timeout(Duration::from_secs(10), found.changed.notified()).await.unwrap();
    let targets: Vec<Labels> = found.groups()[0][0].targets.clone();
    let shown: Vec<&str> = targets.iter().map(|t| t.value(ADDRESS)).collect();
    assert_eq!(shown, ["10.0.0.2:80", "10.0.0.2:80", "localhost", "[fd00::1]:80"]);
    for (name, value) in [
        ("__meta_docker_container_id", "web"),
        ("__meta_docker_container_name", "/web"),
        ("__meta_docker_container_image", "nginx"),
        ("__meta_docker_container_label_com_docker_x", "y"),
        ("__meta_docker_container_network_mode", "front"),
        ("__meta_docker_network_id", "n1"),
        ("__meta_docker_network_name", "front"),
        ("__meta_docker_network_internal", "true"),
        ("__meta_docker_network_label_a_b", "c"),
        ("__meta_docker_network_ip", "10.0.0.2"),
        ("__meta_docker_port_private", "80"),
        ("__meta_docker_port_public", "8080"),
        ("__meta_docker_port_public_ip", "0.0.0.0"),
    ] {
        assert_eq!(targets[0].value(name), value, "{name}");
    }
    assert_eq!(targets[1].value("__meta_docker_container_name"), "/side");
    tasks.iter().for_each(tokio::task::JoinHandle::abort);
    serving.abort();
}
