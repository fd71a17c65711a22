//! Taking of the host's disk and file handles. `/room` is the volume.

use std::fs::{self, File};
use std::io::Write;

/// Makes names as long as there is room for them, and then tries on.
pub fn names() {
    for number in 0_u64.. {
        let _ = File::create(format!("/room/{number}"));
    }
}

/// Fills the volume, and then tries on.
pub fn fill() {
    let mut file = File::create("/room/full").unwrap();
    let piece = vec![7; 64 << 10];
    loop {
        let _ = file.write_all(&piece);
        let _ = file.set_len(1 << 50);
    }
}

/// Holds as many files as it may, and tries on.
pub fn open() {
    fs::write("/room/one", "x").unwrap();
    let mut held = Vec::new();
    loop {
        if let Ok(file) = File::open("/room/one") {
            held.push(file);
        }
    }
}

/// Makes, syncs and removes files as fast as it can.
pub fn churn() {
    loop {
        if let Ok(mut file) = File::create("/room/churn") {
            let _ = file.write_all(&[7; 4096]);
            let _ = file.sync_all();
        }
        let _ = fs::remove_file("/room/churn");
    }
}

/// Makes directories in directories as deep as paths go, and deeper by moving what is there one down each time.
pub fn nest() {
    let _ = fs::create_dir("/room/a");
    loop {
        let _ = fs::create_dir("/room/b");
        let _ = fs::rename("/room/a", "/room/b/a");
        let _ = fs::rename("/room/b", "/room/a");
    }
}

/// Lists a directory without end, many times at once.
pub fn listings() {
    for number in 0..2000 {
        let _ = File::create(format!("/room/{number}"));
    }
    loop {
        let mut held: Vec<_> = (0..500).filter_map(|_| fs::read_dir("/room").ok()).collect();
        held.iter_mut().for_each(|listing| {
            listing.next();
        });
    }
}
