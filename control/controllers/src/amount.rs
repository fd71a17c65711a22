//! Amounts that are given as a number or as a part of another, as in `maxUnavailable: 25%`.

use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

/// The amount, where 100% is `of`; parts of one are rounded up or down. Never negative.
#[must_use]
pub fn scaled(value: &IntOrString, of: i32, up: bool) -> i32 {
    match value {
        IntOrString::Int(number) => (*number).max(0),
        IntOrString::String(text) => {
            let percent: i64 = text.trim_end_matches('%').parse().unwrap_or(0);
            let product = percent.max(0).saturating_mul(of.max(0).into());
            let whole = if up {
                product.saturating_add(99) / 100
            } else {
                product / 100
            };
            i32::try_from(whole).unwrap_or(i32::MAX)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_rounded_as_asked() {
        let quarter = IntOrString::String("25%".to_owned());
        assert_eq!((scaled(&quarter, 10, true), scaled(&quarter, 10, false)), (3, 2));
        assert_eq!(scaled(&IntOrString::Int(-4), 10, true), 0);
    }
}
