//! The forms of names, labels and keys, with the words in which Kubernetes refuses others.
//!
//! Each check answers with what is wrong; an empty answer means that the text is fine.

const LABEL: &str = "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')";
const SUBDOMAIN: &str = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')";
const SERVICE: &str = "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic character, and end with an alphanumeric character (e.g. 'my-name',  or 'abc-123', regex used for validation is '[a-z]([-a-z0-9]*[a-z0-9])?')";
const QUALIFIED: &str = "name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')";
const LABEL_VALUE: &str = "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')";
const CONFIG_KEY: &str = "a valid config key must consist of alphanumeric characters, '-', '_' or '.' (e.g. 'key.name',  or 'KEY_NAME',  or 'key-name', regex used for validation is '[-._a-zA-Z0-9]+')";
const ENV_NAME: &str =
    "a valid environment variable name must consist only of printable ASCII characters other than '='";
const PORT_NAME: &str = "must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)";

fn too_long(text: &str, limit: usize, faults: &mut Vec<String>) {
    if text.len() > limit {
        faults.push(format!("must be no more than {limit} bytes"));
    }
}

fn is_lower(byte: u8) -> bool {
    byte.is_ascii_lowercase() || byte.is_ascii_digit()
}

/// Starts and ends with `edge`, holds `edge` or `inner` between.
fn framed(text: &str, edge: impl Fn(u8) -> bool, inner: impl Fn(u8) -> bool) -> bool {
    let bytes = text.as_bytes();
    let ends = bytes.first().is_some_and(|b| edge(*b)) && bytes.last().is_some_and(|b| edge(*b));
    ends && bytes.iter().all(|b| edge(*b) || inner(*b))
}

fn is_label(text: &str) -> bool {
    framed(text, is_lower, |b| b == b'-')
}

fn is_qualified(text: &str) -> bool {
    framed(text, |b| b.is_ascii_alphanumeric(), |b| matches!(b, b'-' | b'_' | b'.'))
}

/// A DNS label: `my-name`.
pub fn dns_label(text: &str) -> Vec<String> {
    let mut faults = Vec::new();
    too_long(text, 63, &mut faults);
    if !is_label(text) {
        faults.push(LABEL.to_owned());
    }
    faults
}

/// A DNS name: `my.example.com`.
pub fn dns_subdomain(text: &str) -> Vec<String> {
    let mut faults = Vec::new();
    too_long(text, 253, &mut faults);
    if !text.split('.').all(is_label) {
        faults.push(SUBDOMAIN.to_owned());
    }
    faults
}

/// A DNS label that starts with a letter: the name of a Service.
pub fn service_name(text: &str) -> Vec<String> {
    let mut faults = Vec::new();
    too_long(text, 63, &mut faults);
    if !is_label(text) || !text.starts_with(|c: char| c.is_ascii_lowercase()) {
        faults.push(SERVICE.to_owned());
    }
    faults
}

/// A name that fits into a path.
pub fn path_segment(text: &str) -> Vec<String> {
    if text == "." || text == ".." {
        return vec![format!("may not be '{text}'")];
    }
    let found = ["/", "%"].into_iter().filter(|part| text.contains(part));
    found.map(|part| format!("may not contain '{part}'")).collect()
}

/// An IP address as it is written most shortly.
pub fn ip_address(text: &str) -> Vec<String> {
    match text.parse::<std::net::IpAddr>() {
        Ok(address) if address.to_string() == text => Vec::new(),
        Ok(_) => vec!["must be a canonical form IP address".to_owned()],
        Err(_) => vec!["must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)".to_owned()],
    }
}

/// A key of a label, an annotation or a finalizer: `name` or `example.com/name`.
pub fn qualified_name(text: &str) -> Vec<String> {
    let mut faults = Vec::new();
    let (prefix, name) = match text.split_once('/') {
        None => (None, text),
        Some((prefix, name)) => (Some(prefix), name),
    };
    if name.contains('/') {
        faults.push("a qualified name must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]') with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')".to_owned());
        return faults;
    }
    match prefix {
        Some("") => faults.push("prefix part must be non-empty".to_owned()),
        Some(prefix) => faults.extend(
            dns_subdomain(prefix)
                .into_iter()
                .map(|fault| format!("prefix part {fault}")),
        ),
        None => {}
    }
    if name.is_empty() {
        faults.push("name part must be non-empty".to_owned());
    } else if name.len() > 63 {
        faults.push("name part must be no more than 63 bytes".to_owned());
    }
    if !is_qualified(name) {
        faults.push(QUALIFIED.to_owned());
    }
    faults
}

