//! The parsers that read JSON: `json`, `json a="path"`, `unpack`.

use std::hash::BuildHasher;

use hashbrown::HashTable;
use pilothouse_model::limits::{LOG_JSON_KEYS, LOG_LINE_DEPTH};
use rustc_hash::FxBuildHasher;

use crate::entry::{Entry, JSON_ERROR, PRESERVE_ERROR_SYM};
use crate::hints::{Hints, Parsing};
use crate::json_scan::{Broken, Kind, Scan, label_value, unescape};
use crate::names::{Names, Sym};

/// Why an object was left before its end.
enum Stop {
    /// All labels that matter are there.
    Satisfied,
    /// A filter refuses the line.
    Refused,
    Broken(Broken),
}

impl From<Broken> for Stop {
    fn from(broken: Broken) -> Self {
        Self::Broken(broken)
    }
}

type KeyId = u32;
const ROOT: KeyId = 0;

/// A key where it stands, as `request.headers.User-Agent`, and the label it makes.
struct KnownKey {
    parent: KeyId,
    /// As written between the quotes.
    raw: Box<str>,
    /// Sanitised, with the keys above it; empty only where no label can come of it.
    label: String,
    sym: Option<Sym>,
    wanted: bool,
    /// Wanted where the plain name is taken.
    wanted_extracted: bool,
    wanted_below: bool,
    /// The key that came after this one last time: most lines of a stream look alike.
    next: KeyId,
}

/// What one `json` stage has seen of keys.
#[derive(Default)]
pub(crate) struct KeyCache {
    keys: Vec<KnownKey>,
    index: HashTable<KeyId>,
    last: KeyId,
}

fn hash(parent: KeyId, raw: &str) -> u64 {
    FxBuildHasher.hash_one((parent, raw))
}

impl KeyCache {
    pub(crate) fn clear(&mut self) {
        self.keys.clear();
        self.index.clear();
        self.last = ROOT;
    }

    fn begin(&mut self) {
        if self.keys.len() > LOG_JSON_KEYS {
            self.clear();
        }
        if self.keys.is_empty() {
            self.keys.push(KnownKey {
                parent: ROOT,
                raw: Box::from(""),
                label: String::new(),
                sym: None,
                wanted: false,
                wanted_extracted: false,
                wanted_below: true,
                next: ROOT,
            });
        }
        self.last = ROOT;
    }

    #[inline]
    fn find(&mut self, parent: KeyId, raw: &str, escaped: bool, hints: &Hints, names: &mut Names) -> KeyId {
        let guess = self.keys[self.last as usize].next;
        let guessed = &self.keys[guess as usize];
        if guess != ROOT && guessed.parent == parent && &*guessed.raw == raw {
            self.last = guess;
            return guess;
        }
        let keys = &self.keys;
        let known = self.index.find(hash(parent, raw), |id| {
            let key = &keys[*id as usize];
            key.parent == parent && &*key.raw == raw
        });
        let id = match known {
            Some(id) => *id,
            None => self.learn(parent, raw, escaped, hints, names),
        };
        self.keys[self.last as usize].next = id;
        self.last = id;
        id
    }

    fn learn(&mut self, parent: KeyId, raw: &str, escaped: bool, hints: &Hints, names: &mut Names) -> KeyId {
        let arena = bumpalo::Bump::new();
        let plain = if escaped { unescape(raw, &arena).unwrap_or("") } else { raw };
        let mut label = self.keys[parent as usize].label.clone();
        let blank = plain.trim().is_empty();
        if !blank && !label.is_empty() {
            label.push('_');
        }
        push_sanitised(&mut label, plain);
        let sym = (!label.is_empty()).then(|| names.sym(&label));
        let id = self.keys.len() as KeyId;
        let wanted = sym.is_some_and(|s| hints.wants(s));
        let wanted_extracted = hints.wants_extracted(&label);
        let wanted_below = hints.wants_below(&label);
        let raw = Box::from(raw);
        self.keys.push(KnownKey {
            parent,
            raw,
            label,
            sym,
            wanted,
            wanted_extracted,
            wanted_below,
            next: ROOT,
        });
        let keys = &self.keys;
        let rehash = |id: &KeyId| hash(keys[*id as usize].parent, &keys[*id as usize].raw);
        let own = rehash(&id);
        self.index.insert_unique(own, id, rehash);
        id
    }
}

/// Appends a key as a label name: blanks round it gone, a digit in front gets `_` before it,
/// every character that no label may hold becomes one `_`.
pub(crate) fn push_sanitised(label: &mut String, key: &str) {
    let key = key.trim();
    if label.is_empty() && key.starts_with(|c: char| c.is_ascii_digit()) {
        label.push('_');
    }
    label.extend(key.chars().map(|c| if c.is_ascii_alphanumeric() || c == '_' { c } else { '_' }));
}

