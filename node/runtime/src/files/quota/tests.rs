use super::*;
use proptest::prelude::*;

struct Volume {
    dir: tempfile::TempDir,
    quota: Arc<Quota>,
}

impl Volume {
    fn new(limit_bytes: u64) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let quota = Quota::of_directory(dir.path(), limit_bytes, None).unwrap();
        Self { dir, quota }
    }

    fn open(&self, name: &str) -> Arc<Opened> {
        let path = self.dir.path().join(name);
        if !path.exists() {
            self.quota.take_name().unwrap();
        }
        let mut options = File::options();
        let file = options
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(path)
            .unwrap();
        let id = identity(&file.metadata().unwrap()).1;
        Arc::new(self.quota.opened(id, Arc::new(file)).unwrap().unwrap())
    }

    fn unlink(&self, name: &str) {
        let path = self.dir.path().join(name);
        let metadata = fs::metadata(&path).unwrap();
        let pinned = self.quota.pin(identity(&metadata).1);
        fs::remove_file(&path).unwrap();
        pinned.unlinked(links(&metadata), metadata.len());
    }

    fn used(&self) -> u64 {
        self.quota.usage().used_bytes
    }
}

/// A write of zeros, as far as it is allowed.
fn write(file: &Arc<Opened>, at: u64, bytes: u64) -> Result<u64, NoSpace> {
    let allowed = file.allow(Begin::At(at), bytes)?;
    let granted = allowed.bytes;
    let handle = file.handle.as_ref().unwrap();
    let length = handle.metadata().unwrap().len();
    handle.set_len(length.max(at + granted)).unwrap();
    allowed.written();
    Ok(granted)
}

fn cut(file: &Opened, length: u64) {
    file.handle.as_ref().unwrap().set_len(length).unwrap();
    file.cut();
}

#[test]
fn what_fits_is_written_and_no_more() {
    let volume = Volume::new(10 * BLOCK_BYTES);
    let file = volume.open("a");
    assert_eq!(write(&file, 0, 100), Ok(100));
    assert_eq!(volume.used(), BLOCK_BYTES);
    assert_eq!(write(&file, 0, 1 << 20), Ok(10 * BLOCK_BYTES));
    assert_eq!(write(&file, 10 * BLOCK_BYTES, 1), Err(NoSpace));
    assert_eq!(write(&file, 5, 100), Ok(100), "inside the file there is always room");
    assert_eq!(write(&volume.open("b"), 0, 1), Err(NoSpace));
    cut(&file, 0);
    assert_eq!(write(&volume.open("b"), 0, 1), Ok(1));
}

#[test]
fn holes_count_and_a_length_is_had_whole_or_not() {
    let volume = Volume::new(10 * BLOCK_BYTES);
    let file = volume.open("a");
    assert_eq!(write(&file, 9 * BLOCK_BYTES, 1), Ok(1));
    assert_eq!(volume.used(), 10 * BLOCK_BYTES);
    assert!(file.allow_length(11 * BLOCK_BYTES).is_err());
    assert_eq!(volume.used(), 10 * BLOCK_BYTES);
    assert_eq!(write(&file, u64::MAX - 1, 100), Err(NoSpace));
}

#[test]
fn space_is_given_back_with_the_last_handle() {
    let volume = Volume::new(10 * BLOCK_BYTES);
    let (file, again) = (volume.open("a"), volume.open("a"));
    write(&file, 0, 3 * BLOCK_BYTES).unwrap();
    fs::hard_link(volume.dir.path().join("a"), volume.dir.path().join("b")).unwrap();
    volume.quota.take_name().unwrap();
    volume.unlink("a");
    assert_eq!(volume.used(), 3 * BLOCK_BYTES, "it has another name");
    volume.unlink("b");
    drop(file);
    assert_eq!(volume.used(), 3 * BLOCK_BYTES, "it is open");
    write(&again, 0, 5 * BLOCK_BYTES).unwrap();
    drop(again);
    assert_eq!((volume.used(), volume.quota.usage().names), (0, 0));
}

