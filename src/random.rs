//! Randomness as an argument: a stream of numbers from one seed that the host drew.

/// SplitMix64 (Steele, Lea, Flood 2014): good enough to spread load and jitter, not for secrets.
#[derive(Debug, Clone)]
pub struct Random(u64);

impl Random {
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(self.0)
    }

    /// Uniform in `0.0 ..= 1.0`, neither end included.
    pub fn unit(&mut self) -> f64 {
        fraction(self.next_u64())
    }
}

/// Uniform in the open unit interval, from 52 bits of `bits`.
pub fn fraction(bits: u64) -> f64 {
    ((bits >> 12) as f64 + 0.5) / (1u64 << 52) as f64
}

/// The natural logarithm of a normal number above zero, to the twelfth digit. The standard library's comes with four
/// kilobytes of tables.
pub fn ln(number: f64) -> f64 {
    const FRACTION: u64 = (1 << 52) - 1;
    let bits = number.to_bits();
    // `number` is `scale` times two to the `exponent`, and ln(scale) = 2 artanh((scale - 1) / (scale + 1)).
    let mut exponent = (bits >> 52) as f64 - 1023.0;
    let mut scale = f64::from_bits(bits & FRACTION | 1023 << 52);
    if scale > core::f64::consts::SQRT_2 {
        scale /= 2.0;
        exponent += 1.0;
    }
    let ratio = (scale - 1.0) / (scale + 1.0);
    let square = ratio * ratio;
    let series = [15.0, 13.0, 11.0, 9.0, 7.0, 5.0, 3.0, 1.0];
    let series = series.iter().fold(0.0, |sum, odd| sum * square + 1.0 / odd);
    exponent * core::f64::consts::LN_2 + 2.0 * ratio * series
}

/// A stable 64-bit hash of `parts` (FNV-1a, finished by SplitMix64): the same in every worker.
pub fn hash(parts: &[&[u8]]) -> u64 {
    let mut state = 0xcbf2_9ce4_8422_2325_u64;
    for part in parts {
        for byte in part.iter().chain(&[0xff]) {
            state = (state ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
    mix(state)
}

fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn logarithms() {
        for number in [1e-300, 1e-16, 0.001, 0.5, 0.7, 0.708, 0.999_999, 1.0, 1.4, 2.0, 1e9] {
            let (ours, theirs) = (ln(number), f64::ln(number));
            assert!(
                (ours - theirs).abs() <= 1e-12 * theirs.abs().max(0.1),
                "{number}: {ours} {theirs}"
            );
        }
    }

    #[test]
    fn unit_stays_inside_the_open_interval() {
        assert!(fraction(0) > 0.0 && fraction(u64::MAX) < 1.0);
        let mut random = Random::new(1);
        let mean = (0..10_000).map(|_| random.unit()).sum::<f64>() / 10_000.0;
        assert!((0.48..0.52).contains(&mean), "{mean}");
    }

    #[test]
    fn parts_are_kept_apart() {
        assert_ne!(hash(&[b"ab", b"c"]), hash(&[b"a", b"bc"]));
    }
}
