//! Create: a name, an identity, and a place in the store.

use coracle_api::status::ApiError;
use coracle_api::{defaults, object, prepare, time, validate};
use coracle_store::Expect;
use serde_json::Value;

use super::ownership::{self, List};
use super::{Lost, RETRIES, Scope, Written};
use crate::allocate::{Reservation, ranges};
use crate::core::new_uid;
use crate::decode::{self, Document};
use crate::query::WriteOptions;
use crate::webhook::Operation;
use crate::{admission, document, served};

/// The letters of generated names: none that form words or can be mistaken for each other.
const ALPHABET: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
/// How many letters a generated name ends with.
const SUFFIX: usize = 5;
/// The longest beginning of a generated name; with the suffix it fits a DNS label.
const BASE: usize = 58;
/// How many generated names are tried. A collision among 14 million is rare; eight in a row mean that they are used up.
const NAMES: usize = 8;

impl Scope<'_> {
    /// Creates an object from a request's body.
    pub(crate) async fn create(&self, document: Document, options: WriteOptions<'_>) -> Result<Written, ApiError> {
        let api_version = self.shown.api_version();
        let expected = decode::expected(self.shown, &api_version);
        let (mut value, warnings) = decode::normalise(document, expected, options.validation)?;
        self.bring_home(&mut value, None)?;
        self.create_owned(value, None, options, warnings).await
    }

    /// Creates an object that is in the stored form already, but for what creation gives it. Who creates owns all of it,
    /// unless the owners are known.
    pub(super) async fn create_owned(
        &self,
        value: Value,
        owners: Option<Vec<Value>>,
        options: WriteOptions<'_>,
        mut warnings: Vec<String>,
    ) -> Result<Written, ApiError> {
        if admission::is(self.kind, "", "Pod") {
            admission::service_account::wait(self, &value).await;
        }
        let generate = object::generate_name(&value).to_owned();
        let generated = object::name(&value).is_empty() && !generate.is_empty();
        let mut names = 0;
        let mut races = 0;
        loop {
            let mut attempt = value.clone();
            if generated {
                object::set_name(&mut attempt, &generated_name(&generate));
            }
            // The name comes first: what the system adds may be made from it, as the labels of a job's pods are.
            self.settle(&mut attempt, owners.clone(), options)?;
            match self.try_create(attempt, options, &mut warnings).await {
                Ok(json) => {
                    return Ok(Written {
                        json,
                        created: true,
                        warnings,
                    });
                }
                Err(Lost::Failed(error)) => return Err(error),
                Err(Lost::Race { key, .. })
                    if key == self.namespace_key()
                        || (self.is_service() && key.as_str().starts_with(ranges::PREFIX)) =>
                {
                    races += 1;
                    if races > RETRIES {
                        return Err(self.modified(object::name(&value)));
                    }
                }
                Err(Lost::Race { key, .. })
                    if key.as_str().starts_with(served::DEFINITIONS) && !served::defines(self.kind) =>
                {
                    return Err(ApiError::no_such_resource());
                }
                Err(Lost::Race { key, .. }) => {
                    let name = document::place(key.as_str()).1.to_owned();
                    names += 1;
                    if !generated {
                        return Err(ApiError::already_exists(&self.kind.group_resource(), &name));
                    }
                    if names >= NAMES {
                        return Err(ApiError::generate_name_conflict(&self.kind.group_resource(), &name));
                    }
                }
            }
        }
    }

    fn namespace_key(&self) -> coracle_store::Key {
        coracle_store::Key::from(admission::namespace::key(self.namespace.unwrap_or_default()))
    }

    /// What every new object gets, whatever the request says; then defaults and the strategy's own.
    fn settle(&self, value: &mut Value, owners: Option<Vec<Value>>, options: WriteOptions<'_>) -> Result<(), ApiError> {
        if self.kind.namespaced && self.namespace.is_none() {
            return Err(ApiError::bad_request(
                "an empty namespace may not be set during creation",
            ));
        }
        decode::settle_namespace(value, self.namespace.filter(|_| self.kind.namespaced))?;
        if !object::resource_version(value).is_empty() {
            return Err(ApiError::bad_request(
                "resourceVersion should not be set on objects to be created",
            ));
        }
        for field in [
            "selfLink",
            "managedFields",
            "deletionTimestamp",
            "deletionGracePeriodSeconds",
            "resourceVersion",
        ] {
            object::remove(value, &format!("metadata.{field}"));
        }
        let now = time::format_seconds(self.core.now_micros());
        object::set_creation_timestamp(value, &now);
        object::set_uid(value, &new_uid());
        defaults::apply(self.kind, value);
        // Before the server adds its own: nobody owns what it hands out.
        let owners = owners.unwrap_or_else(|| self.first_owners(value, options));
        ownership::attach(value, owners);
        prepare::create(self.kind, value);
        Ok(())
    }

    async fn try_create(
        &self,
        mut value: Value,
        options: WriteOptions<'_>,
        warnings: &mut Vec<String>,
    ) -> Result<bytes::Bytes, Lost> {
        let name = object::name(&value).to_owned();
        let key = self.key(&name);
        let snapshot = self.core.store.snapshot();
        let namespace = match self.namespace.filter(|_| self.kind.namespaced) {
            Some(namespace) => {
                Some(admission::namespace::admit(&snapshot, self.kind, namespace, &name).map_err(Lost::Failed)?)
            }
            None => None,
        };
        if !name.is_empty() && snapshot.get(key.as_str()).is_some() {
            return Err(Lost::Race { key });
        }
        let request = self.request(&snapshot, &name, None);
        admission::mutate(&request, &mut value, warnings).map_err(Lost::Failed)?;
        let asked = self.asked(Operation::Create, "", &name, None, options.dry_run);
        let rules = |value: &mut Value| admission::mutate(&request, value, warnings);
        self.users_change(&asked, &mut value, rules)
            .await
            .map_err(Lost::Failed)?;
        let invalid = |faults| Lost::Failed(self.invalid(&name, faults));
        let reservation = match self.is_service() {
            true => Some(
                self.core
                    .addresses
                    .assign(key.as_str(), &mut value, None, &snapshot)
                    .map_err(invalid)?,
            ),
            false => None,
        };
        let faults = validate::create(self.kind, &value);
        if !faults.is_empty() {
            return Err(invalid(faults));
        }
        let request = self.request(&snapshot, &name, None);
        admission::validate(&request, &value, warnings).map_err(Lost::Failed)?;
        admission::image::validate(&request, &value)
            .await
            .map_err(Lost::Failed)?;
        self.users_refuse(&asked, Some(&value)).await.map_err(Lost::Failed)?;
        if options.dry_run {
            admission::quota::charges(self, &snapshot, &name, None, Some(&value)).map_err(Lost::Failed)?;
            return Ok(document::bytes(&value));
        }
        let range = reservation.as_ref().and_then(Reservation::needs);
        let needed = namespace.into_iter().chain(self.definition()).chain(range);
        let record = self.put(&key, &value, &List::NONE, Expect::Absent, needed).await?;
        if let Some(reservation) = reservation {
            reservation.keep();
        }
        Ok(record.json.clone())
    }
}

/// A name from its beginning, as `generateName` asks.
pub(crate) fn generated_name(base: &str) -> String {
    let mut name: String = base.chars().take(BASE).collect();
    for _ in 0..SUFFIX {
        let letter = ALPHABET
            .get(rand::random_range(0..ALPHABET.len()))
            .copied()
            .unwrap_or(b'x');
        name.push(char::from(letter));
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn generated_names_fit_a_label() {
        let name = generated_name(&"a".repeat(80));
        assert_eq!(name.len(), 63);
        let name = generated_name("web-");
        assert_eq!(name.len(), 9);
        assert!(name.bytes().skip(4).all(|letter| ALPHABET.contains(&letter)), "{name}");
    }
}
