//! What the server says of itself in Prometheus' words: build, runtime, configuration.

use crate::App;
use crate::answer::success_object;
use crate::json::push_object;
use crate::reply::Reply;

/// Grafana takes the server for Mimir by `application` and by features that are texts.
pub(crate) fn build_info(app: &App) -> Reply {
    success_object(|object| {
        object.text("application", "Grafana Mimir");
        // Grafana compares this with versions of Mimir and of Prometheus.
        object.text("version", "3.0.0");
        object.texts(app.settings.build.members());
        object.object("features", |features| {
            features.texts([
                ("ruler_config_api", "true"),
                ("alertmanager_config_api", "true"),
                ("query_sharding", "false"),
                ("federated_rules", "false"),
            ]);
        });
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
    success_object(|object| {
        object.texts([
            ("startTime", time(app.started_ms).as_str()),
            ("CWD", &directory),
            ("hostname", hostname.trim()),
            ("serverTime", &time(app.now_ms())),
            ("lastConfigTime", &time(app.settings.configuration.since_ms())),
            ("GOMEMLIMIT", ""),
            ("GOGC", ""),
            ("GODEBUG", ""),
            ("storageRetention", &retention),
        ]);
        object.integer("corruptionCount", 0);
        object.count("goroutineCount", threads);
        object.count("GOMAXPROCS", threads);
        object.flag("reloadConfigSuccess", app.settings.configuration.is_good());
    })
}

pub(crate) fn config(app: &App) -> Reply {
    success_object(|object| object.text("yaml", &app.settings.configuration.yaml()))
}

pub(crate) fn flags() -> Reply {
    success_object(|_| {})
}

/// The one inside, as soon as it is there.
pub(crate) fn alertmanagers(app: &App) -> Reply {
    let url = app.alertmanager().ok().map(|am| am.external_url());
    success_object(|object| {
        object.list("activeAlertmanagers", url, |out, url| {
            push_object(out, |object| object.text("url", &format!("{url}/api/v2/alerts")));
        });
        object.list("droppedAlertmanagers", None::<()>, |_, ()| {});
    })
}
