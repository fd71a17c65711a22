//! `coracle fuzz`: a guest that does its worst in a cluster of its own, and what the others feel of it.
//!
//! A cluster is started that lives as long as the command. A neighbour answers requests in it; one guest after the other is run
//! as a pod with limits, each from a number of its own, while the neighbour and the API are asked again and again. What the
//! process holds is looked at before, meanwhile and afterwards. What was not contained is a finding, and findings make the
//! command fail.

pub mod gauge;
mod guest;
pub mod held;
mod report;

use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use kube::Client;

use crate::{
    args::{FuzzArgs, FuzzOutput},
    cluster::{Cluster, ClusterConfig},
    data_dir::DataDir,
    end,
    say::say,
    up::raise_open_files,
};
use gauge::Gauge;
use guest::{Guests, Scene};
use report::{Finding, Report, Round};

/// How long the neighbour and the API are asked before the first guest, at most, and the part of the whole time that it is.
const BEFORE: Duration = Duration::from_secs(3);
const PART: u32 = 8;

/// How long the process may take to give handles back.
const SETTLING: Duration = Duration::from_secs(10);

/// Runs guests until the time is over.
///
/// # Errors
/// When the cluster does not start, the component cannot run, or something was not contained.
pub async fn run(args: FuzzArgs) -> anyhow::Result<()> {
    raise_open_files();
    let time = Duration::try_from(args.time).context("--time is less than nothing")?;
    let data = DataDir::ephemeral()?;
    let guests = Guests::prepare(&args, data.path())?;
    let cluster = Cluster::start(ClusterConfig {
        file_images: true,
        ingress_listen: None,
        compiler: std::env::current_exe().ok(),
        ..ClusterConfig::new(data)
    })
    .await?;
    let made = tokio::select! {
        made = rounds(&cluster, &guests, time, &args) => made,
        interrupted = end::told() => interrupted.and_then(|()| bail!("interrupted")),
    };
    end::stop(cluster.shutdown()).await?;
    let report = made?;
    match args.output {
        FuzzOutput::Table => report.table().lines().for_each(say),
        FuzzOutput::Json => say(serde_json::to_string_pretty(&report)?),
    }
    let count = report.findings.len();
    ensure!(count == 0, "{count} times something was not contained");
    Ok(())
}

async fn rounds(cluster: &Cluster, guests: &Guests, time: Duration, args: &FuzzArgs) -> anyhow::Result<Report> {
    let begin = Instant::now();
    let outside = client(cluster).await?;
    let patience = gauge::PATIENCE.max(Duration::try_from(args.slowest).context("--slowest is less than nothing")?);
    let scene = Scene::set(cluster, outside, patience).await?;
    scene.warm_up(guests).await?;
    let gauge = Gauge::start(&scene.target)?;
    tokio::time::sleep(BEFORE.min(time / PART)).await;
    let before = gauge.end().await?;
    let mut report = Report::new(args, before);
    let most = args.rounds.unwrap_or(u32::MAX);
    let mut at_work = Instant::now();
    let end = at_work + time;
    for number in 0..most {
        if number > 0 && at_work >= end {
            break;
        }
        let seed = args.seed.wrapping_add(u64::from(number));
        let gauge = Gauge::start(&scene.target)?;
        let ended = scene.run(guests, seed).await?;
        let measured = gauge.end().await?;
        let round = Round::new(
            seed,
            guests.name(seed),
            ended,
            measured,
            held::settled(report.before.after.handles, SETTLING).await,
        );
        if args.output == FuzzOutput::Table && number % 50 == 49 {
            say(format_args!("{} rounds in {} s", number + 1, begin.elapsed().as_secs()));
        }
        report.add(round);
        at_work = Instant::now();
    }
    report
        .findings
        .extend(scene.look().await?.into_iter().map(Finding::at_the_end));
    Ok(report)
}

/// A client as everybody outside has it, over TLS.
async fn client(cluster: &Cluster) -> anyhow::Result<Client> {
    let kubeconfig = kube::config::Kubeconfig::read_from(cluster.kubeconfig_path())?;
    let options = kube::config::KubeConfigOptions::default();
    let config = kube::Config::from_custom_kubeconfig(kubeconfig, &options).await?;
    Ok(Client::try_from(config)?)
}
