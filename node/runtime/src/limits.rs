//! Every limit on what one guest can make the host hold or do, in one place, with the reason for its size.
//!
//! A guest that passes a limit is refused with an error it can handle where the interface has one, and is ended where it has
//! not. No limit may be raised without asking what the host pays when all pods of a node reach it at once.

use std::time::Duration;

/// The stack of a guest. Rust, C and Go programs are at home in half a megabyte; it is address space, not memory, until used.
pub const WASM_STACK_BYTES: usize = 512 * 1024;

/// The guest's stack plus what host functions need on top of it. An overflow of the host's part would end the whole process, so
/// as much again is kept for frames that take a few kilobytes in practice.
pub const ASYNC_STACK_BYTES: usize = 1024 * 1024;

/// Frames in the backtrace of a trap. Enough to see where, and too few to flood a log.
pub const BACKTRACE_FRAMES: usize = 20;

/// Names that a module imports from, or a component imports or exports, before it is looked at any further. Ours are some thirty
/// interfaces, of which a component may name each in several versions.
pub const MODULE_NAMES: usize = 1000;

/// Characters of a function's name in a backtrace. Those of generic functions are long, and a module's may have megabytes; twenty
/// of these are what the API keeps of a message.
pub const FRAME_NAME_CHARS: usize = 180;

/// Frames in a sample of a profile. A profile is read from its root, so whole stacks are wanted; those of interpreters have some
/// fifty frames. Deeper ones lose their root.
pub const PROFILE_FRAMES: usize = 128;

/// The memory of a program of which a core dump is made. The dump takes as much memory of the host until it is written.
pub const CORE_DUMP_BYTES: usize = 128 << 20;

/// Samples of one profile, one a tick: two minutes of running. Each takes some thirty bytes, and hundreds where its stack is new.
pub const PROFILE_SAMPLES: usize = 240_000;

/// Instances, memories and tables in one store. A component made from one program has four instances, one memory, three
/// tables; composed ones have some more. The engine's own default is ten thousand each.
pub const INSTANCES: usize = 64;
/// See [`INSTANCES`].
pub const MEMORIES: usize = 8;
/// See [`INSTANCES`].
pub const TABLES: usize = 64;

/// Elements of one table. The largest programs in use have some ten thousand functions to point at.
pub const TABLE_ELEMENTS: usize = 100_000;

/// What an element of a table costs the host, in bytes.
pub const TABLE_ELEMENT_BYTES: usize = 8;

/// Sockets, streams, files, timers and other host objects of one store. Above the pod's socket quota of the network (1,024 with
/// two streams each), so that a guest which opens too many sockets meets an error before it meets this, which ends it.
pub const HOST_OBJECTS: usize = 4096;

/// Handles of one store on the component model's side: lends of one call count too, so this also bounds `poll`.
pub const COMPONENT_HANDLES: usize = 8192;

/// Bytes that one call may move from the guest to the host. Stream writes take at most what a pipe holds, 256 KiB.
pub const HOSTCALL_BYTES: usize = 2 * 1024 * 1024;

/// Bytes of one read or write that the host answers. Larger requests are answered in parts.
pub const TRANSFER_BYTES: usize = 64 * 1024;

/// Bytes of one request for randomness. The host makes them on a thread that other guests wait for.
pub const RANDOM_BYTES: u64 = 1024 * 1024;

/// Bytes that a guest may write to a log before the host looks again whether the log is ready.
pub const LOG_BYTES: usize = 16 * 1024;

/// Datagrams of one call, as the upstream implementation has it.
pub const DATAGRAMS: usize = 16;

/// How often the engine asks running guests to yield, and their threads let others have their core. Ten times a second would be felt by a
/// neighbour, and a thousand times is: half as often as this makes the p99 of its answers beside a guest that spins 2.3 ms instead of 1.6.
/// Ten thousand times costs the guest some percent; this costs nothing that can be measured.
pub const TICK: Duration = Duration::from_micros(500);

/// The least time between two interruptions beside the ticks, for guests that were woken after a rest. A yield of each thread
/// and the way back cost some microseconds.
pub const INTERRUPTS: Duration = Duration::from_micros(100);

/// Instructions between two yields of a guest that is metered by fuel: about a millisecond of ordinary code. A yield costs
/// under a microsecond.
pub const FUEL_PER_YIELD: u64 = 1_000_000;

/// The period over which a CPU limit holds, as the kernel's bandwidth control has it.
pub const CPU_PERIOD: Duration = Duration::from_millis(100);

/// How far a container may be ahead of others and still be handed the thread of who woke it, and how far behind before it has
/// rested, in time of one core. Two ticks: less would make rests of the pauses between equals, more would be felt by a neighbour.
pub const SHARE_SLACK: Duration = Duration::from_millis(2);

