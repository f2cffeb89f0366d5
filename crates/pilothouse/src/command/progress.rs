//! How far long work is, on standard error: a bar where that is a terminal, else a line now and
//! then, and nothing where `--quiet` asks for it.

use std::io::IsTerminal as _;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use clap::Args;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use parking_lot::Mutex;
use pilothouse_disk::backup::Progress;

/// Between two looks at work that counts by itself.
pub(super) const BETWEEN_LOOKS: Duration = Duration::from_millis(250);
/// Between two lines where there is no terminal.
const BETWEEN_LINES: Duration = Duration::from_secs(10);
const MIB: u64 = 1 << 20;

#[derive(Debug, Clone, Args)]
pub(crate) struct Loudness {
    /// Do not tell how far it is
    #[arg(long)]
    pub(crate) quiet: bool,
}

/// The bar that is shown: a process has one standard error.
static SHOWN: Mutex<Option<ProgressBar>> = Mutex::new(None);

/// Prints a line on standard error, above the bar if there is one.
pub(super) fn say(line: &str) {
    match &*SHOWN.lock() {
        Some(bar) => bar.suspend(|| eprintln!("{line}")),
        None => eprintln!("{line}"),
    }
}

/// Shows how far one piece of work is. Dropped, it leaves nothing on a terminal.
#[derive(Debug)]
pub(super) struct Meter {
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    Quiet,
    Bar(ProgressBar),
    Lines(Instant),
}

impl Meter {
    pub(super) fn new(loudness: &Loudness) -> Self {
        let kind = match (loudness.quiet, std::io::stderr().is_terminal()) {
            (true, _) => Kind::Quiet,
            (false, false) => Kind::Lines(Instant::now()),
            (false, true) => {
                let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
                *SHOWN.lock() = Some(bar.clone());
                Kind::Bar(bar)
            }
        };
        Self { kind }
    }

    /// `share` is what is done of the whole, where that is known; `text` says it for people.
    pub(super) fn show(&mut self, share: Option<(u64, u64)>, text: impl FnOnce() -> String) {
        match &mut self.kind {
            Kind::Quiet => {}
            Kind::Bar(bar) => {
                let is_known = share.is_some_and(|(_, whole)| whole > 0);
                bar.set_style(style(is_known));
                if let Some((done, whole)) = share.filter(|_| is_known) {
                    bar.set_length(whole.max(done));
                    bar.set_position(done);
                }
                bar.set_message(text());
                bar.tick();
            }
            Kind::Lines(last) if last.elapsed() >= BETWEEN_LINES => {
                *last = Instant::now();
                match share.filter(|(_, whole)| *whole > 0) {
                    Some((done, whole)) => eprintln!("{} %, {}", percent(done, whole), text()),
                    None => eprintln!("{}", text()),
                }
            }
            Kind::Lines(_) => {}
        }
    }

    /// Bytes that are done of how many.
    pub(super) fn show_bytes(&mut self, done: u64, whole: u64) {
        self.show(Some((done, whole)), || format!("{} of {} MiB", done / MIB, whole.max(done) / MIB));
    }

    /// Shows how far work is that counts by itself on this thread.
    pub(super) fn during<T>(mut self, progress: &Progress, work: impl FnOnce() -> T) -> T {
        if matches!(self.kind, Kind::Quiet) {
            return work();
        }
        std::thread::scope(|scope| {
            let (done, wait) = channel::<()>();
            scope.spawn(move || {
                while wait.recv_timeout(BETWEEN_LOOKS) == Err(RecvTimeoutError::Timeout) {
                    self.show_bytes(progress.done_bytes(), progress.whole_bytes());
                }
            });
            let result = work();
            drop(done);
            result
        })
    }
}

impl Drop for Meter {
    fn drop(&mut self) {
        if let Kind::Bar(bar) = &self.kind {
            bar.finish_and_clear();
            *SHOWN.lock() = None;
        }
    }
}

fn percent(done: u64, whole: u64) -> u64 {
    (u128::from(done) * 100 / u128::from(whole.max(1))).min(100) as u64
}

fn style(is_known: bool) -> ProgressStyle {
    let template = match is_known {
        true => "{wide_bar} {percent} % {msg}, {eta} left",
        false => "{spinner} {msg}, {elapsed}",
    };
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_never_more_than_the_whole() {
        for (done, whole, expected) in [(0, 0, 0), (1, 3, 33), (5, 4, 100), (u64::MAX, u64::MAX, 100)] {
            assert_eq!(percent(done, whole), expected, "{done} of {whole}");
        }
    }

    #[test]
    fn every_style_can_be_read() {
        for is_known in [true, false] {
            let bar = ProgressBar::hidden();
            bar.set_style(style(is_known));
            bar.set_message("x");
            bar.tick();
        }
        assert!(ProgressStyle::with_template("{wide_bar} {percent} % {msg}, {eta} left").is_ok());
        assert!(ProgressStyle::with_template("{spinner} {msg}, {elapsed}").is_ok());
    }

    #[test]
    fn work_gives_what_it_makes_however_loud_it_is() {
        for quiet in [true, false] {
            let progress = Progress::default();
            let made = Meter::new(&Loudness { quiet }).during(&progress, || {
                progress.add_done(7);
                progress.done_bytes()
            });
            assert_eq!(made, 7);
        }
    }
}
