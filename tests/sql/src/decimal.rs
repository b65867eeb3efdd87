//! Exact decimals of up to 38 digits, with 256-bit intermediates for products and quotients.

use std::{cmp::Ordering, fmt};

/// The largest magnitude that 38 digits hold.
pub(crate) const MAX_UNSCALED: i128 = 10_i128.pow(38) - 1;

/// `unscaled / 10^scale`. Two decimals are `==` only with equal scales; [`Decimal::compare`] compares numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Decimal {
    /// The digits as an integer, at most 38 of them.
    pub unscaled: i128,
    /// How many of them are after the point.
    pub scale: u8,
}

/// What happens to digits that do not fit the wanted scale.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rounding {
    /// Half away from zero: casts of both dialects, Snowflake's arithmetic.
    HalfUp,
    /// Towards zero: SQL Server's division and its casts to integers.
    Truncate,
}

pub(crate) fn pow10(exponent: u8) -> i128 {
    10_i128.pow(u32::from(exponent.min(38)))
}

impl Decimal {
    /// A decimal from its parts.
    pub const fn new(unscaled: i128, scale: u8) -> Self {
        Self { unscaled, scale }
    }

    /// Reads `-12.50`, `.5`, `5.`, `1e3`: the scale is the number of digits after the point. None for anything
    /// else, and for more than 38 digits.
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        let (mantissa, exponent) = match text.split_once(['e', 'E']) {
            Some((mantissa, exponent)) => (mantissa, exponent.parse::<i32>().ok()?),
            None => (text, 0),
        };
        let (negative, digits) = match mantissa.strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, mantissa.strip_prefix('+').unwrap_or(mantissa)),
        };
        let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
        if whole.is_empty() && fraction.is_empty() {
            return None;
        }
        let mut unscaled: i128 = 0;
        for byte in whole.bytes().chain(fraction.bytes()) {
            if !byte.is_ascii_digit() {
                return None;
            }
            unscaled = unscaled.checked_mul(10)?.checked_add(i128::from(byte - b'0'))?;
        }
        let mut scale = i32::try_from(fraction.len()).ok()?.checked_sub(exponent)?;
        while scale < 0 {
            unscaled = unscaled.checked_mul(10)?;
            scale += 1;
        }
        while scale > 38 && unscaled % 10 == 0 {
            unscaled /= 10;
            scale -= 1;
        }
        let scale = u8::try_from(scale).ok().filter(|scale| *scale <= 38)?;
        (unscaled <= MAX_UNSCALED).then(|| Self::new(if negative { -unscaled } else { unscaled }, scale))
    }

    /// The same number at another scale; None if it then has more than 38 digits.
    pub fn rescale(self, scale: u8, rounding: Rounding) -> Option<Self> {
        let unscaled = match scale.cmp(&self.scale) {
            Ordering::Equal => self.unscaled,
            Ordering::Greater => {
                if self.unscaled == 0 {
                    0
                } else {
                    if scale - self.scale > 38 {
                        return None;
                    }
                    self.unscaled.checked_mul(pow10(scale - self.scale))?
                }
            }
            Ordering::Less if self.scale - scale > 38 => 0,
            Ordering::Less => divide_i128(self.unscaled, pow10(self.scale - scale), rounding),
        };
        (unscaled.abs() <= MAX_UNSCALED).then_some(Self::new(unscaled, scale))
    }

    /// Whether the number has at most `precision` digits at its scale.
    pub fn fits(self, precision: u8) -> bool {
        self.unscaled.abs() < pow10(precision) || precision >= 38 && self.unscaled.abs() <= MAX_UNSCALED
    }

    /// The sum at `scale`; None beyond 38 digits.
    pub fn add(self, other: Self, scale: u8) -> Option<Self> {
        let common = self.scale.max(other.scale);
        match (self.rescale(common, Rounding::HalfUp), other.rescale(common, Rounding::HalfUp)) {
            (Some(a), Some(b)) => {
                let sum = a.unscaled.checked_add(b.unscaled)?;
                Self::new(sum, common).rescale(scale, Rounding::HalfUp)
            }
            // The operands do not share a scale within 38 digits, the result may still fit.
            _ => {
                let a = Wide::product(self.unscaled, pow10(common - self.scale));
                let b = Wide::product(other.unscaled, pow10(common - other.scale));
                let sum = a.add(b).divide(pow10(common.saturating_sub(scale)), Rounding::HalfUp)?;
                Self::new(sum, scale.min(common)).rescale(scale, Rounding::HalfUp)
            }
        }
    }

    /// The difference at `scale`.
    pub fn sub(self, other: Self, scale: u8) -> Option<Self> {
        self.add(Self::new(-other.unscaled, other.scale), scale)
    }

    /// The product at `scale`.
    pub fn mul(self, other: Self, scale: u8, rounding: Rounding) -> Option<Self> {
        let full = self.scale + other.scale;
        if let Some(product) = self.unscaled.checked_mul(other.unscaled) {
            return Self::new(product, full).rescale(scale, rounding);
        }
        let drop = full.saturating_sub(scale);
        let wide = Wide::product(self.unscaled, other.unscaled);
        let unscaled = if drop > 38 {
            divide_i128(wide.divide(pow10(38), Rounding::Truncate)?, pow10(drop - 38), rounding)
        } else {
            wide.divide(pow10(drop), rounding)?
        };
        Self::new(unscaled, full.min(scale)).rescale(scale, rounding)
    }

    /// The quotient at `scale`; None for a zero divisor or beyond 38 digits.
    pub fn div(self, other: Self, scale: u8, rounding: Rounding) -> Option<Self> {
        if other.unscaled == 0 {
            return None;
        }
        let shift = i32::from(scale) + i32::from(other.scale) - i32::from(self.scale);
        let unscaled = if shift >= 0 {
            // Up to 10^76: two factors of at most 10^38.
            let first = shift.min(38) as u8;
            let second = (shift - i32::from(first)).min(38) as u8;
            let scaled = Wide::product(self.unscaled, pow10(first)).times(pow10(second))?;
            scaled.divide(other.unscaled, rounding)?
        } else {
            let wide = Wide::product(other.unscaled, pow10(shift.unsigned_abs().min(38) as u8));
            match wide.narrow() {
                Some(divisor) => divide_i128(self.unscaled, divisor, rounding),
                None => 0,
            }
        };
        (unscaled.abs() <= MAX_UNSCALED).then_some(Self::new(unscaled, scale))
    }

    /// The remainder with the dividend's sign, at the larger scale; None for a zero divisor.
    pub fn rem(self, other: Self) -> Option<Self> {
        if other.unscaled == 0 {
            return None;
        }
        let scale = self.scale.max(other.scale);
        let a = self.rescale(scale, Rounding::HalfUp)?;
        let b = other.rescale(scale, Rounding::HalfUp)?;
        Some(Self::new(a.unscaled % b.unscaled, scale))
    }

    /// Compares two numbers whatever their scales.
    pub fn compare(&self, other: &Self) -> Ordering {
        if self.scale == other.scale {
            return self.unscaled.cmp(&other.unscaled);
        }
        let common = self.scale.max(other.scale);
        Wide::product(self.unscaled, pow10(common - self.scale))
            .compare(Wide::product(other.unscaled, pow10(common - other.scale)))
    }

    /// The same number without trailing zeros after the point: equal numbers become equal values.
    #[must_use]
    pub fn normalize(mut self) -> Self {
        if self.unscaled == 0 {
            return Self::new(0, 0);
        }
        while self.scale > 0 && self.unscaled % 10 == 0 {
            self.unscaled /= 10;
            self.scale -= 1;
        }
        self
    }

    /// The whole part.
    pub fn trunc(self) -> i128 {
        divide_i128(self.unscaled, pow10(self.scale), Rounding::Truncate)
    }

    /// The nearest float: exactly rounded, by way of the decimal text.
    pub fn to_f64(self) -> f64 {
        if self.unscaled.unsigned_abs() < (1 << 53) && self.scale <= 22 {
            return self.unscaled as f64 / 10_f64.powi(i32::from(self.scale));
        }
        self.to_string().parse().unwrap_or(f64::NAN)
    }

    /// The decimal of this scale nearest to a float; None beyond 38 digits.
    pub fn from_f64(value: f64, scale: u8) -> Option<Self> {
        if !value.is_finite() || value.abs() >= 1e38 {
            return None;
        }
        // `{:.n}` prints the exact binary value rounded to n digits.
        Self::parse(&format!("{value:.*}", usize::from(scale)))?.rescale(scale, Rounding::HalfUp)
    }
}