/// Instructions that are one second of one core where a CPU limit is metered by fuel: what code with many calls does in that
/// time. Other code does from a thirtieth to three times as many, which is the point: the same program gets as far on every machine.
pub const FUEL_PER_CPU_SECOND: u64 = 8_000_000_000;

/// Over how long the present use of CPU is told: long enough for a steady number, short enough for an autoscaler that looks
/// every fifteen seconds to see only what is new.
pub const USAGE_WINDOW: Duration = Duration::from_secs(5);

/// File operations under way at once, of all pods; each may keep a thread.
pub const BLOCKING_THREADS: usize = 64;

/// Of those, how many one pod may occupy. Eight keep a fast disk busy, and eight pods whose disks hang leave the others waiting
/// at most for each other.
pub const FILE_OPERATIONS: usize = 8;

/// Ticks for which a thread may be in a call that works on files before another one runs the guests in its place.
pub const BLOCKED_TICKS: u64 = 2;

/// Ticks after which a thread is tried for again that the system did not give: a second.
pub const THREAD_AGAIN_TICKS: u64 = 2000;

/// How long a thread that was brought for such a time is kept.
pub const SPARE_THREAD: Duration = Duration::from_secs(10);

/// Files, directories and listings that one pod has open, as handles of the host's system: what a login on Linux may have open.
/// Below [`HOST_OBJECTS`] with a stream for each, so that a guest meets an error before it meets that.
pub const OPEN_FILES: usize = 1024;

/// Entries of a directory that the host holds at once for one listing. A thread is asked once for so many.
pub const LISTING_ENTRIES: usize = 256;

/// Names that even the smallest volume with a limit may hold; a larger one holds one for each of its blocks.
pub const VOLUME_NAMES: u64 = 1024;

/// Bytes of a module that the node compiles. The largest in use (a Python interpreter with its library) has 26 MB, and each
/// megabyte costs a second.
pub const MODULE_BYTES: usize = 128 * 1024 * 1024;

/// How long the compiler may take for one module, of time and of CPU on all cores, and how much memory it may have. A Python
/// interpreter of 26 MB takes half a minute of CPU and a gigabyte; the largest module of [`MODULE_BYTES`] is five times that.
pub const COMPILE_WALL_TIME: Duration = Duration::from_secs(600);
/// See [`COMPILE_WALL_TIME`].
pub const COMPILE_CPU_SECONDS: u64 = 600;
/// See [`COMPILE_WALL_TIME`]. Address space, which is what the system can limit.
pub const COMPILE_MEMORY_BYTES: u64 = 6 << 30;

/// Bytes of the code of one module: some three times as many as its own.
pub const CODE_BYTES: usize = 1 << 30;

/// Bytes of what the compiler says when it fails.
pub const COMPILER_WORDS_BYTES: usize = 16 * 1024;

/// Instances that answer requests of one `wasi:http` container at the same time; each serves one request.
pub const HTTP_INSTANCES: usize = 16;

/// Connections that one `wasi:http` container holds. More wait in the listener's backlog.
pub const HTTP_CONNECTIONS: usize = 256;

/// How long a client may take to send the head of a request.
pub const HTTP_HEAD_TIMEOUT: Duration = Duration::from_secs(30);

/// Requests that one container has on the way to others at the same time.
pub const HTTP_OUTGOING: usize = 64;

/// The longest that an outgoing request waits for a connection, for the first byte or between two parts, whatever the guest
/// asks for.
pub const HTTP_OUTGOING_TIMEOUT: Duration = Duration::from_secs(600);

/// Bytes of all headers of one message.
pub const HTTP_FIELD_BYTES: usize = 128 * 1024;

/// Bytes that a pipe to or from a standard stream of a guest holds: what a pipe of Linux does.
pub const PIPE_BYTES: usize = 64 * 1024;

/// Further programs that run in one container at the same time, as exec starts them. Each has an instance with a stack and
/// memories of its own (charged to the container), so their number is kept near what a person at a few terminals needs, and
/// exec probes beside that.
pub const EXECS: usize = 32;

/// Programs that the programs of one container have started and that still run: what Kubernetes calls a limit of pids. Enough for
/// the pipelines of a few scripts; each costs the host a stack of address space beside the memory that the container pays.
pub const PROCESSES: usize = 64;

/// Children of one program that have ended, or run, and were not waited for. Each is remembered with its exit code.
pub const CHILDREN: usize = 1024;

/// Streams that stand in each other: a program may hand on its own input as a stream of that stream, and so may the next. A read
/// goes through all of them on one stack, of which each level takes up to two kilobytes: an eighth of what there is. Scripts that
/// start scripts with redirections nest three or four.
pub const NESTED_STREAMS: usize = 32;

/// Who watches the output of one container at the same time, as attach does.
pub const ATTACHED: usize = 32;

/// What is kept of a terminal's last line for who attaches later: some dozen drawings of a line that is being edited.
pub const TERMINAL_LINE_BYTES: usize = 4096;
