//! The Gateway API: Gateways, HTTPRoutes and their grants, on the data path of the ingress.
//!
//! A listener is a socket at the host's address on the port that it names; one with a port of the ingress shares that
//! socket and is asked first. Rules and certificates are replaced as a whole when an object changes; each request is led by
//! the rules of its moment.

mod attach;
mod compile;
mod definitions;
mod filters;
mod hostname;
mod objects;
mod sockets;
mod table;
mod turns;
mod verdict;
mod world;

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use k8s_openapi::jiff::Timestamp;
use kube::api::{Patch, PatchParams, PostParams};
use kube::runtime::wait::{await_condition, conditions::is_crd_established};
use kube::{Api, Client, Resource, ResourceExt};
use rustls::crypto::CryptoProvider;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::ingress::{Shared, certified};
use attach::Plan;
use objects::{ClassSpec, GatewayClass};
use sockets::Sockets;
#[cfg(test)]
pub use table::tests::table_at;
pub use table::{Copied, Decision, Found, Table};
use world::World;

/// What a GatewayClass says whose gateways are served here.
pub const CONTROLLER: &str = "coracle.dev/gateway";

/// The class that is made at the start.
const CLASS: &str = "coracle";

/// Pause before what could not be written or listened on is tried again.
const RETRY: Duration = Duration::from_secs(5);

/// Follows the objects until `stop`: what rules they make, where they are listened for, and what the API says of them.
pub async fn run(client: Client, shared: Shared, provider: Arc<CryptoProvider>, stop: CancellationToken) {
    let mut sockets = Sockets::new(shared.clone(), provider.clone());
    let follow = Follow {
        client,
        shared,
        provider,
    };
    tokio::select! {
        () = stop.cancelled() => {}
        () = follow.run(&mut sockets) => {}
    }
    sockets.drain().await;
}

struct Follow {
    client: Client,
    shared: Shared,
    provider: Arc<CryptoProvider>,
}

impl Follow {
    async fn run(self, sockets: &mut Sockets) {
        while !self.make_kinds().await {
            tokio::time::sleep(RETRY).await;
        }
        let mut world = World::new(&self.client, &self.shared.fabric);
        let mut whole = true;
        loop {
            tokio::select! {
                changed = world.changed() => if !changed { return },
                () = tokio::time::sleep(RETRY), if !whole => {}
            }
            whole = self.settle(&mut world, sockets).await;
        }
    }

    /// Makes everything what the objects say; false where a part has to be tried again.
    async fn settle(&self, world: &mut World, sockets: &mut Sockets) -> bool {
        let gateways = world.gateways();
        let routes = world.routes();
        let mut whole = sockets.listen(&gateways).await;
        let snapshot = self.shared.fabric.snapshot();
        let plan = attach::World {
            gateways: &gateways,
            routes: &routes,
            grants: &world.grants(),
            namespaces: &world.namespaces(),
            service: &|namespace, name, port| {
                let mut services = snapshot.services.iter();
                let service = services.find(|service| service.namespace == namespace && service.name == name)?;
                Some(service.ports.iter().any(|candidate| candidate.port == port))
            },
            certificate: &|namespace, name| {
                let absent =
                    || format!("there is no Secret {name:?} of type kubernetes.io/tls in namespace {namespace}");
                let secret = world.secret(namespace, name).ok_or_else(absent)?;
                certified(name, &secret, &self.provider).map_err(|error| error.to_string())
            },
            bound: &|port, secure| sockets.bound(port, secure),
        }
        .plan();
        let Plan {
            table,
            gateways: said,
            routes: said_of_routes,
        } = plan;
        self.shared.gateways.store(Arc::new(table));
        let now = Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
        for class in world.classes() {
            whole &= self.accept(&class, &now).await;
        }
        let address = sockets.address().to_string();
        for (gateway, (conditions, listeners)) in gateways.iter().zip(&said) {
            let generation = gateway.metadata.generation.unwrap_or_default();
            let before = gateway.status.as_ref().unwrap_or(&Value::Null);
            let status = verdict::gateway(conditions, listeners, &address, generation, before, &now);
            whole &= self.show("gateways", "Gateway", gateway.as_ref(), before, status).await;
        }
        for (route, parents) in routes.iter().zip(&said_of_routes) {
            let generation = route.metadata.generation.unwrap_or_default();
            let before = route.status.as_ref().unwrap_or(&Value::Null);
            let status = verdict::route(parents, CONTROLLER, generation, before, &now);
            if before.is_null() && parents.is_empty() {
                continue;
            }
            whole &= self
                .show("httproutes", "HTTPRoute", route.as_ref(), before, status)
                .await;
        }
        whole
    }

