//! What a guest may take of the host's files: handles, space, names, entries.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use coracle_runtime::{Accounts, Mount, Quota, limits};
use tempfile::TempDir;

use crate::greedy::Own;
use crate::world::{Guest, Pod, World};

/// A directory of the host as a volume.
struct Volume {
    dir: TempDir,
    quota: Option<Arc<Quota>>,
}

impl Volume {
    fn new(accounts: &Accounts, limit_bytes: u64) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let quota = Some(accounts.of(dir.path(), limit_bytes, None).unwrap());
        Self { dir, quota }
    }

    fn free() -> Self {
        Self {
            dir: tempfile::tempdir().unwrap(),
            quota: None,
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn at(&self, guest: &str) -> Mount {
        Mount {
            host: self.dir.path().to_owned(),
            guest: guest.into(),
            read_only: false,
            quota: self.quota.clone(),
            lazy: false,
        }
    }

    /// The account says what is there.
    fn is_right(&self) {
        let [told, there] = self.accounts();
        assert_eq!(told, there);
    }

    /// Bytes and names: those of the account, and those that are there.
    fn accounts(&self) -> [(u64, u64); 2] {
        let told = self.quota.as_ref().unwrap().usage();
        let there = Quota::of_directory(self.dir.path(), 0, None).unwrap().usage();
        [told, there].map(|usage| (usage.used_bytes, usage.names))
    }
}

async fn run(world: &World, pod: &Pod, volume: &Volume, args: &[&str]) -> Guest {
    world
        .run_with(pod, "probe", args, |spec| spec.mounts = vec![volume.at("/v")])
        .await
}

fn length(path: &Path) -> u64 {
    std::fs::metadata(path).unwrap().len()
}

/// What a program for WASI 0.2 is told of a write without room: its C library knows only that the stream has failed, and says EIO.
fn by_stream(said: &str) -> String {
    said.replace("StorageFull", "Uncategorized")
}

#[tokio::test]
async fn a_volume_holds_what_it_may_and_not_a_byte_more() {
    let world = World::new();
    let (pod, other) = (world.pod("writer"), world.pod("other"));
    let volume = Volume::new(world.runtime.accounts(), 1 << 20);
    let filled = run(&world, &pod, &volume, &["fill", "/v/a"]).await.printed().await;
    assert_eq!(filled, by_stream("1048576 bytes, then StorageFull\n"));
    assert_eq!(length(&volume.path("a")), 1 << 20);
    // Whoever else mounts it pays from the same purse.
    let refused = run(&world, &other, &volume, &["fill", "/v/b"]).await.printed().await;
    assert_eq!(refused, by_stream("0 bytes, then StorageFull\n"));
    let refused = run(&world, &other, &volume, &["extend", "/v/b", "1"])
        .await
        .printed()
        .await;
    assert_eq!(refused, "Err(StorageFull)\n");
    volume.is_right();
    assert!(volume.quota.as_ref().unwrap().usage().refusals > 0);
    // More room is had by those who run.
    volume.quota.as_ref().unwrap().resize(2 << 20);
    let filled = run(&world, &other, &volume, &["fill", "/v/b"]).await.printed().await;
    assert_eq!(filled, by_stream("1048576 bytes, then StorageFull\n"));
}

#[tokio::test]
async fn room_comes_back_when_it_should() {
    let world = World::new();
    let pod = world.pod("writer");
    let expected = "filled: 65536 bytes, then StorageFull
more: Err(StorageFull)
renamed: Err(StorageFull)
inside: Ok(())
cut: Ok(())
again: 61440 bytes, then StorageFull
removed, open: Err(StorageFull)
closed: Ok(())
filled: 57344 bytes, then StorageFull
replaced: Ok(())
filled: 53248 bytes, then StorageFull
made anew: Ok(())
left: 0
";
    let volume = Volume::new(world.runtime.accounts(), 64 << 10);
    let said = run(&world, &pod, &volume, &["room", "/v"]).await.printed().await;
    assert_eq!(said, by_stream(expected));
    volume.is_right();
    // The same through the adapter for WASI 0.1.
    let wasm = Bytes::from_static(coracle_fixtures::preview1("probe").unwrap());
    let module = world.runtime.load("probe-p1", wasm).await.unwrap();
    let old = world.start(&pod, module, &["room", "/v"], |spec| {
        spec.mounts = vec![volume.at("/v")]
    });
    assert_eq!(old.printed().await, expected);
    volume.is_right();
}

#[tokio::test]
async fn holes_count_and_so_does_what_was_there_before() {
    let world = World::new();
    let pod = world.pod("writer");
    let volume = Volume::new(world.runtime.accounts(), 1 << 20);
    let extend = async |length: &str| {
        run(&world, &pod, &volume, &["extend", "/v/a", length])
            .await
            .printed()
            .await
    };
    assert_eq!(extend("1048577").await, "Err(StorageFull)\n");
    assert_eq!(extend("1048576").await, "Ok(())\n");
    assert_eq!(extend("4096").await, "Ok(())\n");
    // As after a restart of the node: a new account, made by walking.
    let again = Volume {
        quota: Some(Quota::of_directory(volume.dir.path(), 8192, None).unwrap()),
        ..volume
    };
    let filled = run(&world, &pod, &again, &["fill", "/v/b"]).await.printed().await;
    assert_eq!(filled, by_stream("4096 bytes, then StorageFull\n"));
    again.is_right();
}

#[tokio::test]
async fn names_are_limited_beside_bytes() {
    let world = World::new();
    let pod = world.pod("writer");
    let volume = Volume::new(world.runtime.accounts(), 64 << 10);
    let said = run(&world, &pod, &volume, &["names", "/v"]).await.printed().await;
    assert_eq!(said, format!("{} names, then StorageFull\n", limits::VOLUME_NAMES));
    volume.is_right();
}

#[tokio::test]
async fn nothing_is_moved_past_an_account() {
    let world = World::new();
    let pod = world.pod("writer");
    let (small, free) = (Volume::new(world.runtime.accounts(), 8192), Volume::free());
    std::fs::write(free.path("large"), [0; 100_000]).unwrap();
    let guest = world
        .run_with(&pod, "probe", &["transfer", "/free/large", "/small/large"], |spec| {
            spec.mounts = vec![small.at("/small"), free.at("/free")];
        })
        .await;
    assert_eq!(guest.printed().await, "Err(CrossesDevices)\nErr(CrossesDevices)\n");
    small.is_right();
}

#[tokio::test]
async fn a_killed_writer_leaves_an_account_that_is_right() {
    let world = World::new();
    let pod = world.pod("writer");
    let volume = Volume::new(world.runtime.accounts(), 1 << 30);
    for _ in 0..5 {
        let guest = run(&world, &pod, &volume, &["copy", "/v/a", "1000"]).await;
        crate::world::soon("something to be written", async {
            while !volume.path("a").exists() || length(&volume.path("a")) == 0 {
                tokio::task::yield_now().await;
            }
        })
        .await;
        guest.container.kill();
        guest.exit().await;
        // A write that is under way is paid for already, and ends by itself.
        crate::world::soon("the account to be right", async {
            loop {
                let [told, there] = volume.accounts();
                if pod.files.open() == 0 && told == there {
                    return;
                }
                tokio::task::yield_now().await;
            }
        })
        .await;
    }
}

#[tokio::test]
async fn files_of_a_pod_are_limited_and_come_back() {
    let world = World::new();
    let (pod, neighbour) = (world.pod("opener"), world.pod("neighbour"));
    let volume = Volume::free();
    let said = run(&world, &pod, &volume, &["open", "/v/a"]).await.printed().await;
    assert_eq!(said, format!("{} files, then QuotaExceeded\n", limits::OPEN_FILES));
    assert_eq!(pod.files.open(), 0);
    let said = run(&world, &neighbour, &volume, &["open", "/v/b"])
        .await
        .printed()
        .await;
    assert_eq!(said, format!("{} files, then QuotaExceeded\n", limits::OPEN_FILES));
}

#[tokio::test]
async fn a_large_directory_is_listed_whole() {
    let world = World::new();
    let pod = world.pod("lister");
    let volume = Volume::free();
    let count = limits::LISTING_ENTRIES * 8 + 3;
    let made = run(&world, &pod, &volume, &["make", "/v", &count.to_string()]).await;
    assert_eq!(made.printed().await, "made\n");
    let said = run(&world, &pod, &volume, &["entries", "/v"]).await.printed().await;
    assert_eq!(said, format!("{count} entries, {count} files\n"));
    assert_eq!(pod.files.open(), 0);
}

/// A pod whose files hang does not keep others from theirs.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_disk_that_hangs_holds_up_one_pod() {
    use rustix::fs::{CWD, FileType, Mode, mknodat};
    let world = World::new();
    let (pod, neighbour) = (world.pod("hangs"), world.pod("neighbour"));
    let volume = Volume::free();
    // Nobody writes to it: whoever opens it waits.
    mknodat(CWD, volume.path("pipe"), FileType::Fifo, Mode::RWXU, 0).unwrap();
    let mut hanging = Vec::new();
    for _ in 0..limits::BLOCKING_THREADS + 8 {
        hanging.push(run(&world, &pod, &volume, &["read", "/v/pipe"]).await);
    }
    let said = run(&world, &neighbour, &volume, &["write", "/v/note", "x"])
        .await
        .printed()
        .await;
    assert_eq!(said, "Ok(())\n");
    assert!(hanging.iter().all(|guest| guest.container.exit().is_none()));
    // Who waits for it can be ended nevertheless.
    for guest in &hanging {
        guest.container.kill();
        assert_eq!(guest.exit().await.code, 137);
    }
    let pipe = std::fs::File::options()
        .read(true)
        .write(true)
        .open(volume.path("pipe"))
        .unwrap();
    drop(hanging);
    crate::world::soon("the handles", async {
        while pod.files.open() > 0 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    drop(pipe);
}

#[tokio::test]
async fn streams_of_files_are_asked_before_they_are_ready() {
    let world = World::new();
    let pod = world.pod("careful");
    let volume = Volume::new(world.runtime.accounts(), 1 << 20);
    let said = run(&world, &pod, &volume, &["rules", "file-streams"])
        .await
        .printed()
        .await;
    let expected = "may write: true
nothing: Ok(())
five bytes: Ok(())
written: Ok((5, false))
none: Ok(0)
at once: Ok(2)
read: (\"hello\", \"closed\")
after the end: Err(\"closed\")
";
    assert_eq!(said, expected);
    let exit = run(&world, &pod, &volume, &["rules", "file-write-unasked"])
        .await
        .exit()
        .await;
    let message = exit.message.clone().unwrap_or_default();
    assert!(
        exit.code == 134 && message.contains("more was written than check-write allowed"),
        "{exit:?}"
    );
    volume.is_right();
    assert_eq!(pod.files.open(), 0);
}

/// Whoever has no memory left is told so by files and streams, and does not end by it.
#[tokio::test]
async fn who_cannot_pay_for_a_transfer_is_told_and_lives_on() {
    let world = World::new();
    let pod = world.pod("poor");
    let volume = Volume::new(world.runtime.accounts(), 1 << 20);
    let module = world.module("hostile").await;
    let guest = world.start(&pod, module.clone(), &["poor"], |spec| {
        spec.mounts = vec![volume.at("/room")];
        spec.memory_limit_bytes = Some(16 << 20);
        spec.programs = Some(Arc::new(Own(module)));
    });
    let said = guest.printed().await;
    let expected = "read: Err(\"out of memory\")
and then: Err(\"closed\")
shared: Err(Fault::Failed(\"out of memory\"))
write: Err(\"out of memory\")
and then: Err(\"closed\")
sink: Err(Fault::Failed(\"out of memory\"))
and then: Err(Fault::Closed)
program: Err(SpawnError::Failed(\"Cannot allocate memory\"))
at a place: Ok(65536)
anew: Ok(9)
";
    assert_eq!(said, expected);
    volume.is_right();
    assert_eq!((pod.files.open(), guest.container.usage().memory_bytes), (0, 0));
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_guest_sees_what_kind_a_name_is_without_touching_it() {
    use rustix::fs::{CWD, FileType, Mode, mknodat};
    let world = World::new();
    let pod = world.pod("lister");
    let volume = Volume::free();
    mknodat(CWD, volume.path("fifo"), FileType::Fifo, Mode::RWXU, 0).unwrap();
    let _listener = std::os::unix::net::UnixListener::bind(volume.path("socket")).unwrap();
    std::os::unix::fs::symlink("fifo", volume.path("link")).unwrap();
    std::fs::create_dir(volume.path("directory")).unwrap();
    std::fs::write(volume.path("file"), "").unwrap();
    let said = run(&world, &pod, &volume, &["rules", "kinds"]).await.printed().await;
    let expected = "directory: DescriptorType::Directory
fifo: DescriptorType::Fifo
file: DescriptorType::RegularFile
link: DescriptorType::SymbolicLink
socket: DescriptorType::Socket
";
    assert_eq!(said, expected);
    let devices = world.run_with(&pod, "probe", &["rules", "kinds"], |spec| {
        spec.mounts = vec![Mount {
            host: "/dev".into(),
            guest: "/dev".into(),
            read_only: true,
            quota: None,
            lazy: false,
        }];
    });
    let said = devices.await.printed().await;
    assert!(said.contains("null: DescriptorType::CharacterDevice\n"), "{said}");
}
