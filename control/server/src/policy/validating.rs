//! Validating policies: what must be true of a write, and what becomes of one of which it is not.

use coracle_api::policy::{MESSAGE_LIMIT_BYTES, Validation};
use coracle_api::status::{ApiError, Cause};
use coracle_cel::Val;
use serde_json::{Value, json};

use super::config::{Binding, Policy};
use super::scene::{Run, Scene};
use crate::matching;
use crate::sight::Sight;
use crate::webhook::Asked;

/// The longest text that is written down about a request, in bytes, as in Kubernetes.
const ANNOTATION_LIMIT_BYTES: usize = 10 * 1024;

/// Under which name the audit log has the violations that a binding wants to have written down, as in Kubernetes.
const FAILURES: &str = "validation.policy.admission.k8s.io/validation_failure";

/// A violation.
struct Violation {
    message: String,
    reason: &'static str,
    /// Which of the policy's validations it is of.
    index: usize,
    /// It refuses the request whatever the binding says.
    certain: bool,
}

impl Violation {
    fn new(message: String) -> Self {
        Self {
            message,
            reason: "Invalid",
            index: 0,
            certain: false,
        }
    }

    fn certain(message: String) -> Self {
        Self {
            certain: true,
            ..Self::new(message)
        }
    }
}

/// What all policies come to.
#[derive(Default)]
struct Outcome {
    denial: Option<ApiError>,
    warnings: Vec<String>,
    /// Violations for the audit log.
    failures: Vec<Value>,
}

/// Evaluates the validating policies about a write and answers with their warnings.
///
/// # Errors
/// The first refusal.
pub(crate) async fn validate(asked: &Asked<'_>, object: Option<&Value>) -> Result<Vec<String>, ApiError> {
    let current = asked.core.admission_policies.current();
    if current.validating.is_empty() || matching::is_exempt(asked.kind) {
        return Ok(Vec::new());
    }
    let snapshot = asked.core.store.snapshot();
    let mut outcome = Outcome::default();
    for policy in &current.validating {
        let Some((kind, bound)) = policy.concerns(asked, &snapshot, object).await else {
            continue;
        };
        let sight = Sight::of(asked, kind, object).await?;
        let (here, object) = (sight.asked(asked), sight.object(object));
        let scene = Scene::new(&here, &snapshot);
        for (binding, params) in bound {
            let params = match params {
                Ok(params) => params,
                Err(words) => {
                    if policy.fail {
                        let what = if binding.is_some() { "binding" } else { "policy" };
                        let violation = Violation::certain(format!("failed to configure {what}: {words}"));
                        outcome.take(asked, policy, binding, violation);
                    }
                    continue;
                }
            };
            for params in &params {
                for violation in judge(policy, &scene, object, params.as_ref(), asked) {
                    outcome.take(asked, policy, binding, violation);
                }
            }
        }
    }
    if !outcome.failures.is_empty() {
        let failures = Value::Array(outcome.failures).to_string();
        asked.said.annotate(FAILURES.to_owned(), failures);
    }
    match outcome.denial {
        Some(denial) => Err(denial),
        None => Ok(outcome.warnings),
    }
}

impl Outcome {
    fn take(&mut self, asked: &Asked<'_>, policy: &Policy, binding: Option<&Binding>, violation: Violation) {
        let mut who = format!("ValidatingAdmissionPolicy '{}'", policy.name);
        if let Some(binding) = binding {
            who.push_str(&format!(" with binding '{}'", binding.name));
        }
        let actions = binding.map(|binding| binding.actions.as_slice()).unwrap_or_default();
        let does = |action: &str| actions.iter().any(|one| one == action);
        let message = &violation.message;
        if violation.certain || does("Deny") {
            self.denial
                .get_or_insert_with(|| denial(asked, format!("{who} denied request: {message}"), violation.reason));
        }
        if violation.certain {
            return;
        }
        if does("Warn") {
            self.warnings.push(format!("Validation failed for {who}: {message}"));
        }
        if does("Audit") {
            let binding = binding.map(|binding| binding.name.as_str());
            self.failures.push(json!({
                "message": message, "policy": policy.name, "binding": binding,
                "expressionIndex": violation.index, "validationActions": actions,
            }));
        }
    }
}

fn denial(asked: &Asked<'_>, message: String, reason: &'static str) -> ApiError {
    let mut error = ApiError::forbidden(&asked.kind.group_resource(), asked.name, &message);
    error.reason = reason;
    error.code = match reason {
        "Forbidden" => 403,
        "Unauthorized" => 401,
        "RequestEntityTooLarge" => 413,
        _ => 422,
    };
    error.with_cause(Cause::new("", message))
}

/// What a policy finds wrong with a write, for one parameter.
fn judge(
    policy: &Policy,
    scene: &Scene<'_>,
    object: Option<&Value>,
    params: Option<&Value>,
    asked: &Asked<'_>,
) -> Vec<Violation> {
    let programs = &policy.programs;
    let mut found = Vec::new();
    match scene.holds(&programs.conditions, object, params) {
        Ok(true) => {}
        Ok(false) => return found,
        Err(words) => {
            found.extend(policy.fail.then(|| Violation::new(words)));
            return found;
        }
    }
    let mut run = scene.run(programs, object, params);
    for (index, validation) in programs.validations.iter().enumerate() {
        match run.eval(&validation.program) {
            Ok(Val::Bool(true)) => {}
            Ok(_) => found.push(Violation {
                index,
                reason: reason(&validation.reason),
                ..Violation::new(message(validation, &mut run))
            }),
            Err(words) => found.extend(policy.fail.then(|| Violation::new(words))),
        }
    }
    annotate(policy, &mut run, asked, &mut found);
    found
}

/// Writes down what the policy wants to be known about the request.
fn annotate(policy: &Policy, run: &mut Run<'_, '_>, asked: &Asked<'_>, found: &mut Vec<Violation>) {
    for annotation in &policy.programs.annotations {
        match run.eval(&annotation.program) {
            Ok(Val::Null) => {}
            Ok(value) => match value.as_text().map(str::trim) {
                Some(text) => {
                    let length = text.floor_char_boundary(ANNOTATION_LIMIT_BYTES);
                    let text = text.get(..length).unwrap_or_default().to_owned();
                    asked.said.annotate(format!("{}/{}", policy.name, annotation.key), text);
                }
                None => found.push(Violation::certain(format!(
                    "valueExpression '{}' resulted in unsupported return type: {}. Return type must be either string or null.",
                    annotation.program.source(),
                    value.type_name()
                ))),
            },
            Err(words) => found.extend(policy.fail.then(|| Violation::certain(words))),
        }
    }
}

/// What is said of a violation: the best message that there is.
fn message(validation: &Validation, run: &mut Run<'_, '_>) -> String {
    let made = validation.message_program.as_ref().and_then(|program| {
        let value = run.eval(program).ok()?;
        let text = value.as_text()?.trim();
        let good = !text.is_empty() && text.len() <= MESSAGE_LIMIT_BYTES && !text.contains('\n');
        good.then(|| text.to_owned())
    });
    made.unwrap_or_else(|| match validation.message.as_str() {
        "" => format!("failed expression: {}", validation.program.source().trim()),
        message => message.to_owned(),
    })
}

fn reason(text: &str) -> &'static str {
    const KNOWN: [&str; 3] = ["Forbidden", "Unauthorized", "RequestEntityTooLarge"];
    KNOWN.into_iter().find(|known| *known == text).unwrap_or("Invalid")
}
