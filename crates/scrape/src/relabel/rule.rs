//! One rule: what may be written, what is refused, and the compiled form.

use pilothouse_model::labels::{is_legacy_label_name, is_legacy_metric_name, quote};
use pilothouse_model::matcher::{Anchoring, CapturingPattern};
use serde::{Deserialize, Deserializer};

use crate::config::text::{optional_text, text};

const DEFAULT_SEPARATOR: &str = ";";
const DEFAULT_REGEX: &str = "(.*)";
const DEFAULT_REPLACEMENT: &str = "$1";

/// A rule that cannot be obeyed, in Prometheus' words.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct RuleError(String);

/// Which names are names: anything, or letters, digits and underscores alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum NameScheme {
    #[default]
    Utf8,
    Legacy,
}

impl NameScheme {
    pub fn is_label_name(self, name: &str) -> bool {
        match self {
            Self::Utf8 => !name.is_empty(),
            Self::Legacy => is_legacy_label_name(name),
        }
    }

    pub fn is_metric_name(self, name: &str) -> bool {
        match self {
            Self::Utf8 => !name.is_empty(),
            Self::Legacy => is_legacy_metric_name(name),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Action {
    #[default]
    Replace,
    Keep,
    Drop,
    KeepEqual,
    DropEqual,
    HashMod,
    LabelMap,
    LabelDrop,
    LabelKeep,
    Lowercase,
    Uppercase,
}

impl Action {
    const ALL: [(Self, &'static str); 11] = [
        (Self::Replace, "replace"),
        (Self::Keep, "keep"),
        (Self::Drop, "drop"),
        (Self::KeepEqual, "keepequal"),
        (Self::DropEqual, "dropequal"),
        (Self::HashMod, "hashmod"),
        (Self::LabelMap, "labelmap"),
        (Self::LabelDrop, "labeldrop"),
        (Self::LabelKeep, "labelkeep"),
        (Self::Lowercase, "lowercase"),
        (Self::Uppercase, "uppercase"),
    ];

    pub fn as_str(self) -> &'static str {
        Self::ALL.iter().find(|(action, _)| *action == self).map_or("", |(_, name)| name)
    }
}

impl<'de> Deserialize<'de> for Action {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let said = String::deserialize(from)?;
        let found = Self::ALL.iter().find(|(_, name)| said.eq_ignore_ascii_case(name));
        found
            .map(|(action, _)| *action)
            .ok_or_else(|| serde::de::Error::custom(format!("unknown relabel action {}", quote(&said))))
    }
}

/// A rule as it is written.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RuleSpec {
    pub source_labels: Option<Vec<String>>,
    #[serde(deserialize_with = "text")]
    pub separator: String,
    /// `None` where none is given, which is `(.*)`; what is given as nothing matches nothing.
    #[serde(deserialize_with = "optional_text")]
    pub regex: Option<String>,
    pub modulus: u64,
    #[serde(deserialize_with = "text")]
    pub target_label: String,
    #[serde(deserialize_with = "text")]
    pub replacement: String,
    pub action: Action,
    /// Not written with the rule: it is the job's.
    #[serde(skip)]
    pub names: NameScheme,
}

impl Default for RuleSpec {
    fn default() -> Self {
        Self {
            source_labels: None,
            separator: DEFAULT_SEPARATOR.to_owned(),
            regex: None,
            modulus: 0,
            target_label: String::new(),
            replacement: DEFAULT_REPLACEMENT.to_owned(),
            action: Action::Replace,
            names: NameScheme::Utf8,
        }
    }
}

impl RuleSpec {
    fn validate(&self) -> Result<(), RuleError> {
        use Action::{DropEqual, HashMod, KeepEqual, LabelMap, Lowercase, Replace, Uppercase};
        let (action, target) = (self.action, self.target_label.as_str());
        let refuse = |text: String| Err(RuleError(text));
        let has_variable = target.contains('$');
        let plain_target = matches!(action, Lowercase | Uppercase | KeepEqual | DropEqual);
        if action == HashMod && self.modulus == 0 {
            return refuse("relabel configuration for hashmod requires non-zero modulus".to_owned());
        }
        if (plain_target || matches!(action, Replace | HashMod)) && target.is_empty() {
            let action = action.as_str();
            return refuse(format!(
                "relabel configuration for {action} action requires 'target_label' value"
            ));
        }
        let target_holds = match action {
            Replace if has_variable => self.is_name_template(target),
            Replace | HashMod => self.names.is_label_name(target),
            _ if plain_target => self.names.is_label_name(target),
            _ => true,
        };
        // Prometheus asks this of hashmod last; only the order of refusals differs.
        if !target_holds {
            return refuse(format!(
                "{} is invalid 'target_label' for {} action",
                quote(target),
                action.as_str()
            ));
        }
        if plain_target && self.replacement != DEFAULT_REPLACEMENT {
            return refuse(format!("'replacement' can not be set for {} action", action.as_str()));
        }
        if action == LabelMap && !self.is_name_template(&self.replacement) {
            let replacement = quote(&self.replacement);
            return refuse(format!("{replacement} is invalid 'replacement' for labelmap action"));
        }
        self.validate_fields()
    }