/// Marks an entry whose line could not be parsed.
pub(crate) fn fail(entry: &mut Entry<'_>, error: &'static str, details: Option<&str>, hints: &Hints) {
    entry.fail(error, details);
    if hints.preserve_error {
        entry.set(PRESERVE_ERROR_SYM, "true");
    }
}

/// The label a parsed key is stored as, if it is wanted and not there yet.
#[inline]
pub(crate) fn admit(entry: &Entry<'_>, sym: Sym, hints: &Hints, names: &mut Names) -> Option<Sym> {
    let sym = if entry.is_taken(sym) { names.extracted(sym) } else { sym };
    (hints.wants(sym) && !entry.was_parsed(sym)).then_some(sym)
}

/// Stores a parsed label; `false` if a check refuses it.
#[inline]
pub(crate) fn store<'a>(entry: &mut Entry<'a>, sym: Sym, value: &'a str, parsing: Parsing<'_>) -> bool {
    entry.set(sym, value);
    parsing.hints.found(entry, sym);
    parsing.goes_on(sym, entry)
}

struct Walk<'w, 'a> {
    scan: Scan<'a>,
    parsing: Parsing<'w>,
    keys: &'w mut KeyCache,
    names: &'w mut Names,
}

/// Runs `json` on an entry; `false` if a filter refuses the line by what was found.
pub(crate) fn json<'a>(
    entry: &mut Entry<'a>,
    parsing: Parsing<'_>,
    keys: &mut KeyCache,
    names: &mut Names,
) -> bool {
    if parsing.hints.is_satisfied(entry) {
        return true;
    }
    keys.begin();
    entry.reserve_parsed(16);
    let mut walk = Walk { scan: Scan { text: entry.line }, parsing, keys, names };
    let walked = walk.scan.enter(0).map_err(Stop::from).and_then(|at| walk.object(entry, at, ROOT, 0));
    match walked {
        Ok(_) | Err(Stop::Satisfied) => true,
        Err(Stop::Refused) => false,
        Err(Stop::Broken(details)) => {
            fail(entry, JSON_ERROR, Some(details), parsing.hints);
            true
        }
    }
}

impl<'a> Walk<'_, 'a> {
    /// Reads an object from behind its brace to its end.
    fn object(&mut self, entry: &mut Entry<'a>, at: usize, parent: KeyId, depth: u32) -> Result<usize, Stop> {
        let mut at = at;
        loop {
            let key = match self.scan.key(at)? {
                Ok(key) => key,
                Err(end) => return Ok(end),
            };
            let id = self.keys.find(parent, key.raw, key.escaped, self.parsing.hints, self.names);
            let (kind, start, end) = self.scan.value(key.value_at)?;
            let behind = match kind {
                Kind::Object => self.nested(entry, start, id, depth)?,
                Kind::Array | Kind::Null => {
                    self.check_satisfied(entry)?;
                    end
                }
                Kind::Text(_) | Kind::Number | Kind::Bool => {
                    let stored = self.scalar(entry, id, kind, start, end);
                    // All that is wanted goes before what a filter says.
                    self.check_satisfied(entry)?;
                    stored?;
                    end + usize::from(matches!(kind, Kind::Text(_)))
                }
            };
            at = match self.scan.after_value(behind)? {
                Ok(next) => next,
                Err(end) => return Ok(end),
            };
        }
    }

    fn check_satisfied(&self, entry: &Entry<'_>) -> Result<(), Stop> {
        if self.parsing.hints.is_satisfied(entry) { Err(Stop::Satisfied) } else { Ok(()) }
    }

    /// An object within one. If it has no end, none of its labels are kept.
    fn nested(&mut self, entry: &mut Entry<'a>, start: usize, id: KeyId, depth: u32) -> Result<usize, Stop> {
        if depth >= LOG_LINE_DEPTH {
            return Err(Stop::Broken("too deeply nested"));
        }
        if !self.keys.keys[id as usize].wanted_below {
            return Ok(self.scan.object_end(start)?);
        }
        let before = (entry.parsed_len(), entry.required_found);
        let walked = self.object(entry, start + 1, id, depth + 1);
        if walked.is_err()
            && depth == 0
            && let Err(broken) = self.scan.object_end(start)
        {
            entry.rollback_parsed(before.0);
            entry.required_found = before.1;
            return Err(Stop::Broken(broken));
        }
        walked
    }

    #[inline]
    fn scalar(
        &mut self,
        entry: &mut Entry<'a>,
        id: KeyId,
        kind: Kind,
        start: usize,
        end: usize,
    ) -> Result<(), Stop> {
        let key = &self.keys.keys[id as usize];
        let Some(sym) = key.sym.filter(|_| key.wanted || key.wanted_extracted) else { return Ok(()) };
        let label = match entry.is_taken(sym) {
            true if key.wanted_extracted => self.names.extracted(sym),
            false if key.wanted => sym,
            _ => return Ok(()),
        };
        if entry.was_parsed(label) {
            return Ok(());
        }
        let raw = self.scan.slice(start, end);
        let value = match kind {
            Kind::Text(escaped) => label_value(raw, escaped, entry.arena),
            _ => raw,
        };
        if label == sym {
            entry.push_parsed(label, value);
        } else {
            entry.set(label, value);
        }
        self.parsing.hints.found(entry, label);
        if self.parsing.goes_on(label, entry) { Ok(()) } else { Err(Stop::Refused) }
    }
}

