//! `wasi:filesystem` with limits.
//!
//! The library's operations do what concerns paths and metadata; that no path leaves its mount is its work. What costs the host
//! something passes here first: each open file and directory takes a place among the pod's handles, each operation a turn, each byte and
//! name in a volume with a limit is charged to its account, and a listing is read in parts. The work is done on the guest's own thread,
//! in [`crate::seats::blocking`].
//!
//! The library's resource types name what is in the table. Descriptors are its own, with ours beside them under the same index;
//! directory streams are ours alone.

mod accounts;
#[cfg(unix)]
mod listing;
mod mounts;
mod names;
mod pod;
pub(crate) mod quota;
mod streams;

use std::collections::HashMap;
use std::io;
use std::sync::{Arc, LazyLock};

use bytes::Bytes;
use wasmtime::component::{HasData, Linker, Resource, ResourceTable};
use wasmtime_wasi::WasiCtx;
use wasmtime_wasi::filesystem::{Descriptor, Dir, WasiFilesystemCtx, WasiFilesystemCtxView};
use wasmtime_wasi::p2::bindings::filesystem::preopens;
use wasmtime_wasi::p2::bindings::filesystem::types::{
    self, Advice, DescriptorFlags, DescriptorStat, DescriptorType, DirectoryEntry, DirectoryEntryStream, ErrorCode,
    Filesize, HostDescriptor, HostDirectoryEntryStream, MetadataHashValue, NewTimestamp, OpenFlags, PathFlags,
};
use wasmtime_wasi::p2::{DynInputStream, DynOutputStream, FsError, FsResult};

use crate::host::Host;
use crate::memory::MemoryAccount;
use crate::seats::blocking_async;
use crate::spec::Mount;

pub use accounts::Accounts;
pub use mounts::MountError;
pub(crate) use mounts::Mounts;
pub use pod::PodFiles;
pub use quota::{Quota, QuotaUsage};

use names::Opening;
use pod::{Place, Turn};
use quota::{Begin, NoSpace};
use streams::{OpenFile, Reader, Writer};

/// The files of one instance.
pub(crate) struct Files {
    mounts: Arc<Mounts>,
    pod: Arc<PodFiles>,
    memory: Arc<MemoryAccount>,
    /// What belongs to the descriptors in the table, by their index.
    open: HashMap<u32, Open>,
    library: WasiFilesystemCtx,
}

/// What belongs to a descriptor.
struct Open {
    /// The account of the volume that it is in.
    quota: Option<Arc<Quota>>,
    kind: Kind,
}

enum Kind {
    /// A mount's own directory, which all instances share.
    Root,
    Directory(#[expect(dead_code, reason = "it is held")] Place),
    File(Arc<OpenFile>),
}

impl Files {
    pub(crate) fn new(mounts: Arc<Mounts>, pod: Arc<PodFiles>, memory: Arc<MemoryAccount>) -> Self {
        Self {
            mounts,
            pod,
            memory,
            open: HashMap::new(),
            library: AT_ONCE.clone(),
        }
    }
}

/// For operations of the library that are done on the thread that asks for them.
static AT_ONCE: LazyLock<WasiFilesystemCtx> = LazyLock::new(|| {
    let mut context = WasiCtx::builder().allow_blocking_current_thread(true).build();
    context.filesystem().clone()
});

/// One instance's view of its files.
pub(crate) struct FilesView<'a> {
    pub(crate) files: &'a mut Files,
    pub(crate) table: &'a mut ResourceTable,
}

struct HasFiles;

impl HasData for HasFiles {
    type Data<'a> = FilesView<'a>;
}

/// Links the two interfaces.
pub(crate) fn add_to_linker(l: &mut Linker<Host>) -> wasmtime::Result<()> {
    types::add_to_linker::<Host, HasFiles>(l, Host::files)?;
    preopens::add_to_linker::<Host, HasFiles>(l, Host::files)
}

type Fd = Resource<Descriptor>;

