//! Sets the cfg by which the network's sources take the checker's locks; see `node/net/src/sync.rs`.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rustc-cfg=interleavings");
}
