//! Amounts such as `250m`, `64Mi` or `1e3`, exact to a billionth, printed in Kubernetes' canonical form.
//!
//! As in Kubernetes, finer parts are rounded up, and amounts beyond 2^63-1 are held at that limit.

use std::cmp::Ordering;
use std::fmt;
use std::ops::{Add, Sub};

const NANO: i128 = 1_000_000_000;
const LIMIT: i128 = i64::MAX as i128 * NANO;
/// Exponents beyond this change nothing: the amount is already at the limit or below a billionth.
const EXPONENT_LIMIT: i32 = 64;

/// The family of suffixes in which an amount prints.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// `m`, `k`, `M`, `G`, ...
    DecimalSi,
    /// `Ki`, `Mi`, `Gi`, ...
    BinarySi,
    /// `e3`, `e6`, ...
    DecimalExponent,
}

/// An exact amount. Two amounts are equal when their values are, in whatever format they print.
#[derive(Debug, Clone, Copy)]
pub struct Quantity {
    nanos: i128,
    format: Format,
}

/// Why a text is no quantity.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum QuantityError {
    /// It is not a number with a suffix.
    #[error("quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'")]
    Form,
    /// The number has no digits or several points.
    #[error("unable to parse numeric part of quantity")]
    Number,
    /// The suffix is none that exists.
    #[error("unable to parse quantity's suffix")]
    Suffix,
}

impl Quantity {
    /// Nothing.
    pub const ZERO: Quantity = Quantity {
        nanos: 0,
        format: Format::DecimalSi,
    };

    /// A whole amount that prints with decimal suffixes.
    pub fn from_value(value: i64) -> Self {
        Self {
            nanos: i128::from(value) * NANO,
            format: Format::DecimalSi,
        }
    }

    /// An amount of thousandths, such as milli-CPUs.
    pub fn from_milli(milli: i64) -> Self {
        Self {
            nanos: i128::from(milli) * (NANO / 1000),
            format: Format::DecimalSi,
        }
    }

    /// A whole amount that prints with binary suffixes, such as bytes of memory.
    pub fn from_bytes(bytes: i64) -> Self {
        Self {
            nanos: i128::from(bytes) * NANO,
            format: Format::BinarySi,
        }
    }

    /// Reads a quantity.
    ///
    /// # Errors
    /// When the text is not one, with the words that Kubernetes uses.
    pub fn parse(text: &str) -> Result<Self, QuantityError> {
        let (negative, unsigned) = match text.as_bytes().first() {
            Some(b'-') => (true, text.get(1..).unwrap_or_default()),
            Some(b'+') => (false, text.get(1..).unwrap_or_default()),
            _ => (false, text),
        };
        let end = unsigned
            .find(|c: char| !c.is_ascii_digit() && c != '.')
            .unwrap_or(unsigned.len());
        let (number, suffix) = unsigned.split_at(end);
        if number.is_empty() {
            return Err(QuantityError::Form);
        }
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        if fraction.contains('.') || (whole.is_empty() && fraction.is_empty()) {
            return Err(QuantityError::Number);
        }
        let scale = Scale::of(suffix)?;
        let magnitude = magnitude(whole, fraction, &scale);
        Ok(Self {
            nanos: if negative { -magnitude } else { magnitude },
            format: scale.format,
        })
    }

    /// The amount in billionths.
    pub fn nanos(self) -> i128 {
        self.nanos
    }

    /// The amount in thousandths, rounded away from zero.
    pub fn milli(self) -> i128 {
        divide_away(self.nanos, NANO / 1000)
    }

    /// The whole amount, rounded away from zero.
    pub fn value(self) -> i128 {
        divide_away(self.nanos, NANO)
    }

    /// The family of suffixes in which it prints.
    pub fn format(self) -> Format {
        self.format
    }

    /// Whether it is nothing.
    pub fn is_zero(self) -> bool {
        self.nanos == 0
    }

    /// Whether it is less than nothing.
    pub fn is_negative(self) -> bool {
        self.nanos < 0
    }

    /// Whether it has no fraction.
    pub fn is_whole(self) -> bool {
        self.nanos % NANO == 0
    }

    fn combined(self, other: Self, nanos: i128) -> Self {
        // Zero has no opinion on how the sum prints.
        let format = if self.nanos == 0 { other.format } else { self.format };
        Self {
            nanos: nanos.clamp(-LIMIT, LIMIT),
            format,
        }
    }
}

struct Scale {
    exponent: i32,
    binary_shift: u32,
    format: Format,
}

