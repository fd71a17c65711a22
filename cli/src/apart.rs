//! `coracle controllers` and `coracle scheduler`: parts of the control plane in processes of their own, against whatever API
//! server a kubeconfig names.
//!
//! Of several processes one works, the one that holds the Lease that Kubernetes' own component would hold: theirs and ours
//! keep each other out. One that loses its Lease ends with an error, and whoever started it starts it again.

use std::{future::Future, net::Ipv4Addr, path::Path, time::Duration};

use anyhow::{Context, anyhow, bail};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use coracle_controllers::{
    choice,
    leader::{Election, News, Timing, causes},
    node_ipam::Network,
    world::Facts,
};
use k8s_openapi::apimachinery::pkg::version::Info;
use kube::{
    Client, Config,
    config::{KubeConfigOptions, Kubeconfig},
};
use tokio_util::sync::CancellationToken;

use crate::{
    args::{ApartArgs, ControllersArgs},
    end,
    say::say,
};

/// The Lease of whoever runs the controllers.
const CONTROLLERS_LEASE: &str = "kube-controller-manager";
/// The Lease of whoever schedules.
const SCHEDULER_LEASE: &str = "kube-scheduler";

/// The controller of Jobs counts pods in a field of the status that servers keep since that version. Where it is not kept, no
/// pod is ever counted, and others are made in its place without end.
const JOBS: (&str, (u32, u32)) = ("job-controller", (1, 26));

/// The first pause before a server that did not answer is asked again, doubled up to [`REACH_MOST`]: servers are started at
/// the same time as what uses them, and one that stays away must not be hammered.
const REACH_LEAST: Duration = Duration::from_millis(100);
/// The longest such pause.
const REACH_MOST: Duration = Duration::from_secs(5);

/// Runs the controllers until the process is told to stop.
///
/// # Errors
/// When the kubeconfig cannot be used, or leadership is lost.
pub async fn controllers(args: ControllersArgs) -> anyhow::Result<()> {
    let controllers = choice::chosen(&args.controllers).context("--controllers cannot be followed")?;
    let config = config(&args.apart.kubeconfig).await?;
    let facts = Facts {
        root_ca_pem: match &args.root_ca_file {
            Some(path) => {
                Some(std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?)
            }
            None => config.root_cert.as_deref().map(pem),
        },
        node_networks: match &args.cluster_cidr {
            Some(cidr) => Some(network(cidr, args.node_cidr_mask_size)?),
            None => None,
        },
        node_grace_seconds: args.grace.node_monitor_grace_period.as_secs(),
        ..Facts::default()
    };
    let counts_jobs = controllers.iter().any(|controller| controller.name == JOBS.0);
    let needs = |version: &Info| match version_of(version) {
        Some(version) if counts_jobs && version < JOBS.1 => Err(anyhow!(
            "the server is {}.{}: {} needs {}.{}; leave it out with --controllers='*,-{}'",
            version.0,
            version.1,
            JOBS.0,
            JOBS.1.0,
            JOBS.1.1,
            JOBS.0
        )),
        _ => Ok(()),
    };
    run(&args.apart, config, CONTROLLERS_LEASE, needs, |client, shutdown| {
        let config = coracle_controllers::Config {
            facts,
            controllers,
            ..coracle_controllers::Config::new(client)
        };
        coracle_controllers::run(config, shutdown)
    })
    .await
}

/// Runs the scheduler until the process is told to stop.
///
/// # Errors
/// When the kubeconfig cannot be used, or leadership is lost.
pub async fn scheduler(args: ApartArgs) -> anyhow::Result<()> {
    let config = config(&args.kubeconfig).await?;
    run(
        &args,
        config,
        SCHEDULER_LEASE,
        |_| Ok(()),
        |client, shutdown| coracle_scheduler::run(coracle_scheduler::Config::new(client), shutdown),
    )
    .await
}

async fn run<W>(
    args: &ApartArgs,
    config: Config,
    lease: &'static str,
    suits: impl FnOnce(&Info) -> anyhow::Result<()>,
    work: impl FnOnce(Client, CancellationToken) -> W,
) -> anyhow::Result<()>
where
    W: Future<Output = ()>,
{
    let timing = timing(args)?;
    say(format_args!("server      {}", config.cluster_url));
    let client = Client::try_from(config).context("cannot use the kubeconfig")?;
    let shutdown = CancellationToken::new();
    let running = async {
        tokio::select! {
            () = shutdown.cancelled() => return Ok(()),
            version = reach(&client) => {
                say(format_args!("version     {}", version.git_version));
                suits(&version)?;
            }
        }
        if !args.leader_elect {
            work(client, shutdown.clone()).await;
            return Ok(());
        }
        let election = Election::new(client, lease, &host(), timing);
        say(format_args!(
            "lease       kube-system/{lease}, as {}",
            election.identity()
        ));
        Ok(election.lead(&shutdown, tell, work).await?)
    };
    end::run_until_told(&shutdown, running).await
}

fn tell(news: &News) {
    match news {
        News::Waiting(holder) if holder.is_empty() => say("waiting     for the lease"),
        News::Waiting(holder) => say(format_args!("waiting     {holder} leads")),
        News::Leading => say("leading"),
        News::Trouble(trouble) => complain(trouble),
    }
}

