//! Measures the pod network alone: bytes per second of one connection, and connections per second.
//!
//! `cargo run --release -p coracle-net --example throughput`

use std::net::SocketAddr;
use std::time::Instant;

use anyhow::{Context, Result};
use bytes::Bytes;
use coracle_net::{Fabric, FabricConfig, PodIdentity, Stream, TryRead};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

const MIB: usize = 1024 * 1024;
const BULK_MIB: usize = 4096;
const CHUNK_BYTES: usize = 64 * 1024;
const CONNECTS: usize = 200_000;
const ROUND_TRIPS: usize = 200_000;

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> Result<()> {
    // On a worker, as guests run: the main thread is none, and waking it would be measured instead.
    tokio::spawn(measure()).await?
}

async fn measure() -> Result<()> {
    let fabric = Fabric::new(FabricConfig::default());
    let pod = |last: u8| {
        let identity = PodIdentity {
            namespace: "bench".into(),
            name: format!("p{last}"),
            uid: format!("u{last}"),
        };
        fabric.add_pod(identity, vec![[10, 244, 0, last].into()])
    };
    let (client, server) = (pod(2)?, pod(3)?);
    let at: SocketAddr = "10.244.0.3:80".parse()?;
    let binding = server.bind("0.0.0.0:80".parse()?)?;
    binding.listen(128)?;

    // Shared chunks, as guests' writes arrive.
    let sender = client.connect(at).await?;
    let receiver = binding.accept().await?;
    let started = Instant::now();
    let sending = tokio::spawn(async move {
        let chunk = Bytes::from(vec![1; CHUNK_BYTES]);
        let mut left = BULK_MIB * MIB;
        while left > 0 {
            sender.writable().await;
            left -= sender.try_write(chunk.slice(..CHUNK_BYTES.min(left)))?;
        }
        anyhow::Ok(())
    });
    let mut total = 0;
    loop {
        match receiver.try_read(CHUNK_BYTES)? {
            TryRead::Data(data) => total += data.len(),
            TryRead::Empty => receiver.readable().await,
            TryRead::End => break,
        }
    }
    sending.await??;
    report("bulk, shared chunks", started, total / MIB, "MiB");

    // Copied on both sides, as tokio users move them.
    let mut writer = client.connect(at).stream().await?;
    let mut reader: Stream = binding.accept_stream().await?;
    let started = Instant::now();
    let sending = tokio::spawn(async move {
        let chunk = vec![1; CHUNK_BYTES];
        for _ in 0..BULK_MIB * MIB / CHUNK_BYTES {
            writer.write_all(&chunk).await?;
        }
        anyhow::Ok(())
    });
    let mut buffer = vec![0; CHUNK_BYTES];
    let mut total = 0;
    loop {
        match reader.read(&mut buffer).await? {
            0 => break,
            n => total += n,
        }
    }
    sending.await??;
    report("bulk, copied twice", started, total / MIB, "MiB");

    let started = Instant::now();
    let accepting = tokio::spawn(async move {
        for _ in 0..CONNECTS {
            drop(binding.accept().await?);
        }
        anyhow::Ok(binding)
    });
    for _ in 0..CONNECTS {
        drop(client.connect(at).await?);
    }
    let binding = accepting.await??;
    report("connect, accept, close", started, CONNECTS, "connections");

    let mut asking = client.connect(at).stream().await?;
    let mut answering = binding.accept_stream().await?;
    let started = Instant::now();
    let echo = tokio::spawn(async move {
        let mut byte = [0];
        while answering.read(&mut byte).await? > 0 {
            answering.write_all(&byte).await?;
        }
        anyhow::Ok(())
    });
    let mut byte = [7];
    for _ in 0..ROUND_TRIPS {
        asking.write_all(&byte).await?;
        asking.read_exact(&mut byte).await?;
    }
    drop(asking);
    echo.await?.context("echo")?;
    report("one-byte round trips", started, ROUND_TRIPS, "round trips");
    Ok(())
}

fn report(what: &str, started: Instant, count: usize, unit: &str) {
    let seconds = started.elapsed().as_secs_f64();
    println!("{what:<24} {:>12.0} {unit}/s", count as f64 / seconds);
}
