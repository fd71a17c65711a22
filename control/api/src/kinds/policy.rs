//! The rows of the group `policy`.

use super::{Kind, Strategy};
use crate::{table, validate};

/// The kinds of `policy/v1`.
pub fn kinds() -> Vec<Kind> {
    let go_type = "k8s.io/api/policy/v1.PodDisruptionBudget";
    let budget = Kind::new("policy", "v1", "PodDisruptionBudget", "poddisruptionbudgets", go_type)
        .short(&["pdb"])
        .with_status()
        .with_generation()
        .printed(table::policy::BUDGET, table::policy::budget)
        .with(Strategy {
            validate: validate::policy::budget,
            ..Strategy::NONE
        });
    vec![budget]
}
