//! What a rule of users sees of a write: the objects in the version that the rule names.
//!
//! A rule about one version of a kind means all of its versions, unless it says otherwise. Whoever stands behind it was
//! written for the version that it names, and is shown no other, whatever the request speaks; what they change is brought
//! back.

use std::sync::Arc;

use coracle_api::kinds::Kind;
use coracle_api::status::ApiError;
use coracle_api::{defaults, normalise};
use serde_json::Value;

use crate::core::Core;
use crate::webhook::convert::convert;
use crate::webhook::{Asked, Operation};

/// A write as one rule sees it.
pub(crate) struct Sight {
    /// The kind in the version that the rule names.
    kind: Arc<Kind>,
    /// The new and the old object in that version, where it is another one than the server handles them in.
    converted: Option<(Option<Value>, Option<Value>)>,
}

impl Sight {
    /// Shows a write in the version `kind`; `object` is the new object, in the version in which the server handles it.
    ///
    /// # Errors
    /// When the webhook that converts objects of the kind fails.
    pub(crate) async fn of(asked: &Asked<'_>, kind: Arc<Kind>, object: Option<&Value>) -> Result<Self, ApiError> {
        let converted = match is_other(asked, &kind) {
            false => None,
            true => {
                let both = [object, asked.old];
                let mut objects: Vec<Value> = both.into_iter().flatten().cloned().collect();
                convert_all(asked.core, asked.kind, &kind, &mut objects).await?;
                let mut objects = objects.into_iter();
                let [new, old] = both.map(|one| one.and_then(|_| objects.next()));
                Some((new, old))
            }
        };
        Ok(Self { kind, converted })
    }

    /// The question with what is seen of it.
    pub(crate) fn asked<'s>(&'s self, asked: &Asked<'s>) -> Asked<'s> {
        let old = match &self.converted {
            Some((_, old)) => old.as_ref(),
            None => asked.old,
        };
        Asked {
            seen: &self.kind,
            old,
            ..*asked
        }
    }

    /// The new object as it is seen, where `own` is what the server handles.
    pub(crate) fn object<'s>(&'s self, own: Option<&'s Value>) -> Option<&'s Value> {
        match &self.converted {
            Some((new, _)) => new.as_ref(),
            None => own,
        }
    }

    /// A changed object, as it was seen, in the version in which the server handles it.
    ///
    /// # Errors
    /// When it is no object of its version, or cannot be converted.
    pub(crate) async fn home(&self, asked: &Asked<'_>, changed: Value) -> Result<Value, ApiError> {
        if self.converted.is_none() {
            return Ok(changed);
        }
        let mut objects = [changed];
        if self.kind.custom.is_none() {
            for object in &mut objects {
                normalise::normalise(self.kind.go_type, object)?;
                defaults::apply(&self.kind, object);
            }
        }
        convert_all(asked.core, &self.kind, asked.kind, &mut objects).await?;
        let [home] = objects;
        Ok(home)
    }
}

/// Whether the objects of a write look otherwise in a version than they are handled. Parts that are of a kind of their own,
/// such as scales, look the same in all.
fn is_other(asked: &Asked<'_>, kind: &Kind) -> bool {
    let own = asked.kind;
    let part = own
        .subresource(asked.subresource)
        .is_some_and(|part| part.body.is_some());
    let same = (&own.group, &own.version) == (&kind.group, &kind.version);
    !same && !part && asked.operation != Operation::Connect
}

/// Brings objects from one version of their kind into another.
async fn convert_all(core: &Core, from: &Kind, to: &Kind, objects: &mut [Value]) -> Result<(), ApiError> {
    if let Some(custom) = &to.custom {
        convert(core, to, custom, &custom.served_as, objects).await?;
        return objects.iter_mut().try_for_each(|object| custom.present(object));
    }
    for object in objects {
        if let Some(conversion) = from.conversion {
            (conversion.to_stored)(object);
        }
        if let Some(conversion) = to.conversion {
            (conversion.from_stored)(object);
        }
    }
    Ok(())
}
