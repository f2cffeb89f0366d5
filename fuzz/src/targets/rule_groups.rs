//! Rule groups as YAML from outside: reading and checking never panics, and what was read prints
//! as YAML that reads back to the same group.

use pilothouse_rules::Language;
use pilothouse_rules::format::{check_group, print_group, read_file, read_group};

use super::as_text;

pub fn run(data: &[u8]) {
    let text = as_text(data);
    let _ = read_file(text);
    let Ok(read) = read_group(text) else { return };
    for language in [Language::Promql, Language::Logql] {
        let _ = check_group(&read, language, 1);
    }
    let mut group = read.group;
    // What can never be stored is not printed.
    group.source_tenants.clear();
    if group.rules.iter().any(|rule| rule.record.is_empty() == rule.alert.is_empty()) {
        return;
    }
    let printed = print_group(&group);
    match read_group(&printed) {
        Ok(again) => assert_eq!(again.group, group, "{printed}"),
        Err(e) => panic!("{e}\n{printed}"),
    }
}