impl FilesView<'_> {
    fn library(&mut self) -> WasiFilesystemCtxView<'_> {
        WasiFilesystemCtxView {
            ctx: &mut self.files.library,
            table: self.table,
        }
    }

    /// Waits for the pod's turn, without holding on to the instance.
    fn turn(&self) -> impl Future<Output = Turn> + Send + use<> {
        let pod = self.files.pod.clone();
        async move { pod.turn().await }
    }

    fn quota(&self, fd: &Fd) -> Option<Arc<Quota>> {
        self.files.open.get(&fd.rep())?.quota.clone()
    }

    /// The account of a volume that is to be changed, and the directory where. None: the library may go ahead, and says what is
    /// wrong where something is.
    fn counted(&self, fd: &Fd) -> FsResult<Option<(Arc<Quota>, Dir)>> {
        let Some(quota) = self.quota(fd) else {
            return Ok(None);
        };
        match self.table.get(fd)? {
            Descriptor::Dir(dir) if !dir.perms.write_not_permitted() => Ok(Some((quota, dir.clone()))),
            _ => Ok(None),
        }
    }

    /// Two directories of one volume. As between mounts elsewhere, nothing is renamed or linked from one volume to another.
    fn counted_pair(&self, old: &Fd, new: &Fd) -> FsResult<Option<(Arc<Quota>, Dir, Dir)>> {
        if self.quota(old) != self.quota(new) {
            return Err(ErrorCode::CrossDevice.into());
        }
        let (old, new) = (self.counted(old)?, self.counted(new)?);
        Ok(old.zip(new).map(|((quota, old), (_, new))| (quota, old, new)))
    }

    /// Whether it is neither a file nor a directory that a name stands for: a pipe of the host, or a device. What reads and opens those may
    /// wait for ever, and who ends the guest must not wait for it.
    async fn is_apart(&mut self, fd: &Fd, flags: PathFlags, path: &str) -> bool {
        use DescriptorType::{Directory, RegularFile, SymbolicLink};
        let (mut library, fd) = (self.library(), Resource::new_borrow(fd.rep()));
        let found = blocking_async(library.stat_at(fd, flags, path.to_owned())).await;
        found.is_ok_and(|found| !matches!(found.type_, Directory | RegularFile | SymbolicLink))
    }

    /// The file behind a descriptor, in the library's words where it is none.
    fn file(&self, fd: &Fd) -> FsResult<Arc<OpenFile>> {
        match self.files.open.get(&fd.rep()).map(|open| &open.kind) {
            Some(Kind::File(file)) => Ok(file.clone()),
            _ => Err(ErrorCode::BadDescriptor.into()),
        }
    }

    fn writable_file(&self, fd: &Fd) -> FsResult<Arc<OpenFile>> {
        let file = self.file(fd)?;
        match self.table.get(fd)? {
            Descriptor::File(library) if !library.perms.write_not_permitted() => Ok(file),
            _ => Err(ErrorCode::NotPermitted.into()),
        }
    }

    fn push(&mut self, descriptor: Descriptor, open: Open) -> wasmtime::Result<Fd> {
        let fd = self.table.push(descriptor)?;
        self.files.open.insert(fd.rep(), open);
        Ok(fd)
    }

    fn writer(&mut self, fd: &Fd, from: Begin) -> FsResult<Resource<DynOutputStream>> {
        let writer: DynOutputStream = Box::new(Writer::new(self.writable_file(fd)?, from));
        Ok(self.table.push(writer)?)
    }
}

impl preopens::Host for FilesView<'_> {
    fn get_directories(&mut self) -> wasmtime::Result<Vec<(Fd, String)>> {
        let mounts = self.files.mounts.clone();
        let push = |mount: Result<(Dir, &Mount), MountError>| {
            let (dir, mount) = mount?;
            let open = Open {
                quota: mount.quota.clone(),
                kind: Kind::Root,
            };
            let fd = self.push(Descriptor::Dir(dir), open)?;
            Ok((fd, mount.guest.clone()))
        };
        mounts.iter().map(push).collect()
    }
}

impl types::Host for FilesView<'_> {
    fn convert_error_code(&mut self, error: FsError) -> wasmtime::Result<ErrorCode> {
        error.downcast()
    }

    fn filesystem_error_code(&mut self, error: Resource<wasmtime::Error>) -> wasmtime::Result<Option<ErrorCode>> {
        let error = self.table.get(&error)?;
        Ok(match error.downcast_ref::<io::Error>() {
            Some(error) => Some(code(error)),
            None => error.downcast_ref::<NoSpace>().map(|_| ErrorCode::InsufficientSpace),
        })
    }
}

/// What went wrong, in the guest's vocabulary.
fn code(error: &io::Error) -> ErrorCode {
    let own = error.get_ref().is_some_and(|inner| inner.is::<NoSpace>());
    match error.kind() {
        _ if own => ErrorCode::InsufficientSpace,
        io::ErrorKind::OutOfMemory => ErrorCode::InsufficientMemory,
        _ => error.into(),
    }
}

fn failed(error: io::Error) -> FsError {
    code(&error).into()
}