/// One step of a path: a key, or an index into an array.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Step {
    Key(String),
    Index(usize),
}

/// `json a="x.y[0]"`.
#[derive(Debug)]
pub(crate) struct JsonPaths {
    pub(crate) paths: Vec<(Sym, Vec<Step>)>,
}

impl JsonPaths {
    pub(crate) fn run<'a>(&self, entry: &mut Entry<'a>, hints: &Hints, names: &mut Names) {
        if entry.line.is_empty() || hints.is_satisfied(entry) {
            return;
        }
        if !matches!(entry.line.as_bytes().first(), Some(b'"' | b'{' | b'[')) {
            return fail(entry, JSON_ERROR, None, hints);
        }
        let scan = Scan { text: entry.line };
        let mut found = 0;
        for (sym, path) in &self.paths {
            let value = match resolve(scan, 0, path) {
                Ok(Some((Kind::Null, ..))) => "",
                Ok(Some((Kind::Object, start, _))) => match scan.object_end(start) {
                    Ok(end) => scan.slice(start, end),
                    Err(broken) => {
                        fail(entry, JSON_ERROR, Some(broken), hints);
                        continue;
                    }
                },
                Ok(Some((_, start, end))) => label_value(scan.slice(start, end), true, entry.arena),
                Ok(None) => continue,
                Err(broken) => {
                    fail(entry, JSON_ERROR, Some(broken), hints);
                    continue;
                }
            };
            found += 1;
            let sym = if entry.is_taken(*sym) { names.extracted(*sym) } else { *sym };
            if !entry.was_parsed(sym) {
                hints.found(entry, sym);
            }
            entry.set(sym, value);
        }
        if found < self.paths.len() {
            for (sym, _) in &self.paths {
                if entry.get(*sym).is_none() {
                    entry.set(*sym, "");
                    hints.found(entry, *sym);
                }
            }
        }
    }
}

type Located = Option<(Kind, usize, usize)>;

/// The value at the end of a path. A break before it makes it missing; a break in the value
/// itself is an error.
fn resolve(scan: Scan<'_>, at: usize, path: &[Step]) -> Result<Located, Broken> {
    let Some((step, rest)) = path.split_first() else { return Ok(None) };
    match (step, scan.token(at)) {
        (Step::Key(wanted), Some((at, b'{'))) => {
            let mut at = at + 1;
            while let Ok(Ok(key)) = scan.key(at) {
                let arena = bumpalo::Bump::new();
                let plain = if key.escaped { unescape(key.raw, &arena) } else { Some(key.raw) };
                let matches = plain == Some(wanted.as_str());
                if matches && rest.is_empty() {
                    return scan.value(key.value_at).map(Some);
                }
                if matches && let Some(found) = resolve(scan, key.value_at, rest)? {
                    return Ok(Some(found));
                }
                let Ok((kind, start, end)) = scan.value(key.value_at) else { return Ok(None) };
                let Ok(behind) = scan.value_end(kind, start, end) else { return Ok(None) };
                match scan.after_value(behind) {
                    Ok(Ok(next)) => at = next,
                    _ => return Ok(None),
                }
            }
            Ok(None)
        }
        (Step::Index(wanted), Some((at, b'['))) => {
            let (mut i, mut element) = (0, None);
            scan.elements(at, |kind, start, end| {
                if i == *wanted {
                    element = Some((kind, start, end));
                }
                i += 1;
                element.is_none()
            });
            match element {
                Some(found) if rest.is_empty() => Ok(Some(found)),
                Some((_, start, _)) => resolve(scan, start, rest),
                None => Ok(None),
            }
        }
        _ => Ok(None),
    }
}

