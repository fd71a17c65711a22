//! `coracle up`: a cluster in this process until Ctrl-C.

use std::{
    net::{Ipv4Addr, SocketAddr},
    time::Instant,
};

use anyhow::Context;
use coracle_images::Thresholds;
use coracle_simulated::Delays;

use crate::{
    args::{ClusterArgs, DataDirArgs, NODE_PORT},
    cluster::{Cluster, ClusterConfig},
    data_dir::DataDir,
    end, image, kubeconfig,
    processes::Processes,
    say::say,
};

/// Runs a cluster until the process is told to stop.
///
/// # Errors
/// When the cluster cannot be started.
pub async fn run(args: ClusterArgs) -> anyhow::Result<()> {
    let started = Instant::now();
    raise_open_files();
    let cluster = start(&args).await?;
    say(format_args!("ready in {} ms", started.elapsed().as_millis()));
    describe(&cluster, &args)?;
    let processes = Processes::start(&cluster, &args).await?;
    say(format_args!(
        "\nTry:  kubectl create deployment hello --image=hello\n      kubectl get pods -o wide\n\nCtrl-C stops the cluster; `coracle up` brings it back as it was."
    ));
    end::asked().await?;
    end::stop(async {
        processes.stop().await;
        cluster.shutdown().await;
    })
    .await
}

/// Lets the process have as many open files as the system allows it: the usual thousand is for one program, and here are all
/// pods of the nodes. Where that is refused the usual must do.
pub(crate) fn raise_open_files() {
    #[cfg(unix)]
    {
        use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
        let own = getrlimit(Resource::Nofile);
        let most = Rlimit {
            current: own.maximum,
            maximum: own.maximum,
        };
        if let Err(error) = setrlimit(Resource::Nofile, most) {
            tracing::warn!(%error, "the limit of open files stays as it is");
        }
    }
}

/// Starts a cluster as the arguments say.
///
/// # Errors
/// When the data directory is in use, an address is taken, or state cannot be read.
pub async fn start(args: &ClusterArgs) -> anyhow::Result<Cluster> {
    let data = DataDir::of(&args.data, args.ephemeral)?;
    let config = ClusterConfig {
        listen: args.listen,
        dns_listen: args.dns_listen,
        dns_upstream: args.dns_upstream,
        ingress_listen: args.ingress.0,
        nodes: args.nodes,
        simulated: args.simulated_nodes,
        delays: delays(args)?,
        host_paths: args.allow_host_paths,
        file_images: args.allow_file_images,
        registry_authority: image::registry_authority(&args.registry)?,
        image_gc: Thresholds {
            high_percent: args.image_gc_high,
            low_percent: args.image_gc_low,
        },
        manifests: args.manifests.clone(),
        static_pod_url: args.static_pod_url.source(),
        audit_log: args.audit_log.clone(),
        node_listen: node_listen(args),
        node_grace: args.grace.node_monitor_grace_period,
        signing_seconds: args.signing.seconds(),
        compiler: std::env::current_exe().ok(),
        ..ClusterConfig::new(data)
    };
    Cluster::start(config).await
}

/// Where nodes in other processes reach this one: nowhere where there are none and nobody else reaches the API either.
fn node_listen(args: &ClusterArgs) -> Option<SocketAddr> {
    let ip = args.listen.ip();
    let usual = (!ip.is_loopback() && !ip.is_unspecified()).then(|| SocketAddr::new(ip, NODE_PORT));
    let own = (!args.node_process.is_empty()).then(|| SocketAddr::from((Ipv4Addr::LOCALHOST, 0)));
    args.node_listen.or(usual).or(own)
}

fn delays(args: &ClusterArgs) -> anyhow::Result<Delays> {
    let Some(path) = &args.simulated_delays else {
        return Ok(Delays::default());
    };
    let text = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    serde_yaml::from_slice(&text).with_context(|| format!("{} does not say delays", path.display()))
}

/// Says where the cluster is, and makes kubectl find it unless that is not wanted.
///
/// # Errors
/// When the user's kubeconfig cannot be written.
pub fn describe(cluster: &Cluster, args: &ClusterArgs) -> anyhow::Result<()> {
    say(format_args!("API         {}", cluster.access().server));
    say(format_args!("DNS         {} (UDP and TCP)", cluster.dns()));
    if let Some((plain, tls)) = cluster.ingress() {
        say(format_args!("ingress     http://{plain} and https://{tls}"));
    }
    if let Some(address) = cluster.node_address() {
        say(format_args!(
            "nodes       {address}; others join as `coracle token create --print-join-command` says"
        ));
    }
    say(format_args!("data        {}", cluster.data().path().display()));
    if args.no_merge {
        say(format_args!("kubeconfig  {}", cluster.kubeconfig_path().display()));
    } else {
        let file = kubeconfig::merge_into_users(cluster.access())?;
        say(format_args!(
            "kubeconfig  context \"{}\" in {}, now the current one",
            kubeconfig::NAME,
            file.display()
        ));
    }
    Ok(())
}

/// Prints the kubeconfig of the cluster in a data directory.
///
/// # Errors
/// When there is none.
pub fn print_kubeconfig(args: &DataDirArgs) -> anyhow::Result<()> {
    let path = image::data_path(args)?.join("kubeconfig");
    let text = std::fs::read_to_string(&path).with_context(|| {
        format!(
            "cannot read {}: start the cluster once with `coracle up`",
            path.display()
        )
    })?;
    print!("{text}");
    Ok(())
}
