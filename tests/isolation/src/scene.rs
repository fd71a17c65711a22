//! One scene in the room: hostile pods come, do their worst for a while, and are put out.

use std::path::PathBuf;
use std::time::Duration;

use crate::world::{World, end, main_status, waits};
use coracle::cluster::ClusterConfig;
use coracle::data_dir::DataDir;
use coracle::fuzz::gauge::{Gauge, Measured};
use coracle::fuzz::held::{Held, settled};
use coracle::manifest;
use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use kube::api::{DeleteParams, DynamicObject, ListParams, PostParams};
use kube::runtime::wait::await_condition;
use tokio::time::{sleep, timeout};

use crate::attacks::{ATTACKS, Attack, End};
use crate::neighbour::Neighbour;

/// Where pods ask for names.
const NAME_SERVER: &str = "10.96.0.10:53";

/// How long a pod that attacks by its end may take to reach it, a compiler's work on a loaded machine included, and handles to come
/// back.
const PATIENCE: Duration = Duration::from_secs(180);

/// Handles that come and go by themselves: files of logs and of the store, connections that are kept for the next request.
const LOOSE_HANDLES: usize = 24;

pub struct Room {
    pub world: World,
    pub neighbour: Neighbour,
}

/// What came of attacks that were run together.
pub struct Outcome {
    /// Each of them.
    pub pods: Vec<Seen>,
    /// How the neighbour and the API were meanwhile.
    pub measured: Measured,
    /// What the process held more than before, at most.
    pub over: Held,
    /// Whether all handles were closed afterwards.
    pub handles_came_back: bool,
}

/// What a user sees of an attack.
pub struct Seen {
    pub name: String,
    pub words: String,
    /// Whether that is what the table says.
    pub as_expected: bool,
}

impl Room {
    /// A cluster with the neighbour in it, and every hostile program in its store. `compiler` compiles them, as `coracle` does
    /// where it is a program of its own.
    pub async fn open(compiler: PathBuf) -> Self {
        let mut config = ClusterConfig::new(DataDir::ephemeral().unwrap());
        config.compiler = Some(compiler);
        let world = World::start_with(config).await;
        world.load("hostile", coracle_fixtures::component("hostile").unwrap());
        for attack in ATTACKS {
            attack.load(&world);
        }
        let neighbour = Neighbour::start(&world).await;
        Self { world, neighbour }
    }

    /// Runs attacks at the same time, one pod each, and looks at them for at least so long.
    pub async fn run(&self, attacks: &[Attack], span: Duration) -> Outcome {
        let before = Held::now();
        let names: Vec<_> = (0..attacks.len())
            .map(|at| format!("{}-{at}", attacks[at].name))
            .collect();
        let gauge = Gauge::start(&self.neighbour.target).unwrap();
        let attacked = async {
            let mut refused = Vec::new();
            for (attack, name) in attacks.iter().zip(&names) {
                refused.push(self.create(attack, name).await.err());
            }
            let mut pods = Vec::new();
            for ((attack, name), refused) in attacks.iter().zip(&names).zip(refused) {
                let (words, as_expected) = match refused {
                    Some(kube::Error::Api(status)) => (short(&status.message), attack.end == End::Refused),
                    Some(error) => (short(&error.to_string()), false),
                    None => self.wait(attack, name).await,
                };
                pods.push(Seen {
                    name: name.clone(),
                    words,
                    as_expected,
                });
            }
            pods
        };
        // Whatever ends by itself has ended, and what does not has had the whole span.
        let (pods, ()) = tokio::join!(attacked, sleep(span));
        let measured = gauge.end().await.unwrap();
        for name in &names {
            self.put_out(name).await;
        }
        let most = before.handles.map(|handles| handles + LOOSE_HANDLES);
        Outcome {
            pods,
            over: measured.peak.over(before),
            measured,
            handles_came_back: settled(most, PATIENCE).await.handles <= most,
        }
    }

