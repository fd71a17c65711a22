//! Exec probes: a program in the container, whose exit code is the answer.

use super::{Answer, Place};
use crate::exec;
use k8s_openapi::api::core::v1::ExecAction;

/// Runs the program.
pub async fn run(at: &Place, action: &ExecAction) -> Answer {
    let Some(found) = &at.found else {
        return Answer::Bad("the container does not run".to_owned());
    };
    let command = action.command.clone().unwrap_or_default();
    match exec::output(&at.node, found, command).await {
        Ok((0, _)) => Answer::Good,
        Ok((code, said)) if said.is_empty() => Answer::Bad(format!("the program ended with exit code {code}")),
        Ok((_, said)) => Answer::Bad(said),
        Err(error) => Answer::Bad(error.to_string()),
    }
}
