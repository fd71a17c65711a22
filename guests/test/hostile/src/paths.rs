//! Paths that lead out of a volume, if somebody lets them. `/room` is the volume where links are made.

use wasip2::filesystem::preopens::get_directories;
use wasip2::filesystem::types::{Descriptor, DescriptorFlags, DescriptorType, ErrorCode, OpenFlags, PathFlags};

const ROOM: &str = "/room";

/// How often the two sides of the race go on.
const ROUNDS: usize = 3000;

fn room() -> Descriptor {
    let mut all = get_directories().into_iter();
    all.find(|(_, name)| name == ROOM).expect("a volume at /room").0
}

fn open(at: &Descriptor, path: &str, how: DescriptorFlags, make: OpenFlags) -> Result<Descriptor, ErrorCode> {
    at.open_at(PathFlags::SYMLINK_FOLLOW, path, make, how)
}

/// A file of the volume, made where it is not there.
pub fn open_file(name: &str) -> Descriptor {
    let how = DescriptorFlags::READ | DescriptorFlags::WRITE;
    open(&room(), name, how, OpenFlags::CREATE).unwrap()
}

/// Reads by a path, then writes by it.
fn attempt(at: &Descriptor, way: &str, path: &str) {
    match open(at, path, DescriptorFlags::READ, OpenFlags::empty()).and_then(|file| file.read(4096, 0)) {
        Ok((bytes, _)) => println!("out: read by {way}: {}", String::from_utf8_lossy(&bytes)),
        Err(code) => println!("{way}: {code:?}"),
    }
    let written = open(at, path, DescriptorFlags::WRITE, OpenFlags::CREATE).and_then(|file| file.write(b"touched", 0));
    if written.is_ok() {
        println!("wrote by {way}");
    }
    let _ = at.unlink_file_at(path);
    let _ = at.remove_directory_at(path);
}

/// Every way from every mount to a file of the host, whose absolute path is `target`.
pub fn try_all(target: &str) {
    let rest = target.trim_start_matches('/');
    let up = "../".repeat(30);
    let room = room();
    let link = |to: &str, name: &str| room.symlink_at(to, name).map_err(|code| println!("{name}: {code:?}"));
    let _ = link(target, "absolute-link");
    let _ = link(&format!("{up}{rest}"), "dots-link");
    let _ = link("/", "root-link");
    let _ = link("..", "up-link");
    let _ = link(".", "here-link");
    let _ = link("chain-2", "chain-1");
    let _ = link("here-link/up-link", "chain-2");
    let _ = link("loop-2", "loop-1");
    let _ = link("loop-1", "loop-2");
    let _ = link("/proc/self/root", "proc-link");
    let _ = link(&format!("/proc/self/cwd/{up}{rest}"), "cwd-link");
    room.create_directory_at("inner").unwrap();
    let ways = [
        ("an absolute path", target.to_owned()),
        ("dots", format!("{up}{rest}")),
        ("dots after a name", format!("inner/{up}{rest}")),
        (
            "dots and doubled slashes",
            format!("inner//..//{}", format!("{up}{rest}").replace('/', "//")),
        ),
        ("a slash at the end", format!("{up}{rest}/")),
        ("a dot at the end", format!("{up}{rest}/.")),
        ("a long path", format!("{}{up}{rest}", "./".repeat(1500))),
        ("a long name", format!("{}/../{up}{rest}", "n".repeat(300))),
        ("a backslash", format!("..\\..\\..\\{}", rest.replace('/', "\\"))),
        ("a zero byte", format!("inner\0/{up}{rest}")),
        ("an absolute link", "absolute-link".to_owned()),
        ("an absolute link with a slash", "absolute-link/".to_owned()),
        ("a link of dots", "dots-link".to_owned()),
        ("a link to the root", format!("root-link/{rest}")),
        ("a link up", format!("up-link/up-link/{up}{rest}")),
        ("a chain of links", format!("chain-1/{up}{rest}")),
        ("links in a circle", "loop-1".to_owned()),
        ("a link to /proc", format!("proc-link/{rest}")),
        ("a link to the working directory", "cwd-link".to_owned()),
        ("/proc/self/environ", "/proc/self/environ".to_owned()),
        ("/proc/self/fd", format!("{up}proc/self/fd/0")),
        ("an empty path", String::new()),
    ];
    for (mount, name) in get_directories() {
        for (way, path) in &ways {
            attempt(&mount, &format!("{way} from {name}"), path);
        }
        let _ = mount
            .link_at(PathFlags::empty(), &format!("{up}{rest}"), &room, "hard-link")
            .is_ok_and(|()| {
                println!("out: linked from {name}");
                true
            });
        if mount.rename_at(&format!("{up}{rest}"), &room, "moved").is_ok() {
            println!("out: moved from {name}");
        }
        if let Ok(above) = open(&mount, "..", DescriptorFlags::READ, OpenFlags::DIRECTORY) {
            println!("out: {name}/.. is a {:?}", above.get_type());
        }
        for above in ["..", "../x", "."] {
            let _ = room.rename_at("inner", &mount, above).is_ok_and(|()| {
                println!("out: renamed to {name}/{above}");
                true
            });
        }
    }
    println!("tried");
}

