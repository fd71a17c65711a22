//! The shell of the toolbox beside dash: the same scripts, the same output, the same exit codes.
//!
//! The scripts lie in `guests/toolbox/corpus`, with what dash made of them. Where dash is installed it is asked again, so that
//! the record cannot be wrong for long; with `CORACLE_RECORD=1` it writes the record.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;

use coracle_images::{ImageStore, TOOLBOX_COMMANDS};
use coracle_runtime::{FindError, Module, Mount, Programs};
use futures::FutureExt as _;
use futures::future::BoxFuture;
use parking_lot::Mutex;

use crate::world::{Pod, World};

const DASH: &str = "/bin/dash";

/// The toolbox as every node has it.
pub async fn toolbox(world: &World) -> Arc<Module> {
    let directory = tempfile::tempdir().unwrap();
    let image = ImageStore::open(directory.path()).unwrap().resolve("toolbox").unwrap();
    let module = world.runtime.load(&image.digest, image.wasm().unwrap()).await.unwrap();
    // Held so that the tests of one binary link it once.
    static HELD: Mutex<Option<Arc<Module>>> = Mutex::new(None);
    *HELD.lock() = Some(module.clone());
    module
}

/// The programs of a container that has nothing but the toolbox.
pub struct Toolbox(pub Arc<Module>);

impl Programs for Toolbox {
    fn find<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<Arc<Module>, FindError>> {
        let name = name.rsplit('/').next().unwrap_or(name);
        let found = match TOOLBOX_COMMANDS.contains(&name) {
            true => Ok(self.0.clone()),
            false => Err(FindError::Unknown),
        };
        async { found }.boxed()
    }
}

/// A name and its text.
type Part = (String, String);

/// The parts of a file; each begins with a line `#### name`.
fn parts(text: &str) -> Vec<Part> {
    let mut parts: Vec<Part> = Vec::new();
    for line in text.lines() {
        match (line.strip_prefix("#### "), parts.last_mut()) {
            (Some(name), _) => parts.push((name.to_owned(), String::new())),
            (None, Some((_, text))) => {
                text.push_str(line);
                text.push('\n');
            }
            (None, None) => panic!("{line:?} stands before the first name"),
        }
    }
    parts
}

fn by_dash(script: &str) -> String {
    let directory = tempfile::tempdir().unwrap();
    let output = Command::new(DASH)
        .args(["-c", script])
        .current_dir(directory.path())
        .env_clear()
        .env("PATH", "/bin:/usr/bin")
        .env("LC_ALL", "C.UTF-8")
        .stdin(Stdio::null())
        .output()
        .unwrap();
    shown(&String::from_utf8_lossy(&output.stdout), output.status.code())
}

fn shown(output: &str, code: Option<i32>) -> String {
    let end = if output.is_empty() || output.ends_with('\n') {
        ""
    } else {
        "\n(no line end)\n"
    };
    format!("{output}{end}exit {}\n", code.unwrap_or(-1))
}

async fn by_ours(world: &World, pod: &Pod, module: &Arc<Module>, script: &str) -> (String, String) {
    let directory = tempfile::tempdir().unwrap();
    let guest = world.start(pod, module.clone(), &[], |spec| {
        spec.args = ["sh", "-c", script].map(str::to_owned).to_vec();
        spec.env = vec![("PATH".into(), "/bin:/usr/bin".into()), ("PWD".into(), "/work".into())];
        spec.mounts = vec![Mount {
            host: directory.path().to_owned(),
            guest: "/work".into(),
            read_only: false,
            quota: None,
            lazy: false,
        }];
        spec.programs = Some(Arc::new(Toolbox(module.clone())));
    });
    let exit = guest.exit().await;
    (shown(&guest.out.text(), Some(exit.code)), guest.err.text())
}

fn files() -> Vec<PathBuf> {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../guests/toolbox/corpus");
    let mut files: Vec<PathBuf> = std::fs::read_dir(corpus)
        .unwrap()
        .map(|file| file.unwrap().path())
        .collect();
    files.retain(|file| file.extension().is_some_and(|extension| extension == "sh"));
    files.sort();
    files
}

#[tokio::test]
async fn scripts_do_what_they_do_in_dash() {
    let has_dash = Path::new(DASH).exists();
    let recording = std::env::var_os("CORACLE_RECORD").is_some();
    let only = std::env::var("CORACLE_SCRIPT").ok();
    let world = World::new();
    let pod = world.pod("corpus");
    let module = toolbox(&world).await;
    let (mut count, mut wrong) = (0, String::new());
    for file in files() {
        let scripts = parts(&std::fs::read_to_string(&file).unwrap());
        let record = file.with_extension("out");
        if recording {
            let record_text: String = scripts
                .iter()
                .map(|(name, script)| format!("#### {name}\n{}", by_dash(script)))
                .collect();
            std::fs::write(&record, record_text).unwrap();
        }
        let recorded = parts(&std::fs::read_to_string(&record).unwrap());
        assert_eq!(scripts.len(), recorded.len(), "{}", record.display());
        for ((name, script), (recorded_name, expected)) in scripts.iter().zip(&recorded) {
            assert_eq!(name, recorded_name, "{}", record.display());
            if only.as_ref().is_some_and(|only| only != name) {
                continue;
            }
            count += 1;
            if has_dash && !recording {
                assert_eq!(
                    &by_dash(script),
                    expected,
                    "dash says something else about {name:?} than its record"
                );
            }
            let (ours, complaints) = by_ours(&world, &pod, &module, script).await;
            if &ours != expected {
                let _ = writeln!(
                    wrong,
                    "== {name}\n{script}-- dash\n{expected}-- ours\n{ours}-- errors\n{complaints}"
                );
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
    assert!(only.is_some() || count >= 150, "only {count} scripts");
}
