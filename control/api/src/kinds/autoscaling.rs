//! The rows of the group `autoscaling`: one stored kind in two versions.

use super::{Conversion, Kind, Strategy};
use crate::{convert, defaults, table, validate};

const STORED: (&str, &str, &str) = ("autoscaling", "v2", "horizontalpodautoscalers");

/// The kinds of `autoscaling/v2` and `autoscaling/v1`.
pub fn kinds() -> Vec<Kind> {
    vec![stored(), first()]
}

fn row(version: &'static str, go_type: &'static str) -> Kind {
    let (group, _, plural) = STORED;
    Kind::new(group, version, "HorizontalPodAutoscaler", plural, go_type)
        .short(&["hpa"])
        .in_all()
        .with_status()
        .printed(table::autoscaling::COLUMNS, table::autoscaling::cells)
}

fn stored() -> Kind {
    row("v2", "k8s.io/api/autoscaling/v2.HorizontalPodAutoscaler").with(Strategy {
        default: defaults::autoscaling::second,
        validate: validate::autoscaling::autoscaler,
        ..Strategy::NONE
    })
}

fn first() -> Kind {
    let mut first = row("v1", "k8s.io/api/autoscaling/v1.HorizontalPodAutoscaler").with(Strategy {
        default: defaults::autoscaling::first,
        ..Strategy::NONE
    });
    first.printer = super::Printer::Cells {
        columns: table::autoscaling::COLUMNS,
        cells: table::autoscaling::first,
    };
    first.conversion = Some(Conversion {
        stored_as: STORED,
        labels: &[],
        from_stored: convert::autoscaling::from_stored,
        to_stored: convert::autoscaling::to_stored,
        to_configured: convert::autoscaling::to_stored,
    });
    first
}
