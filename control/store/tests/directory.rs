//! What a user is told about a data directory that cannot be used.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)] // A test fails by a panic.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use coracle_store::{Body, Change, Config, Header, OpenError, SledEngine, Store, Transaction};

fn open(directory: &Path) -> Result<Store, OpenError> {
    let engine = SledEngine::open(directory)?;
    // Short enough for a part of what is written to be folded into the base.
    let config = Config {
        history_events: 50,
        ..Config::default()
    };
    Store::open(Arc::new(engine), |_, _| Header::default(), config)
}

/// A store with some records, closed.
async fn filled(directory: &Path) {
    let store = open(directory).unwrap();
    for n in 0..200 {
        let body = Body {
            json: vec![b'x'; 2_000],
            revision_at: 0,
        };
        let put = Change::Put {
            key: format!("k/a/{n}").into(),
            body,
            header: Header::default(),
        };
        store
            .commit(Transaction {
                expect: Vec::new(),
                changes: vec![put],
            })
            .await
            .unwrap();
    }
    store.close().await;
}

fn assert_names(error: &OpenError, directory: &Path, advice: &str) {
    let message = error.to_string();
    assert!(message.contains(&*directory.to_string_lossy()), "{message}");
    assert!(message.contains(advice), "{message}");
}

#[tokio::test]
async fn a_directory_in_use_is_said_to_be() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path()).unwrap();
    let error = open(directory.path()).unwrap_err();
    assert!(matches!(error, OpenError::InUse { .. }), "{error}");
    assert_names(&error, directory.path(), "in use");
    store.close().await;
    open(directory.path()).unwrap();
}

#[tokio::test]
async fn dropping_the_last_handle_releases_the_directory() {
    let directory = tempfile::tempdir().unwrap();
    drop(open(directory.path()).unwrap());
    open(directory.path()).unwrap();
}

#[tokio::test]
async fn a_file_in_place_of_the_directory_is_no_store() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("file");
    fs::write(&path, "hello").unwrap();
    let error = open(&path).unwrap_err();
    assert!(matches!(error, OpenError::Directory { .. }), "{error}");
    assert_names(&error, &path, "cannot be opened");
}

#[tokio::test]
async fn garbage_in_place_of_the_database_is_damage_and_not_an_empty_store() {
    let garbage: Vec<u8> = (0..3_000_000_u32)
        .map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8)
        .collect();
    for bytes in [&garbage[..], &[]] {
        let directory = tempfile::tempdir().unwrap();
        filled(directory.path()).await;
        fs::write(directory.path().join("db"), bytes).unwrap();
        let error = open(directory.path()).unwrap_err();
        assert!(matches!(error, OpenError::Damaged { .. }), "{error}");
        assert_names(&error, directory.path(), "move it away");
    }
}

#[tokio::test]
async fn a_later_format_is_refused_by_name() {
    let directory = tempfile::tempdir().unwrap();
    filled(directory.path()).await;
    fs::write(directory.path().join("format"), "coracle-store 3\n").unwrap();
    let error = open(directory.path()).unwrap_err();
    assert!(matches!(error, OpenError::Damaged { .. }), "{error}");
    assert_names(&error, directory.path(), "coracle-store 3");
}

/// What is read is checked, and reading stops at the first damage. So a damaged store either says so,
/// or is an earlier state of itself: whole transactions, without a gap.
#[tokio::test]
async fn a_flipped_bit_is_noticed_or_costs_the_newest_writes_only() {
    let original = tempfile::tempdir().unwrap();
    filled(original.path()).await;
    let log = fs::read_dir(original.path().join("log")).unwrap();
    let log: Vec<_> = log.map(|file| file.unwrap().path()).collect();
    for file in log.iter().chain([&original.path().join("db")]) {
        let bytes = fs::read(file).unwrap();
        for part in 0..24 {
            let directory = tempfile::tempdir().unwrap();
            copy(original.path(), directory.path());
            let mut damaged = bytes.clone();
            let at = (part * damaged.len() / 24 + 100) % damaged.len();
            damaged[at] ^= 0x10;
            fs::write(
                directory.path().join(file.strip_prefix(original.path()).unwrap()),
                damaged,
            )
            .unwrap();
            match open(directory.path()) {
                Err(error) => assert_names(&error, directory.path(), "move it away"),
                Ok(store) => {
                    let snapshot = store.snapshot();
                    assert_eq!(snapshot.count("") as u64, snapshot.revision());
                    store.close().await;
                }
            }
        }
    }
}

#[tokio::test]
async fn a_log_that_is_gone_is_damage() {
    let directory = tempfile::tempdir().unwrap();
    filled(directory.path()).await;
    let log = directory.path().join("log");
    let file = fs::read_dir(&log).unwrap().next().unwrap().unwrap().path();
    fs::remove_file(file).unwrap();
    let error = open(directory.path()).unwrap_err();
    assert_names(&error, directory.path(), "move it away");
    fs::remove_dir(log).unwrap();
    let error = open(directory.path()).unwrap_err();
    assert_names(&error, directory.path(), "move it away");
}

/// Copies the files of a store.
fn copy(from: &Path, to: &Path) {
    for entry in fs::read_dir(from).unwrap().map(Result::unwrap) {
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            fs::create_dir(&target).unwrap();
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}