    async fn create(&self, attack: &Attack, name: &str) -> Result<(), kube::Error> {
        let manifest = attack.manifest(name, &self.neighbour.inside, NAME_SERVER);
        let pod: Vec<DynamicObject> = manifest::parse(&manifest).unwrap();
        let pod: Pod = serde_json::from_value(serde_json::to_value(&pod[0]).unwrap()).unwrap();
        self.world.all().create(&PostParams::default(), &pod).await.map(drop)
    }

    /// Waits until an attack is where it should be, or until it is clear that it will not be.
    async fn wait(&self, attack: &Attack, name: &str) -> (String, bool) {
        let arrived = |pod: &Pod| match attack.end {
            End::Of(..) => end(pod).is_some(),
            End::Never => end(pod).is_some() || running(pod),
            End::Waits(wanted) => end(pod).is_some() || waits(pod).is_some_and(|(reason, _)| reason == wanted),
            End::Refused => true,
        };
        let pods = self.world.all::<Pod>();
        let condition = |pod: Option<&Pod>| pod.is_some_and(&arrived);
        let pod = match timeout(PATIENCE, await_condition(pods.clone(), name, condition)).await {
            Ok(found) => found.unwrap().unwrap(),
            Err(_) => pods.get(name).await.unwrap(),
        };
        let as_expected = match attack.end {
            End::Of(reason, code) => end(&pod) == Some((reason.to_owned(), code)),
            End::Never => end(&pod).is_none() && running(&pod),
            End::Waits(wanted) => waits(&pod).is_some_and(|(reason, _)| reason == wanted),
            End::Refused => false,
        };
        (seen(&pod), as_expected)
    }

    async fn put_out(&self, name: &str) {
        let pods = self.world.all::<Pod>();
        // One that was refused is not there.
        if pods
            .delete(name, &DeleteParams::default().grace_period(0))
            .await
            .is_ok()
        {
            self.world.gone(&pods, name).await;
        }
    }

    /// Writes objects that must still be there afterwards; returns how they are.
    pub async fn fill(&self, count: usize) -> Vec<String> {
        let all = self.world.all::<ConfigMap>();
        for number in 0..count {
            let map = serde_json::from_value(serde_json::json!({
                "metadata": {"name": format!("kept-{number}"), "labels": {"kept": "yes"}},
                "data": {"number": number.to_string()},
            }));
            all.create(&PostParams::default(), &map.unwrap()).await.unwrap();
        }
        self.kept().await
    }

    /// The objects that [`Room::fill`] wrote, with their versions.
    pub async fn kept(&self) -> Vec<String> {
        let found = self
            .world
            .all::<ConfigMap>()
            .list(&ListParams::default().labels("kept"))
            .await;
        let line = |map: ConfigMap| {
            format!(
                "{:?} {:?} {:?}",
                map.metadata.name, map.metadata.resource_version, map.data
            )
        };
        found.unwrap().into_iter().map(line).collect()
    }
}

fn running(pod: &Pod) -> bool {
    main_status(pod).is_some_and(|status| status.state.as_ref().is_some_and(|state| state.running.is_some()))
}

/// The first line of a message, as far as a column of a table takes it.
fn short(message: &str) -> String {
    let line = message.lines().next().unwrap_or_default();
    match line.char_indices().nth(140) {
        Some((at, _)) => format!("{}...", &line[..at]),
        None => line.to_owned(),
    }
}

/// How `kubectl get` and `kubectl describe` show a container.
fn seen(pod: &Pod) -> String {
    let Some(state) = main_status(pod).and_then(|status| status.state.clone()) else {
        return "not started".to_owned();
    };
    let first = |message: Option<String>| short(&message.unwrap_or_default());
    if let Some(ended) = state.terminated {
        let reason = ended.reason.unwrap_or_default();
        let said = first(ended.message);
        return match said.as_str() {
            "" => format!("{reason}, {}", ended.exit_code),
            said => format!("{reason}, {}: {said}", ended.exit_code),
        };
    }
    match state.waiting {
        Some(waits) => format!("{}: {}", waits.reason.unwrap_or_default(), first(waits.message)),
        None => "runs on within its limits".to_owned(),
    }
}
