//! What the scheduler watches: the kinds below, through informers that others in the process run where there are such.

use std::sync::Arc;

use coracle_controllers::{
    informer::{Informer, Scope},
    others, resource,
    world::Informers,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::scheduler::Scheduler;

macro_rules! watched {
    ($($field:ident: $resource:ident => $saw:ident;)*) => {
        /// Has the scheduler told of all changes, and waits until it knows the world: deciding on half a world would
        /// crowd the nodes that were heard of first.
        pub async fn follow(
            scheduler: &Arc<Scheduler>,
            client: &kube::Client,
            shared: Option<&Arc<Informers>>,
            tasks: &TaskTracker,
            shutdown: &CancellationToken,
        ) {
            let offered = match shared {
                Some(_) => Vec::new(),
                None => others::offered(client).await,
            };
            $(
                let $field = shared.map(|shared| shared.$field.clone()).unwrap_or_else(|| {
                    let own = Arc::new(Informer::new(Scope::all(resource::$resource)));
                    if offered.contains(&resource::$resource) {
                        let (informer, client, shutdown) = (own.clone(), client.clone(), shutdown.clone());
                        tasks.spawn(async move { informer.run(client, shutdown).await });
                    } else {
                        // There is nothing of it, as on servers that are older than devices.
                        own.store().has_nothing();
                    }
                    own
                });
                let told = scheduler.clone();
                $field.subscribe(move |change| told.$saw(change));
            )*
            $($field.store().wait_for(1, std::time::Duration::MAX).await;)*
        }
    };
}

// Nodes are heard of before the pods on them, and all else before pods that may need it.
watched! {
    nodes: NODES => saw_node;
    namespaces: NAMESPACES => saw_namespace;
    services: SERVICES => saw_service;
    storage_classes: STORAGE_CLASSES => saw_class;
    csi_nodes: CSI_NODES => saw_drivers;
    persistent_volumes: PERSISTENT_VOLUMES => saw_volume;
    persistent_volume_claims: PERSISTENT_VOLUME_CLAIMS => saw_claim;
    pod_disruption_budgets: POD_DISRUPTION_BUDGETS => saw_budget;
    device_classes: DEVICE_CLASSES => saw_device_class;
    resource_slices: RESOURCE_SLICES => saw_slice;
    resource_claims: RESOURCE_CLAIMS => saw_device_claim;
    pods: PODS => saw_pod;
}
