//! What the server says of itself in Prometheus' words: build, runtime, configuration.

use pilothouse_model::Annotations;

use crate::App;
use crate::answer::success;
use crate::json::push_string;
use crate::reply::Reply;

/// Grafana takes the server for Mimir by `application` and by features that are texts.
pub(crate) fn build_info(app: &App) -> Reply {
    let build = &app.settings.build;
    ok(|out| {
        push_object(
            out,
            &[
                ("application", "Grafana Mimir"),
                // Grafana compares this with versions of Mimir and of Prometheus.
                ("version", "3.0.0"),
                ("revision", build.revision),
                ("branch", "main"),
                ("buildUser", "pilothouse"),
                ("buildDate", build.date),
                ("goVersion", ""),
                ("pilothouseVersion", build.version),
            ],
        );
        out.pop();
        out.push_str(",\"features\":");
        push_object(
            out,
            &[
                ("ruler_config_api", "true"),
                ("alertmanager_config_api", "true"),
                ("query_sharding", "false"),
                ("federated_rules", "false"),
            ],
        );
        out.push('}');
    })
}

pub(crate) fn runtime_info(app: &App) -> Reply {
    let time =
        |t_ms: i64| jiff::Timestamp::from_millisecond(t_ms).map_or_else(|_| String::new(), |t| t.to_string());
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let directory = std::env::current_dir().map(|d| d.display().to_string()).unwrap_or_default();
    let hostname = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let retention = match app.settings.configuration.retention_ms() {
        0 => "0s".to_owned(),
        ms => pilothouse_model::time::format_duration_ms(ms),
    };
    ok(|out| {
        push_object(
            out,
            &[
                ("startTime", &time(app.started_ms)),
                ("CWD", &directory),
                ("hostname", hostname.trim()),
                ("serverTime", &time(app.now_ms())),
                ("lastConfigTime", &time(app.settings.configuration.since_ms())),
                ("GOMEMLIMIT", ""),
                ("GOGC", ""),
                ("GODEBUG", ""),
                ("storageRetention", &retention),
            ],
        );
        out.pop();
        for (name, value) in [("corruptionCount", 0), ("goroutineCount", threads), ("GOMAXPROCS", threads)] {
            out.push_str(&format!(",\"{name}\":{value}"));
        }
        let is_good = app.settings.configuration.is_good();
        out.push_str(&format!(",\"reloadConfigSuccess\":{is_good}}}"));
    })
}

pub(crate) fn config(app: &App) -> Reply {
    ok(|out| push_object(out, &[("yaml", &app.settings.configuration.yaml())]))
}

pub(crate) fn flags() -> Reply {
    ok(|out| out.push_str("{}"))
}

/// The one inside, as soon as it is there.
pub(crate) fn alertmanagers(app: &App) -> Reply {
    let inside = app.alertmanager().ok().map(|am| am.engine());
    let url = inside.as_ref().and_then(|engine| engine.setup()).map(|setup| setup.external_url.as_ref());
    ok(|out| {
        out.push_str("{\"activeAlertmanagers\":[");
        if let Some(url) = url {
            push_object(out, &[("url", &format!("{url}/api/v2/alerts"))]);
        }
        out.push_str("],\"droppedAlertmanagers\":[]}");
    })
}

fn ok(data: impl FnOnce(&mut String)) -> Reply {
    success(&Annotations::default(), data)
}

fn push_object(out: &mut String, members: &[(&str, &str)]) {
    out.push('{');
    for (i, (name, value)) in members.iter().enumerate() {
        if i > 0 {
            out.push(',');
        }
        push_string(out, name);
        out.push(':');
        push_string(out, value);
    }
    out.push('}');
}
