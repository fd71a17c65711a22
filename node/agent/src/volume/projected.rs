//! Volumes made of objects, facts and tokens: configMap, secret, downwardAPI, and projected, which joins several of them.
//!
//! Pure: what a volume refers to is looked up in values that the caller brings.

use super::{Files, VolumeError};
use crate::env::Lookup;
use crate::fields::Facts;
use crate::objects::Kind;
use crate::token::{Book, Wanted};
use k8s_openapi::api::core::v1::{DownwardAPIVolumeFile, KeyToPath, Volume};
use std::path::{Component, Path};

/// One object that a volume takes files from.
struct Source<'a> {
    kind: Kind,
    name: &'a str,
    items: &'a [KeyToPath],
    optional: bool,
}

/// What a volume is made of, in order.
enum Part<'a> {
    Object(Source<'a>),
    Facts(&'a [DownwardAPIVolumeFile]),
    /// A token of the pod's service account, and its file.
    Token(Wanted, &'a str),
    Unsupported,
}

/// How long a token is good where the volume does not say: an hour.
const TOKEN_SECONDS: i64 = 3600;

fn parts(volume: &Volume) -> Vec<Part<'_>> {
    if let Some(source) = &volume.config_map {
        return vec![object(
            Kind::ConfigMap,
            &source.name,
            source.items.as_deref(),
            source.optional,
        )];
    }
    if let Some(source) = &volume.secret {
        let name = source.secret_name.as_deref().unwrap_or_default();
        return vec![object(Kind::Secret, name, source.items.as_deref(), source.optional)];
    }
    if let Some(source) = &volume.downward_api {
        return vec![Part::Facts(source.items.as_deref().unwrap_or_default())];
    }
    if volume.empty_dir.is_some() {
        return Vec::new();
    }
    if volume.persistent_volume_claim.is_some()
        || volume.ephemeral.is_some()
        || volume.host_path.is_some()
        || volume.image.is_some()
    {
        return Vec::new();
    }
    let Some(projected) = &volume.projected else {
        return vec![Part::Unsupported];
    };
    let sources = projected.sources.as_deref().unwrap_or_default().iter();
    sources
        .map(|source| {
            if let Some(source) = &source.config_map {
                object(Kind::ConfigMap, &source.name, source.items.as_deref(), source.optional)
            } else if let Some(source) = &source.secret {
                object(Kind::Secret, &source.name, source.items.as_deref(), source.optional)
            } else if let Some(source) = &source.downward_api {
                Part::Facts(source.items.as_deref().unwrap_or_default())
            } else if let Some(source) = &source.service_account_token {
                let wanted = Wanted {
                    audience: source.audience.clone().unwrap_or_default(),
                    seconds: source.expiration_seconds.unwrap_or(TOKEN_SECONDS),
                };
                Part::Token(wanted, &source.path)
            } else {
                Part::Unsupported
            }
        })
        .collect()
}

fn object<'a>(kind: Kind, name: &'a str, items: Option<&'a [KeyToPath]>, optional: Option<bool>) -> Part<'a> {
    Part::Object(Source {
        kind,
        name,
        items: items.unwrap_or_default(),
        optional: optional == Some(true),
    })
}

/// The objects that a volume refers to.
pub fn references(volume: &Volume) -> Vec<(Kind, &str)> {
    let objects = parts(volume).into_iter().filter_map(|part| match part {
        Part::Object(source) => Some((source.kind, source.name)),
        Part::Facts(_) | Part::Token(..) | Part::Unsupported => None,
    });
    objects.collect()
}

/// The tokens that a volume has.
pub fn tokens(volume: &Volume) -> Vec<Wanted> {
    let tokens = parts(volume).into_iter().filter_map(|part| match part {
        Part::Token(wanted, _) => Some(wanted),
        Part::Object(_) | Part::Facts(_) | Part::Unsupported => None,
    });
    tokens.collect()
}

/// Whether a volume shows what may change about the pod itself.
pub fn shows_facts(volume: &Volume) -> bool {
    parts(volume).iter().any(|part| matches!(part, Part::Facts(_)))
}

/// All files of a volume.
///
/// # Errors
/// When something that is not optional is missing, or the volume is of another kind.
pub fn files(volume: &Volume, facts: &Facts<'_>, lookup: &impl Lookup, tokens: &Book) -> Result<Files, VolumeError> {
    let mut files = Files::new();
    for part in parts(volume) {
        match part {
            Part::Object(source) => add_object(&mut files, volume, &source, lookup)?,
            Part::Facts(items) => add_facts(&mut files, volume, items, facts)?,
            Part::Token(wanted, path) => {
                let token = tokens.get(&wanted).ok_or_else(|| VolumeError::NoToken {
                    volume: volume.name.clone(),
                })?;
                files.insert(path.to_owned(), token.as_bytes().to_vec());
            }
            Part::Unsupported => {
                return Err(VolumeError::Unsupported {
                    volume: volume.name.clone(),
                });
            }
        }
    }
    match files.keys().find(|path| !is_inside(path)) {
        Some(path) => Err(VolumeError::Path {
            volume: volume.name.clone(),
            path: path.clone(),
        }),
        None => Ok(files),
    }
}

/// No way up, and no name that the volume itself uses.
fn is_inside(path: &str) -> bool {
    !path.starts_with("..")
        && Path::new(path)
            .components()
            .all(|part| matches!(part, Component::Normal(_)))
}

fn add_object(
    files: &mut Files,
    volume: &Volume,
    source: &Source<'_>,
    lookup: &impl Lookup,
) -> Result<(), VolumeError> {
    let Some(payload) = lookup.find(source.kind, source.name) else {
        if source.optional {
            return Ok(());
        }
        return Err(VolumeError::Missing {
            volume: volume.name.clone(),
            kind: source.kind,
            name: source.name.to_owned(),
        });
    };
    if source.items.is_empty() {
        files.extend(payload.data.iter().map(|(key, value)| (key.clone(), value.clone())));
        return Ok(());
    }
    for item in source.items {
        match payload.data.get(&item.key) {
            Some(value) => {
                files.insert(item.path.clone(), value.clone());
            }
            None if source.optional => {}
            None => {
                return Err(VolumeError::NoKey {
                    volume: volume.name.clone(),
                    key: item.key.clone(),
                });
            }
        }
    }
    Ok(())
}

fn add_facts(
    files: &mut Files,
    volume: &Volume,
    items: &[DownwardAPIVolumeFile],
    facts: &Facts<'_>,
) -> Result<(), VolumeError> {
    let wrong = |source| VolumeError::Field {
        volume: volume.name.clone(),
        source,
    };
    for item in items {
        let text = match (&item.field_ref, &item.resource_field_ref) {
            (Some(field), _) => facts.field(&field.field_path).map_err(wrong)?,
            (None, Some(resource)) => facts.resource(resource, None).map_err(wrong)?,
            (None, None) => continue,
        };
        files.insert(item.path.clone(), text.into_bytes());
    }
    Ok(())
}
