//! The forms that `format` names, for texts and numbers. Formats that are not listed here say nothing, as in Kubernetes.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::OnceLock;

use regex::Regex;

/// Whether a text has the form; true for formats that are not known.
pub fn text_fits(format: &str, text: &str) -> bool {
    match format {
        "date" => is_date(text),
        "date-time" | "datetime" => crate::time::parse(&text.to_ascii_uppercase()).is_some(),
        "duration" => is_duration(text),
        "email" => matched(&EMAIL, r"^[^\s@<>]+@[^\s@<>]+$", text),
        "hostname" => is_hostname(text),
        "ipv4" => text.parse::<Ipv4Addr>().is_ok(),
        "ipv6" => text.parse::<Ipv6Addr>().is_ok(),
        "cidr" => is_cidr(text),
        "mac" => matched(
            &MAC,
            r"^([0-9A-Fa-f]{2}[:-]){5,19}[0-9A-Fa-f]{2}$|^([0-9A-Fa-f]{4}\.){2,9}[0-9A-Fa-f]{4}$",
            text,
        ),
        "uuid" => matched(
            &UUID,
            r"(?i)^[0-9a-f]{8}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{12}$",
            text,
        ),
        "uuid3" => matched(
            &UUID3,
            r"(?i)^[0-9a-f]{8}-?[0-9a-f]{4}-?3[0-9a-f]{3}-?[0-9a-f]{4}-?[0-9a-f]{12}$",
            text,
        ),
        "uuid4" => matched(
            &UUID4,
            r"(?i)^[0-9a-f]{8}-?[0-9a-f]{4}-?4[0-9a-f]{3}-?[89ab][0-9a-f]{3}-?[0-9a-f]{12}$",
            text,
        ),
        "uuid5" => matched(
            &UUID5,
            r"(?i)^[0-9a-f]{8}-?[0-9a-f]{4}-?5[0-9a-f]{3}-?[89ab][0-9a-f]{3}-?[0-9a-f]{12}$",
            text,
        ),
        "byte" => is_base64(text),
        "hexcolor" => matched(&HEX, r"^#?([0-9a-fA-F]{3}|[0-9a-fA-F]{6})$", text),
        "rgbcolor" => matched(
            &RGB,
            r"^rgb\(\s*(\d{1,2}|1\d\d|2[0-4]\d|25[0-5])\s*,\s*(\d{1,2}|1\d\d|2[0-4]\d|25[0-5])\s*,\s*(\d{1,2}|1\d\d|2[0-4]\d|25[0-5])\s*\)$",
            text,
        ),
        "ssn" => matched(&SSN, r"^\d{3}[- ]?\d{2}[- ]?\d{4}$", text),
        "creditcard" => matched(&CARD, r"^\d{13,16}$", &text.replace([' ', '-'], "")),
        "isbn" | "isbn10" | "isbn13" => matched(&ISBN, r"^(\d{9}[\dX]|\d{13})$", &text.replace([' ', '-'], "")),
        "bsonobjectid" => matched(&BSON, r"^[0-9a-fA-F]{24}$", text),
        "uri" => is_uri(text),
        "k8s-short-name" => crate::validate::names::dns_label(text).is_empty(),
        "k8s-long-name" => crate::validate::names::dns_subdomain(text).is_empty(),
        _ => true,
    }
}

static EMAIL: OnceLock<Option<Regex>> = OnceLock::new();
static MAC: OnceLock<Option<Regex>> = OnceLock::new();
static UUID: OnceLock<Option<Regex>> = OnceLock::new();
static UUID3: OnceLock<Option<Regex>> = OnceLock::new();
static UUID4: OnceLock<Option<Regex>> = OnceLock::new();
static UUID5: OnceLock<Option<Regex>> = OnceLock::new();
static HEX: OnceLock<Option<Regex>> = OnceLock::new();
static RGB: OnceLock<Option<Regex>> = OnceLock::new();
static SSN: OnceLock<Option<Regex>> = OnceLock::new();
static CARD: OnceLock<Option<Regex>> = OnceLock::new();
static ISBN: OnceLock<Option<Regex>> = OnceLock::new();
static BSON: OnceLock<Option<Regex>> = OnceLock::new();

