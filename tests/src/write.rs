/// A series with its samples in milliseconds.
#[derive(Debug, Clone)]
pub struct Series {
    pub labels: Vec<(String, String)>,
    pub samples: Vec<(i64, f64)>,
}

pub fn series(labels: &[(&str, &str)], samples: &[(i64, f64)]) -> Series {
    let labels = labels.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect();
    Series { labels, samples: samples.to_vec() }
}

/// A `prometheus.WriteRequest` as a snappy block.
pub fn push_body(all: &[Series]) -> Vec<u8> {
    let mut request = Vec::new();
    for one in all {
        let mut message = Vec::new();
        for (name, value) in &one.labels {
            let mut label = Vec::new();
            bytes(&mut label, 1, name.as_bytes());
            bytes(&mut label, 2, value.as_bytes());
            bytes(&mut message, 1, &label);
        }
        for (t_ms, value) in &one.samples {
            let mut sample = vec![9];
            sample.extend(value.to_le_bytes());
            sample.push(16);
            varint(&mut sample, *t_ms as u64);
            bytes(&mut message, 2, &sample);
        }
        bytes(&mut request, 1, &message);
    }
    snap::raw::Encoder::new().compress_vec(&request).unwrap()
}

fn bytes(out: &mut Vec<u8>, field: u64, value: &[u8]) {
    varint(out, field << 3 | 2);
    varint(out, value.len() as u64);
    out.extend(value);
}

fn varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}
