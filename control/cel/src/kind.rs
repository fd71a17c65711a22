//! What is known of values before there are any.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

/// The kind of a value, as far as it is known.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Kind {
    /// Nothing is known.
    #[default]
    Dyn,
    /// Nothing.
    Null,
    /// True or false.
    Bool,
    /// A whole number.
    Int,
    /// A whole number that is not negative.
    Uint,
    /// A number.
    Double,
    /// A text.
    Text,
    /// Bytes.
    Bytes,
    /// A length of time.
    Duration,
    /// A moment.
    Time,
    /// A list of items of a kind; two lists may be equal in any order.
    List(Arc<Kind>, bool),
    /// A map from texts to values of a kind.
    Map(Arc<Kind>),
    /// An object with known fields.
    Object(Arc<Object>),
    /// A value that may be missing.
    Optional(Arc<Kind>),
    /// The type of a value.
    Type,
    /// A value of a library's type.
    Foreign(&'static str),
}

/// An object with known fields.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Object {
    /// Its name in messages.
    pub name: String,
    /// The fields, by their names in JSON.
    pub fields: BTreeMap<String, Kind>,
    /// Whether there may be others.
    pub open: bool,
}

pub(crate) static DYN: Kind = Kind::Dyn;

/// Words of the language, which a field can only have for a name in an escaped form.
const RESERVED: [&str; 21] = [
    "true",
    "false",
    "null",
    "in",
    "as",
    "break",
    "const",
    "continue",
    "else",
    "for",
    "function",
    "if",
    "import",
    "let",
    "loop",
    "package",
    "namespace",
    "return",
    "var",
    "void",
    "while",
];

impl Kind {
    /// A list of items of a kind.
    pub fn list(item: Kind) -> Self {
        Self::List(Arc::new(item), false)
    }

    pub(crate) fn item(&self) -> &Kind {
        match self {
            Self::List(item, _) => item,
            _ => &DYN,
        }
    }

    pub(crate) fn field(&self, name: &str) -> &Kind {
        match self {
            Self::Object(object) => object.fields.get(name).unwrap_or(&DYN),
            Self::Map(value) => value,
            _ => &DYN,
        }
    }

    pub(crate) fn is_unordered(&self) -> bool {
        matches!(self, Self::List(_, true))
    }

    /// A field's name in JSON, from the form that expressions use.
    pub(crate) fn unescaped<'n>(&self, name: &'n str) -> Cow<'n, str> {
        match self {
            Self::Object(_) if name.contains("__") => Cow::Owned(unescape(name)),
            _ => Cow::Borrowed(name),
        }
    }

    pub(crate) fn is_number(&self) -> bool {
        matches!(self, Self::Int | Self::Uint | Self::Double)
    }

    /// Whether a value of this kind may be where one of the other is expected.
    pub(crate) fn fits(&self, other: &Kind) -> bool {
        match (self, other) {
            (Self::Dyn, _) | (_, Self::Dyn) | (Self::Null, _) | (_, Self::Null) => true,
            (one, other) if one.is_number() && other.is_number() => true,
            (Self::List(one, _), Self::List(other, _))
            | (Self::Map(one), Self::Map(other))
            | (Self::Optional(one), Self::Optional(other)) => one.fits(other),
            (Self::Object(one), Self::Object(other)) => one.name == other.name,
            (Self::Object(_), Self::Map(_)) | (Self::Map(_), Self::Object(_)) => true,
            (one, other) => one == other,
        }
    }
}

/// The form in which a field's name stands in an expression; `None` when it cannot.
pub fn escape(name: &str) -> Option<String> {
    if RESERVED.contains(&name) {
        return Some(format!("__{name}__"));
    }
    let escaped = name
        .replace("__", "__underscores__")
        .replace('.', "__dot__")
        .replace('-', "__dash__")
        .replace('/', "__slash__");
    let good = escaped.chars().all(|char| char.is_ascii_alphanumeric() || char == '_')
        && !escaped.starts_with(|char: char| char.is_ascii_digit());
    (good && !escaped.is_empty()).then_some(escaped)
}

/// A field's name from its form in an expression.
pub(crate) fn unescape(name: &str) -> String {
    if let Some(word) = name
        .strip_prefix("__")
        .and_then(|name| name.strip_suffix("__"))
        .filter(|word| RESERVED.contains(word))
    {
        return word.to_owned();
    }
    name.replace("__underscores__", "\u{0}")
        .replace("__dot__", ".")
        .replace("__dash__", "-")
        .replace("__slash__", "/")
        .replace('\u{0}', "__")
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Dyn => f.write_str("dyn"),
            Self::Null => f.write_str("null"),
            Self::Bool => f.write_str("bool"),
            Self::Int => f.write_str("int"),
            Self::Uint => f.write_str("uint"),
            Self::Double => f.write_str("double"),
            Self::Text => f.write_str("string"),
            Self::Bytes => f.write_str("bytes"),
            Self::Duration => f.write_str("google.protobuf.Duration"),
            Self::Time => f.write_str("google.protobuf.Timestamp"),
            Self::List(item, _) => write!(f, "list({item})"),
            Self::Map(value) => write!(f, "map(string, {value})"),
            Self::Object(object) => f.write_str(&object.name),
            Self::Optional(value) => write!(f, "optional_type({value})"),
            Self::Type => f.write_str("type"),
            Self::Foreign(name) => f.write_str(name),
        }
    }
}
