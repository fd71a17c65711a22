use super::*;
use std::io::Write;

/// One thing in an archive: kind, name, and content or target.
type Thing<'a> = (EntryType, &'a str, &'a str);
const FILE: EntryType = EntryType::Regular;

fn archive(things: &[Thing<'_>]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (kind, name, what) in things {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(*kind);
        header.set_mode(0o4755);
        if *kind == FILE {
            header.set_size(what.len() as u64);
            // Written as it is: the builder would refuse names that leave the directory.
            let field = &mut header.as_old_mut().name;
            field[..name.len()].copy_from_slice(name.as_bytes());
            header.set_cksum();
            builder.append(&header, what.as_bytes()).unwrap();
        } else {
            header.set_size(0);
            let field = &mut header.as_old_mut().name;
            field[..name.len()].copy_from_slice(name.as_bytes());
            let field = &mut header.as_old_mut().linkname;
            field[..what.len()].copy_from_slice(what.as_bytes());
            header.set_cksum();
            builder.append(&header, io::empty()).unwrap();
        }
    }
    builder.into_inner().unwrap()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

struct Unpacked {
    dir: tempfile::TempDir,
    result: Result<Tree, UnpackError>,
}

impl Unpacked {
    fn of(layers: &[Vec<u8>]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut files = Vec::new();
        for (index, layer) in layers.iter().enumerate() {
            let path = dir.path().join(index.to_string());
            fs::write(&path, layer).unwrap();
            let packing = if layer.starts_with(b"\x1f\x8b") {
                Packing::Gzip
            } else {
                Packing::Tar
            };
            files.push((path, packing));
        }
        let result = unpack(&files, &dir.path().join("out"));
        Self { dir, result }
    }

    fn read(&self, name: &str) -> Option<String> {
        fs::read_to_string(self.dir.path().join("out/root").join(name)).ok()
    }

    fn refused(&self) -> String {
        self.result.as_ref().unwrap_err().to_string()
    }
}

#[test]
fn layers_lie_over_each_other() {
    let out = Unpacked::of(&[
        archive(&[
            (EntryType::Directory, "etc/", ""),
            (FILE, "etc/old", "old"),
            (FILE, "etc/kept", "kept"),
            (FILE, "opt/a/x", "x"),
            (EntryType::Symlink, "bin", "usr/bin"),
            (EntryType::Fifo, "pipe", ""),
        ]),
        gzip(&archive(&[
            (FILE, "etc/.wh.old", ""),
            (FILE, "opt/a/y", "y"),
            (FILE, "opt/a/.wh..wh..opq", ""),
            (FILE, "bin/tool", "tool"),
            (EntryType::Link, "same", "bin/tool"),
        ])),
    ]);
    assert!(out.result.is_ok(), "{:?}", out.result);
    assert_eq!(out.read("etc/old"), None);
    assert_eq!(out.read("etc/kept").as_deref(), Some("kept"));
    assert_eq!(out.read("opt/a/x"), None);
    assert_eq!(out.read("opt/a/y").as_deref(), Some("y"));
    for name in ["usr/bin/tool", "bin/tool", "same"] {
        assert_eq!(out.read(name).as_deref(), Some("tool"), "{name}");
    }
    assert_eq!(out.read("pipe"), None);
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let file = fs::metadata(out.dir.path().join("out/root/same")).unwrap();
        assert_eq!(file.permissions().mode() & 0o7777, 0o755, "no set-user-id");
    }
}

#[test]
fn no_trick_with_names_leaves_the_image() {
    for things in [
        vec![(FILE, "../evil", "x")],
        vec![(FILE, "a/../../evil", "x")],
        vec![(EntryType::Link, "a", "../../evil")],
    ] {
        let out = Unpacked::of(&[archive(&things)]);
        assert!(out.refused().contains("leads out of the image"), "{}", out.refused());
    }
    let out = Unpacked::of(&[archive(&[
        (EntryType::Symlink, "up", "../.."),
        (FILE, "up/evil", "x"),
        (EntryType::Symlink, "root", "/"),
        (FILE, "root/etc/evil", "x"),
        (FILE, "/absolute", "x"),
    ])]);
    assert!(out.result.is_ok(), "{:?}", out.result);
    for name in ["evil", "etc/evil", "absolute"] {
        assert_eq!(out.read(name).as_deref(), Some("x"), "{name}");
    }
    let beside: Vec<_> = fs::read_dir(out.dir.path())
        .unwrap()
        .flatten()
        .map(|entry| entry.file_name())
        .collect();
    assert_eq!(beside.len(), 2, "{beside:?}");
}

#[test]
fn long_names_are_read_and_only_so_long() {
    let long = format!("{}/file", "d".repeat(200));
    let mut builder = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_size(2);
    header.set_mode(0o644);
    builder.append_data(&mut header, &long, &b"hi"[..]).unwrap();
    let out = Unpacked::of(&[builder.into_inner().unwrap()]);
    assert_eq!(out.read(&long).as_deref(), Some("hi"));

    let mut header = tar::Header::new_gnu();
    header.set_entry_type(EntryType::GNULongName);
    header.set_size(64 << 20);
    header.set_cksum();
    let mut builder = tar::Builder::new(Vec::new());
    builder.append(&header, io::repeat(b'a').take(64 << 20)).unwrap();
    let out = Unpacked::of(&[gzip(&builder.into_inner().unwrap())]);
    assert!(out.refused().contains("too long"), "{}", out.refused());
}

#[test]
fn bombs_and_broken_archives_are_refused() {
    let mut header = tar::Header::new_gnu();
    header.set_path("bomb").unwrap();
    header.set_size(3 << 30);
    header.set_cksum();
    // Zeros compress to a thousandth, so this is small; it is refused before it is written whole.
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(header.as_bytes()).unwrap();
    let mut counted = Unpacking {
        tree: Tree::default(),
        content: tempfile::tempdir().unwrap().keep(),
        layer: 1,
        files: 0,
        entries: 0,
        bytes_left: 1 << 20,
        linked_bytes: 0,
    };
    encoder.write_all(&vec![0; 2 << 20]).unwrap();
    let small = encoder.finish().unwrap();
    let refused = counted
        .archive(flate2::bufread::MultiGzDecoder::new(&small[..]))
        .unwrap_err();
    assert!(matches!(refused, UnpackError::TooLarge), "{refused}");
    fs::remove_dir_all(&counted.content).unwrap();

    let many = vec![(EntryType::Directory, "d", ""); MAX_ENTRIES + 1];
    assert!(
        Unpacked::of(&[archive(&many)])
            .refused()
            .contains("more than 100000 files")
    );
    let whole = archive(&[(FILE, "a", "some text")]);
    assert!(Unpacked::of(&[whole[..515].to_vec()]).result.is_err());
    assert!(Unpacked::of(&[gzip(&whole)[..20].to_vec()]).result.is_err());
    let layers = vec![archive(&[]); MAX_LAYERS + 1];
    assert!(Unpacked::of(&layers).refused().contains("layers"));
}