impl fmt::Display for Decimal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = if self.unscaled < 0 { "-" } else { "" };
        let digits = self.unscaled.unsigned_abs();
        if self.scale == 0 {
            return write!(f, "{sign}{digits}");
        }
        let unit = 10_u128.pow(u32::from(self.scale.min(38)));
        write!(f, "{sign}{}.{:0width$}", digits / unit, digits % unit, width = usize::from(self.scale))
    }
}

fn divide_i128(value: i128, divisor: i128, rounding: Rounding) -> i128 {
    let quotient = value / divisor;
    let rest = (value % divisor).unsigned_abs();
    if rounding == Rounding::HalfUp && rest >= divisor.unsigned_abs() - rest {
        return quotient + if (value < 0) == (divisor < 0) { 1 } else { -1 };
    }
    quotient
}

/// A signed 256-bit integer, as wide as a product of two 38-digit numbers needs.
#[derive(Clone, Copy)]
struct Wide {
    negative: bool,
    high: u128,
    low: u128,
}

impl Wide {
    fn product(a: i128, b: i128) -> Self {
        let (high, low) = multiply(a.unsigned_abs(), b.unsigned_abs());
        Self { negative: (a < 0) != (b < 0) && (high | low) != 0, high, low }
    }

    /// Times a positive factor; None beyond 256 bits.
    fn times(self, factor: i128) -> Option<Self> {
        let factor = factor.unsigned_abs();
        let (carry, low) = multiply(self.low, factor);
        let (over, high) = multiply(self.high, factor);
        let high = high.checked_add(carry)?;
        (over == 0).then_some(Self { high, low, ..self })
    }

