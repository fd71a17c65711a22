//! Scalars that have a text form of their own, brought into the one that Kubernetes writes. The errors are Go's words.

use crate::quantity::{Quantity, QuantityError};
use crate::time;
use base64::Engine;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig, STANDARD};
use serde_json::{Number, Value};
use std::str::FromStr;

/// Go's decoder does not mind bits set behind the last byte.
const LENIENT: GeneralPurpose = GeneralPurpose::new(
    &base64::alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_allow_trailing_bits(true),
);

/// Checks base64 text. Line breaks in it are allowed and go away.
pub(super) fn bytes(text: &mut String) -> Result<(), String> {
    if text.contains(['\r', '\n']) {
        text.retain(|c| !matches!(c, '\r' | '\n'));
    }
    if STANDARD.decode(text.as_bytes()).is_ok() {
        return Ok(());
    }
    match LENIENT.decode(text.as_bytes()) {
        Ok(bytes) => {
            *text = STANDARD.encode(bytes);
            Ok(())
        }
        Err(error) => {
            let at = match error {
                base64::DecodeError::InvalidByte(at, _) | base64::DecodeError::InvalidLastSymbol { offset: at, .. } => {
                    at
                }
                _ => text.len(),
            };
            Err(format!("illegal base64 data at input byte {at}"))
        }
    }
}

/// An amount, given as text or number.
pub(super) fn quantity(value: &mut Value) -> Result<(), String> {
    let parsed = match &*value {
        Value::String(text) => Quantity::parse(text),
        Value::Number(number) => Quantity::parse(&number.to_string()),
        _ => Err(QuantityError::Form),
    };
    *value = Value::String(parsed.map_err(|error| error.to_string())?.to_string());
    Ok(())
}

/// A time with seconds, in UTC.
pub(super) fn time(value: &mut Value) -> Result<(), String> {
    let micros = parsed_time(value, "2006-01-02T15:04:05Z07:00")?;
    *value = Value::String(time::format_seconds(micros));
    Ok(())
}

/// A time with microseconds, in UTC.
pub(super) fn micro_time(value: &mut Value) -> Result<(), String> {
    let micros = parsed_time(value, "2006-01-02T15:04:05.000000Z07:00")?;
    *value = Value::String(time::format_micros(micros));
    Ok(())
}

fn parsed_time(value: &Value, layout: &str) -> Result<i64, String> {
    let text = value.as_str().ok_or_else(|| not_a("string", value))?;
    time::parse(text).ok_or_else(|| format!("parsing time {text:?} as {layout:?}: cannot parse {text:?} as \"2006\""))
}

/// An integer or text: both stay what they are.
pub(super) fn int_or_string(value: &mut Value) -> Result<(), String> {
    match &*value {
        Value::String(_) => Ok(()),
        Value::Number(number) if is_int32(number) => Ok(()),
        other => Err(not_a("int32", other)),
    }
}

fn is_int32(number: &Number) -> bool {
    number.as_i64().is_some_and(|n| i32::try_from(n).is_ok())
}

fn not_a(wanted: &str, value: &Value) -> String {
    let given = match value {
        Value::Null => "null".to_owned(),
        Value::Bool(_) => "bool".to_owned(),
        Value::Number(number) if wanted == "int32" => format!("number {number}"),
        Value::Number(_) => "number".to_owned(),
        Value::String(_) => "string".to_owned(),
        Value::Array(_) => "array".to_owned(),
        Value::Object(_) => "object".to_owned(),
    };
    format!("json: cannot unmarshal {given} into Go value of type {wanted}")
}

/// A length of time in Go's notation.
pub(super) fn duration(value: &mut Value) -> Result<(), String> {
    let text = value.as_str().ok_or_else(|| not_a("string", value))?;
    let nanos = parse_duration(text).ok_or_else(|| format!("time: invalid duration {text:?}"))?;
    *value = Value::String(format_duration(nanos));
    Ok(())
}

/// Go's units in nanoseconds.
const UNITS: [(&str, i64); 8] = [
    ("ns", 1),
    ("us", 1_000),
    ("\u{b5}s", 1_000),
    ("\u{3bc}s", 1_000),
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("m", 60_000_000_000),
    ("h", 3_600_000_000_000),
];