    async fn accept(&self, class: &GatewayClass, now: &str) -> bool {
        let before = class.status.as_ref().unwrap_or(&Value::Null);
        let accepted = [verdict::Condition::good("Accepted", "Accepted")];
        let generation = class.metadata.generation.unwrap_or_default();
        let status = json!({"conditions": verdict::conditions(&accepted, generation, &before["conditions"], now)});
        self.show("gatewayclasses", "GatewayClass", class, before, status).await
    }

    /// Writes a status unless it stands there; false where that has to be tried again.
    async fn show<K>(&self, plural: &str, kind: &str, object: &K, before: &Value, status: Value) -> bool
    where
        K: Resource<DynamicType = kube::api::ApiResource> + Clone + DeserializeOwned + Serialize + std::fmt::Debug,
    {
        if *before == status {
            return true;
        }
        let resource = objects::resource("v1", kind, plural);
        let api: Api<kube::api::DynamicObject> = match object.namespace() {
            Some(namespace) => Api::namespaced_with(self.client.clone(), &namespace, &resource),
            None => Api::all_with(self.client.clone(), &resource),
        };
        let name = object.name_any();
        let patch = json!({ "status": status });
        match api
            .patch_status(&name, &PatchParams::default(), &Patch::Merge(patch))
            .await
        {
            Ok(_) => true,
            // It is gone, and the next event says so.
            Err(kube::Error::Api(status)) if status.code == 404 => true,
            Err(error) => {
                tracing::warn!(kind, name, %error, "a status is not written");
                false
            }
        }
    }

    /// Makes the kinds and the class of this controller where there are none; false where that has to be tried again.
    async fn make_kinds(&self) -> bool {
        let api: Api<CustomResourceDefinition> = Api::all(self.client.clone());
        for definition in definitions::definitions() {
            let name = definition.name_any();
            if !made(&name, make_or_renew(&api, &name, &definition).await) {
                return false;
            }
            if let Err(error) = await_condition(api.clone(), &name, is_crd_established()).await {
                tracing::warn!(%error, name, "a kind of the Gateway API is not served");
                return false;
            }
        }
        let resource = objects::resource("v1", "GatewayClass", "gatewayclasses");
        let classes: Api<GatewayClass> = Api::all_with(self.client.clone(), &resource);
        let spec = ClassSpec {
            controller_name: CONTROLLER.to_owned(),
        };
        let class = GatewayClass::new(CLASS, &resource, spec);
        made(CLASS, classes.create(&PostParams::default(), &class).await)
    }
}

/// Makes a kind, or replaces what another version of this program made of it; one that is somebody else's stays. Nothing is written
/// where nothing is new.
async fn make_or_renew(
    api: &Api<CustomResourceDefinition>,
    name: &str,
    wanted: &CustomResourceDefinition,
) -> kube::Result<()> {
    let Some(there) = api.get_opt(name).await? else {
        return api.create(&PostParams::default(), wanted).await.map(drop);
    };
    match definitions::renewed(there, wanted) {
        Some(renewed) => api.replace(name, &PostParams::default(), &renewed).await.map(drop),
        None => Ok(()),
    }
}

/// Whether an object is there after it was to be created.
fn made<K>(name: &str, outcome: kube::Result<K>) -> bool {
    match outcome {
        Ok(_) => true,
        // Not the conflict of one that is to be renewed and was changed meanwhile.
        Err(kube::Error::Api(status)) if status.is_already_exists() => true,
        Err(error) => {
            tracing::warn!(%error, name, "an object of the Gateway API is not made");
            false
        }
    }
}
