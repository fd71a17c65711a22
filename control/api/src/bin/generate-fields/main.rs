//! Makes the facts table of `coracle_api::fields` from the Go definitions of Kubernetes.
//!
//! It takes only facts: names, numbers, tags. No comment and no code of the sources ends up in the table, and nothing at
//! run time depends on this program. The sources are the Go packages `k8s.io/api`, `k8s.io/apimachinery`,
//! `k8s.io/apiextensions-apiserver` and `k8s.io/metrics` of one Kubernetes release, unpacked under one directory:
//!
//! ```text
//! generate-fields <directory that holds k8s.io> <facts.bin>
//! ```

mod aggregation;
mod declarations;
mod resolve;
mod write;

use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};

/// Where the API groups are: every `<group>/<version>` below these directories.
const GROUPS: [&str; 2] = ["k8s.io/api", "k8s.io/metrics/pkg/apis"];

/// Packages outside the groups whose types the API uses or serves.
const PACKAGES: [&str; 9] = [
    "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1",
    "k8s.io/apimachinery/pkg/api/resource",
    "k8s.io/apimachinery/pkg/apis/meta/v1",
    "k8s.io/apimachinery/pkg/runtime",
    "k8s.io/apimachinery/pkg/types",
    "k8s.io/apimachinery/pkg/util/intstr",
    "k8s.io/apimachinery/pkg/version",
    "k8s.io/apimachinery/pkg/watch",
    "k8s.io/apimachinery/pkg/runtime/schema",
];

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args_os().skip(1).map(PathBuf::from);
    let (Some(sources), Some(target)) = (arguments.next(), arguments.next()) else {
        return Err("usage: generate-fields <directory that holds k8s.io> <facts.bin>".into());
    };
    let mut packages = Vec::new();
    for path in package_paths(&sources)? {
        packages.push(declarations::Package::read(&sources.join(&path), &path)?);
    }
    packages.push(aggregation::package());
    let table = resolve::table(&packages)?;
    let bytes = write::compressed(&table)?;
    fs::write(&target, &bytes)?;
    let fields: usize = table.structs.iter().map(|s| s.fields.len()).sum();
    println!(
        "{}: {} structs, {} fields, {} types, {} bytes",
        target.display(),
        table.structs.len(),
        fields,
        table.types.len(),
        bytes.len()
    );
    Ok(())
}

/// The import paths to read, sorted, so that the same sources always give the same table.
fn package_paths(sources: &Path) -> Result<Vec<String>, Box<dyn Error>> {
    let mut paths: Vec<String> = PACKAGES.map(str::to_owned).to_vec();
    for root in GROUPS {
        for group in directories(&sources.join(root))? {
            // `testdata` and the like hold no Go package of an API version.
            for version in directories(&sources.join(root).join(&group))? {
                let path = format!("{root}/{group}/{version}");
                if version.starts_with('v') && sources.join(&path).join("types.go").is_file() {
                    paths.push(path);
                }
            }
        }
    }
    paths.sort();
    Ok(paths)
}

fn directories(parent: &Path) -> Result<Vec<String>, Box<dyn Error>> {
    let mut names = Vec::new();
    let entries = fs::read_dir(parent).map_err(|error| format!("{}: {error}", parent.display()))?;
    for entry in entries {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            names.push(entry.file_name().to_string_lossy().into_owned());
        }
    }
    Ok(names)
}
