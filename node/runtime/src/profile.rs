//! Where a guest spends its time, on request.
//!
//! A guest that runs is interrupted at every tick anyway; a profile notes its stack there. So it has two samples a millisecond of
//! running, costs nothing where it was not asked for, and shows nothing but the names of the guest's own functions. It is written
//! when the container ends, in the format of the Firefox profiler.

use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use fxprof_processed_profile::{
    CategoryHandle, CpuDelta, Frame, FrameFlags, FrameInfo, Profile, ReferenceTimestamp, SamplingInterval,
    ThreadHandle, Timestamp,
};
use parking_lot::Mutex;
use wasmtime::{AsContext, WasmBacktrace};

use crate::exit::{plain, without_hash};
use crate::limits;

/// The profile of one container's own program, all of its instances together.
pub(crate) struct Profiler {
    to: PathBuf,
    started: Instant,
    taken: Mutex<Taken>,
}

struct Taken {
    profile: Profile,
    thread: ThreadHandle,
    samples: usize,
}

impl Profiler {
    /// Begins; the profile is to be written to a file of that name.
    pub(crate) fn new(to: PathBuf, container: &str) -> Arc<Self> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let interval = SamplingInterval::from_nanos(limits::TICK.as_nanos() as u64);
        let reference = ReferenceTimestamp::from_duration_since_unix_epoch(now);
        let mut profile = Profile::new("Coracle", reference, interval);
        let began = Timestamp::from_nanos_since_reference(0);
        let process = profile.add_process(container, 1, began);
        let thread = profile.add_thread(process, 1, began, true);
        profile.set_thread_name(thread, container);
        profile.set_symbolicated(true);
        Arc::new(Self {
            to,
            started: Instant::now(),
            taken: Mutex::new(Taken {
                profile,
                thread,
                samples: 0,
            }),
        })
    }

    /// Notes where the guest is. To be called while it is interrupted.
    pub(crate) fn sample(&self, store: impl AsContext) {
        let mut taken = self.taken.lock();
        if taken.samples >= limits::PROFILE_SAMPLES {
            return;
        }
        taken.samples += 1;
        let backtrace = WasmBacktrace::force_capture(store);
        let Taken { profile, thread, .. } = &mut *taken;
        let frames: Vec<_> = backtrace
            .frames()
            .iter()
            .rev()
            .map(|frame| info(profile, frame))
            .collect();
        let stack = profile.intern_stack_frames(*thread, frames.into_iter());
        let at = Timestamp::from_nanos_since_reference(self.started.elapsed().as_nanos() as u64);
        let used = CpuDelta::from_nanos(limits::TICK.as_nanos() as u64);
        profile.add_sample(*thread, at, stack, used, 1);
    }

    /// Writes the file, readable by this user alone. Blocks.
    pub(crate) fn write(&self) -> io::Result<()> {
        let taken = self.taken.lock();
        let mut file = BufWriter::new(create_private(&self.to)?);
        serde_json::to_writer(&mut file, &taken.profile)?;
        file.flush()
    }

    pub(crate) fn path(&self) -> &Path {
        &self.to
    }
}

fn info(profile: &mut Profile, frame: &wasmtime::FrameInfo) -> FrameInfo {
    let name = match frame.func_name() {
        Some(name) => profile.intern_string(&plain(without_hash(name))),
        None => profile.intern_string(&format!("function {}", frame.func_index())),
    };
    FrameInfo {
        frame: Frame::Label(name),
        category_pair: CategoryHandle::OTHER.into(),
        flags: FrameFlags::empty(),
    }
}

/// A new file, with the directory that it lies in, that only this user reads.
pub(crate) fn create_private(path: &Path) -> io::Result<std::fs::File> {
    if let Some(dir) = path.parent() {
        std::fs::create_dir_all(dir)?;
    }
    let mut options = std::fs::File::options();
    options.write(true).create(true).truncate(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use wasmtime::{Engine, Store};

    #[test]
    fn a_profile_holds_so_many_samples() {
        let profiler = Profiler::new(PathBuf::from("nowhere"), "guest");
        let store = Store::new(&Engine::default(), ());
        for _ in 0..limits::PROFILE_SAMPLES + 10 {
            profiler.sample(&store);
        }
        assert_eq!(profiler.taken.lock().samples, limits::PROFILE_SAMPLES);
    }
}