/// Reads a path expression: `a.b`, `a["odd key"].c`, `[0].x`.
pub(crate) fn parse_path(text: &str) -> Result<Vec<Step>, String> {
    let mut steps = Vec::new();
    let mut rest = text.trim_start();
    let word =
        |text: &str| text.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).unwrap_or(text.len());
    let unexpected = |text: &str| match text.chars().next() {
        Some(c) => format!("unexpected char {c}"),
        None => "syntax error: unexpected $end".to_owned(),
    };
    while !rest.is_empty() {
        if let Some(inner) = rest.strip_prefix('[') {
            let inner = inner.trim_start();
            let behind = if let Some(quoted) = inner.strip_prefix('"') {
                let end = quoted.find(['"', ']']).ok_or_else(|| unexpected(""))?;
                steps.push(Step::Key(quoted[..end].to_owned()));
                &quoted[end + 1..]
            } else {
                let end = inner.find(|c: char| !c.is_ascii_digit()).unwrap_or(inner.len());
                let index = inner[..end].parse().map_err(|_| unexpected(inner))?;
                steps.push(Step::Index(index));
                &inner[end..]
            };
            rest = behind.trim_start().strip_prefix(']').ok_or_else(|| unexpected(behind))?.trim_start();
            continue;
        }
        if !steps.is_empty() {
            rest = rest.strip_prefix('.').ok_or_else(|| unexpected(rest))?.trim_start();
        }
        let end = word(rest);
        if end == 0 || rest.starts_with(|c: char| c.is_ascii_digit()) {
            return Err(unexpected(rest));
        }
        steps.push(Step::Key(rest[..end].to_owned()));
        rest = rest[end..].trim_start();
    }
    if steps.is_empty() { Err(unexpected("")) } else { Ok(steps) }
}

/// Runs `unpack`: texts of the object become labels if it holds `_entry`, which becomes the line.
pub(crate) fn unpack(entry: &mut Entry<'_>, parsing: Parsing<'_>, names: &mut Names) -> bool {
    let hints = parsing.hints;
    if entry.line.is_empty() || hints.is_satisfied(entry) {
        return true;
    }
    if !entry.line.starts_with('{') {
        fail(entry, JSON_ERROR, Some("expecting json object(6), but it is not"), hints);
        return true;
    }
    match packed(entry, hints, names) {
        Err(broken) => fail(entry, JSON_ERROR, Some(broken), hints),
        Ok((None, _)) => {}
        Ok((Some(line), labels)) => {
            for (sym, value) in labels {
                if !entry.was_parsed(sym) {
                    hints.found(entry, sym);
                }
                entry.set(sym, value);
                if !parsing.goes_on(sym, entry) {
                    return false;
                }
            }
            entry.line = line;
        }
    }
    true
}

type Packed<'a> = (Option<&'a str>, Vec<(Sym, &'a str)>);

fn packed<'a>(entry: &Entry<'a>, hints: &Hints, names: &mut Names) -> Result<Packed<'a>, Broken> {
    let scan = Scan { text: entry.line };
    let (mut line, mut labels) = (None, Vec::new());
    let mut at = scan.enter(0)?;
    while let Ok(key) = scan.key(at)? {
        let (kind, start, end) = scan.value(key.value_at)?;
        if let Kind::Text(escaped) = kind {
            let raw = scan.slice(start, end);
            if key.raw == "_entry" {
                line = Some(
                    unescape(raw, entry.arena).ok_or("Encountered an invalid escape sequence in a string")?,
                );
            } else {
                let mut label = String::with_capacity(key.raw.len());
                push_sanitised(&mut label, key.raw);
                let sym = names.sym(&label);
                if let Some(sym) = admit(entry, sym, hints, names) {
                    labels.push((sym, label_value(raw, escaped, entry.arena)));
                }
            }
        }
        match scan.after_value(scan.value_end(kind, start, end)?)? {
            Ok(next) => at = next,
            Err(_) => break,
        }
    }
    Ok((line, labels))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_read() {
        let key = |k: &str| Step::Key(k.to_owned());
        for (text, steps) in [
            ("a", vec![key("a")]),
            ("a.b", vec![key("a"), key("b")]),
            ("a[0].b", vec![key("a"), Step::Index(0), key("b")]),
            (r#"["odd-key"].z"#, vec![key("odd-key"), key("z")]),
            ("[1][2]", vec![Step::Index(1), Step::Index(2)]),
        ] {
            assert_eq!(parse_path(text), Ok(steps), "{text}");
        }
        for bad in ["", ".a", "a..b", "a[", "a[x]", "a-b", "1a"] {
            assert!(parse_path(bad).is_err(), "{bad}");
        }
    }
}