/// Makes the name `x` a directory and a link to a directory of the host by turns.
pub fn flip(target: &str) {
    let room = room();
    let mut made = false;
    for round in 0_u64.. {
        let _ = room.unlink_file_at("x");
        let _ = room.remove_directory_at("x");
        // At once, and by another name that takes its place.
        let linked = match round % 4 {
            0 => room.symlink_at(target, "x"),
            1 => room.create_directory_at("x").and(Err(ErrorCode::Exist)),
            2 => room
                .symlink_at(target, "y")
                .and_then(|()| room.rename_at("y", &room, "x")),
            _ => room
                .create_directory_at("y")
                .and_then(|()| room.rename_at("y", &room, "x"))
                .and(Err(ErrorCode::Exist)),
        };
        if linked.is_ok() && !made {
            made = true;
            println!("flips");
        }
        let _ = room.unlink_file_at("y");
        let _ = room.remove_directory_at("y");
    }
}

/// Opens something below `x` all the while.
pub fn chase(rest: &str) {
    let room = room();
    for _ in 0..ROUNDS {
        let path = format!("x/{rest}");
        if let Ok((bytes, _)) =
            open(&room, &path, DescriptorFlags::READ, OpenFlags::empty()).and_then(|file| file.read(4096, 0))
        {
            println!("out: won the race: {}", String::from_utf8_lossy(&bytes));
        }
        let written =
            open(&room, &path, DescriptorFlags::WRITE, OpenFlags::CREATE).and_then(|file| file.write(b"touched", 0));
        if written.is_ok() {
            let _ = room.unlink_file_at(&path);
        }
    }
    println!("chased");
}

/// Places in files that do not exist, and calls with the wrong kind of descriptor. None of it may end the host.
pub fn places() {
    let room = room();
    let file = open(
        &room,
        "file",
        DescriptorFlags::READ | DescriptorFlags::WRITE,
        OpenFlags::CREATE,
    )
    .unwrap();
    for at in [
        0,
        1 << 31,
        1 << 40,
        i64::MAX as u64 - 1,
        i64::MAX as u64,
        u64::MAX - 1,
        u64::MAX,
    ] {
        println!(
            "read {at}: {:?}",
            file.read(u64::MAX, at).map(|(bytes, end)| (bytes.len(), end))
        );
        println!(
            "stream {at}: {:?}",
            file.read_via_stream(at)
                .map(|stream| stream.blocking_read(u64::MAX).map(|b| b.len()))
        );
        let written = file.write_via_stream(at).map(|stream| {
            let first = stream.blocking_write_and_flush(b"0123456789");
            (first, stream.blocking_write_and_flush(b"0123456789"))
        });
        println!("write {at}: {written:?}");
        println!(
            "advise: {:?}",
            file.advise(at, u64::MAX, wasip2::filesystem::types::Advice::WillNeed)
        );
        println!("length {at}: {:?}", file.set_size(at));
    }
    let _ = file.set_size(0);
    println!("{:?}", file.read_directory().map(|_| ()));
    println!("{:?}", room.read(1, 0));
    println!("{:?}", room.write_via_stream(0).map(|_| ()));
    println!("{:?}", room.set_size(0));
    println!("{:?}", room.rename_at("file", &file, "x"));
    println!("{:?}", room.link_at(PathFlags::SYMLINK_FOLLOW, ".", &room, "self"));
    println!(
        "{:?}",
        file.open_at(PathFlags::empty(), "x", OpenFlags::CREATE, DescriptorFlags::WRITE)
            .map(|_| ())
    );
    let kind = room.open_at(
        PathFlags::empty(),
        "file",
        OpenFlags::DIRECTORY | OpenFlags::CREATE | OpenFlags::EXCLUSIVE | OpenFlags::TRUNCATE,
        DescriptorFlags::all(),
    );
    println!(
        "{:?}",
        kind.and_then(|d| d.get_type())
            .is_ok_and(|kind| kind == DescriptorType::Directory)
    );
    println!("tried");
}
