//! What types and fields of the Kubernetes API mean, in prose: what `kubectl explain` shows.
//!
//! The texts are Kubernetes' own, taken from the schemas of the crate `k8s-openapi` into `descriptions/descriptions.bin`
//! (see `NOTICE`). They decide nothing. To make the table again, run
//!
//! ```text
//! cargo run -p coracle-api --bin generate-descriptions -- <k8s-openapi's src/v1_36> control/api/descriptions/descriptions.bin
//! ```
//!
//! The table is read at the first question, which only OpenAPI asks.

use std::collections::HashMap;
use std::io::Read;
use std::sync::OnceLock;

/// Most bytes that the table may unfold to. The real one has 1.3 MB.
const TABLE_LIMIT_BYTES: u64 = 16 * 1024 * 1024;

/// Texts by the types' names in OpenAPI and the fields' names; that of the type itself has an empty name.
type Texts = HashMap<String, HashMap<String, String>>;

fn load(compressed: &[u8]) -> std::io::Result<Texts> {
    let reader = flate2::read::ZlibDecoder::new(compressed).take(TABLE_LIMIT_BYTES);
    Ok(serde_json::from_reader(std::io::BufReader::new(reader))?)
}

fn texts() -> &'static Texts {
    static TEXTS: OnceLock<Texts> = OnceLock::new();
    // The table is part of the binary and a test reads it whole, so there is no one to tell of a broken one.
    TEXTS.get_or_init(|| load(include_bytes!("../descriptions/descriptions.bin")).unwrap_or_default())
}

/// What a field of a type means; the type itself with an empty name. Types are named as in OpenAPI.
pub fn text(openapi_name: &str, field: &str) -> Option<&'static str> {
    texts().get(openapi_name)?.get(field).map(String::as_str)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fields;
    use crate::kinds::Kinds;
    use crate::schema::openapi_schema_name;

    #[test]
    fn nearly_every_field_of_every_kind_is_explained() {
        let table = load(include_bytes!("../descriptions/descriptions.bin")).unwrap();
        assert!(table.len() > 600);
        for kind in Kinds::builtin().iter() {
            let name = openapi_schema_name(kind.go_type);
            // What is made on reading has no stored form, and no facts about one.
            if name.is_empty() {
                assert!(kind.is_made_on_reading(), "{}", kind.kind);
                continue;
            }
            assert!(text(&name, "").is_some(), "{name}");
            let Some(spec) = fields::go_type(kind.go_type).and_then(|kind| kind.field("spec")) else {
                continue;
            };
            let fields::Shape::Struct(spec) = spec.kind.shape() else {
                continue;
            };
            let name = openapi_schema_name(spec.name());
            let lacking = spec.fields().iter().filter(|field| text(&name, field.json).is_none());
            // Deprecated fields and the like may come without a text.
            assert!(lacking.count() * 4 <= spec.fields().len(), "{name}");
        }
    }

    #[test]
    fn a_text_is_whole() {
        let image = text("io.k8s.api.core.v1.Container", "image").unwrap();
        assert!(image.starts_with("Container image name. More info: "), "{image}");
        let probe = text("io.k8s.api.core.v1.Container", "livenessProbe").unwrap();
        assert!(probe.starts_with("Periodic probe of container liveness."), "{probe}");
    }
}
