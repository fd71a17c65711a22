//! What hostile guests do, one row each: what to run, and how the user sees it end.

use crate::world::World;
use coracle_fixtures::greedy;

/// What a hostile pod runs.
#[derive(Clone, Copy)]
pub enum Guest {
    /// The guest `hostile` with these arguments; `{neighbour}` is the neighbour's address, `{dns}` that of the name server.
    Hostile(&'static [&'static str]),
    /// A program as text.
    Text(fn() -> String),
    /// Bytes that should be a program.
    Bytes(fn() -> Vec<u8>),
    /// A script for the toolbox's shell.
    Script(&'static str),
}

/// How an attack ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum End {
    /// By the guest's own doing: the reason and the exit code of its container.
    Of(&'static str, i32),
    /// It goes on, and takes no more than its part, until somebody deletes the pod.
    Never,
    /// It never starts: why its container waits.
    Waits(&'static str),
    /// The API does not take the pod.
    Refused,
}

/// One way to take what belongs to others.
#[derive(Clone, Copy)]
pub struct Attack {
    /// A name for a pod.
    pub name: &'static str,
    /// What it does, for the table.
    pub does: &'static str,
    pub guest: Guest,
    pub end: End,
    /// Further lines of its container.
    pub container: &'static str,
}

const OOM: End = End::Of("OOMKilled", 137);
const ABORTED: End = End::Of("Error", 134);
const FAULT: End = End::Of("Error", 139);
const DONE: End = End::Of("Completed", 0);

const fn hostile(name: &'static str, does: &'static str, args: &'static [&'static str], end: End) -> Attack {
    Attack {
        name,
        does,
        guest: Guest::Hostile(args),
        end,
        container: "",
    }
}

const fn text(name: &'static str, does: &'static str, program: fn() -> String, end: End) -> Attack {
    Attack {
        name,
        does,
        guest: Guest::Text(program),
        end,
        container: "",
    }
}

/// The table.
pub const ATTACKS: &[Attack] = &[
    // Memory of the guest's own, and of the host on its behalf.
    hostile("memory", "grows its memory without end", &["memory"], OOM),
    text(
        "table",
        "grows a table to a million elements",
        || greedy::elements_of_a_table(1_000_000),
        ABORTED,
    ),
    text("instances", "has 900 instances", || greedy::instances(900), ABORTED),
    text(
        "handles",
        "makes handles without end",
        || greedy::handles(u32::MAX),
        ABORTED,
    ),
    text(
        "host-objects",
        "keeps timers without end",
        || greedy::timers(u32::MAX),
        ABORTED,
    ),
    text(
        "poll-list",
        "polls a list of 200,000",
        || greedy::entries_of_a_poll(200_000),
        ABORTED,
    ),
    text(
        "random-bytes",
        "asks for 4 MiB of randomness at once",
        || greedy::bytes_of_randomness(4 << 20),
        ABORTED,
    ),
    hostile("http-methods", "keeps requests with methods of 2 MB", &["methods"], OOM),
    hostile("http-fields", "keeps headers of 120 KB", &["fields"], OOM),
    hostile("http-bodies", "keeps bodies that are never sent", &["bodies"], OOM),
    hostile("buffers", "keeps what it writes to itself", &["buffers"], OOM),
    hostile(
        "crumbs",
        "keeps bytes that it writes to itself one by one",
        &["crumbs"],
        DONE,
    ),
    hostile(
        "remains",
        "keeps the last byte of each megabyte that it writes to itself",
        &["remains"],
        DONE,
    ),
    hostile(
        "wordy",
        "starts programs with a megabyte of arguments",
        &["wordy"],
        DONE,
    ),
    hostile(
        "http-answers",
        "keeps the neighbour's answers without their bodies",
        &["kept-answers", "{neighbour}"],
        ABORTED,
    ),
    // Stack.
    hostile(
        "recursion",
        "recurses, with calls to the host at each depth",
        &["deep-calls"],
        FAULT,
    ),
    text(
        "deep-host-calls",
        "calls the host from as deep as calls go",
        greedy::calls_at_every_depth,
        FAULT,
    ),
    hostile("dolls", "puts 400 streams in each other", &["dolls", "400"], End::Never),
    // Time.
    hostile("spin", "spins", &["spin"], End::Never),
    hostile("clock", "calls the host without end", &["clock"], End::Never),
    hostile("random", "asks for randomness without end", &["random"], End::Never),
    hostile("timers", "makes and drops timers without end", &["timers"], End::Never),
    hostile("polls", "polls 7,000 entries without end", &["polls"], End::Never),
    hostile("spawns", "starts programs that start programs", &["spawns"], End::Never),
    hostile(
        "waits",
        "waits for half a million programs that are not there",
        &["waits"],
        End::Never,
    ),
    hostile(
        "messages",
        "makes messages and lets them go",
        &["messages", "4000000000"],
        End::Never,
    ),
    Attack {
        name: "fork-bomb",
        does: "a shell that starts itself twice",
        guest: Guest::Script("bomb() { bomb | bomb & }; bomb; while :; do sleep 1; done"),
        end: End::Never,
        container: "",
    },
    // The log.
    hostile("lines", "writes lines without end", &["lines"], End::Never),
    hostile("long-line", "writes a line without end", &["long-line"], End::Never),
    hostile(
        "unasked-lines",
        "writes 2 MB of line ends at once",
        &["unasked-lines"],
        ABORTED,
    ),
    // The network.
    hostile("sockets", "keeps sockets without end", &["sockets"], End::Never),
    hostile(
        "listeners",
        "listens on every port and connects to each",
        &["listeners"],
        End::Never,
    ),
    hostile(
        "datagrams",
        "floods the name server with datagrams",
        &["datagrams", "{dns}"],
        End::Never,
    ),
    hostile("lookups", "looks up names that are not there", &["names"], End::Never),
    hostile(
        "knocks",
        "holds connections to the neighbour",
        &["knock", "{neighbour}"],
        End::Never,
    ),
    hostile(
        "requests",
        "sends the neighbour requests and reads no answer",
        &["requests", "{neighbour}"],
        End::Never,
    ),
    hostile(
        "held-requests",
        "sends the neighbour 1,000 requests at once",
        &["requests-held", "{neighbour}", "1000", "0"],
        DONE,
    ),
    hostile("api", "floods the API with its own token", &["api-flood"], End::Never),
    Attack {
        name: "probed",
        does: "answers its probes without end",
        guest: Guest::Hostile(&["answers"]),
        end: End::Never,
        container: "readinessProbe: {httpGet: {port: 8080, host: 127.0.0.1}, periodSeconds: 1}, livenessProbe: {exec: {command: [sh, -c, 'yes']}, periodSeconds: 1, failureThreshold: 100000}",
    },
    // Files.
    hostile(
        "fill",
        "fills its volume, and makes files of 2^50 bytes",
        &["fill"],
        End::Never,
    ),
    hostile("names", "makes files without end", &["names-on-disk"], End::Never),
    hostile("open", "keeps files open without end", &["open"], End::Never),
    hostile("churn", "writes, syncs and removes without end", &["churn"], End::Never),
    hostile("nest", "nests directories without end", &["nest"], End::Never),
    hostile(
        "listings",
        "lists a large directory 500 times at once",
        &["listings"],
        End::Never,
    ),
    // Programs that are none.
    Attack {
        name: "truncated",
        does: "is half a program",
        guest: Guest::Bytes(|| {
            let whole = coracle_fixtures::component("hello").unwrap();
            whole[..whole.len() / 2].to_vec()
        }),
        end: End::Refused,
        container: "",
    },
    text(
        "deep-types",
        "has types that nest 10,000 deep",
        deep_types,
        End::Waits("CreateContainerError"),
    ),
    text(
        "long-names",
        "has a function whose name has a megabyte, and traps",
        long_names,
        ABORTED,
    ),
    text(
        "large-function",
        "has a function of 100,000 blocks in each other",
        deep_blocks,
        DONE,
    ),
    text("many-imports", "imports from 100,000 names", many_imports, End::Refused),
];

