use crate::work::Signal;

/// What was asked for on the command line.
pub(crate) struct Asked {
    pub(crate) seconds: u64,
    pub(crate) calibrate: u64,
    pub(crate) times: u64,
    /// MiB, the kernel's ceiling.
    pub(crate) memory: u64,
    /// Percent of it that our server is told of; 0 leaves it to find the ceiling itself.
    pub(crate) share: u64,
    /// For each signal.
    pub(crate) connections: u64,
    pub(crate) queries: u64,
    pub(crate) late_ms: u64,
    pub(crate) signals: Vec<Signal>,
    /// A file for what the server says.
    pub(crate) log: Option<String>,
    /// Name and binary.
    pub(crate) peer: Option<(String, String)>,
}

impl Asked {
    pub(crate) fn read() -> Self {
        let mut asked = Self {
            seconds: 60,
            calibrate: 30,
            times: 2,
            memory: 512,
            share: 0,
            connections: 16,
            queries: 4,
            late_ms: 1_000,
            signals: vec![Signal::Samples, Signal::Lines],
            log: None,
            peer: None,
        };
        let words: Vec<String> = std::env::args().skip(1).collect();
        for pair in words.chunks(2) {
            let value = pair.get(1).unwrap_or_else(|| panic!("{} wants a value", pair[0]));
            asked.set(&pair[0], value);
        }
        asked
    }

    fn set(&mut self, name: &str, value: &str) {
        let number = || value.parse::<u64>().unwrap_or_else(|_| panic!("{name}: a number is wanted"));
        match name {
            "--seconds" => self.seconds = number(),
            "--calibrate" => self.calibrate = number().max(1),
            "--times" => self.times = number(),
            "--memory" => self.memory = number(),
            "--share" => self.share = number(),
            "--connections" => self.connections = number().max(1),
            "--queries" => self.queries = number(),
            "--late-ms" => self.late_ms = number(),
            "--log" => self.log = Some(value.to_owned()),
            "--signal" => self.signals = signals(value),
            "--peer" => {
                let (name, binary) = value.split_once('=').expect("--peer NAME=BINARY");
                self.signals = signals(if name == "loki" { "lines" } else { "samples" });
                self.peer = Some((name.to_owned(), binary.to_owned()));
            }
            _ => panic!("{name} is no flag"),
        }
    }
}

fn signals(text: &str) -> Vec<Signal> {
    match text {
        "samples" => vec![Signal::Samples],
        "lines" => vec![Signal::Lines],
        "both" => vec![Signal::Samples, Signal::Lines],
        _ => panic!("samples, lines or both"),
    }
}
