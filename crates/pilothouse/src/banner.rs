//! What a newcomer reads when the server is up: where to push, where to query, what to try.

use crate::config::{AuthMode, Config};

/// `base` is where the server is reached. `token` is given when it was made just now; it is shown
/// this once.
pub(crate) fn text(config: &Config, base: &str, token: Option<&str>) -> String {
    let (mut header, mut lines) = (
        String::new(),
        vec![
            format!("Pilothouse {} is ready and serves {base}", env!("CARGO_PKG_VERSION")),
            format!("  metrics to {base}/api/v1/push            (Prometheus remote write)"),
            format!("  query at   {base}/prometheus             (a Grafana data source of type Prometheus)"),
            format!("  logs to    {base}/loki/api/v1/push       (Loki; OTLP at {base}/otlp)"),
            format!("  query at   {base}                        (a Grafana data source of type Loki)"),
            format!("  data in    {}", config.data_dir.display()),
        ],
    );
    if config.auth == AuthMode::Required {
        let shown = token.unwrap_or("$TOKEN");
        header = format!("-H 'X-Token: {shown}' ");
    }
    if let Some(token) = token {
        lines.push(format!("  root token {token}   (made now and kept in the data directory)"));
    }
    lines.push(format!("  try        curl {header}'{base}/prometheus/api/v1/query?query=up'"));
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Flags;

    #[test]
    fn the_line_to_try_is_complete() {
        let with = |auth: &str| {
            let values = vec![("auth".to_owned(), auth.to_owned())];
            crate::config::load(&Flags { values, ..Flags::default() }).unwrap()
        };
        let open = text(&with("off"), "http://127.0.0.1:9009", None);
        assert!(open.contains("  logs to    http://127.0.0.1:9009/loki/api/v1/push "), "{open}");
        assert!(open.ends_with("curl 'http://127.0.0.1:9009/prometheus/api/v1/query?query=up'"), "{open}");
        let closed = text(&with("required"), "http://127.0.0.1:9009", Some("t0"));
        assert!(closed.contains("curl -H 'X-Token: t0' 'http"), "{closed}");
    }
}
