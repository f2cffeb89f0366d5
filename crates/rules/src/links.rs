//! Addresses of pages that show an expression.

/// A text as Go's `url.QueryEscape` writes it: a blank is a plus sign.
pub fn query_escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => out.push(char::from(byte)),
            b' ' => out.push('+'),
            _ => {
                const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
                out.push('%');
                for digit in [byte >> 4, byte & 15] {
                    out.push(char::from(DIGITS[usize::from(digit)]));
                }
            }
        }
    }
    out
}

/// The page with a graph, below the external URL.
pub fn graph(expr: &str) -> String {
    format!("/graph?g0.expr={}&g0.tab=0", query_escape(expr))
}

/// The page with a table, below the external URL.
pub fn table(expr: &str) -> String {
    format!("/graph?g0.expr={}&g0.tab=1", query_escape(expr))
}

/// The path of an address: `/a` of `http://host/a`.
pub fn path_of(url: &str) -> &str {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    rest.find('/').and_then(|at| rest.get(at..)).unwrap_or("")
}
