//! Port-forward.

use coracle_api::status::ApiError;

use crate::chain::Call;
use crate::registry::Scope;
use crate::respond::Answer;

pub(crate) async fn answer(_: &mut Call<'_>, scope: Scope<'_>, name: &str) -> Result<Answer, ApiError> {
    scope.record(name)?;
    Err(ApiError::not_implemented("port-forward"))
}
