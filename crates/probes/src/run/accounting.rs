//! How many series a check makes, by its class: what web apps multiply to foretell a bill.

use super::aggregates::SERIES_OF_A_HISTOGRAM;
use crate::words::CheckKind;

/// A kind of check over TLS or not, with all its histograms or the basic ones.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccountingClass {
    pub name: String,
    /// Numbers of the protocol: of the kind, and of what runs it (0 a prober, 1 a script).
    pub check_type: u32,
    pub check_class: u32,
    /// Of one check on one probe; of one request where a check has several.
    pub series: usize,
}

/// On every check: success, duration, the counters of runs, and `sm_check_info`.
const COMMON: usize = 5;
/// What TLS adds.
const TLS: usize = 5;

struct Kind {
    kind: CheckKind,
    check_type: u32,
    check_class: u32,
    /// Gauges besides those that all have, and how many of them have a histogram in full mode.
    gauges: usize,
    timed: usize,
    over_tls: bool,
}

const fn kind(kind: CheckKind, check_type: u32, gauges: usize, timed: usize, over_tls: bool) -> Kind {
    Kind { kind, check_type, check_class: 0, gauges, timed, over_tls }
}

const KINDS: [Kind; 7] = [
    kind(CheckKind::Dns, 0, 10, 4, false),
    kind(CheckKind::Http, 1, 15, 6, true),
    // The hop limit of a reply is seen by raw sockets alone.
    kind(CheckKind::Ping, 2, 12, 4, false),
    kind(CheckKind::Tcp, 3, 5, 1, true),
    kind(CheckKind::Traceroute, 4, 3, 0, false),
    Kind { check_class: 1, ..kind(CheckKind::MultiHttp, 6, 15, 6, false) },
    kind(CheckKind::Grpc, 7, 11, 3, true),
];

/// All classes of checks that this server runs.
pub fn accounting_classes() -> Vec<AccountingClass> {
    let mut classes = Vec::new();
    for Kind { kind, check_type, check_class, gauges, timed, over_tls } in &KINDS {
        for tls in [false, true].into_iter().filter(|tls| !tls || *over_tls) {
            let (name, tls) =
                if tls { (format!("{}_ssl", kind.name()), TLS) } else { (kind.name().to_owned(), 0) };
            let basic = COMMON + SERIES_OF_A_HISTOGRAM + gauges + tls;
            let full = basic + timed * SERIES_OF_A_HISTOGRAM;
            let class = |name: String, series| AccountingClass {
                name,
                check_type: *check_type,
                check_class: *check_class,
                series,
            };
            classes.push(class(format!("{name}_basic"), basic));
            classes.push(class(name, full));
        }
    }
    classes
}
