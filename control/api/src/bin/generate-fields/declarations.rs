//! Reads the declarations of a Go package that matter for its API: types, string constants, the group name.
//!
//! This is a reader for the style in which Kubernetes writes its API types (one declaration or field a line, formatted by
//! gofmt), not for Go at large.

use std::collections::BTreeMap;
use std::error::Error;
use std::fs;
use std::path::Path;

/// A Go package.
#[derive(Debug, Default)]
pub struct Package {
    /// Its import path.
    pub path: String,
    /// The API group, if the package declares one.
    pub group: Option<String>,
    /// Its types by name.
    pub types: BTreeMap<String, TypeDeclaration>,
    /// Its typed string constants.
    pub constants: Vec<Constant>,
}

/// `type Name ...`.
#[derive(Debug)]
pub struct TypeDeclaration {
    /// The `+` markers in its comment, without the plus.
    pub markers: Vec<String>,
    /// What it is.
    pub body: Body,
    /// The imports of its file: name to path.
    pub imports: BTreeMap<String, String>,
}

/// What a declared type is.
#[derive(Debug)]
pub enum Body {
    /// `struct { ... }`.
    Struct(Vec<FieldDeclaration>),
    /// Another type's expression.
    Other(String),
}

/// A field with a `json` tag.
#[derive(Debug)]
pub struct FieldDeclaration {
    /// The type expression.
    pub kind: String,
    /// True when the Go name is that of the type.
    pub embedded: bool,
    /// The tags between the back quotes.
    pub tags: String,
    /// The `+` markers in its comment, without the plus.
    pub markers: Vec<String>,
}

/// `const Name Type = "value"`.
#[derive(Debug)]
pub struct Constant {
    /// The name.
    pub name: String,
    /// The type's name; empty when it is not given.
    pub kind: String,
    /// The value.
    pub value: String,
}

impl Package {
    /// Reads the Go files in `directory`, tests and generated code left out.
    pub fn read(directory: &Path, path: &str) -> Result<Self, Box<dyn Error>> {
        let mut package = Self {
            path: path.to_owned(),
            ..Self::default()
        };
        let mut files: Vec<_> = fs::read_dir(directory)
            .map_err(|error| format!("{}: {error}", directory.display()))?
            .collect::<Result<Vec<_>, _>>()?
            .into_iter()
            .map(|entry| entry.path())
            .filter(|file| file.file_name().and_then(|name| name.to_str()).is_some_and(is_source))
            .collect();
        files.sort();
        for file in files {
            let text = fs::read_to_string(&file)?;
            // A file for a build variant declares the same types again.
            if !text
                .lines()
                .any(|line| line.starts_with("//go:build") && !line.contains('!'))
            {
                package.add_file(&text);
            }
        }
        Ok(package)
    }

    /// Adds the declarations of one file.
    pub fn add_file(&mut self, text: &str) {
        let mut reader = FileReader {
            package: self,
            place: Place::Top,
            markers: Vec::new(),
            imports: BTreeMap::new(),
        };
        for line in text.lines() {
            reader.line(line.trim());
        }
    }
}

fn is_source(name: &str) -> bool {
    name.ends_with(".go")
        && !name.ends_with("_test.go")
        && !name.starts_with("zz_generated")
        && !name.starts_with("generated.")
        && !name.ends_with("_swagger_doc_generated.go")
}

/// Where in a file the reader is.
enum Place {
    Top,
    BlockComment,
    Imports,
    Constants,
    Struct(StructSoFar),
    Body,
}

struct StructSoFar {
    name: String,
    markers: Vec<String>,
    fields: Vec<FieldDeclaration>,
}

struct FileReader<'a> {
    package: &'a mut Package,
    place: Place,
    /// Markers of the comment above the next declaration.
    markers: Vec<String>,
    imports: BTreeMap<String, String>,
}

