//! How many pods of some kind are where: the counts that topology spread and affinity ask for, kept pod by pod.
//!
//! A crowd is made when it is first asked about and counted once; from then on each pod that comes or goes is counted in
//! the crowds that it belongs to, and no question looks at pods again. Crowds that nobody has asked about for long are
//! forgotten when there are too many.

use std::{collections::BTreeMap, sync::Arc};

use k8s_openapi::api::core::v1::Node;
use rustc_hash::FxHashMap;

use crate::{
    candidate::Candidate,
    domains::{Domain, Domains, Topology},
    node_info::NodeIndex,
    posting::{Post, Postings},
    selection::{NamespaceLabels, Query},
};

/// Crowds that are kept: one for each controller whose pods are being scheduled and one for each selector in use. A
/// crowd of a hundred pods takes some kilobytes, so that this many take some megabytes.
const CROWDS_LIMIT: usize = 4096;

/// The domains of a topology, in the table of those in use.
type DomainsAt = usize;

/// How many pods are on each node and in each domain.
#[derive(Clone, Debug, Default)]
pub struct Crowd {
    on_node: FxHashMap<NodeIndex, u32>,
    tallies: Vec<Tally>,
}

#[derive(Clone, Debug)]
struct Tally {
    domains: DomainsAt,
    in_domain: FxHashMap<Domain, u32>,
    /// How many domains have that many pods, for the least; domains without pods are not in it.
    with: BTreeMap<u32, u32>,
}

impl Tally {
    fn change(&mut self, domain: Domain, by: i64) {
        let count = self.in_domain.entry(domain).or_default();
        let before = *count;
        *count = u32::try_from(i64::from(before).saturating_add(by)).unwrap_or(0);
        let after = *count;
        if after == 0 {
            self.in_domain.remove(&domain);
        }
        if let Some(domains) = self.with.get_mut(&before) {
            *domains -= 1;
            if *domains == 0 {
                self.with.remove(&before);
            }
        }
        if after > 0 {
            *self.with.entry(after).or_default() += 1;
        }
    }
}

/// The domains of all topologies in use, each with how many tallies use it.
#[derive(Clone, Debug, Default)]
struct Topologies {
    at: FxHashMap<Arc<str>, DomainsAt>,
    used: Vec<Option<(Domains, Arc<Topology>, usize)>>,
}

impl Topologies {
    fn get(&self, at: DomainsAt) -> Option<&Domains> {
        self.used.get(at)?.as_ref().map(|(domains, _, _)| domains)
    }

    fn find(&self, topology: &Topology) -> Option<DomainsAt> {
        self.at.get(&topology.id).copied()
    }

    fn take<'a>(&mut self, topology: &Arc<Topology>, nodes: impl Iterator<Item = (NodeIndex, &'a Node)>) -> DomainsAt {
        if let Some(at) = self.find(topology) {
            if let Some(Some((_, _, users))) = self.used.get_mut(at) {
                *users += 1;
            }
            return at;
        }
        let mut domains = Domains::new(topology.clone());
        for (index, node) in nodes {
            domains.put(index, Some(node));
        }
        let at = self.used.iter().position(Option::is_none).unwrap_or(self.used.len());
        let entry = Some((domains, topology.clone(), 1));
        match self.used.get_mut(at) {
            Some(slot) => *slot = entry,
            None => self.used.push(entry),
        }
        self.at.insert(topology.id.clone(), at);
        at
    }

    fn give_back(&mut self, at: DomainsAt) {
        let Some(slot) = self.used.get_mut(at) else { return };
        if let Some((_, topology, users)) = slot {
            *users -= 1;
            if *users == 0 {
                self.at.remove(&topology.id);
                *slot = None;
            }
        }
    }
}

/// What a question about one crowd and one topology needs.
#[derive(Clone, Copy)]
pub struct Counts<'a> {
    domains: &'a Domains,
    tally: &'a Tally,
    crowd: &'a Crowd,
}

impl Counts<'_> {
    /// How many pods are in the domain of the node; `None` if the node is in none.
    #[must_use]
    pub fn around(&self, node: NodeIndex) -> Option<u32> {
        let domain = self.domains.of(node)?;
        Some(self.tally.in_domain.get(&domain).copied().unwrap_or(0))
    }

    /// How many pods are on the node itself.
    #[must_use]
    pub fn on(&self, node: NodeIndex) -> u32 {
        self.crowd.on_node.get(&node).copied().unwrap_or(0)
    }

    /// The domain of the node.
    #[must_use]
    pub fn domain(&self, node: NodeIndex) -> Option<Domain> {
        self.domains.of(node)
    }

    /// How many domains there are.
    #[must_use]
    pub fn domains(&self) -> usize {
        self.domains.len()
    }

    /// One more than the largest number of any domain.
    #[must_use]
    pub fn numbers(&self) -> usize {
        self.domains.numbers()
    }

    /// The least number of pods in any domain.
    #[must_use]
    pub fn least(&self) -> u32 {
        if self.tally.in_domain.len() < self.domains.len() {
            return 0;
        }
        self.tally.with.first_key_value().map_or(0, |(least, _)| *least)
    }

    /// Whether no pod is in any domain.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.tally.in_domain.is_empty()
    }
}

