//! The rows of the group `metrics.k8s.io`: what nodes and pods use now. Nothing is stored; the kinds have no table of
//! fields, because nobody writes them.

use super::{Kind, READ};

/// The kinds of `metrics.k8s.io/v1beta1`.
pub fn kinds() -> Vec<Kind> {
    let row = |kind, plural| Kind::new("metrics.k8s.io", "v1beta1", kind, plural, "").with_verbs(READ);
    vec![row("NodeMetrics", "nodes").cluster(), row("PodMetrics", "pods")]
}