fn matched(cell: &OnceLock<Option<Regex>>, pattern: &str, text: &str) -> bool {
    cell.get_or_init(|| Regex::new(pattern).ok())
        .as_ref()
        .is_some_and(|regex| regex.is_match(text))
}

fn is_date(text: &str) -> bool {
    text.len() == 10 && text.parse::<jiff::civil::Date>().is_ok()
}

/// Go's durations, with days and weeks besides.
fn is_duration(text: &str) -> bool {
    static DURATION: OnceLock<Option<Regex>> = OnceLock::new();
    matched(
        &DURATION,
        r"^[-+]?(0|((\d+(\.\d*)?|\.\d+)\s*(ns|us|µs|μs|ms|s|m|h|d|w|hours?|minutes?|seconds?|days?|weeks?|hr|hrs|min|mins|sec|secs)\s*)+)$",
        text,
    )
}

fn is_hostname(text: &str) -> bool {
    let label = |label: &str| {
        let edge = |byte: Option<u8>| byte.is_some_and(|byte| byte.is_ascii_alphanumeric());
        label.len() <= 63
            && edge(label.bytes().next())
            && edge(label.bytes().last())
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
    };
    text.len() <= 255 && text.trim_end_matches('.').split('.').all(label)
}

fn is_cidr(text: &str) -> bool {
    let Some((address, bits)) = text.split_once('/') else {
        return false;
    };
    let Ok(bits) = bits.parse::<u8>() else { return false };
    (address.parse::<Ipv4Addr>().is_ok() && bits <= 32) || (address.parse::<Ipv6Addr>().is_ok() && bits <= 128)
}

fn is_base64(text: &str) -> bool {
    use base64::Engine;
    base64::engine::general_purpose::STANDARD.decode(text).is_ok()
}

fn is_uri(text: &str) -> bool {
    static URI: OnceLock<Option<Regex>> = OnceLock::new();
    matched(&URI, r"^([A-Za-z][A-Za-z0-9+.-]*:\S+|/\S*)$", text)
}

/// Whether a whole number fits a format such as `int32`.
pub fn integer_fits(format: &str, number: i64) -> bool {
    match format {
        "int32" => i32::try_from(number).is_ok(),
        "uint32" => u32::try_from(number).is_ok(),
        "uint64" => number >= 0,
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms() {
        let good = [
            ("date", "2026-01-31"),
            ("date-time", "2026-01-31T10:00:00Z"),
            ("duration", "1h30m"),
            ("email", "a@b.c"),
            ("hostname", "a-b.example.com"),
            ("ipv4", "10.0.0.1"),
            ("ipv6", "::1"),
            ("cidr", "10.0.0.0/8"),
            ("uuid", "123e4567-e89b-12d3-a456-426614174000"),
            ("byte", "aGVsbG8="),
            ("uri", "https://x.y/z"),
            ("mac", "00:11:22:33:44:55"),
            ("whatever", "anything"),
        ];
        for (format, text) in good {
            assert!(text_fits(format, text), "{format} {text}");
        }
        let bad = [
            ("date", "2026-02-31"),
            ("date-time", "tomorrow"),
            ("duration", "1 fortnight"),
            ("email", "a"),
            ("hostname", "-a"),
            ("ipv4", "10.0.0.256"),
            ("ipv6", "10.0.0.1"),
            ("cidr", "10.0.0.0/33"),
            ("uuid", "x"),
            ("byte", "%"),
            ("uri", "no uri"),
        ];
        for (format, text) in bad {
            assert!(!text_fits(format, text), "{format} {text}");
        }
        assert!(!integer_fits("int32", 1 << 40));
    }
}