/// What only the library has to do, at the pod's turn.
macro_rules! library {
    ($($name:ident($($argument:ident: $kind:ty),*) -> $result:ty;)*) => {
        $(async fn $name(&mut self, fd: Fd $(, $argument: $kind)*) -> FsResult<$result> {
            let _turn = self.turn().await;
            blocking_async(HostDescriptor::$name(&mut self.library(), fd $(, $argument)*)).await
        })*
    };
}

impl HostDescriptor for FilesView<'_> {
    library! {
        advise(offset: Filesize, length: Filesize, advice: Advice) -> ();
        sync_data() -> ();
        sync() -> ();
        get_flags() -> DescriptorFlags;
        get_type() -> DescriptorType;
        set_times(accessed: NewTimestamp, modified: NewTimestamp) -> ();
        stat() -> DescriptorStat;
        stat_at(path_flags: PathFlags, path: String) -> DescriptorStat;
        set_times_at(path_flags: PathFlags, path: String, accessed: NewTimestamp, modified: NewTimestamp) -> ();
        readlink_at(path: String) -> String;
        metadata_hash() -> MetadataHashValue;
        metadata_hash_at(path_flags: PathFlags, path: String) -> MetadataHashValue;
    }

    async fn is_same_object(&mut self, a: Fd, b: Fd) -> wasmtime::Result<bool> {
        let _turn = self.turn().await;
        blocking_async(HostDescriptor::is_same_object(&mut self.library(), a, b)).await
    }

    async fn open_at(
        &mut self,
        fd: Fd,
        path_flags: PathFlags,
        path: String,
        open_flags: OpenFlags,
        flags: DescriptorFlags,
    ) -> FsResult<Fd> {
        let place = self.files.pod.handle().ok_or(ErrorCode::Quota)?;
        let turn = self.turn().await;
        let quota = self.quota(&fd);
        let is_apart = self.is_apart(&fd, path_flags, &path).await;
        let opening = |path| Opening {
            path_flags,
            path,
            open_flags,
            flags,
        };
        let (descriptor, account) = match (&quota, self.table.get(&fd)?) {
            (_, Descriptor::Dir(dir)) if is_apart => (names::open_apart(dir.clone(), opening(path), turn).await?, None),
            (Some(quota), Descriptor::Dir(dir)) => names::open(quota.clone(), dir.clone(), opening(path)).await?,
            _ => {
                let mut library = self.library();
                let opened = blocking_async(library.open_at(fd, path_flags, path, open_flags, flags)).await?;
                (self.table.delete(opened)?, None)
            }
        };
        let kind = match &descriptor {
            Descriptor::Dir(_) => Kind::Directory(place),
            Descriptor::File(file) => Kind::File(Arc::new(OpenFile {
                file: file.file.clone(),
                account,
                is_apart,
                pod: self.files.pod.clone(),
                memory: self.files.memory.clone(),
                _place: place,
            })),
        };
        self.push(descriptor, Open { quota, kind }).map_err(FsError::trap)
    }

    fn drop(&mut self, fd: Fd) -> wasmtime::Result<()> {
        self.files.open.remove(&fd.rep());
        self.table.delete(fd)?;
        Ok(())
    }

    async fn read(&mut self, fd: Fd, length: Filesize, offset: Filesize) -> FsResult<(Vec<u8>, bool)> {
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        let read = self.file(&fd)?.read(offset, length).await.map_err(failed)?;
        let end = read.is_empty();
        Ok((read, end))
    }

    async fn write(&mut self, fd: Fd, bytes: Vec<u8>, offset: Filesize) -> FsResult<Filesize> {
        let file = self.writable_file(&fd)?;
        let written = file.write(Begin::At(offset), Bytes::from(bytes)).await;
        Ok(written.map_err(failed)? as Filesize)
    }

    async fn set_size(&mut self, fd: Fd, length: Filesize) -> FsResult<()> {
        let file = self.writable_file(&fd)?;
        file.set_length(length).await.map_err(failed)
    }

    fn read_via_stream(&mut self, fd: Fd, offset: Filesize) -> FsResult<Resource<DynInputStream>> {
        let file = match self.table.get(&fd)? {
            Descriptor::File(_) => self.file(&fd)?,
            Descriptor::Dir(_) => return Err(ErrorCode::IsDirectory.into()),
        };
        let reader: DynInputStream = Box::new(Reader::new(file, offset));
        Ok(self.table.push(reader)?)
    }

    fn write_via_stream(&mut self, fd: Fd, offset: Filesize) -> FsResult<Resource<DynOutputStream>> {
        self.writer(&fd, Begin::At(offset))
    }

    fn append_via_stream(&mut self, fd: Fd) -> FsResult<Resource<DynOutputStream>> {
        self.writer(&fd, Begin::End)
    }

    #[cfg(unix)]
    async fn read_directory(&mut self, fd: Fd) -> FsResult<Resource<DirectoryEntryStream>> {
        let directory = match self.table.get(&fd)? {
            Descriptor::Dir(dir) => dir.dir.clone(),
            Descriptor::File(_) => return Err(ErrorCode::NotDirectory.into()),
        };
        let (pod, memory) = (self.files.pod.clone(), self.files.memory.clone());
        let listing = listing::Listing::open(directory, pod, memory).await?;
        Ok(Resource::new_own(self.table.push(listing)?.rep()))
    }

    #[cfg(not(unix))]
    async fn read_directory(&mut self, fd: Fd) -> FsResult<Resource<DirectoryEntryStream>> {
        let _turn = self.turn().await;
        blocking_async(HostDescriptor::read_directory(&mut self.library(), fd)).await
    }

    async fn create_directory_at(&mut self, fd: Fd, path: String) -> FsResult<()> {
        let _turn = self.turn().await;
        match self.counted(&fd)? {
            Some((quota, dir)) => names::create_directory(quota, dir, path).await,
            None => blocking_async(self.library().create_directory_at(fd, path)).await,
        }
    }

    async fn symlink_at(&mut self, fd: Fd, target: String, path: String) -> FsResult<()> {
        let _turn = self.turn().await;
        match self.counted(&fd)? {
            Some((quota, dir)) => names::symlink(quota, dir, target, path).await,
            None => blocking_async(self.library().symlink_at(fd, target, path)).await,
        }
    }

    async fn link_at(
        &mut self,
        fd: Fd,
        path_flags: PathFlags,
        old_path: String,
        new_fd: Fd,
        new_path: String,
    ) -> FsResult<()> {
        let _turn = self.turn().await;
        match self.counted_pair(&fd, &new_fd)? {
            Some((quota, old, new)) => names::link(quota, (old, path_flags, old_path), (new, new_path)).await,
            None => {
                let mut library = self.library();
                blocking_async(library.link_at(fd, path_flags, old_path, new_fd, new_path)).await
            }
        }
    }

    async fn rename_at(&mut self, fd: Fd, old_path: String, new_fd: Fd, new_path: String) -> FsResult<()> {
        let _turn = self.turn().await;
        match self.counted_pair(&fd, &new_fd)? {
            Some((quota, old, new)) => names::rename(quota, (old, old_path), (new, new_path)).await,
            None => blocking_async(self.library().rename_at(fd, old_path, new_fd, new_path)).await,
        }
    }

    async fn remove_directory_at(&mut self, fd: Fd, path: String) -> FsResult<()> {
        let _turn = self.turn().await;
        match self.counted(&fd)? {
            Some((quota, dir)) => names::remove_directory(quota, dir, path).await,
            None => blocking_async(self.library().remove_directory_at(fd, path)).await,
        }
    }

    async fn unlink_file_at(&mut self, fd: Fd, path: String) -> FsResult<()> {
        let _turn = self.turn().await;
        match self.counted(&fd)? {
            Some((quota, dir)) => names::unlink(quota, dir, path).await,
            None => blocking_async(self.library().unlink_file_at(fd, path)).await,
        }
    }
}

#[cfg(unix)]
impl HostDirectoryEntryStream for FilesView<'_> {
    async fn read_directory_entry(
        &mut self,
        stream: Resource<DirectoryEntryStream>,
    ) -> FsResult<Option<DirectoryEntry>> {
        let listing = Resource::<listing::Listing>::new_borrow(stream.rep());
        self.table.get_mut(&listing)?.next().await
    }

    fn drop(&mut self, stream: Resource<DirectoryEntryStream>) -> wasmtime::Result<()> {
        self.table.delete(Resource::<listing::Listing>::new_own(stream.rep()))?;
        Ok(())
    }
}

#[cfg(not(unix))]
impl HostDirectoryEntryStream for FilesView<'_> {
    async fn read_directory_entry(
        &mut self,
        stream: Resource<DirectoryEntryStream>,
    ) -> FsResult<Option<DirectoryEntry>> {
        self.library().read_directory_entry(stream).await
    }

    fn drop(&mut self, stream: Resource<DirectoryEntryStream>) -> wasmtime::Result<()> {
        HostDirectoryEntryStream::drop(&mut self.library(), stream)
    }
}
