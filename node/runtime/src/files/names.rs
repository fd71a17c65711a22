//! Operations on the names in a volume with a limit: opening, making, linking, renaming, removing.
//!
//! Looking, changing and counting belong together: they happen while the account's names are held, and without a pause from then on, so
//! that they come to their end whoever asked for them. The library's operations do the work, on directories held for that.

use std::sync::Arc;

use futures::FutureExt as _;
use wasmtime::component::{Resource, ResourceTable};
use wasmtime_wasi::filesystem::{Descriptor, Dir, WasiFilesystemCtx, WasiFilesystemCtxView};
use wasmtime_wasi::p2::bindings::filesystem::types::{
    DescriptorFlags, DescriptorStat, DescriptorType, ErrorCode, HostDescriptor as _, OpenFlags, PathFlags,
};
use wasmtime_wasi::p2::{FsError, FsResult};

use super::AT_ONCE;
use super::pod::Turn;
use super::quota::{FileId, NoSpace, Opened, Quota};
use crate::seats::blocking_async;

impl From<NoSpace> for FsError {
    fn from(_: NoSpace) -> Self {
        ErrorCode::InsufficientSpace.into()
    }
}

/// Directories held for an operation.
struct Apart {
    table: ResourceTable,
    context: WasiFilesystemCtx,
}

/// One of them.
#[derive(Clone, Copy)]
struct At(u32);

impl At {
    fn handle(self) -> Resource<Descriptor> {
        Resource::new_borrow(self.0)
    }
}

impl Apart {
    fn new() -> Self {
        Self {
            table: ResourceTable::new(),
            context: AT_ONCE.clone(),
        }
    }

    fn hold(&mut self, dir: Dir) -> FsResult<At> {
        Ok(At(self.table.push(Descriptor::Dir(dir))?.rep()))
    }

    fn library(&mut self) -> WasiFilesystemCtxView<'_> {
        WasiFilesystemCtxView {
            ctx: &mut self.context,
            table: &mut self.table,
        }
    }

    /// What a name stands for, without following it.
    async fn look(&mut self, dir: At, path: &str) -> Option<DescriptorStat> {
        let found = self
            .library()
            .stat_at(dir.handle(), PathFlags::empty(), path.to_owned())
            .await;
        found.ok()
    }

    async fn identity(&mut self, dir: At, path: &str) -> FsResult<FileId> {
        let hash = self
            .library()
            .metadata_hash_at(dir.handle(), PathFlags::empty(), path.to_owned())
            .await?;
        Ok(hash.lower)
    }
}

/// What is to be opened.
pub(super) struct Opening {
    pub(super) path_flags: PathFlags,
    pub(super) path: String,
    pub(super) open_flags: OpenFlags,
    pub(super) flags: DescriptorFlags,
}

/// Opens something in a directory. A file comes with its account.
pub(super) async fn open(quota: Arc<Quota>, dir: Dir, opening: Opening) -> FsResult<(Descriptor, Option<Arc<Opened>>)> {
    blocking_async(async move {
        let mut apart = Apart::new();
        let at = apart.hold(dir)?;
        // Cut when its account is known.
        let cuts = opening.open_flags.contains(OpenFlags::TRUNCATE);
        let mut flags = opening.flags;
        if cuts {
            flags |= DescriptorFlags::WRITE;
        }
        let creates = opening.open_flags.contains(OpenFlags::CREATE);
        let _names = match creates {
            true => Some(quota.names.lock().await),
            false => None,
        };
        let path = opening.path.clone();
        let is_new = creates
            && apart
                .library()
                .stat_at(at.handle(), opening.path_flags, path)
                .await
                .is_err();
        if is_new {
            quota.take_name()?;
        }
        let open_flags = opening.open_flags & !OpenFlags::TRUNCATE;
        let opened = apart
            .library()
            .open_at(at.handle(), opening.path_flags, opening.path, open_flags, flags)
            .await
            .inspect_err(|_| {
                if is_new {
                    quota.give_back_name();
                }
            })?;
        let id = apart
            .library()
            .metadata_hash(Resource::new_borrow(opened.rep()))
            .await?
            .lower;
        let descriptor = apart.table.delete(opened)?;
        let Descriptor::File(file) = &descriptor else {
            return Ok((descriptor, None));
        };
        let account = quota.opened(id, file.file.clone())?.ok_or(ErrorCode::NoEntry)?;
        if cuts {
            file.file.set_len(0)?;
            account.cut();
        }
        Ok((descriptor, Some(Arc::new(account))))
    })
    .await
}