fn complain(trouble: &str) {
    eprintln!("trouble: {trouble}; trying again");
}

/// Asks the server for its version until it answers.
async fn reach(client: &Client) -> Info {
    let (mut pause, mut told) = (REACH_LEAST, String::new());
    loop {
        let trouble = match client.apiserver_version().await {
            Ok(version) => return version,
            Err(kube::Error::Api(status)) => format!("the server refuses: {}", status.message),
            Err(error) => format!("the server cannot be reached: {}", causes(&error)),
        };
        if trouble != told {
            complain(&trouble);
            told = trouble;
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(REACH_MOST);
    }
}

/// The major and the minor number; some write `31+` for what they changed.
fn version_of(version: &Info) -> Option<(u32, u32)> {
    let minor = version.minor.trim_end_matches('+');
    Some((version.major.parse().ok()?, minor.parse().ok()?))
}

async fn config(path: &Path) -> anyhow::Result<Config> {
    let cannot = || format!("cannot use the kubeconfig {}", path.display());
    let kubeconfig = Kubeconfig::read_from(path).with_context(cannot)?;
    let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await;
    config.with_context(cannot)
}

fn timing(args: &ApartArgs) -> anyhow::Result<Timing> {
    let duration = |flag: &str, value: jiff::SignedDuration| {
        Duration::try_from(value).with_context(|| format!("--leader-elect-{flag} is less than nothing"))
    };
    let timing = Timing {
        lease: duration("lease-duration", args.leader_elect_lease_duration)?,
        renew: duration("renew-deadline", args.leader_elect_renew_deadline)?,
        retry: duration("retry-period", args.leader_elect_retry_period)?,
    };
    timing
        .checked()
        .context("the --leader-elect durations do not go together")
}

/// What this machine is called, for people who read the Lease.
pub(crate) fn host() -> String {
    let named = ["HOSTNAME", "COMPUTERNAME"]
        .into_iter()
        .find_map(|name| std::env::var(name).ok());
    let told = named.or_else(|| std::fs::read_to_string("/etc/hostname").ok());
    let host = told.map(|host| host.trim().to_owned()).filter(|host| !host.is_empty());
    host.unwrap_or_else(|| "coracle".to_owned())
}

/// Certificates as PEM.
pub(crate) fn pem(certificates: &[Vec<u8>]) -> String {
    /// Characters a line, as RFC 7468 wants it.
    const LINE: usize = 64;
    let mut text = String::new();
    for certificate in certificates {
        text.push_str("-----BEGIN CERTIFICATE-----\n");
        for (at, character) in STANDARD.encode(certificate).char_indices() {
            if at > 0 && at.is_multiple_of(LINE) {
                text.push('\n');
            }
            text.push(character);
        }
        text.push_str("\n-----END CERTIFICATE-----\n");
    }
    text
}

/// The network that nodes get theirs from.
fn network(cidr: &str, node_prefix: u8) -> anyhow::Result<Network> {
    let parts = cidr.split_once('/');
    let parsed = parts.and_then(|(base, prefix)| Some((base.parse::<Ipv4Addr>().ok()?, prefix.parse::<u8>().ok()?)));
    let Some((base, prefix)) = parsed.filter(|(_, prefix)| *prefix <= 32) else {
        bail!("--cluster-cidr {cidr} is no IPv4 network such as 10.0.0.0/10");
    };
    if !(prefix..=32).contains(&node_prefix) {
        bail!("--node-cidr-mask-size {node_prefix} makes no part of {cidr}");
    }
    Ok(Network {
        base,
        prefix,
        node_prefix,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_is_read_and_nonsense_is_refused() {
        let read = network("10.0.0.0/10", 24).unwrap();
        assert_eq!(
            (read.base, read.prefix, read.node_prefix),
            (Ipv4Addr::new(10, 0, 0, 0), 10, 24)
        );
        for (cidr, mask) in [
            ("10.0.0.0", 24),
            ("10.0.0/8", 24),
            ("10.0.0.0/33", 33),
            ("10.0.0.0/16", 8),
        ] {
            network(cidr, mask).unwrap_err();
        }
    }

    #[test]
    fn versions_are_read_as_different_servers_write_them() {
        let version = |major: &str, minor: &str| {
            version_of(&Info {
                major: major.to_owned(),
                minor: minor.to_owned(),
                ..Info::default()
            })
        };
        assert_eq!(version("1", "20"), Some((1, 20)));
        assert_eq!(version("1", "31+"), Some((1, 31)));
        assert_eq!(version("", ""), None);
    }

    #[test]
    fn certificates_are_told_as_they_came() {
        let dir = tempfile::tempdir().unwrap();
        let whole = coracle_server::Pki::load_or_create(dir.path(), &[])
            .unwrap()
            .ca_pem()
            .to_owned();
        let body: String = whole.lines().filter(|line| !line.starts_with("-----")).collect();
        let told = pem(&[STANDARD.decode(body).unwrap()]);
        assert_eq!(told.trim(), whole.replace("\r\n", "\n").trim());
    }
}
