//! Reads a value without one of its members, as if that had not been written: its text is passed over and nothing is made
//! of it.

use std::{borrow::Cow, fmt};

use serde::{
    Deserialize, Deserializer,
    de::{self, DeserializeSeed, IgnoredAny, IntoDeserializer, MapAccess, Visitor},
    forward_to_deserialize_any,
};

/// What reads a value without the member at `path`, which is the names of members from the outside in.
pub struct Without<'p, D> {
    /// What reads all of it.
    pub all: D,
    /// Which member is left out.
    pub path: &'p [&'p str],
}

impl<'de, D: Deserializer<'de>> Deserializer<'de> for Without<'_, D> {
    type Error = D::Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
        self.all.deserialize_any(Without {
            all: visitor,
            path: self.path,
        })
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
        self.all.deserialize_option(Without {
            all: visitor,
            path: self.path,
        })
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit unit_struct newtype_struct
        seq tuple tuple_struct map struct enum identifier ignored_any
    }
}

impl<'de, V: Visitor<'de>> Visitor<'de> for Without<'_, V> {
    type Value = V::Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.all.expecting(f)
    }

    fn visit_none<E: de::Error>(self) -> Result<V::Value, E> {
        self.all.visit_none()
    }

    fn visit_unit<E: de::Error>(self) -> Result<V::Value, E> {
        self.all.visit_unit()
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<V::Value, D::Error> {
        self.all.visit_some(Without {
            all: deserializer,
            path: self.path,
        })
    }

    fn visit_map<A: MapAccess<'de>>(self, members: A) -> Result<V::Value, A::Error> {
        self.all.visit_map(Members {
            members,
            path: self.path,
            inside: false,
        })
    }
}

/// The members of an object, but for the one that is left out.
struct Members<'p, A> {
    members: A,
    path: &'p [&'p str],
    /// The value that comes next is one in which something is left out.
    inside: bool,
}

impl<'de, A: MapAccess<'de>> MapAccess<'de> for Members<'_, A> {
    type Error = A::Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, A::Error> {
        while let Some(Name(name)) = self.members.next_key()? {
            let (named, last) = match self.path {
                [first, rest @ ..] => (*first == name, rest.is_empty()),
                [] => (false, false),
            };
            if named && last {
                self.members.next_value::<IgnoredAny>()?;
                continue;
            }
            self.inside = named;
            return seed.deserialize(name.into_deserializer()).map(Some);
        }
        Ok(None)
    }

    fn next_value_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<T::Value, A::Error> {
        match self.path {
            [_, rest @ ..] if self.inside => self.members.next_value_seed(Without { all: seed, path: rest }),
            _ => self.members.next_value_seed(seed),
        }
    }

    fn size_hint(&self) -> Option<usize> {
        self.members.size_hint()
    }
}

impl<'de, T: DeserializeSeed<'de>> DeserializeSeed<'de> for Without<'_, T> {
    type Value = T::Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<T::Value, D::Error> {
        self.all.deserialize(Without {
            all: deserializer,
            path: self.path,
        })
    }
}

/// A member's name, where it stands in the text if it can be.
#[derive(Deserialize)]
struct Name<'a>(#[serde(borrow)] Cow<'a, str>);

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::Pod;
    use serde_json::{Value, json};

    use super::*;

    fn read<T: for<'de> Deserialize<'de>>(value: &Value) -> serde_json::Result<T> {
        let text = value.to_string();
        let mut all = serde_json::Deserializer::from_str(&text);
        T::deserialize(Without {
            all: &mut all,
            path: &["metadata", "managedFields"],
        })
    }

    #[test]
    fn only_the_member_at_the_path_is_left_out() {
        let mut all = json!({
            "metadata": {"name": "a\"b", "managedFields": [{"manager": "x"}], "labels": {"managedFields": "l"}, "uid": null},
            "spec": {"metadata": {"managedFields": [1.5, true]}, "list": [{"managedFields": 1}]},
            "managedFields": "top",
        });
        let read: Value = read(&all).unwrap();
        all["metadata"].as_object_mut().unwrap().remove("managedFields");
        assert_eq!(read, all);
    }

    #[test]
    fn objects_are_read_as_they_are_otherwise() {
        let pod = json!({"kind": "Pod", "apiVersion": "v1",
            "metadata": {"managedFields": [{"manager": "x"}], "name": "a", "creationTimestamp": null},
            "spec": {"containers": [{"name": "c", "image": "i"}]}, "status": {"phase": "Running"}});
        let read: Pod = read(&pod).unwrap();
        let mut wanted: Pod = serde_json::from_value(pod).unwrap();
        wanted.metadata.managed_fields = None;
        assert_eq!(read, wanted);
        assert!(super::tests::read::<Pod>(&json!({"kind": "Pod", "metadata": []})).is_err());
        assert!(super::tests::read::<Pod>(&json!([])).is_err());
        assert_eq!(
            super::tests::read::<Pod>(&json!({"kind": "Pod", "apiVersion": "v1", "metadata": null})).unwrap(),
            Pod::default()
        );
    }
}