#[test]
fn a_write_that_failed_costs_what_it_wrote() {
    let volume = Volume::new(10 * BLOCK_BYTES);
    let file = volume.open("a");
    let under_way = file.allow(Begin::End, 2 * BLOCK_BYTES).unwrap();
    cut(&file, 0);
    assert_eq!(volume.used(), 2 * BLOCK_BYTES, "it may still be written");
    drop(file.allow(Begin::End, 4 * BLOCK_BYTES).unwrap());
    assert_eq!(volume.used(), 6 * BLOCK_BYTES, "who knows, while another is under way");
    drop(under_way);
    assert_eq!(volume.used(), 0);
}

#[tokio::test]
async fn a_refusal_is_told_to_who_listens() {
    let volume = Volume::new(BLOCK_BYTES);
    let listener = Arc::new(Notify::new());
    volume.quota.listen(&listener);
    assert_eq!(write(&volume.open("a"), BLOCK_BYTES, 1), Err(NoSpace));
    listener.notified().await;
    assert_eq!(volume.quota.usage().refusals, 1);
}

#[test]
fn names_have_a_limit_of_their_own() {
    let volume = Volume::new(BLOCK_BYTES);
    for _ in 0..limits::VOLUME_NAMES {
        volume.quota.take_name().unwrap();
    }
    assert_eq!(volume.quota.take_name(), Err(NoSpace));
    volume.quota.give_back_name();
    volume.quota.take_name().unwrap();
}

#[test]
fn two_volumes_may_share_a_larger_account() {
    let share = Quota::share(10 * BLOCK_BYTES);
    let dirs = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    fs::write(dirs[0].path().join("old"), [0; 5000]).unwrap();
    let [a, b] = dirs.map(|dir| {
        let quota = Quota::of_directory(dir.path(), 8 * BLOCK_BYTES, Some(share.clone())).unwrap();
        Volume { dir, quota }
    });
    assert_eq!(share.usage().used_bytes, 2 * BLOCK_BYTES);
    assert_eq!(write(&a.open("x"), 0, 1 << 20), Ok(6 * BLOCK_BYTES));
    assert_eq!(write(&b.open("x"), 0, 1 << 20), Ok(2 * BLOCK_BYTES));
    a.unlink("old");
    assert_eq!(share.usage().used_bytes, 8 * BLOCK_BYTES);
}

#[test]
fn what_a_layer_begins_with_is_free() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("image"), [0; 5000]).unwrap();
    let quota = Quota::of_writable_layer(dir.path(), BLOCK_BYTES, None).unwrap();
    let volume = Volume { dir, quota };
    assert_eq!(write(&volume.open("x"), 0, 1 << 20), Ok(BLOCK_BYTES));
    cut(&volume.open("image"), 0);
    assert_eq!(write(&volume.open("y"), 0, 1 << 20), Ok(2 * BLOCK_BYTES));
}

proptest! {
    /// Whatever happens, the account says what a walk would, once all handles are closed.
    #[test]
    fn the_account_is_what_is_there(steps in prop::collection::vec((0usize..3, 0usize..5, 0u64..40_000), 0..40)) {
        let volume = Volume::new(16 * BLOCK_BYTES);
        let mut open: [Option<Arc<Opened>>; 3] = Default::default();
        for (which, what, amount) in steps {
            let name = ["a", "b", "c"][which];
            match (what, &open[which]) {
                (0, _) => open[which] = Some(volume.open(name)),
                (1, Some(file)) => { let _ = write(file, amount, 1000); }
                (2, Some(file)) => {
                    let fits = file.allow_length(amount).map(|allowed| {
                        file.handle.as_ref().unwrap().set_len(amount).unwrap();
                        allowed.written();
                    });
                    if fits.is_ok() {
                        file.cut();
                    }
                }
                (3, _) if volume.dir.path().join(name).exists() => volume.unlink(name),
                (4, _) => open[which] = None,
                _ => {}
            }
            prop_assert!(volume.used() <= 16 * BLOCK_BYTES);
        }
        drop(open);
        let there = walk(volume.dir.path()).unwrap();
        let usage = volume.quota.usage();
        prop_assert_eq!((usage.used_bytes, usage.names), (there.used_bytes, there.names));
    }
}
