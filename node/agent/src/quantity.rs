//! Reads the amounts of resources in a pod's specification.
//!
//! Only what a node needs: a value in thousandths, rounded up. Anything finer than a thousandth counts as one, as Kubernetes rounds.

/// The value of a quantity in thousandths of its unit; none when the text is no quantity.
pub fn milli(text: &str) -> Option<i128> {
    let split = text
        .char_indices()
        .find(|(at, c)| !(c.is_ascii_digit() || *c == '.' || (*at == 0 && matches!(c, '+' | '-'))))
        .map_or(text.len(), |(at, _)| at);
    let (number, suffix) = text.split_at_checked(split)?;
    let (numerator, denominator) = scale(suffix)?;
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let negative = whole.starts_with('-');
    let digits = format!("{}{fraction}", whole.trim_start_matches(['+', '-']));
    let value: i128 = digits.parse().ok()?;
    let below = 10i128
        .checked_pow(u32::try_from(fraction.len()).ok()?)?
        .checked_mul(denominator)?;
    let above = value.checked_mul(numerator)?.checked_mul(1000)?;
    let rounded = above.checked_add(below - 1)? / below;
    Some(if negative { -rounded } else { rounded })
}

/// The value of a quantity in whole units, rounded up.
pub fn whole(text: &str) -> Option<i128> {
    milli(text).map(|milli| milli.div_euclid(1000) + i128::from(milli.rem_euclid(1000) != 0))
}

/// A number of bytes as a person would write it.
pub fn binary(bytes: u64) -> String {
    let suffixes = [(30, "Gi"), (20, "Mi"), (10, "Ki")];
    let whole = suffixes
        .iter()
        .find(|(shift, _)| bytes > 0 && bytes.trailing_zeros() >= *shift);
    whole.map_or_else(
        || bytes.to_string(),
        |(shift, suffix)| format!("{}{suffix}", bytes >> shift),
    )
}

/// A suffix as a fraction.
fn scale(suffix: &str) -> Option<(i128, i128)> {
    let decimal = |power: u32| 10i128.checked_pow(power);
    Some(match suffix {
        "" => (1, 1),
        "n" => (1, decimal(9)?),
        "u" => (1, decimal(6)?),
        "m" => (1, decimal(3)?),
        "k" => (decimal(3)?, 1),
        "M" => (decimal(6)?, 1),
        "G" => (decimal(9)?, 1),
        "T" => (decimal(12)?, 1),
        "P" => (decimal(15)?, 1),
        "E" => (decimal(18)?, 1),
        "Ki" => (1 << 10, 1),
        "Mi" => (1 << 20, 1),
        "Gi" => (1 << 30, 1),
        "Ti" => (1 << 40, 1),
        "Pi" => (1 << 50, 1),
        "Ei" => (1 << 60, 1),
        _ => {
            let exponent: i32 = suffix.strip_prefix(['e', 'E'])?.parse().ok()?;
            match u32::try_from(exponent) {
                Ok(power) => (decimal(power)?, 1),
                Err(_) => (1, decimal(exponent.unsigned_abs())?),
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_what_a_person_would() {
        let cases = [
            (0, "0"),
            (1000, "1000"),
            (4096, "4Ki"),
            (3 << 20, "3Mi"),
            (5 << 40, "5120Gi"),
        ];
        cases
            .into_iter()
            .for_each(|(bytes, text)| assert_eq!(binary(bytes), text));
    }

    #[test]
    fn reads_what_kubernetes_writes() {
        for (text, expected) in [
            ("1", Some(1000)),
            ("250m", Some(250)),
            ("0.5", Some(500)),
            ("1.5Gi", Some(1_610_612_736_000)),
            ("64Mi", Some(67_108_864_000)),
            ("2e3", Some(2_000_000)),
            ("1E", Some(1_000_000_000_000_000_000_000)),
            ("1n", Some(1)),
            ("-1", Some(-1000)),
            ("", None),
            (".", None),
            ("1x", None),
            ("1e99999", None),
            ("ä", None),
        ] {
            assert_eq!(milli(text), expected, "{text}");
        }
        assert_eq!(whole("1500m"), Some(2));
        assert_eq!(whole("-1500m"), Some(-1));
    }
}