    /// Actions that take some fields and no others.
    fn validate_fields(&self) -> Result<(), RuleError> {
        let action = self.action.as_str();
        let unset = self.modulus == 0
            && self.separator == DEFAULT_SEPARATOR
            && self.replacement == DEFAULT_REPLACEMENT;
        match self.action {
            Action::DropEqual | Action::KeepEqual if self.regex.is_some() || !unset => {
                Err(RuleError(format!(
                    "{action} action requires only 'source_labels' and `target_label`, and no other fields"
                )))
            }
            Action::LabelDrop | Action::LabelKeep
                if self.source_labels.is_some() || !self.target_label.is_empty() || !unset =>
            {
                Err(RuleError(format!("{action} action requires only 'regex', and no other fields")))
            }
            _ => Ok(()),
        }
    }

    /// A label name in which `$1` and `${1}` may stand for what is captured.
    fn is_name_template(&self, template: &str) -> bool {
        if self.names == NameScheme::Utf8 {
            return !template.is_empty();
        }
        let mut rest = template;
        let mut first = true;
        while let Some(c) = rest.chars().next() {
            let length = match c {
                '$' => match variable_length(rest) {
                    Some(length) => length,
                    None => return false,
                },
                'a'..='z' | 'A'..='Z' | '_' => 1,
                '0'..='9' if !first => 1,
                _ => return false,
            };
            first = false;
            rest = rest.get(length..).unwrap_or("");
        }
        !first
    }
}

/// The length of `$name` or `${name}` at the begin of a text.
fn variable_length(text: &str) -> Option<usize> {
    let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let inner = text.strip_prefix('$')?;
    if let Some(braced) = inner.strip_prefix('{') {
        let end = braced.find(|c| !is_word(c))?;
        return (end > 0 && braced[end..].starts_with('}')).then_some(end + 3);
    }
    let end = inner.find(|c| !is_word(c)).unwrap_or(inner.len());
    (end > 0).then_some(end + 1)
}

/// A rule that holds, ready to be applied.
#[derive(Debug, Clone)]
pub struct Rule {
    spec: RuleSpec,
    regex: CapturingPattern,
}

impl PartialEq for Rule {
    fn eq(&self, other: &Self) -> bool {
        self.spec == other.spec
    }
}

impl Rule {
    pub fn new(spec: RuleSpec) -> Result<Self, RuleError> {
        spec.validate()?;
        let regex = spec.regex.as_deref().unwrap_or(DEFAULT_REGEX);
        let regex = CapturingPattern::new(regex, Anchoring::Whole).map_err(|e| RuleError(e.to_string()))?;
        Ok(Self { spec, regex })
    }

    pub fn spec(&self) -> &RuleSpec {
        &self.spec
    }

    pub(super) fn is_match(&self, text: &str) -> bool {
        self.regex.is_match(text)
    }

    pub(super) fn expand(&self, text: &str, template: &str) -> Option<String> {
        self.regex.expand(text, template)
    }
}