/// Names a crowd.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct CrowdId(usize);

#[derive(Clone, Debug)]
enum Meant {
    /// The pods that a query means; when it was last asked about.
    Query(Query, u64),
    /// Pods that have something, told by whoever knows.
    Told,
}

/// All crowds.
#[derive(Clone, Debug, Default)]
pub struct Crowds {
    topologies: Topologies,
    crowds: Vec<Option<(Crowd, Meant)>>,
    by_query: FxHashMap<Arc<str>, CrowdId>,
    postings: Postings<CrowdId>,
    free: Vec<CrowdId>,
    asked: u64,
}

impl Crowds {
    /// The counts of a crowd that was asked about with [`Crowds::ask`], in a topology.
    #[must_use]
    pub fn counts(&self, query: &Query, topology: &Topology) -> Option<Counts<'_>> {
        self.of(*self.by_query.get(&query.id)?, topology)
    }

    /// The counts of a crowd in a topology that it is counted in.
    #[must_use]
    pub fn of(&self, id: CrowdId, topology: &Topology) -> Option<Counts<'_>> {
        let at = self.topologies.find(topology)?;
        let (crowd, _) = self.crowds.get(id.0)?.as_ref()?;
        Some(Counts {
            domains: self.topologies.get(at)?,
            tally: crowd.tallies.iter().find(|tally| tally.domains == at)?,
            crowd,
        })
    }

    /// Makes the crowd of the query if there is none, from the pods that `placed` finds at the posts of the query, and
    /// has it counted in the topology.
    pub fn ask<'a, P>(
        &mut self,
        query: &Query,
        topology: &Arc<Topology>,
        placed: impl FnOnce() -> P,
        nodes: impl Iterator<Item = (NodeIndex, &'a Node)>,
    ) where
        P: Iterator<Item = NodeIndex>,
    {
        self.asked += 1;
        let id = match self.by_query.get(&query.id) {
            Some(known) => *known,
            None => self.open(query, placed()),
        };
        if let Some(Some((_, Meant::Query(_, asked)))) = self.crowds.get_mut(id.0) {
            *asked = self.asked;
        }
        self.tally(id, topology, nodes);
    }

    fn open(&mut self, query: &Query, placed: impl Iterator<Item = NodeIndex>) -> CrowdId {
        if self.by_query.len() >= CROWDS_LIMIT {
            self.forget_oldest();
        }
        let id = self.add(Meant::Query(query.clone(), self.asked));
        self.by_query.insert(query.id.clone(), id);
        for post in query.posts() {
            self.postings.add(post, id);
        }
        for node in placed {
            self.count(id, node, 1);
        }
        id
    }

    /// A crowd whose pods are told with [`Crowds::count`].
    pub fn told<'a>(
        &mut self,
        topology: &Arc<Topology>,
        nodes: impl Iterator<Item = (NodeIndex, &'a Node)>,
    ) -> CrowdId {
        let id = self.add(Meant::Told);
        self.tally(id, topology, nodes);
        id
    }

    fn add(&mut self, meant: Meant) -> CrowdId {
        let id = self.free.pop().unwrap_or(CrowdId(self.crowds.len()));
        let entry = Some((Crowd::default(), meant));
        match self.crowds.get_mut(id.0) {
            Some(slot) => *slot = entry,
            None => self.crowds.push(entry),
        }
        id
    }

    /// Has the crowd counted in the topology, if it is not yet.
    fn tally<'a>(&mut self, id: CrowdId, topology: &Arc<Topology>, nodes: impl Iterator<Item = (NodeIndex, &'a Node)>) {
        let Some(Some((crowd, _))) = self.crowds.get_mut(id.0) else {
            return;
        };
        let known = self.topologies.find(topology);
        if known.is_some() && crowd.tallies.iter().any(|tally| Some(tally.domains) == known) {
            return;
        }
        let at = self.topologies.take(topology, nodes);
        let mut tally = Tally {
            domains: at,
            in_domain: FxHashMap::default(),
            with: BTreeMap::new(),
        };
        for (node, count) in &crowd.on_node {
            if let Some(domain) = self.topologies.get(at).and_then(|domains| domains.of(*node)) {
                tally.change(domain, i64::from(*count));
            }
        }
        crowd.tallies.push(tally);
    }

    /// Counts one pod more (`by` 1) or less (-1) of the crowd on the node.
    pub fn count(&mut self, id: CrowdId, node: NodeIndex, by: i64) {
        let Some(Some((crowd, _))) = self.crowds.get_mut(id.0) else {
            return;
        };
        let count = crowd.on_node.entry(node).or_default();
        *count = u32::try_from(i64::from(*count) + by).unwrap_or(0);
        if *count == 0 {
            crowd.on_node.remove(&node);
        }
        for tally in &mut crowd.tallies {
            if let Some(domain) = self.topologies.get(tally.domains).and_then(|domains| domains.of(node)) {
                tally.change(domain, by);
            }
        }
    }

    /// Whether the crowd has no pods.
    #[must_use]
    pub fn is_empty(&self, id: CrowdId) -> bool {
        self.crowds
            .get(id.0)
            .and_then(Option::as_ref)
            .is_none_or(|(crowd, _)| crowd.on_node.is_empty())
    }

    /// A pod came to the node (`by` 1) or left it (-1): it is counted wherever it belongs.
    pub fn see(&mut self, pod: &Candidate, node: NodeIndex, namespaces: &NamespaceLabels, by: i64) {
        if self.postings.is_empty() {
            return;
        }
        let mut belongs: Vec<CrowdId> = Vec::new();
        for post in Post::all(&pod.key.namespace, pod.pod.metadata.labels.as_ref(), &pod.controller) {
            for id in self.postings.get(post) {
                let means = matches!(self.crowds.get(id.0), Some(Some((_, Meant::Query(query, _)))) if query.means(pod, namespaces));
                if means && !belongs.contains(&id) {
                    belongs.push(id);
                }
            }
        }
        for id in belongs {
            self.count(id, node, by);
        }
    }

    /// Takes in a node as it is, or that it is gone.
    pub fn put_node(&mut self, index: NodeIndex, node: Option<&Node>, has_pods: bool) {
        for at in 0..self.topologies.used.len() {
            let Some(Some((domains, _, _))) = self.topologies.used.get_mut(at) else {
                continue;
            };
            let (before, after) = domains.put(index, node);
            if before != after && has_pods {
                self.move_node(at, index, before, after);
            }
        }
    }

    fn move_node(&mut self, at: DomainsAt, index: NodeIndex, before: Option<Domain>, after: Option<Domain>) {
        for (crowd, _) in self.crowds.iter_mut().flatten() {
            let Some(count) = crowd.on_node.get(&index).copied() else {
                continue;
            };
            for tally in crowd.tallies.iter_mut().filter(|tally| tally.domains == at) {
                if let Some(before) = before {
                    tally.change(before, -i64::from(count));
                }
                if let Some(after) = after {
                    tally.change(after, i64::from(count));
                }
            }
        }
    }

    /// The labels of namespaces have changed: crowds that depend on them are counted anew when they are asked about.
    pub fn forget_by_namespace(&mut self) {
        let reads = |(_, meant): &(Crowd, Meant)| matches!(meant, Meant::Query(query, _) if query.reads_namespaces());
        let ids: Vec<usize> = (0..self.crowds.len())
            .filter(|at| self.crowds.get(*at).and_then(Option::as_ref).is_some_and(reads))
            .collect();
        ids.into_iter().for_each(|at| self.forget(CrowdId(at)));
    }

    /// Forgets the quarter of the crowds that nobody has asked about for longest.
    fn forget_oldest(&mut self) {
        let mut asked: Vec<(u64, CrowdId)> = Vec::with_capacity(self.crowds.len());
        for (at, entry) in self.crowds.iter().enumerate() {
            if let Some((_, Meant::Query(_, when))) = entry {
                asked.push((*when, CrowdId(at)));
            }
        }
        asked.sort_unstable_by_key(|(when, _)| *when);
        asked.truncate(CROWDS_LIMIT / 4);
        asked.into_iter().for_each(|(_, id)| self.forget(id));
    }

    /// Forgets a crowd.
    pub fn forget(&mut self, id: CrowdId) {
        let Some((crowd, meant)) = self.crowds.get_mut(id.0).and_then(Option::take) else {
            return;
        };
        for tally in crowd.tallies {
            self.topologies.give_back(tally.domains);
        }
        if let Meant::Query(query, _) = meant {
            self.by_query.remove(&query.id);
            for post in query.posts() {
                self.postings.remove(post, id);
            }
        }
        self.free.push(id);
    }
}
