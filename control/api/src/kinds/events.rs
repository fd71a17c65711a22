//! The rows of the group `events.k8s.io`: the stored events of the core group under newer names.

use super::{Conversion, Kind, Selectable, Strategy};
use crate::{convert, table, validate};

/// This version's field labels with those of the stored events.
const LABELS: &[(&str, &str)] = &[
    ("regarding.kind", "involvedObject.kind"),
    ("regarding.namespace", "involvedObject.namespace"),
    ("regarding.name", "involvedObject.name"),
    ("regarding.uid", "involvedObject.uid"),
    ("regarding.apiVersion", "involvedObject.apiVersion"),
    ("regarding.resourceVersion", "involvedObject.resourceVersion"),
    ("regarding.fieldPath", "involvedObject.fieldPath"),
    ("reportingController", "reportingComponent"),
    ("reason", "reason"),
    ("type", "type"),
];

/// The kinds of `events.k8s.io/v1`.
pub fn kinds() -> Vec<Kind> {
    let mut event = Kind::new("events.k8s.io", "v1", "Event", "events", "k8s.io/api/events/v1.Event")
        .short(&["ev"])
        .created_on_update()
        .printed(table::event::COLUMNS, table::event::newer)
        .with(Strategy {
            validate: validate::event::event,
            validate_update: validate::event::update,
            ..Strategy::NONE
        });
    event
        .selectable
        .extend(LABELS.iter().map(|(label, _)| Selectable::new(*label)));
    event.conversion = Some(Conversion {
        stored_as: ("", "v1", "events"),
        labels: LABELS,
        from_stored: convert::event::from_stored,
        to_stored: convert::event::to_stored,
        to_configured: convert::event::to_configured,
    });
    vec![event]
}