    fn magnitude_cmp(self, other: Self) -> Ordering {
        (self.high, self.low).cmp(&(other.high, other.low))
    }

    fn compare(self, other: Self) -> Ordering {
        match (self.negative, other.negative) {
            (false, true) => Ordering::Greater,
            (true, false) => Ordering::Less,
            (false, false) => self.magnitude_cmp(other),
            (true, true) => other.magnitude_cmp(self),
        }
    }

    fn add(self, other: Self) -> Self {
        if self.negative == other.negative {
            let (low, carry) = self.low.overflowing_add(other.low);
            let high = self.high.wrapping_add(other.high).wrapping_add(u128::from(carry));
            return Self { high, low, ..self };
        }
        let (large, small) =
            if self.magnitude_cmp(other) == Ordering::Less { (other, self) } else { (self, other) };
        let (low, borrow) = large.low.overflowing_sub(small.low);
        let high = large.high - small.high - u128::from(borrow);
        Self { negative: large.negative && (high | low) != 0, high, low }
    }

    fn narrow(self) -> Option<i128> {
        let magnitude = i128::try_from(self.low).ok().filter(|_| self.high == 0)?;
        Some(if self.negative { -magnitude } else { magnitude })
    }

    fn divide(self, divisor: i128, rounding: Rounding) -> Option<i128> {
        if let Some(value) = self.narrow() {
            return Some(divide_i128(value, divisor, rounding));
        }
        let by = divisor.unsigned_abs();
        if self.high >= by {
            return None; // The quotient needs more than 128 bits.
        }
        let (mut rest, mut quotient) = (self.high, 0_u128);
        for bit in (0..128).rev() {
            let overflow = rest >> 127 != 0;
            rest = rest << 1 | (self.low >> bit & 1);
            if overflow || rest >= by {
                rest = rest.wrapping_sub(by);
                quotient |= 1 << bit;
            }
        }
        if rounding == Rounding::HalfUp && rest >= by - rest {
            quotient = quotient.checked_add(1)?;
        }
        let quotient = i128::try_from(quotient).ok()?;
        Some(if self.negative == (divisor < 0) { quotient } else { -quotient })
    }
}

