//! A population of series that is harder to compress than a real one, for tests and measures:
//! a third constant, the rest counters, gauges and a share of floats that are pure noise.

/// SplitMix64: the same numbers on every machine.
#[derive(Debug, Clone)]
pub(crate) struct Rng(pub(crate) u64);

impl Rng {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Uniform in [0, 1), with 53 random bits.
    pub(crate) fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }

    pub(crate) fn one_in(&mut self, n: u64) -> bool {
        self.next().is_multiple_of(n)
    }

    /// Roughly normal, deviation 1.
    pub(crate) fn bell(&mut self) -> f64 {
        (0..4).map(|_| self.unit()).sum::<f64>().mul_add(1.732, -2.0 * 1.732)
    }
}

/// What a series of the mix is like, with its share in a hundred.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Class {
    Constant,
    SlowGauge,
    NoisyCounter,
    DecimalCounter,
    MemoryGauge,
    DecimalGauge,
    Entropy,
    SparseCounter,
}

pub(crate) const SHARES: [(Class, usize); 8] = [
    (Class::Constant, 34),
    (Class::SlowGauge, 10),
    (Class::NoisyCounter, 18),
    (Class::DecimalCounter, 12),
    (Class::MemoryGauge, 9),
    (Class::DecimalGauge, 6),
    (Class::Entropy, 4),
    (Class::SparseCounter, 8),
];

/// The class of the series with this number, so that any hundred in a row have the shares.
pub(crate) fn class_of(series: usize) -> Class {
    let mut at = series * 37 % 101;
    for (class, share) in SHARES {
        if at < share {
            return class;
        }
        at -= share;
    }
    Class::Constant
}

/// `n` values of the series with this number.
pub(crate) fn values(series: usize, n: usize) -> Vec<f64> {
    let mut rng = Rng((series as u64).wrapping_mul(0xd134_2543_de82_ef95) ^ 0x1234_5678);
    let scale = 10f64.powf(rng.unit() * 3.0);
    let class = class_of(series);
    let mut value = start(class, scale, &mut rng);
    let mut out = Vec::with_capacity(n);
    for _ in 0..n {
        value = step(class, scale, value, &mut rng);
        out.push(value);
    }
    out
}

fn start(class: Class, scale: f64, rng: &mut Rng) -> f64 {
    match class {
        Class::Constant => {
            [0.0, 1.0, (scale * 1024.0).round(), 1.7e9 + (scale * 100.0).round()][(rng.next() % 4) as usize]
        }
        Class::SlowGauge => (scale * 3.0).round(),
        Class::NoisyCounter => (rng.unit() * 1e6 * scale).round(),
        Class::DecimalCounter => (rng.unit() * 1e5 * scale).round() / 100.0,
        Class::MemoryGauge => (scale * 2e4).round() * 4096.0,
        Class::DecimalGauge => 35.0 + (rng.unit() * 3000.0).round() / 100.0,
        Class::Entropy => rng.unit(),
        Class::SparseCounter => (rng.unit() * 100.0).round(),
    }
}

fn step(class: Class, scale: f64, value: f64, rng: &mut Rng) -> f64 {
    let hundredths = |v: f64| (v * 100.0).round() / 100.0;
    match class {
        Class::Constant => value,
        Class::SlowGauge if rng.one_in(12) => (value + (rng.bell() * 2.0).round()).max(0.0),
        Class::NoisyCounter => value + (scale * 50.0 * rng.bell().exp()).round(),
        Class::DecimalCounter => hundredths(value + scale * 0.05 * (1.0 + 0.3 * rng.bell()).max(0.0)),
        Class::MemoryGauge if rng.one_in(3) => {
            (value + (rng.bell() * scale * 4.0).round() * 4096.0).max(4096.0)
        }
        Class::DecimalGauge => hundredths((value + rng.bell() * 0.6).clamp(0.0, 100.0)),
        Class::Entropy => rng.unit(),
        Class::SparseCounter if rng.one_in(20) => value + 1.0 + (rng.unit() * 3.0).floor(),
        _ => value,
    }
}

/// Times of one target: 15 s apart from its own offset, one in `late_one_in` some ms late.
pub(crate) fn times(target: usize, n: usize, late_one_in: u64) -> Vec<i64> {
    let mut rng = Rng(target as u64 ^ 0xabcd_ef01);
    let start = 1_795_305_600_000 + (rng.next() % 15_000) as i64;
    let late = |rng: &mut Rng| if rng.one_in(late_one_in) { (rng.next() % 40) as i64 } else { 0 };
    (0..n as i64).map(|i| start + i * 15_000 + late(&mut rng)).collect()
}

/// Bytes that Prometheus' XOR chunks would take for the values: a measure of how hard they are.
pub(crate) fn gorilla_bytes(values: &[f64]) -> f64 {
    let (mut bits, mut window) = (64u64, (64u32, 64u32));
    for pair in values.windows(2) {
        let xor = pair[0].to_bits() ^ pair[1].to_bits();
        let (lead, trail) = (xor.leading_zeros().min(31), xor.trailing_zeros());
        if xor == 0 {
            bits += 1;
        } else if window.0 != 64 && lead >= window.0 && trail >= window.1 {
            bits += 2 + u64::from(64 - window.0 - window.1);
        } else {
            window = (lead, trail);
            bits += 13 + u64::from(64 - lead - trail);
        }
    }
    bits as f64 / 8.0
}