/// Nanoseconds of `-1h2m3.5s`.
pub(crate) fn parse_duration(text: &str) -> Option<i64> {
    let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
    if unsigned == "0" {
        return Some(0);
    }
    let mut rest = unsigned;
    let mut nanos = 0i128;
    while !rest.is_empty() {
        let (number, tail) = rest.split_at(rest.find(|c: char| !c.is_ascii_digit() && c != '.')?);
        let (unit, tail) = tail.split_at(
            tail.find(|c: char| c.is_ascii_digit() || c == '.')
                .unwrap_or(tail.len()),
        );
        let scale = UNITS.iter().find(|(name, _)| *name == unit)?.1;
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        if whole.is_empty() && fraction.is_empty() {
            return None;
        }
        let whole = if whole.is_empty() {
            0
        } else {
            i64::from_str(whole).ok()?
        };
        nanos += i128::from(whole) * i128::from(scale);
        // Digits beyond a nanosecond of an hour say nothing.
        let fraction = fraction.get(..fraction.len().min(15))?;
        if !fraction.is_empty() {
            let digits = i128::from(i64::from_str(fraction).ok()?);
            nanos += digits * i128::from(scale) / 10i128.pow(u32::try_from(fraction.len()).ok()?);
        }
        rest = tail;
    }
    let signed = if text.starts_with('-') { -nanos } else { nanos };
    if unsigned.is_empty() {
        None
    } else {
        i64::try_from(signed).ok()
    }
}

/// `1h2m3.5s`, as Go writes it; also what protobuf's nanoseconds become.
pub(crate) fn format_duration(nanos: i64) -> String {
    let sign = if nanos < 0 { "-" } else { "" };
    let total = nanos.unsigned_abs();
    let decimal = |scale: u64, unit: &str| {
        let (whole, rest) = (total / scale, total % scale);
        let width = scale.ilog10() as usize;
        let fraction = if rest == 0 {
            String::new()
        } else {
            format!(".{rest:0width$}")
        };
        format!("{sign}{whole}{}{unit}", fraction.trim_end_matches('0'))
    };
    match total {
        0 => "0s".to_owned(),
        1..1_000 => format!("{sign}{total}ns"),
        1_000..1_000_000 => decimal(1_000, "\u{b5}s"),
        1_000_000..1_000_000_000 => decimal(1_000_000, "ms"),
        _ => {
            let (minutes, nanos) = (total / 60_000_000_000, total % 60_000_000_000);
            let (whole, rest) = (nanos / 1_000_000_000, nanos % 1_000_000_000);
            let fraction = if rest == 0 {
                String::new()
            } else {
                format!(".{rest:09}")
            };
            let seconds = format!("{whole}{}s", fraction.trim_end_matches('0'));
            match minutes {
                0 => format!("{sign}{seconds}"),
                1..60 => format!("{sign}{minutes}m{seconds}"),
                _ => format!("{sign}{}h{}m{seconds}", minutes / 60, minutes % 60),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_written_as_go_writes_them() {
        for (given, canonical) in [
            ("90m", "1h30m0s"),
            ("1.5s", "1.5s"),
            ("-3ms", "-3ms"),
            ("1500us", "1.5ms"),
            ("0", "0s"),
            ("3600s", "1h0m0s"),
            ("10ns", "10ns"),
        ] {
            assert_eq!(format_duration(parse_duration(given).unwrap()), canonical);
        }
        for bad in ["", "-", "1", "s", ".s", "1x", "99999999999h"] {
            assert_eq!(parse_duration(bad), None, "{bad}");
        }
    }

    #[test]
    fn base64_is_checked_and_cleaned() {
        let cleaned = |text: &str| {
            let mut text = text.to_owned();
            bytes(&mut text).map(|()| text)
        };
        assert_eq!(cleaned("aGVs\nbG8="), Ok("aGVsbG8=".to_owned()));
        assert_eq!(cleaned("aGVsbG9="), Ok("aGVsbG8=".to_owned()));
        assert_eq!(
            cleaned("a!VsbG8="),
            Err("illegal base64 data at input byte 1".to_owned())
        );
    }
}
