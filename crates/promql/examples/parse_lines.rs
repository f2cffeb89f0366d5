use std::io::BufRead;
fn main() {
    let ctx = pilothouse_promql::ParseContext::default();
    for line in std::io::stdin().lock().lines() {
        let l = line.unwrap();
        let q: String = l.replace("\\n", "\n");
        if let Err(e) = pilothouse_promql::parse(&q, &ctx) {
            println!("{l}\n   {e}");
        }
    }
}
