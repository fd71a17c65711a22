//! Files and directories, and ways out of them.

use crate::held::Held;
use crate::program::Step;
use wasip2::clocks::wall_clock::Datetime;
use wasip2::filesystem::preopens::get_directories;
use wasip2::filesystem::types::{Advice, DescriptorFlags, NewTimestamp, OpenFlags, PathFlags};

const ADVICE: [Advice; 6] = [
    Advice::Normal,
    Advice::Sequential,
    Advice::Random,
    Advice::WillNeed,
    Advice::DontNeed,
    Advice::NoReuse,
];

pub fn step(held: &mut Held, p: &mut Step) {
    if held.descriptors.pick(p).is_none() {
        for (directory, _) in get_directories() {
            held.descriptors.put(directory);
        }
        return;
    }
    match p.below(32) {
        0..6 => open(held, p),
        6..9 => names(held, p),
        9 | 10 => pairs(held, p),
        11..14 => stream(held, p),
        14..17 => write(held, p),
        17..19 => read(held, p),
        19 | 20 => length(held, p),
        21 => times(held, p),
        22..25 => ask(held, p),
        25 | 26 => list(held, p),
        27 => same(held, p),
        28 => {
            if let Some((directory, _)) = get_directories().pop() {
                held.descriptors.put(directory);
            }
        }
        _ => drop(held.descriptors.take(p)),
    }
}

fn path_flags(p: &mut Step) -> PathFlags {
    match p.flag() {
        true => PathFlags::SYMLINK_FOLLOW,
        false => PathFlags::empty(),
    }
}

fn open(held: &mut Held, p: &mut Step) {
    let Some(directory) = held.descriptors.pick(p) else {
        return;
    };
    let flags = OpenFlags::from_bits_truncate(p.byte());
    let rights = DescriptorFlags::from_bits_truncate(p.byte() | u8::from(p.flag()) * 3);
    let answer = directory.open_at(path_flags(p), &p.path(), flags, rights);
    if let Some(file) = held.good(answer) {
        held.descriptors.put(file);
    }
}

fn names(held: &mut Held, p: &mut Step) {
    let Some(directory) = held.descriptors.pick(p) else {
        return;
    };
    let path = p.path();
    let answer = match p.below(5) {
        0 => directory.create_directory_at(&path),
        1 => directory.remove_directory_at(&path),
        2 => directory.unlink_file_at(&path),
        3 => directory.symlink_at(&p.path(), &path),
        _ => directory.readlink_at(&path).map(drop),
    };
    held.good(answer);
}

fn pairs(held: &mut Held, p: &mut Step) {
    let (Some(from), Some(to)) = (held.descriptors.pick(p), held.descriptors.pick(p)) else {
        return;
    };
    let (old, new) = (p.path(), p.path());
    let answer = match p.flag() {
        true => from.rename_at(&old, to, &new),
        false => from.link_at(path_flags(p), &old, to, &new),
    };
    held.good(answer);
}

fn stream(held: &mut Held, p: &mut Step) {
    let Some(file) = held.descriptors.pick(p) else { return };
    match p.below(3) {
        0 => {
            let answer = file.read_via_stream(p.number());
            if let Some(stream) = held.good(answer) {
                held.inputs.put(stream);
            }
        }
        how => {
            let answer = match how {
                1 => file.write_via_stream(p.number()),
                _ => file.append_via_stream(),
            };
            if let Some(stream) = held.good(answer) {
                held.outputs.put(stream);
            }
        }
    }
}

fn write(held: &mut Held, p: &mut Step) {
    let Some(file) = held.descriptors.pick(p) else { return };
    let answer = file.write(&p.bytes(), p.number());
    held.good(answer);
}

fn read(held: &mut Held, p: &mut Step) {
    let Some(file) = held.descriptors.pick(p) else { return };
    let answer = file.read(p.number(), p.number());
    held.good(answer);
}

fn length(held: &mut Held, p: &mut Step) {
    let Some(file) = held.descriptors.pick(p) else { return };
    let answer = file.set_size(p.number());
    held.good(answer);
}

fn timestamp(p: &mut Step) -> NewTimestamp {
    match p.below(3) {
        0 => NewTimestamp::NoChange,
        1 => NewTimestamp::Now,
        _ => NewTimestamp::Timestamp(Datetime {
            seconds: p.number(),
            nanoseconds: p.number() as u32,
        }),
    }
}

fn times(held: &mut Held, p: &mut Step) {
    let Some(file) = held.descriptors.pick(p) else { return };
    let (accessed, changed) = (timestamp(p), timestamp(p));
    let answer = match p.flag() {
        true => file.set_times(accessed, changed),
        false => file.set_times_at(path_flags(p), &p.path(), accessed, changed),
    };
    held.good(answer);
}

fn ask(held: &mut Held, p: &mut Step) {
    let Some(file) = held.descriptors.pick(p) else { return };
    let answer = match p.below(9) {
        0 => file.stat().map(drop),
        1 => file.stat_at(path_flags(p), &p.path()).map(drop),
        2 => file.get_flags().map(drop),
        3 => file.get_type().map(drop),
        4 => file.metadata_hash().map(drop),
        5 => file.metadata_hash_at(path_flags(p), &p.path()).map(drop),
        6 => file.advise(p.number(), p.number(), ADVICE[p.below(ADVICE.len())]),
        7 => file.sync(),
        _ => file.sync_data(),
    };
    held.good(answer);
}

fn list(held: &mut Held, p: &mut Step) {
    if let Some(listing) = held.listings.pick(p) {
        for _ in 0..p.below(16) {
            match listing.read_directory_entry() {
                Ok(Some(_)) => {}
                _ => break,
            }
        }
    }
    let Some(directory) = held.descriptors.pick(p) else {
        return;
    };
    let answer = directory.read_directory();
    if let Some(listing) = held.good(answer) {
        held.listings.put(listing);
    }
}

fn same(held: &mut Held, p: &mut Step) {
    if let (Some(one), Some(other)) = (held.descriptors.pick(p), held.descriptors.pick(p)) {
        let same = one.is_same_object(other);
        held.good += u64::from(same);
    }
}