/// The full product of two 128-bit numbers: (high, low).
fn multiply(a: u128, b: u128) -> (u128, u128) {
    const MASK: u128 = u64::MAX as u128;
    let (a1, a0, b1, b0) = (a >> 64, a & MASK, b >> 64, b & MASK);
    let low = a0 * b0;
    let middle = a1 * b0 + (low >> 64);
    let (middle, carry) = middle.overflowing_add(a0 * b1);
    let high = a1 * b1 + (middle >> 64) + (u128::from(carry) << 64);
    (high, middle << 64 | low & MASK)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn dec(text: &str) -> Decimal {
        Decimal::parse(text).unwrap()
    }

    #[test]
    fn products_and_quotients_are_exact_to_38_digits() {
        let nines = dec("99999999999999999999999999999999999999");
        assert_eq!(nines.mul(dec("1.0"), 0, Rounding::HalfUp), Some(nines));
        assert_eq!(nines.mul(dec("2"), 0, Rounding::HalfUp), None);
        assert_eq!(nines.div(nines, 6, Rounding::Truncate).unwrap().to_string(), "1.000000");
        assert_eq!(dec("2").div(dec("3"), 6, Rounding::Truncate).unwrap().to_string(), "0.666666");
        assert_eq!(dec("-2").div(dec("3"), 6, Rounding::HalfUp).unwrap().to_string(), "-0.666667");
        assert_eq!(dec("1e-38").to_string(), "0.00000000000000000000000000000000000001");
    }

    #[test]
    fn comparison_ignores_scale() {
        assert_eq!(dec("1.50").compare(&dec("1.5")), Ordering::Equal);
        let large = dec("99999999999999999999999999999999999999");
        let tiny = Decimal::new(99_999_999_999_999_999_999_999_999_999_999_999_999, 38);
        assert_eq!(large.compare(&tiny), Ordering::Greater);
        assert_eq!(dec("-0.5").compare(&dec("0.25")), Ordering::Less);
    }

    #[test]
    fn floats_round_to_the_nearest_decimal() {
        assert_eq!(Decimal::from_f64(0.1, 20).unwrap().to_string(), "0.10000000000000000555");
        assert_eq!(Decimal::from_f64(1e38, 0), None);
        assert!((dec("1234.5678").to_f64() - 1234.5678).abs() < f64::EPSILON);
    }

    proptest! {
        #[test]
        fn text_round_trips(unscaled in -MAX_UNSCALED..=MAX_UNSCALED, scale in 0_u8..=38) {
            let value = Decimal::new(unscaled, scale);
            prop_assert_eq!(Decimal::parse(&value.to_string()), Some(value));
        }

        #[test]
        fn a_wide_product_divided_by_a_factor_is_the_other(a in any::<i64>(), b in 1..=MAX_UNSCALED) {
            prop_assert_eq!(Wide::product(i128::from(a), b).divide(b, Rounding::HalfUp), Some(i128::from(a)));
        }

        #[test]
        fn sums_agree_with_integers(a in any::<i64>(), b in any::<i64>(), scale in 0_u8..10) {
            let sum = Decimal::new(i128::from(a), scale).add(Decimal::new(i128::from(b), scale), scale);
            prop_assert_eq!(sum, Some(Decimal::new(i128::from(a) + i128::from(b), scale)));
        }

        #[test]
        fn quotients_stay_within_one_unit(a in any::<i64>(), b in any::<i64>().prop_filter("zero", |b| *b != 0)) {
            let q = Decimal::new(i128::from(a), 2).div(Decimal::new(i128::from(b), 3), 6, Rounding::Truncate).unwrap();
            let back = q.unscaled * i128::from(b); // scale 9
            let error = (i128::from(a) * 10_000_000 - back).abs();
            prop_assert!(error < i128::from(b).abs());
        }
    }
}
