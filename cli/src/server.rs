//! `coracle server`: the API server in a process of its own, and if wanted controllers and scheduler beside it.

use std::{net::SocketAddr, sync::Arc, time::Instant};

use coracle_controllers::world::Facts;
use coracle_server::Unconnected;

use crate::{
    args::ServerArgs,
    control_plane::{CONTROLLERS_USER, ControlPlane, JOINING_NODES, SCHEDULER_USER, Surroundings, listen},
    data_dir::DataDir,
    dial::Nodes,
    end, kubeconfig,
    say::say,
};

/// The kubeconfigs in the data directory besides the administrator's, and whose they are.
const COMPONENTS: [(&str, &str); 2] = [
    ("controller-manager.kubeconfig", CONTROLLERS_USER),
    ("scheduler.kubeconfig", SCHEDULER_USER),
];

/// Serves the API until the process is told to stop.
///
/// # Errors
/// When the data directory is in use or cannot be used, or the address is taken.
pub async fn run(args: ServerArgs) -> anyhow::Result<()> {
    let started = Instant::now();
    // Fails when another part of the process has installed one before, which is as good.
    rustls::crypto::ring::default_provider().install_default().ok();
    let data = DataDir::of(&args.data, args.ephemeral)?;
    let listener = listen(args.listen)?;
    let address = listener.local_addr()?;
    let surroundings = Surroundings {
        nodes: Nodes::default(),
        cluster: Arc::new(Unconnected),
        names: Vec::new(),
        advertise: Some(address).filter(|address| reachable(*address)),
        audit_log: args.audit_log,
        signing_seconds: args.signing.seconds(),
    };
    let plane = ControlPlane::build(&data, address, surroundings).await?;
    let access = plane.access();
    kubeconfig::write(&data.join("kubeconfig"), &access)?;
    for (file, user) in COMPONENTS {
        kubeconfig::write(&data.join(file), &plane.access_of(user)?)?;
    }
    plane.serve(listener);
    let facts = Facts {
        node_grace_seconds: args.grace.node_monitor_grace_period.as_secs(),
        ..Facts::default()
    };
    let informers = args.controllers.then(|| plane.start_controllers(facts));
    if args.scheduler {
        plane.start_scheduler(informers);
    }

    say(format_args!("ready in {} ms", started.elapsed().as_millis()));
    say(format_args!("API         {}", access.server));
    say(format_args!("data        {}", data.path().display()));
    say(format_args!("kubeconfig  {}", data.join("kubeconfig").display()));
    // Without a network of their own, nodes that join run no pods.
    let networks = format!(" --cluster-cidr {}/{}", JOINING_NODES.base, JOINING_NODES.prefix);
    for ((file, _), (runs, command, more)) in COMPONENTS.iter().zip([
        (args.controllers, "controllers", networks.as_str()),
        (args.scheduler, "scheduler", ""),
    ]) {
        match runs {
            true => say(format_args!("{command:<11} in this process")),
            false => say(format_args!(
                "{command:<11} coracle {command} --kubeconfig {}{more}",
                data.join(file).display()
            )),
        }
    }
    end::asked().await?;
    end::stop(async move {
        plane.stop().await;
        plane.close().await;
    })
    .await
}

/// Whether others than this machine can mean the address.
fn reachable(address: SocketAddr) -> bool {
    !address.ip().is_loopback() && !address.ip().is_unspecified()
}
