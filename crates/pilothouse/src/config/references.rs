//! `${NAME}` in values of the file: the text of a variable of the environment.
//!
//! `${NAME:-text}` is the text where there is no such variable, `$${` stands for `${`, and `${1}`
//! stays, since it names no variable but what a rule of relabelling captured. Keys are
//! not looked at, and the result is one value whatever is in it: a variable cannot add lines.

use pilothouse_rules::format::yaml::{Content, Node};

use super::values::Wrong;

/// Asks for a variable of the environment.
pub(crate) type Lookup<'a> = dyn Fn(&str) -> Option<String> + 'a;

/// The same tree with references replaced.
pub(crate) fn expand(node: &Node, lookup: &Lookup<'_>) -> Result<Node, Wrong> {
    let content = match &node.content {
        Content::Scalar { text, plain } => Content::Scalar {
            text: expand_text(text, lookup).map_err(|why| Wrong::at(node, why))?,
            plain: *plain,
        },
        Content::Sequence(items) => {
            Content::Sequence(items.iter().map(|item| expand(item, lookup)).collect::<Result<_, _>>()?)
        }
        Content::Mapping(pairs) => {
            let pair = |(key, value): &(Node, Node)| Ok((key.clone(), expand(value, lookup)?));
            Content::Mapping(pairs.iter().map(pair).collect::<Result<_, _>>()?)
        }
    };
    Ok(Node { at: node.at, content })
}

fn expand_text(text: &str, lookup: &Lookup<'_>) -> Result<String, String> {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("${") {
        let (before, reference) = rest.split_at(at);
        if let Some(before) = before.strip_suffix('$') {
            out.push_str(before);
            out.push_str("${");
            rest = reference.get(2..).unwrap_or("");
            continue;
        }
        out.push_str(before);
        let end = reference.find('}').ok_or_else(|| format!("{text:?} has a ${{ without its }}"))?;
        let inside = reference.get(2..end).unwrap_or("");
        if !inside.is_empty() && inside.bytes().all(|b| b.is_ascii_digit()) {
            out.push_str(reference.get(..=end).unwrap_or(""));
        } else {
            out.push_str(&value_of(inside, lookup)?);
        }
        rest = reference.get(end + 1..).unwrap_or("");
    }
    out.push_str(rest);
    Ok(out)
}

fn value_of(inside: &str, lookup: &Lookup<'_>) -> Result<String, String> {
    let (name, otherwise) = match inside.split_once(":-") {
        Some((name, otherwise)) => (name, Some(otherwise)),
        None => (inside, None),
    };
    if name.is_empty() || !name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') {
        return Err(format!("${{{inside}}} does not name a variable; $${{ stands for ${{"));
    }
    lookup(name)
        .or_else(|| otherwise.map(str::to_owned))
        .ok_or_else(|| format!("the environment has no variable {name}; ${{{name}:-text}} has a default"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_are_replaced() {
        let lookup = |name: &str| (name == "A").then(|| "1: 2".to_owned());
        for (text, expected) in [
            ("x", Ok("x")),
            ("${A}", Ok("1: 2")),
            ("<${A}|${B:-none}>", Ok("<1: 2|none>")),
            ("$${A} $1 ${B:-}", Ok("${A} $1 ")),
            ("${1}-${A}", Ok("${1}-1: 2")),
            ("${B}", Err("no variable B")),
            ("${A", Err("without its }")),
            ("${a b}", Err("does not name a variable")),
        ] {
            match (expand_text(text, &lookup), expected) {
                (Ok(found), Ok(expected)) => assert_eq!(found, expected),
                (Err(found), Err(expected)) => assert!(found.contains(expected), "{found}"),
                (found, _) => panic!("{text}: {found:?}"),
            }
        }
    }
}
