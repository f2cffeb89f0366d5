//! A place as twelve characters, as geohash.org spells it.

const ALPHABET: &[u8; 32] = b"0123456789bcdefghjkmnpqrstuvwxyz";
const CHARACTERS: usize = 12;

/// Each character takes five halvings of the remaining ranges, longitude first.
pub(super) fn of(latitude: f64, longitude: f64) -> String {
    let mut ranges = [(-180.0, 180.0), (-90.0, 90.0)];
    let values = [longitude, latitude];
    let mut text = String::with_capacity(CHARACTERS);
    for character in 0..CHARACTERS {
        let mut bits = 0usize;
        for bit in 0..5 {
            let axis = (character * 5 + bit) % 2;
            let (low, high): (f64, f64) = ranges[axis];
            let middle = (low + high) / 2.0;
            let upper = values[axis] >= middle;
            ranges[axis] = if upper { (middle, high) } else { (low, middle) };
            bits = bits << 1 | usize::from(upper);
        }
        text.push(char::from(ALPHABET[bits]));
    }
    text
}

#[cfg(test)]
mod tests {
    #[test]
    fn known_places() {
        assert_eq!(super::of(57.649_11, 10.407_44), "u4pruydqqvj8");
        assert_eq!(super::of(0.0, 0.0), "s00000000000");
        assert_eq!(super::of(90.0, 180.0), "zzzzzzzzzzzz");
    }
}