/// The value of a label.
pub fn label_value(text: &str) -> Vec<String> {
    let mut faults = Vec::new();
    too_long(text, 63, &mut faults);
    if !text.is_empty() && !is_qualified(text) {
        faults.push(LABEL_VALUE.to_owned());
    }
    faults
}

/// A key of a ConfigMap or Secret.
pub fn config_key(text: &str) -> Vec<String> {
    let mut faults = Vec::new();
    too_long(text, 253, &mut faults);
    let known = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    if text.is_empty() || !text.bytes().all(known) {
        faults.push(CONFIG_KEY.to_owned());
    }
    match text {
        "." | ".." => faults.push(format!("must not be '{text}'")),
        _ if text.starts_with("..") => faults.push("must not start with '..'".to_owned()),
        _ => {}
    }
    faults
}

/// The name of an environment variable.
pub fn env_name(text: &str) -> Vec<String> {
    let printable = |b: u8| (0x20..0x7f).contains(&b) && b != b'=';
    if text.bytes().all(printable) {
        Vec::new()
    } else {
        vec![ENV_NAME.to_owned()]
    }
}

/// The name of a port: `http`, at most 15 characters.
pub fn port_name(text: &str) -> Vec<String> {
    let mut faults = Vec::new();
    if text.len() > 15 {
        faults.push("must be no more than 15 characters".to_owned());
    }
    if !text.bytes().all(|b| is_lower(b) || b == b'-') {
        faults.push(PORT_NAME.to_owned());
    }
    if !text.bytes().any(|b| b.is_ascii_lowercase()) {
        faults.push("must contain at least one letter (a-z)".to_owned());
    }
    if text.contains("--") {
        faults.push("must not contain consecutive hyphens".to_owned());
    }
    if text.starts_with('-') || text.ends_with('-') {
        faults.push("must not begin or end with a hyphen".to_owned());
    }
    faults
}

/// A port number.
pub fn port_number(port: i64) -> Vec<String> {
    if (1..=65535).contains(&port) {
        Vec::new()
    } else {
        vec!["must be between 1 and 65535, inclusive".to_owned()]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Form = fn(&str) -> Vec<String>;

    #[test]
    fn forms_of_names() {
        let fine: [(Form, &[&str]); 8] = [
            (dns_label, &["a", "a-b", "0", "a--b"]),
            (dns_subdomain, &["a", "a.b-c.d0"]),
            (service_name, &["a", "a-0"]),
            (qualified_name, &["a", "A_b.c", "example.com/Name"]),
            (label_value, &["", "A-b_c.d"]),
            (config_key, &["a.b", "-a", "_"]),
            (env_name, &["A", "a.b-c", "1 x"]),
            (port_name, &["http", "a-1"]),
        ];
        for (check, texts) in fine {
            for text in texts {
                assert_eq!(check(text), Vec::<String>::new(), "{text}");
            }
        }
        let wrong: [(Form, &[&str]); 8] = [
            (dns_label, &["", "A", "-a", "a-", "a.b", "a_b"]),
            (dns_subdomain, &["", "a..b", ".a", "A"]),
            (service_name, &["0a", "", "a."]),
            (qualified_name, &["", "/a", "a/", "a/b/c", "-a", "A.com/a"]),
            (label_value, &["-", "a b", "ä"]),
            (config_key, &["", ".", "..", "..a", "a/b"]),
            (env_name, &["a=b", "ü"]),
            (port_name, &["", "1", "-a", "a--b", "HTTP", "abcdefghijklmnop"]),
        ];
        for (check, texts) in wrong {
            for text in texts {
                assert!(!check(text).is_empty(), "{text}");
            }
        }
        assert!(!dns_label(&"a".repeat(64)).is_empty());
        assert!(!dns_subdomain(&"a.".repeat(127)).is_empty());
    }
}