impl Scale {
    fn of(suffix: &str) -> Result<Self, QuantityError> {
        let decimal = |exponent| {
            Ok(Self {
                exponent,
                binary_shift: 0,
                format: Format::DecimalSi,
            })
        };
        let binary = |binary_shift| {
            Ok(Self {
                exponent: 0,
                binary_shift,
                format: Format::BinarySi,
            })
        };
        match suffix {
            "n" => decimal(-9),
            "u" => decimal(-6),
            "m" => decimal(-3),
            "" => decimal(0),
            "k" => decimal(3),
            "M" => decimal(6),
            "G" => decimal(9),
            "T" => decimal(12),
            "P" => decimal(15),
            "E" => decimal(18),
            "Ki" => binary(10),
            "Mi" => binary(20),
            "Gi" => binary(30),
            "Ti" => binary(40),
            "Pi" => binary(50),
            "Ei" => binary(60),
            other => Self::exponent(other),
        }
    }

    fn exponent(suffix: &str) -> Result<Self, QuantityError> {
        let known = |c: char| c.is_ascii_digit() || "eEinumkKMGTP+-".contains(c);
        if !suffix.chars().all(known) {
            return Err(QuantityError::Form);
        }
        let digits = suffix.strip_prefix(['e', 'E']).ok_or(QuantityError::Suffix)?;
        let unsigned = digits.strip_prefix(['+', '-']).unwrap_or(digits);
        if unsigned.is_empty() || !unsigned.bytes().all(|b| b.is_ascii_digit()) {
            return Err(QuantityError::Suffix);
        }
        let size = unsigned.parse::<i32>().unwrap_or(EXPONENT_LIMIT).min(EXPONENT_LIMIT);
        let exponent = if digits.starts_with('-') { -size } else { size };
        Ok(Self {
            exponent,
            binary_shift: 0,
            format: Format::DecimalExponent,
        })
    }
}

/// The amount in billionths of `whole.fraction` times the scale, rounded up and held at the limit.
fn magnitude(whole: &str, fraction: &str, scale: &Scale) -> i128 {
    // Moving the point by the exponent leaves a whole part, nine places, and a rest that only matters by not being zero.
    let digits: Vec<u8> = whole.bytes().chain(fraction.bytes()).map(|b| b - b'0').collect();
    if digits.iter().all(|digit| *digit == 0) {
        return 0;
    }
    let point = whole.len() as i64 + i64::from(scale.exponent);
    let digit_at = |place: i64| {
        usize::try_from(place)
            .ok()
            .and_then(|at| digits.get(at))
            .copied()
            .unwrap_or(0)
    };
    let mut integer: i128 = 0;
    for place in 0..point {
        integer = (integer * 10 + i128::from(digit_at(place))).min(LIMIT);
    }
    // Eighteen places keep the product with 2^60 within 128 bits.
    let mut rest: i128 = 0;
    for place in point..point + 18 {
        rest = rest * 10 + i128::from(digit_at(place));
    }
    let sticky = digits
        .iter()
        .enumerate()
        .any(|(at, digit)| *digit != 0 && at as i64 >= point + 18);
    let factor = 1_i128 << scale.binary_shift;
    let integer_nanos = integer.saturating_mul(factor).min(i128::from(i64::MAX)) * NANO;
    let scaled = rest * factor;
    let rest_nanos = scaled / NANO + i128::from(scaled % NANO != 0 || sticky);
    (integer_nanos + rest_nanos).min(LIMIT)
}

fn divide_away(value: i128, by: i128) -> i128 {
    let quotient = value / by;
    if value % by == 0 {
        quotient
    } else {
        quotient + value.signum()
    }
}

impl fmt::Display for Quantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.nanos == 0 {
            return f.write_str("0");
        }
        let small = self.nanos.abs() < 1024 * NANO;
        if self.format == Format::BinarySi && !small && self.is_whole() {
            return print_binary(self.nanos / NANO, f);
        }
        let (mut mantissa, mut exponent) = (self.nanos, -9);
        while exponent < 18 && mantissa % 1000 == 0 {
            mantissa /= 1000;
            exponent += 3;
        }
        write!(f, "{mantissa}")?;
        match (self.format, exponent) {
            (_, 0) => Ok(()),
            (Format::DecimalExponent, exponent) => write!(f, "e{exponent}"),
            (_, exponent) => f.write_str(decimal_suffix(exponent)),
        }
    }
}

fn print_binary(mut value: i128, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let mut suffix = "";
    for larger in ["Ki", "Mi", "Gi", "Ti", "Pi", "Ei"] {
        if value % 1024 != 0 {
            break;
        }
        value /= 1024;
        suffix = larger;
    }
    write!(f, "{value}{suffix}")
}

fn decimal_suffix(exponent: i32) -> &'static str {
    match exponent {
        -9 => "n",
        -6 => "u",
        -3 => "m",
        3 => "k",
        6 => "M",
        9 => "G",
        12 => "T",
        15 => "P",
        18 => "E",
        _ => "",
    }
}

impl PartialEq for Quantity {
    fn eq(&self, other: &Self) -> bool {
        self.nanos == other.nanos
    }
}

impl Eq for Quantity {}