/// Opens what may keep the thread for ever, on one apart from the guests'. It holds the turn for as long.
pub(super) async fn open_apart(dir: Dir, opening: Opening, turn: Turn) -> FsResult<Descriptor> {
    let opened = tokio::task::spawn_blocking(move || {
        let _turn = turn;
        let mut apart = Apart::new();
        let at = apart.hold(dir)?;
        let mut library = apart.library();
        let opened = library.open_at(
            at.handle(),
            opening.path_flags,
            opening.path,
            opening.open_flags,
            opening.flags,
        );
        let opened = opened.now_or_never().ok_or(ErrorCode::WouldBlock)??;
        Ok(apart.table.delete(opened)?)
    });
    opened.await.map_err(FsError::trap)?
}

/// Makes a directory.
pub(super) async fn create_directory(quota: Arc<Quota>, dir: Dir, path: String) -> FsResult<()> {
    blocking_async(async move {
        let mut apart = Apart::new();
        let at = apart.hold(dir)?;
        named(&quota, apart.library().create_directory_at(at.handle(), path)).await
    })
    .await
}

/// Makes a symbolic link.
pub(super) async fn symlink(quota: Arc<Quota>, dir: Dir, target: String, path: String) -> FsResult<()> {
    blocking_async(async move {
        let mut apart = Apart::new();
        let at = apart.hold(dir)?;
        named(&quota, apart.library().symlink_at(at.handle(), target, path)).await
    })
    .await
}

/// Gives a file one more name.
pub(super) async fn link(quota: Arc<Quota>, from: (Dir, PathFlags, String), to: (Dir, String)) -> FsResult<()> {
    blocking_async(async move {
        let mut apart = Apart::new();
        let (old, new) = (apart.hold(from.0)?, apart.hold(to.0)?);
        let mut library = apart.library();
        let linked = library.link_at(old.handle(), from.1, from.2, new.handle(), to.1);
        named(&quota, linked).await
    })
    .await
}

/// Does what makes one name.
async fn named(quota: &Quota, making: impl Future<Output = FsResult<()>>) -> FsResult<()> {
    let _names = quota.names.lock().await;
    quota.take_name()?;
    making.await.inspect_err(|_| quota.give_back_name())
}

/// Removes an empty directory.
pub(super) async fn remove_directory(quota: Arc<Quota>, dir: Dir, path: String) -> FsResult<()> {
    blocking_async(async move {
        let mut apart = Apart::new();
        let at = apart.hold(dir)?;
        let _names = quota.names.lock().await;
        apart.library().remove_directory_at(at.handle(), path).await?;
        quota.give_back_name();
        Ok(())
    })
    .await
}

/// Removes a file or a link.
pub(super) async fn unlink(quota: Arc<Quota>, dir: Dir, path: String) -> FsResult<()> {
    blocking_async(async move {
        let mut apart = Apart::new();
        let at = apart.hold(dir)?;
        let _names = quota.names.lock().await;
        let gone = Going::of(&quota, &mut apart, at, &path).await;
        apart.library().unlink_file_at(at.handle(), path).await?;
        gone.count(&quota);
        Ok(())
    })
    .await
}

/// Gives something another name in the same volume; what had that name is gone.
pub(super) async fn rename(quota: Arc<Quota>, from: (Dir, String), to: (Dir, String)) -> FsResult<()> {
    blocking_async(async move {
        let mut apart = Apart::new();
        let (old, new) = (apart.hold(from.0)?, apart.hold(to.0)?);
        let _names = quota.names.lock().await;
        let gone = Going::of(&quota, &mut apart, new, &to.1).await;
        let same = match &gone {
            Going::Nothing => false,
            // Two names of one file stay as they are.
            _ => apart.identity(old, &from.1).await.ok() == apart.identity(new, &to.1).await.ok(),
        };
        apart
            .library()
            .rename_at(old.handle(), from.1, new.handle(), to.1)
            .await?;
        if !same {
            gone.count(&quota);
        }
        Ok(())
    })
    .await
}

/// A name that is about to go, and what it stood for.
enum Going {
    Nothing,
    File {
        file: Opened,
        links: u64,
        length: u64,
    },
    /// A directory or a link.
    Other,
}

impl Going {
    async fn of(quota: &Arc<Quota>, apart: &mut Apart, dir: At, path: &str) -> Self {
        let Ok(id) = apart.identity(dir, path).await else {
            return Self::Nothing;
        };
        // In mind before it is looked at: whoever opens it from here on is known.
        let file = quota.pin(id);
        match apart.look(dir, path).await {
            None => Self::Nothing,
            Some(stat) if stat.type_ == DescriptorType::RegularFile => Self::File {
                file,
                links: stat.link_count,
                length: stat.size,
            },
            Some(_) => Self::Other,
        }
    }

    fn count(self, quota: &Quota) {
        match self {
            Self::Nothing => {}
            Self::File { file, links, length } => file.unlinked(links, length),
            Self::Other => quota.give_back_name(),
        }
    }
}
