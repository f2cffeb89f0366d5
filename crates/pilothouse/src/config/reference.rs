//! The list of keys shown: the configuration in force, a commented sample, a reference page.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use pilothouse_model::limits::{BOUNDS, Limits};

use super::layers::LIMITS;
use super::settings::{Change, KEYS, Key, Settings, variable_of};

/// Width at which help wraps in the sample.
const WIDTH: usize = 96;

/// A file that says these settings; where a place is known, it stands behind the value.
pub(crate) fn yaml(settings: &Settings, origins: &BTreeMap<String, String>) -> String {
    let mut out = String::new();
    let mut open = "";
    for key in KEYS {
        let Some(value) = settings.show(key.name) else { continue };
        let (mapping, name) = split(key);
        if mapping != open && !mapping.is_empty() {
            let _ = writeln!(out, "{mapping}:");
        }
        open = mapping;
        let indent = if mapping.is_empty() { "" } else { "  " };
        let _ = writeln!(out, "{indent}{name}: {value}{}", comment(origins, key.name));
    }
    out.push_str("limits:\n");
    for info in Limits::LIST {
        let value = settings.limits.get(info.name).unwrap_or(info.default);
        let place = comment(origins, &format!("{LIMITS}{}", info.name));
        let _ = writeln!(out, "  {}: {value}{place}", info.name);
    }
    out
}

fn comment(origins: &BTreeMap<String, String>, key: &str) -> String {
    origins.get(key).map(|place| format!("  # {place}")).unwrap_or_default()
}

/// The mapping in which a key stands, empty for the file itself, and its name in there.
fn split(key: &Key) -> (&'static str, &'static str) {
    key.name.split_once('.').unwrap_or(("", key.name))
}

/// A file in which every key stands with its default, or with an example, commented out.
pub(crate) fn sample() -> String {
    let defaults = Settings::default();
    let mut out = String::from(
        "# Every key of Pilothouse with its default. A key without a default shows an example.\n\
         # `pilothouse config check FILE` tells what is wrong with a file.\n",
    );
    let (mut group, mut open) = ("", "");
    for key in KEYS {
        if key.group != group {
            let _ = write!(out, "\n# ---- {} ----\n", key.group);
            group = key.group;
        }
        let (mapping, name) = split(key);
        if mapping != open && !mapping.is_empty() {
            let _ = write!(out, "\n#{mapping}:\n");
        }
        open = mapping;
        let indent = if mapping.is_empty() { "" } else { "  " };
        let value = defaults.show(key.name).unwrap_or_else(|| key.example.to_owned());
        out.push('\n');
        wrap(&mut out, indent, key.help);
        let _ = writeln!(out, "#{indent}{name}: {value}");
    }
    out.push_str("\n# ---- Limits ----\n\n#limits:\n");
    for info in Limits::LIST {
        out.push('\n');
        wrap(&mut out, "  ", info.help);
        let _ = writeln!(out, "#  {}: {}  # {}", info.name, info.default, info.unit);
    }
    out
}

fn wrap(out: &mut String, indent: &str, help: &str) {
    let mut line = format!("# {indent}");
    let start = line.len();
    for word in help.split_whitespace() {
        if line.len() > start && line.len() + 1 + word.len() > WIDTH {
            let _ = writeln!(out, "{line}");
            line.truncate(start);
        }
        if line.len() > start {
            line.push(' ');
        }
        line.push_str(word);
    }
    let _ = writeln!(out, "{line}");
}

const HEAD: &str = "\
# Configuration

<!-- Made by `pilothouse config reference`; a test compares. -->

One YAML file, given by `--config FILE` or `PILOTHOUSE_CONFIG`. Every key is a flag of `pilothouse serve` too, and a variable
of the environment: `rule_files` is `--rule-files` and `PILOTHOUSE_RULE_FILES`, `synthetic.probe_name` is
`--synthetic-probe-name` and `PILOTHOUSE_SYNTHETIC_PROBE_NAME`. A flag wins over the environment, the environment over the file,
the file over the default. Limits are `--limit NAME=VALUE`, and `PILOTHOUSE_LIMITS_` with the name; two of them have short forms
too: `--max-active-series`, `max_active_series`, `PILOTHOUSE_MAX_ACTIVE_SERIES`, and the same of `max_log_streams`. In a flag or a variable, the members of a list have commas between them, and a
mapping is `name=text` with commas between.

- A key that is not known, or a value that will not do, stops the start. All that is wrong is told at once, with file and line.
- `${NAME}` in a value of the file is the variable of that name, `${NAME:-text}` has a default, `$${` stands for `${`. A variable that
  is not there is an error. `${1}` and the like stay, as relabelling needs them.
- A secret may be `file:` and a path; the file's content, without white space around it, is the secret.
- `pilothouse config check FILE` reads a file, and the files of rules and alerting that it names, and tells what is wrong.
- `pilothouse config print --effective` shows what would be in force and where each value comes from, `--defaults` the defaults,
  `--sample` a [commented file](pilothouse.example.yaml).
- SIGHUP and `POST /-/reload` read everything again. All of it takes effect or nothing does; what is wrong is in the answer
  and in the server's log. Keys that need a restart are named there when they changed.

The server's own log goes to standard error and is quiet; `PILOTHOUSE_LOG=info` makes it talk.
";

/// The reference page in Markdown.
pub(crate) fn markdown() -> String {
    let defaults = Settings::default();
    let mut out = String::from(HEAD);
    let mut group = "";
    for key in KEYS {
        if key.group != group {
            let _ = writeln!(out, "\n## {}", key.group);
            group = key.group;
        }
        let _ = writeln!(out, "\n### `{}`\n\n{}\n", key.name, key.help);
        match defaults.show(key.name) {
            Some(value) => _ = writeln!(out, "- default: `{value}`"),
            None => _ = writeln!(out, "- default: unsaid; for example `{}`", key.example),
        }
        let _ = writeln!(out, "- holds {}", key.allowed);
        let _ = writeln!(out, "- `--{}`, `{}`", key.flag(), variable_of(key.name));
        if key.change == Change::Reload {
            out.push_str("- may change at a reload\n");
        }
    }
    limits(&mut out);
    bounds(&mut out);
    out
}

fn limits(out: &mut String) {
    out.push_str(
        "\n## Limits\n\nKeys below `limits`. A reload takes them over, but for those marked *start*, which need a restart. Where \
         the unit is bytes, a value may have one of kB, MB, GB, KiB, MiB, GiB behind it; where it is ms, it may be a \
         duration.\n\n| key | default | unit | changes | |\n|---|---:|---|---|---|\n",
    );
    for info in Limits::LIST {
        let default = if info.default == u64::MAX { "none".to_owned() } else { info.default.to_string() };
        let changes = if info.is_live { "reload" } else { "start" };
        let _ = writeln!(out, "| `{}` | {default} | {} | {changes} | {} |", info.name, info.unit, info.help);
    }
}

fn bounds(out: &mut String) {
    out.push_str("\n## Fixed bounds\n\nWhat else is bounded, and cannot be configured.\n");
    let mut group = "";
    for bound in BOUNDS {
        if bound.group != group {
            let _ = writeln!(out, "\n### {}\n\n| name | value | unit | |\n|---|---:|---|---|", bound.group);
            group = bound.group;
        }
        let _ = writeln!(out, "| `{}` | {} | {} | {} |", bound.name, bound.value, bound.unit, bound.help);
    }
}