impl PartialOrd for Quantity {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Quantity {
    fn cmp(&self, other: &Self) -> Ordering {
        self.nanos.cmp(&other.nanos)
    }
}

impl Add for Quantity {
    type Output = Quantity;
    fn add(self, other: Self) -> Self {
        self.combined(other, self.nanos + other.nanos)
    }
}

impl Sub for Quantity {
    type Output = Quantity;
    fn sub(self, other: Self) -> Self {
        self.combined(other, self.nanos - other.nanos)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn canonical_forms_are_those_of_kubernetes() {
        let cases = [
            ("0", "0"),
            ("0Ki", "0"),
            ("100m", "100m"),
            ("0.1", "100m"),
            ("1000m", "1"),
            ("1500m", "1500m"),
            ("1.5", "1500m"),
            ("1000", "1k"),
            ("1024", "1024"),
            ("1024Mi", "1Gi"),
            ("1.5Gi", "1536Mi"),
            ("0.5Ki", "512"),
            ("64Mi", "64Mi"),
            ("100Ki", "100Ki"),
            ("+5", "5"),
            ("-5", "-5"),
            (".5", "500m"),
            ("5.", "5"),
            ("1e3", "1e3"),
            ("12e2", "1200"),
            ("1E3", "1e3"),
            ("1e-3", "1e-3"),
            ("5E", "5E"),
            ("0.0000000001", "1n"),
            ("1u", "1u"),
            ("9223372036854775807", "9223372036854775807"),
            ("1e40", "9223372036854775807"),
            ("8Ei", "9223372036854775807"),
            ("0.0001Ki", "102400u"),
            ("1500.5Ki", "1536512"),
            ("1e-99", "1e-9"),
        ];
        for (text, canonical) in cases {
            assert_eq!(Quantity::parse(text).unwrap().to_string(), canonical, "{text}");
        }
    }

    #[test]
    fn what_is_no_quantity_says_so() {
        use QuantityError::{Form, Number, Suffix};
        let cases = [
            ("", Form),
            ("abc", Form),
            ("-", Form),
            ("1 ", Form),
            ("1x", Form),
            (".", Number),
            ("1.2.3", Number),
            ("1mi", Suffix),
            ("1K", Suffix),
            ("1e", Suffix),
            ("1ee3", Suffix),
            ("1e+", Suffix),
        ];
        for (text, error) in cases {
            assert_eq!(Quantity::parse(text).unwrap_err(), error, "{text:?}");
        }
    }

    #[test]
    fn binary_amounts_without_a_binary_suffix_print_in_full() {
        assert_eq!(Quantity::from_bytes(1_593_000).to_string(), "1593000");
        assert_eq!(Quantity::parse("1593000").unwrap().to_string(), "1593k");
    }

    #[test]
    fn rounding_is_away_from_zero() {
        assert_eq!(Quantity::parse("1500m").unwrap().value(), 2);
        assert_eq!(Quantity::parse("-1500m").unwrap().value(), -2);
        assert_eq!(Quantity::parse("1500u").unwrap().milli(), 2);
        assert_eq!(Quantity::from_bytes(1 << 20).to_string(), "1Mi");
        assert_eq!(Quantity::from_milli(250).to_string(), "250m");
    }

    fn any_quantity() -> impl Strategy<Value = Quantity> {
        let formats = prop_oneof![
            Just(Format::DecimalSi),
            Just(Format::BinarySi),
            Just(Format::DecimalExponent)
        ];
        let nanos = prop_oneof![
            -LIMIT..=LIMIT,
            (-5_000_000_i128..5_000_000).prop_map(|n| n * NANO),
            (-99_i128..99).prop_map(|n| n * 1024 * 1024 * NANO)
        ];
        (nanos, formats).prop_map(|(nanos, format)| Quantity { nanos, format })
    }

    proptest! {
        #[test]
        fn what_is_printed_is_read_back(q in any_quantity()) {
            let text = q.to_string();
            let read = Quantity::parse(&text).unwrap();
            prop_assert_eq!(read, q, "{}", text);
            // A binary amount without a binary suffix reads as a decimal one, as in Kubernetes; from then on nothing moves.
            let again = Quantity::parse(&read.to_string()).unwrap();
            prop_assert_eq!(again.to_string(), read.to_string());
        }

        #[test]
        fn order_is_that_of_the_amounts(a in any_quantity(), b in any_quantity()) {
            prop_assert_eq!(a.cmp(&b), a.nanos().cmp(&b.nanos()));
            prop_assert!(a.value() >= b.value() || a < b);
        }

        #[test]
        fn a_sum_less_one_part_is_the_other(a in -1_000_000_000_i64..1_000_000_000, b in -1_000_000_000_i64..1_000_000_000) {
            let (a, b) = (Quantity::from_milli(a), Quantity::from_milli(b));
            prop_assert_eq!(a + b, b + a);
            prop_assert_eq!((a + b) - b, a);
        }

        #[test]
        fn any_text_is_read_or_refused(text in "[-+]?[0-9.]{0,30}[a-zA-Z0-9+-]{0,5}") {
            if let Ok(q) = Quantity::parse(&text) {
                prop_assert_eq!(Quantity::parse(&q.to_string()).unwrap(), q);
            }
        }
    }
}
