//! Terminals: kubectl as a person has it, in a window whose size changes.

use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

use crate::world::{World, ready};

/// A test that waits longer than this for the screen has failed.
const PATIENCE: Duration = Duration::from_secs(60);

/// kubectl in a terminal of the system, which `script` makes.
struct Window {
    _process: Child,
    keys: ChildStdin,
    screen: ChildStdout,
    shown: String,
    device: PathBuf,
}

impl Window {
    /// Starts kubectl in a window of 30 rows and 100 columns.
    async fn open(world: &World, dir: &tempfile::TempDir, kubectl: &str) -> Self {
        let told = dir.path().join("device");
        let line = format!(
            "stty rows 30 cols 100; tty > {}; exec kubectl {kubectl}",
            told.display()
        );
        let of = world.kubectl_command(&[]);
        let variables = of.as_std().get_envs().filter_map(|(name, value)| Some((name, value?)));
        let mut process = Command::new("script")
            .args(["-qfec", &line, "/dev/null"])
            .envs(variables)
            .env("SHELL", "/bin/sh")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .kill_on_drop(true)
            .spawn()
            .expect("script, of the package bsdutils, makes terminals");
        let (keys, screen) = (process.stdin.take().unwrap(), process.stdout.take().unwrap());
        let mut window = Self {
            _process: process,
            keys,
            screen,
            shown: String::new(),
            device: PathBuf::new(),
        };
        window.shows("/ # ").await;
        window.device = std::fs::read_to_string(&told).unwrap().trim().into();
        window
    }

    async fn types(&mut self, keys: &str) {
        self.keys.write_all(keys.as_bytes()).await.unwrap();
    }

    /// Waits until the screen ends with this.
    async fn shows(&mut self, end: &str) {
        let mut piece = [0; 1024];
        while !self.shown.ends_with(end) {
            let read = tokio::time::timeout(PATIENCE, self.screen.read(&mut piece)).await;
            let count = read
                .unwrap_or_else(|_| panic!("no {end:?} after {:?}", self.shown))
                .unwrap();
            assert!(count > 0, "the window closed after {:?}", self.shown);
            self.shown.push_str(&String::from_utf8_lossy(&piece[..count]));
        }
    }

    /// Asks inside until the size is this one: it arrives beside the keys.
    async fn is_inside(&mut self, rows: u16, columns: u16) {
        let size = format!("\r\n{rows} {columns}\r\n");
        let wait = async {
            loop {
                self.shown.clear();
                self.types("stty size; echo asked\r").await;
                self.shows("\r\nasked\r\n/ # ").await;
                if self.shown.contains(&size) {
                    return;
                }
            }
        };
        if tokio::time::timeout(PATIENCE, wait).await.is_err() {
            panic!(
                "the window inside is not {rows} rows of {columns} columns: {:?}",
                self.shown
            );
        }
    }

    /// Changes the window, as a person does who drags its corner.
    async fn resize(&self, rows: u16, columns: u16) {
        let status = Command::new("stty")
            .arg("-F")
            .arg(&self.device)
            .args(["rows", &rows.to_string(), "cols", &columns.to_string()])
            .status();
        assert!(status.await.unwrap().success());
    }
}

const DESK: &str = "apiVersion: v1
kind: Pod
metadata: {name: desk}
spec:
  containers:
  - {name: main, image: toolbox, command: [toolbox, sh], stdin: true, tty: true}
";

#[tokio::test(flavor = "multi_thread")]
#[cfg_attr(not(has_kubectl), ignore = "kubectl is missing")]
async fn a_window_that_changes_changes_inside() {
    let world = World::start().await;
    world.apply(DESK).await;
    world.pod("desk", ready).await;
    let dir = tempfile::tempdir().unwrap();
    let mut window = Window::open(&world, &dir, "exec -it desk -- sh").await;
    window.is_inside(30, 100).await;
    window.resize(43, 132).await;
    window.is_inside(43, 132).await;
}

#[tokio::test(flavor = "multi_thread")]
#[cfg_attr(not(has_kubectl), ignore = "kubectl is missing")]
async fn who_attaches_to_a_terminal_finds_its_prompt_and_sees_both_streams() {
    let world = World::start().await;
    world.apply(DESK).await;
    world.pod("desk", ready).await;
    let dir = tempfile::tempdir().unwrap();
    // The prompt was written before anybody was there.
    let mut window = Window::open(&world, &dir, "attach -it desk").await;
    window.types("cat /nowhere\r").await;
    window.shows("No such file or directory\r\n/ # ").await;
}