impl FileReader<'_> {
    fn line(&mut self, line: &str) {
        if let Some(comment) = line.strip_prefix("//") {
            if let Some(marker) = comment.trim_start().strip_prefix('+') {
                self.markers.push(marker.trim().to_owned());
            }
            return;
        }
        match std::mem::replace(&mut self.place, Place::Top) {
            Place::Top => self.top(line),
            Place::BlockComment if line.contains("*/") => {}
            Place::Imports if line == ")" => {}
            Place::Constants if line == ")" => {}
            Place::Body if line == "}" => {}
            Place::Imports => {
                self.import(line);
                self.place = Place::Imports;
            }
            Place::Constants => {
                self.constant(line);
                self.place = Place::Constants;
            }
            Place::Struct(so_far) => self.in_struct(so_far, line),
            other => self.place = other,
        }
    }

    fn top(&mut self, line: &str) {
        if line.is_empty() {
            // A type's markers may stand in a comment of their own above its description.
            return;
        }
        if line.starts_with("/*") {
            if !line.contains("*/") {
                self.place = Place::BlockComment;
            }
            return;
        }
        let markers = std::mem::take(&mut self.markers);
        match line.split_once(' ') {
            Some(("import", "(")) => self.place = Place::Imports,
            Some(("import", one)) => self.import(one),
            Some(("const", "(")) => self.place = Place::Constants,
            Some(("const", one)) => self.constant(one),
            Some(("type", one)) => self.type_declaration(one, markers),
            _ if line.ends_with('{') => self.place = Place::Body,
            _ => {}
        }
    }

    fn import(&mut self, line: &str) {
        let Some((alias, rest)) = line.split_once('"') else {
            return;
        };
        let path = rest.trim_end_matches('"');
        let last = path.rsplit('/').next().unwrap_or(path);
        let alias = if alias.trim().is_empty() { last } else { alias.trim() };
        self.imports.insert(alias.to_owned(), path.to_owned());
    }

    /// `Name = "v"`, `Name Type = "v"` or `Name = Type("v")`.
    fn constant(&mut self, line: &str) {
        let Some((left, right)) = line.split_once('=') else {
            return;
        };
        let mut left = left.split_whitespace();
        let (Some(name), kind) = (left.next(), left.next()) else {
            return;
        };
        let Some((before, rest)) = right.split_once('"') else {
            return;
        };
        let Some((value, _)) = rest.split_once('"') else { return };
        let kind = kind.unwrap_or_else(|| before.trim().trim_end_matches('('));
        if name == "GroupName" {
            self.package.group = Some(value.to_owned());
        }
        self.package.constants.push(Constant {
            name: name.to_owned(),
            kind: kind.to_owned(),
            value: value.to_owned(),
        });
    }

    fn type_declaration(&mut self, line: &str, markers: Vec<String>) {
        let Some((name, body)) = line.split_once(' ') else {
            return;
        };
        let name = name.to_owned();
        match body.trim() {
            "struct {" => {
                self.place = Place::Struct(StructSoFar {
                    name,
                    markers,
                    fields: Vec::new(),
                });
            }
            body if body.ends_with('{') => self.place = Place::Body,
            "struct{}" => self.declare(name, markers, Body::Struct(Vec::new())),
            body => {
                let body = body.trim_start_matches('=').trim();
                let body = body.split(" //").next().unwrap_or(body);
                self.declare(name, markers, Body::Other(body.to_owned()));
            }
        }
    }

    fn in_struct(&mut self, mut so_far: StructSoFar, line: &str) {
        if line == "}" {
            self.markers.clear();
            self.declare(so_far.name, so_far.markers, Body::Struct(so_far.fields));
            return;
        }
        let markers = std::mem::take(&mut self.markers);
        let mut pieces = line.splitn(3, '`');
        if let (Some(left), Some(tags)) = (pieces.next(), pieces.next()) {
            let (first, rest) = left.trim().split_once(char::is_whitespace).unwrap_or((left.trim(), ""));
            let embedded = rest.trim().is_empty();
            let kind = if embedded { first } else { rest.trim() };
            so_far.fields.push(FieldDeclaration {
                kind: kind.to_owned(),
                embedded,
                tags: tags.to_owned(),
                markers,
            });
        }
        self.place = Place::Struct(so_far);
    }

    fn declare(&mut self, name: String, markers: Vec<String>, body: Body) {
        let imports = self.imports.clone();
        self.package
            .types
            .insert(name, TypeDeclaration { markers, body, imports });
    }
}

impl FieldDeclaration {
    /// The value of one tag, such as `json`.
    pub fn tag(&self, name: &str) -> Option<&str> {
        let start = self.tags.match_indices(name).map(|(at, _)| at).find(|at| {
            let before = self.tags.get(..*at).unwrap_or_default();
            let after = self.tags.get(at + name.len()..).unwrap_or_default();
            (before.is_empty() || before.ends_with(' ')) && after.starts_with(":\"")
        })?;
        self.tags.get(start + name.len() + 2..)?.split('"').next()
    }
}

/// The value of a marker such as `listType=map`, and all of its values when it is repeated.
pub fn marker_values<'a>(markers: &'a [String], name: &str) -> impl Iterator<Item = &'a str> {
    markers
        .iter()
        .filter_map(move |m| m.strip_prefix(name)?.strip_prefix('=').map(str::trim))
}

/// True when a marker without a value is there.
pub fn has_marker(markers: &[String], name: &str) -> bool {
    markers.iter().any(|m| m == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOURCE: &str = r#"
package v1

import (
	"fmt"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

const GroupName = "example.io"

// +enum
type Color string

const (
	// Red is red.
	Red Color = "Red"
	Blue = Color("Blue")
)

// +structType=atomic

// Boat is a boat.
type Boat struct {
	metav1.TypeMeta `json:",inline"`
	/* nothing */
	// Name is its name.
	// +required
	// +listType=map
	// +listMapKey=name
	// +listMapKey=kind
	Names []Name `json:"names,omitempty" patchStrategy:"merge" protobuf:"bytes,2,rep,name=names"` // trailing
}

func (b Boat) String() string {
	type hidden struct {
		A string `json:"a"`
	}
	return fmt.Sprint(b)
}
"#;

    #[test]
    fn a_package_is_read_in_the_style_of_kubernetes() {
        let mut package = Package::default();
        package.add_file(SOURCE);
        assert_eq!(package.group.as_deref(), Some("example.io"));
        let colors: Vec<_> = package
            .constants
            .iter()
            .filter(|c| c.kind == "Color")
            .map(|c| &c.value)
            .collect();
        assert_eq!(colors, ["Red", "Blue"]);
        assert_eq!(package.types.keys().collect::<Vec<_>>(), ["Boat", "Color"]);
        let boat = &package.types["Boat"];
        assert_eq!(boat.imports["metav1"], "k8s.io/apimachinery/pkg/apis/meta/v1");
        assert_eq!(boat.markers, ["structType=atomic"]);
        let Body::Struct(fields) = &boat.body else {
            panic!("not a struct")
        };
        assert!(fields[0].embedded && fields[0].kind == "metav1.TypeMeta");
        assert_eq!(fields[1].tag("patchStrategy"), Some("merge"));
        assert_eq!(fields[1].tag("protobuf"), Some("bytes,2,rep,name=names"));
        assert_eq!(fields[1].tag("patchMergeKey"), None);
        assert_eq!(
            marker_values(&fields[1].markers, "listMapKey").collect::<Vec<_>>(),
            ["name", "kind"]
        );
    }
}