/// A component with a list of a list of a list...
fn deep_types() -> String {
    let mut types = "(type (list u8))".to_owned();
    for number in 0..10_000 {
        types += &format!("(type (list {number}))");
    }
    greedy::component(&types, "", "", "")
}

/// A program whose trap is told with names that nobody can read, and that a terminal would obey.
fn long_names() -> String {
    let name = format!("\\1b[2J\\1b[31m\\0a{}", "n".repeat(1 << 20));
    format!(
        r#"(module
            (func (@name "{name}") (result i32) unreachable)
            (memory (export "memory") 1)
            (func (@name "{name}") (export "_start") (drop (call 0))))"#
    )
}

fn deep_blocks() -> String {
    let depth = 100_000;
    format!(
        r#"(module (memory (export "memory") 1) (func (export "_start") {} {}))"#,
        "block ".repeat(depth),
        "end ".repeat(depth)
    )
}

fn many_imports() -> String {
    let imports = (0..100_000).map(|number| format!("(import \"{number}\" \"x\" (func))"));
    format!("(module {})", imports.collect::<String>())
}

impl Attack {
    /// Puts the program into the node's store where that is needed.
    pub fn load(&self, world: &World) {
        match self.guest {
            Guest::Hostile(_) | Guest::Script(_) => {}
            Guest::Text(program) => world.load(self.name, &wat::parse_str(program()).unwrap()),
            Guest::Bytes(bytes) => world.load(self.name, &bytes()),
        }
    }

    /// The pod that does it.
    pub fn manifest(&self, pod: &str, neighbour: &str, dns: &str) -> String {
        let filled = |arg: &&str| arg.replace("{neighbour}", neighbour).replace("{dns}", dns);
        let args = |args: &[&str]| serde_json::to_string(&args.iter().map(filled).collect::<Vec<_>>()).unwrap();
        let program = match self.guest {
            Guest::Hostile(verb) => format!("image: hostile, args: {}", args(verb)),
            Guest::Text(_) | Guest::Bytes(_) => format!("image: {}", self.name),
            Guest::Script(script) => format!("image: toolbox, command: {}", args(&["sh", "-c", script])),
        };
        let more = match self.container {
            "" => String::new(),
            more => format!(", {more}"),
        };
        format!(
            "apiVersion: v1
kind: Pod
metadata: {{name: {pod}, labels: {{room: hostile}}}}
spec:
  restartPolicy: Never
  terminationGracePeriodSeconds: 0
  containers:
  - {{name: main, {program}, resources: {{limits: {{memory: 32Mi}}}}, volumeMounts: [{{name: room, mountPath: /room}}]{more}}}
  volumes: [{{name: room, emptyDir: {{sizeLimit: 4Mi}}}}]
"
        )
    }
}
