//! Percentiles and ratios.

/// The smallest value that at least `share` (0 to 1) of all values do not exceed: the nearest-rank percentile.
pub fn percentile(sorted: &[f64], share: f64) -> f64 {
    let rank = (share.clamp(0.0, 1.0) * sorted.len() as f64).ceil() as usize;
    sorted.get(rank.max(1) - 1).copied().unwrap_or(f64::NAN)
}

/// The middle value of a few repetitions; of an even number the lower one.
pub fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    percentile(&sorted, 0.5)
}

/// `value / base`, in the digits that a reader needs.
pub fn ratio(value: f64, base: f64) -> String {
    let ratio = value / base;
    if !ratio.is_finite() {
        "–".to_owned()
    } else if ratio >= 100.0 {
        format!("{ratio:.0}")
    } else if ratio >= 10.0 {
        format!("{ratio:.1}")
    } else {
        format!("{ratio:.2}")
    }
}

/// Thousands with commas.
pub fn grouped(value: f64) -> String {
    let digits = format!("{:.0}", value.abs());
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    if value <= -0.5 { format!("-{text}") } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_nearest_ranks() {
        let values: Vec<f64> = (1..=100).map(f64::from).collect();
        assert_eq!(percentile(&values, 0.5).to_bits(), 50_f64.to_bits());
        assert_eq!(percentile(&values, 0.99).to_bits(), 99_f64.to_bits());
        assert_eq!(percentile(&values, 1.0).to_bits(), 100_f64.to_bits());
        assert_eq!(percentile(&values, 0.0).to_bits(), 1_f64.to_bits());
        assert_eq!(percentile(&[7.0], 0.99).to_bits(), 7_f64.to_bits());
        assert!(percentile(&[], 0.5).is_nan());
    }

    #[test]
    fn the_99th_percentile_of_few_values_is_the_largest() {
        assert_eq!(percentile(&[1.0, 2.0, 30.0], 0.99).to_bits(), 30_f64.to_bits());
    }

    #[test]
    fn the_median_does_not_depend_on_the_order() {
        assert_eq!(median(&[9.0, 1.0, 5.0]).to_bits(), 5_f64.to_bits());
        assert_eq!(median(&[4.0, 1.0]).to_bits(), 1_f64.to_bits());
    }

    #[test]
    fn ratios_have_three_digits_and_nothing_over_nothing_is_none() {
        assert_eq!(ratio(1.0, 3.0), "0.33");
        assert_eq!(ratio(59.96, 5.0), "12.0");
        assert_eq!(ratio(1234.0, 10.0), "123");
        assert_eq!(ratio(1.0, 0.0), "–");
        assert_eq!(ratio(0.0, 0.0), "–");
    }

    #[test]
    fn thousands_are_grouped() {
        assert_eq!(grouped(0.4), "0");
        assert_eq!(grouped(999.0), "999");
        assert_eq!(grouped(1_000.0), "1,000");
        assert_eq!(grouped(-1_234_567.0), "-1,234,567");
    }
}
