//! A kind of one's own with kube-rs: a definition made by kube's derive, and a controller as people write them.

use std::{sync::Arc, time::Duration};

use futures::StreamExt;
use k8s_openapi::{
    api::core::v1::ConfigMap, apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition,
};
use kube::{
    Api, Client, CustomResource, CustomResourceExt, Resource, ResourceExt,
    api::{DeleteParams, Patch, PatchParams, PostParams},
    runtime::{
        Controller,
        controller::Action,
        events::{Event, EventType, Recorder, Reporter},
        finalizer::{self, finalizer},
        wait::{await_condition, conditions},
        watcher,
    },
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::task::JoinSet;

use crate::world::World;

const CONTROLLER: &str = "fleets.example.com";

/// So many boats of one colour; a ConfigMap of the same name lists them.
#[derive(CustomResource, Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "example.com",
    version = "v1",
    kind = "Fleet",
    namespaced,
    status = "FleetStatus",
    shortname = "fl",
    printcolumn = r#"{"name":"Boats","type":"integer","jsonPath":".spec.boats"}"#,
    scale(spec_replicas_path = ".spec.boats", status_replicas_path = ".status.afloat")
)]
struct FleetSpec {
    #[schemars(range(max = 9))]
    boats: u32,
    #[serde(default = "white")]
    colour: String,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
struct FleetStatus {
    afloat: u32,
}

fn white() -> String {
    "white".to_owned()
}

struct Harbour {
    client: Client,
    recorder: Recorder,
}

async fn reconcile(fleet: Arc<Fleet>, harbour: Arc<Harbour>) -> Result<Action, finalizer::Error<kube::Error>> {
    let fleets: Api<Fleet> = Api::namespaced(harbour.client.clone(), &fleet.namespace().unwrap());
    finalizer(&fleets, CONTROLLER, fleet, |event| async {
        match event {
            finalizer::Event::Apply(fleet) => launch(&fleet, &harbour).await,
            finalizer::Event::Cleanup(fleet) => sink(&fleet, &harbour).await,
        }
    })
    .await
}

async fn launch(fleet: &Fleet, harbour: &Harbour) -> Result<Action, kube::Error> {
    let (name, namespace) = (fleet.name_any(), fleet.namespace().unwrap());
    let boats = json!({
        "apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {"name": name, "ownerReferences": [fleet.controller_owner_ref(&())]},
        "data": {"boats": vec![fleet.spec.colour.as_str(); fleet.spec.boats as usize].join(" ")},
    });
    let maps: Api<ConfigMap> = Api::namespaced(harbour.client.clone(), &namespace);
    let params = PatchParams::apply(CONTROLLER).force();
    maps.patch(&name, &params, &Patch::Apply(&boats)).await?;
    let fleets: Api<Fleet> = Api::namespaced(harbour.client.clone(), &namespace);
    let status = json!({"status": {"afloat": fleet.spec.boats}});
    fleets
        .patch_status(&name, &PatchParams::default(), &Patch::Merge(&status))
        .await?;
    Ok(Action::await_change())
}

async fn sink(fleet: &Fleet, harbour: &Harbour) -> Result<Action, kube::Error> {
    let event = Event {
        type_: EventType::Normal,
        reason: "Sunk".to_owned(),
        note: Some(format!("{} boats are gone", fleet.spec.boats)),
        action: "Sink".to_owned(),
        secondary: None,
    };
    harbour.recorder.publish(&event, &fleet.object_ref(&())).await?;
    Ok(Action::await_change())
}

async fn run_controller(client: Client) {
    let harbour = Harbour {
        recorder: Recorder::new(client.clone(), Reporter::from(CONTROLLER)),
        client: client.clone(),
    };
    Controller::new(Api::<Fleet>::all(client.clone()), watcher::Config::default())
        .owns(Api::<ConfigMap>::all(client), watcher::Config::default())
        .run(
            reconcile,
            |_, _, _| Action::requeue(Duration::from_millis(100)),
            Arc::new(harbour),
        )
        .for_each(|done| async move {
            if let Err(error) = done {
                println!("not reconciled: {error}");
            }
        })
        .await;
}

fn lists(count: usize, colour: &'static str) -> impl Fn(&ConfigMap) -> bool {
    move |map| {
        let boats = map.data.as_ref().and_then(|data| data.get("boats"));
        boats.is_some_and(|boats| boats.split(' ').eq(std::iter::repeat_n(colour, count)))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_controller_of_a_derived_kind_keeps_its_promise() {
    let world = World::start().await;
    let definitions: Api<CustomResourceDefinition> = Api::all(world.client());
    definitions.create(&PostParams::default(), &Fleet::crd()).await.unwrap();
    let established = await_condition(definitions, Fleet::crd_name(), conditions::is_crd_established());
    established.await.unwrap();
    let mut controllers = JoinSet::new();
    controllers.spawn(run_controller(world.client()));

    let fleets: Api<Fleet> = world.all();
    let maps: Api<ConfigMap> = world.all();
    let fleet: Fleet = serde_json::from_value(json!({
        "apiVersion": "example.com/v1", "kind": "Fleet", "metadata": {"name": "home"}, "spec": {"boats": 3, "colour": "red"},
    }))
    .unwrap();
    fleets.create(&PostParams::default(), &fleet).await.unwrap();
    world.until(&maps, "home", lists(3, "red")).await;
    let afloat = |count: u32| move |fleet: &Fleet| fleet.status.as_ref().is_some_and(|status| status.afloat == count);
    world.until(&fleets, "home", afloat(3)).await;

    // What somebody else takes away comes back, and a change of size arrives by way of the scale subresource.
    maps.delete("home", &DeleteParams::default()).await.unwrap();
    world.until(&maps, "home", lists(3, "red")).await;
    let scale = Patch::Merge(json!({"spec": {"replicas": 5}}));
    fleets
        .patch_scale("home", &PatchParams::default(), &scale)
        .await
        .unwrap();
    world.until(&maps, "home", lists(5, "red")).await;

    // The schema of the derive is enforced, and fills in what is not given.
    let many = Patch::Merge(json!({"spec": {"boats": 10}}));
    let refused = fleets.patch("home", &PatchParams::default(), &many).await.unwrap_err();
    assert!(
        refused
            .to_string()
            .contains("spec.boats in body should be less than or equal to 9"),
        "{refused}"
    );
    let plain = json!({"apiVersion": "example.com/v1", "kind": "Fleet", "spec": {"boats": 1}});
    let apply = PatchParams::apply("somebody");
    fleets.patch("plain", &apply, &Patch::Apply(&plain)).await.unwrap();
    world.until(&maps, "plain", lists(1, "white")).await;

    // The finalizer lets the controller say goodbye; the collector takes what was owned.
    fleets.delete("home", &DeleteParams::default()).await.unwrap();
    world.gone(&fleets, "home").await;
    world.gone(&maps, "home").await;
    world.event("Sunk: 5 boats are gone").await;
    controllers.shutdown().await;
}
