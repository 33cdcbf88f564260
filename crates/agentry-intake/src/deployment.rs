//! The fleet of the deployment: versions of agents are rows of the store, in the same order for all processes.
//!
//! Every process reads agent files, and files differ: a rollout takes time, a disk has an older copy, somebody saved a
//! mistake on one machine. So a file only *offers* a version. The deployment runs the version that was accepted last,
//! and a process whose file is invalid, older or missing runs that one too.
//!
//! An offer is accepted if its version was never offered before, or if it replaces the version that this process knows
//! to be current: the file was changed here. A version that was current before and is offered by a process that has
//! just started is an old copy, and changes nothing. If one folder is the whole deployment ([`Authority::Folder`], the
//! embedded engine), the folder's content always counts, and deleting a file removes its agent; otherwise an agent is
//! removed explicitly.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use agentry_bus::{EventBus, ReceiveOutcome, Signal};
use agentry_config::FleetHandle;
use agentry_core::agent::{AgentName, AgentSpec};
use agentry_core::fleet::{AgentEntry, Fleet};
use agentry_core::time::Clock;
use agentry_core::worker::FileReport;
use agentry_store::{FleetChanges, FleetRow, ReplacePolicy, StateStore, StoreError, VersionOffer};
use futures_util::stream::{StreamExt as _, TryStreamExt as _};
use tokio_util::sync::CancellationToken;

/// Interval between polls of the deployment's versions, which finds a change whose signal was lost.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Maximum number of differences between files and the deployment that are reported.
const MAX_REPORTED: usize = 100;
/// Versions that are loaded from the store at the same time.
const LOADED_AT_ONCE: usize = 16;
/// Stands in for the file name of an agent that has no file on this process.
const NO_FILE: &str = "(no file here)";

/// The authority that decides when files and the deployment differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Authority {
    /// The folder of this process, which is the only process.
    Folder,
    /// The versions in the store: any number of processes have files.
    Store,
}

/// The fleet of the deployment, as known to this process. It follows the store and the process's files.
pub struct Deployment {
    store: Option<Arc<dyn StateStore>>,
    bus: Option<Arc<dyn EventBus>>,
    clock: Option<Arc<dyn Clock>>,
    authority: Authority,
    files: FleetHandle,
    fleet: FleetHandle,
    state: Mutex<State>,
    /// One update at a time, so that an older answer never replaces a newer one.
    looking: tokio::sync::Mutex<()>,
}

/// The content of the store, as this process knows it.
#[derive(Default, Clone)]
struct State {
    revision: u64,
    agents: HashMap<AgentName, Current>,
    /// The files of this process that were offered last.
    offered: Option<Arc<Fleet>>,
}

impl State {
    /// Returns the version of an agent that was offered last.
    fn offered(&self, agent: &AgentName) -> Option<&str> {
        version_in(self.offered.as_deref()?, agent)
    }
}

/// Returns the version of an agent that files have.
fn version_in<'f>(files: &'f Fleet, agent: &AgentName) -> Option<&'f str> {
    Some(&files.entry(agent.as_str())?.spec.as_ref()?.version)
}

/// Differences between the files of this process and the deployment.
struct Changes {
    /// Versions to offer.
    offers: Vec<VersionOffer>,
    /// Agents to remove.
    gone: Vec<AgentName>,
    /// The files.
    files: Arc<Fleet>,
}

/// The current version of an agent.
#[derive(Clone)]
struct Current {
    removed: bool,
    spec: Arc<AgentSpec>,
}

impl Deployment {
    /// Returns a deployment that consists of these files and never changes, without a store.
    #[must_use]
    pub fn fixed(fleet: FleetHandle) -> Self {
        Self {
            store: None,
            bus: None,
            clock: None,
            authority: Authority::Folder,
            files: fleet.clone(),
            fleet,
            state: Mutex::default(),
            looking: tokio::sync::Mutex::default(),
        }
    }

    /// Joins the deployment with the files of this process: offers what they have. `known` is the content of the store
    /// ([`FleetStore::fleet_since`](agentry_store::FleetStore::fleet_since) 0), which can be read while files are loaded.
    ///
    /// If the folder decides, what it has is in use when this returns. It is written to the store before the first work
    /// is accepted, or by [`Self::follow`] a second later.
    ///
    /// # Errors
    /// Fails when the store is unavailable.
    pub async fn join(
        store: Arc<dyn StateStore>,
        bus: Arc<dyn EventBus>,
        clock: Arc<dyn Clock>,
        files: FleetHandle,
        authority: Authority,
        known: FleetChanges,
    ) -> Result<Self, StoreError> {
        let deployment = Self {
            store: Some(Arc::clone(&store)),
            bus: Some(bus),
            clock: Some(clock),
            authority,
            files,
            fleet: FleetHandle::new(Fleet::default()),
            state: Mutex::default(),
            looking: tokio::sync::Mutex::default(),
        };
        deployment.take(&*store, known).await?;
        let changes = deployment.plan();
        if authority == Authority::Store {
            if deployment.write(&*store, changes).await? {
                deployment.read(&*store).await?;
            }
            deployment.assemble();
        } else {
            let mut state = deployment.lock().clone();
            state.apply(&changes);
            deployment.fleet.replace(state.fleet(&changes.files));
        }
        Ok(deployment)
    }

    /// Returns the fleet in use.
    #[must_use]
    pub fn fleet(&self) -> &FleetHandle {
        &self.fleet
    }

    /// Follows the store and the files until the process ends.
    pub async fn follow(&self, end: CancellationToken) {
        let (mut files, mut signals) = (self.files.changes(), self.bus.as_ref().map(|bus| bus.signals()));
        loop {
            let changed = async {
                match &mut signals {
                    Some(signals) => loop {
                        match signals.next().await {
                            ReceiveOutcome::Signal(Signal::Fleet) | ReceiveOutcome::Missed => return,
                            ReceiveOutcome::Signal(_) => {}
                            ReceiveOutcome::Closed => std::future::pending().await,
                        }
                    },
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = end.cancelled() => {
                    if let Err(error) = self.settle().await {
                        tracing::warn!(%error, "writing the versions of agents at the end failed; the next start does it");
                    }
                    return;
                }
                changed = files.changed() => {
                    if changed.is_err() {
                        return;
                    }
                }
                () = changed => {}
                () = tokio::time::sleep(LOOK_EVERY) => {}
            }
            if let Err(error) = self.look().await {
                tracing::warn!(%error, "reading the deployment's agents failed; this process keeps using those it has");
            }
        }
    }

    /// Writes versions that are in use since [`Self::join`] and not written yet, so that no work is accepted for a
    /// version that only this process knows.
    ///
    /// # Errors
    /// Fails when the store is unavailable.
    pub(crate) async fn settle(&self) -> Result<(), StoreError> {
        let is_written = self.authority == Authority::Store || self.lock().offered.is_some();
        if is_written { Ok(()) } else { self.look().await }
    }

    /// Offers the versions of files that changed, and reads the deployment from the store.
    ///
    /// # Errors
    /// Fails when the store is unavailable.
    pub async fn refresh(&self) -> Result<(), StoreError> {
        self.look().await
    }

    /// Returns the last version of an agent that was removed from the deployment, for tasks that were accepted before.
    #[must_use]
    pub fn removed(&self, agent: &AgentName) -> Option<Arc<AgentSpec>> {
        let is_removed = self.fleet.current().entry(agent.as_str()).is_none();
        self.lock().agents.get(agent).filter(|_| is_removed).map(|current| Arc::clone(&current.spec))
    }

    /// Removes agents from the deployment. Tasks that were accepted for them still run. Returns the agents that
    /// existed.
    ///
    /// # Errors
    /// Fails when the store is unavailable.
    pub async fn remove(&self, agents: Vec<AgentName>) -> Result<Vec<AgentName>, StoreError> {
        let (Some(store), Some(clock)) = (&self.store, &self.clock) else { return Ok(Vec::new()) };
        self.settle().await?;
        let removed = store.remove_agents(agents, clock.now()).await?;
        self.announce(!removed.is_empty());
        self.look().await?;
        Ok(removed)
    }

    /// Activates an earlier version of an agent; `None`: the last one of an agent that was removed. Returns the version
    /// that is active now, or `None` if there is no such version.
    ///
    /// # Errors
    /// Fails when the store is unavailable.
    pub async fn activate(&self, agent: &AgentName, version: Option<&str>) -> Result<Option<Box<str>>, StoreError> {
        let (Some(store), Some(clock)) = (&self.store, &self.clock) else { return Ok(None) };
        self.settle().await?;
        let found = match version {
            Some(version) => store.version(agent, version).await?.map(Arc::new),
            None => self.removed(agent),
        };
        let Some(spec) = found else { return Ok(None) };
        let active = spec.version.clone();
        let offer = VersionOffer { spec, replaces: ReplacePolicy::Any };
        store.offer_versions(vec![offer], clock.now()).await?;
        self.announce(true);
        self.look().await?;
        Ok(Some(active))
    }

    /// Returns the files of this process that differ from the deployment.
    #[must_use]
    pub fn differences(&self) -> Vec<FileReport> {
        if self.store.is_none() {
            return Vec::new();
        }
        let (files, state) = (self.files.current(), self.lock());
        let running = state.agents.iter().filter(|(_, current)| !current.removed);
        let mut reports: Vec<FileReport> = running
            .filter_map(|(agent, current)| {
                let entry = files.entry(agent.as_str());
                let version = entry.and_then(|entry| entry.spec.as_ref()).map(|spec| spec.version.clone());
                let error = entry.and_then(finding_of);
                let same = error.is_none() && version.as_deref() == Some(&*current.spec.version);
                (!same).then(|| FileReport { agent: agent.clone(), version, error })
            })
            .collect();
        // A file that was never good, of an agent that the deployment does not have.
        let unknown = files.iter().filter(|(name, entry)| entry.spec.is_none() && !state.agents.contains_key(*name));
        reports.extend(unknown.map(|(name, entry)| FileReport {
            agent: name.clone(),
            version: None,
            error: finding_of(entry),
        }));
        reports.sort_unstable_by(|a, b| a.agent.cmp(&b.agent));
        reports.truncate(MAX_REPORTED);
        reports
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns whether the files of this process changed since they were offered.
    fn has_unoffered(&self) -> bool {
        let (files, state) = (self.files.current(), self.lock());
        state.offered.as_ref().is_none_or(|offered| !Arc::ptr_eq(offered, &files))
    }

    async fn look(&self) -> Result<(), StoreError> {
        let Some(store) = &self.store else { return Ok(()) };
        let _one = self.looking.lock().await;
        self.read(&**store).await?;
        if self.has_unoffered() && self.write(&**store, self.plan()).await? {
            self.read(&**store).await?;
        }
        self.assemble();
        Ok(())
    }

    /// Loads changes from the store.
    async fn read(&self, store: &dyn StateStore) -> Result<(), StoreError> {
        let known = self.lock().revision;
        if store.fleet_revision().await? == known {
            return Ok(());
        }
        self.take(store, store.fleet_since(known).await?).await
    }

    /// Takes over changes that the store has. Versions come from the files of this process where they are the same.
    async fn take(&self, store: &dyn StateStore, changes: FleetChanges) -> Result<(), StoreError> {
        let files = self.files.current();
        let mut missing = Vec::new();
        {
            let mut state = self.lock();
            state.agents.reserve(changes.rows.len());
            for FleetRow { agent, version, removed } in changes.rows {
                let same = |spec: &&Arc<AgentSpec>| *spec.version == *version;
                let here = files.entry(agent.as_str()).and_then(|entry| entry.spec.as_ref()).filter(same);
                let known = || state.agents.get(&agent).map(|current| &current.spec).filter(same);
                match here.or_else(known).cloned() {
                    Some(spec) => drop(state.agents.insert(agent, Current { removed, spec })),
                    None => missing.push((agent, version, removed)),
                }
            }
        }
        let load = async |(agent, version, removed): (AgentName, Box<str>, bool)| {
            let spec = store.version(&agent, &version).await?;
            Ok::<_, StoreError>((agent, version, removed, spec))
        };
        let mut loaded = futures_util::stream::iter(missing.into_iter().map(load)).buffer_unordered(LOADED_AT_ONCE);
        while let Some((agent, version, removed, spec)) = loaded.try_next().await? {
            match spec.map(Arc::new) {
                Some(spec) => drop(self.lock().agents.insert(agent, Current { removed, spec })),
                None => tracing::error!(%agent, %version, "the store lacks the agent version that the deployment runs"),
            }
        }
        self.lock().revision = changes.revision;
        Ok(())
    }

    /// Compares the files with the deployment.
    fn plan(&self) -> Changes {
        let (files, state) = (self.files.current(), self.lock());
        let mut offers = Vec::new();
        for (name, entry) in files.iter() {
            let Some(spec) = &entry.spec else { continue };
            if let Some(replaces) = self.offer_of(&state, name, spec, entry.has_unset_variables) {
                offers.push(VersionOffer { spec: Arc::clone(spec), replaces });
            }
        }
        // A folder without agents is more likely the wrong one than a deployment that ends; and an unreadable file
        // may be that of any agent.
        let is_readable = files.iter().all(|(_, entry)| entry.spec.is_some());
        let mut gone = Vec::new();
        if self.authority == Authority::Folder && !files.is_empty() && is_readable {
            let running = state.agents.iter().filter(|(_, current)| !current.removed);
            gone.extend(running.map(|(name, _)| name.clone()).filter(|name| files.entry(name.as_str()).is_none()));
        }
        drop(state);
        Changes { offers, gone, files }
    }

    /// Returns what a version in a file may replace; `None` if it is not offered.
    fn offer_of(&self, state: &State, name: &AgentName, spec: &AgentSpec, has_unset: bool) -> Option<ReplacePolicy> {
        let current = state.agents.get(name);
        let is_offered = state.offered(name) == Some(&*spec.version);
        if let Some(current) = current.filter(|current| current.spec.version == spec.version) {
            if !current.removed {
                return None;
            }
            if state.offered.is_none() {
                tracing::warn!(
                    agent = %name, version = %spec.version,
                    "this agent was removed from the deployment, and its file does not bring it back: delete the \
                     file, or run `agentry agents activate {name} {}`", spec.version
                );
            }
            if state.offered.is_none() || is_offered {
                return None;
            }
        }
        if self.authority == Authority::Folder {
            return Some(ReplacePolicy::Any);
        }
        // An offer that was not accepted is not repeated, and a file whose variables are not all set here never replaces
        // a version that was whole.
        if is_offered || (has_unset && current.is_some()) {
            return None;
        }
        Some(state.offered(name).map_or(ReplacePolicy::Nothing, |before| ReplacePolicy::Version(before.into())))
    }

    /// Writes changes to the store. Returns whether there were any.
    async fn write(&self, store: &dyn StateStore, changes: Changes) -> Result<bool, StoreError> {
        let Some(clock) = &self.clock else { return Ok(false) };
        let Changes { offers, gone, files } = changes;
        let changes = !offers.is_empty() || !gone.is_empty();
        if !offers.is_empty() {
            store.offer_versions(offers, clock.now()).await?;
        }
        if !gone.is_empty() {
            store.remove_agents(gone, clock.now()).await?;
        }
        self.lock().offered = Some(files);
        self.announce(changes);
        Ok(changes)
    }

    fn announce(&self, changed: bool) {
        if let Some(bus) = self.bus.as_ref().filter(|_| changed) {
            bus.signal(Signal::Fleet);
        }
    }

    /// Builds the fleet from the deployment's versions and the findings in this process's files.
    fn assemble(&self) {
        let (files, state) = (self.files.current(), self.lock());
        let (fleet, before) = (state.fleet(&files), self.fleet.current());
        if before.revision() != fleet.revision() || !before.same_entries(&fleet) {
            drop(state);
            self.fleet.replace(fleet);
        }
    }
}

impl State {
    /// Returns whether the deployment runs what these files have.
    fn runs(&self, files: &Fleet) -> bool {
        let is_same = |(agent, current): (&AgentName, &Current)| {
            !current.removed && version_in(files, agent) == Some(&*current.spec.version)
        };
        self.agents.len() == files.len() && self.agents.iter().all(is_same)
    }

    /// Takes over changes that the store is certain to accept, because the folder decides.
    fn apply(&mut self, changes: &Changes) {
        for VersionOffer { spec, .. } in &changes.offers {
            self.agents.insert(spec.name.clone(), Current { removed: false, spec: Arc::clone(spec) });
        }
        for name in &changes.gone {
            if let Some(current) = self.agents.get_mut(name) {
                current.removed = true;
            }
        }
        // Each of the two writes is a revision.
        self.revision += u64::from(!changes.offers.is_empty()) + u64::from(!changes.gone.is_empty());
    }

    /// Returns the agents of the deployment with the findings in these files. Shares the files' index if nothing differs.
    fn fleet(&self, files: &Fleet) -> Fleet {
        if self.runs(files) {
            return files.clone().with_revision(self.revision);
        }
        let mut agents: HashMap<AgentName, AgentEntry> = HashMap::with_capacity(self.agents.len());
        for (name, current) in self.agents.iter().filter(|(_, current)| !current.removed) {
            agents.insert(name.clone(), entry(current, files.entry(name.as_str())));
        }
        let removed: HashSet<&AgentName> =
            self.agents.iter().filter(|(_, current)| current.removed).map(|(name, _)| name).collect();
        for (name, entry) in files.iter().filter(|(name, _)| !removed.contains(name)) {
            // A file without a good version, of an agent that is not deployed.
            if entry.spec.is_none() && !agents.contains_key(name) {
                agents.insert(name.clone(), entry.clone());
            }
        }
        Fleet::new(agents).with_revision(self.revision)
    }
}

/// Returns the reason why a file cannot be used as it is.
fn finding_of(file: &AgentEntry) -> Option<String> {
    let unset = || file.warnings.first().filter(|_| file.has_unset_variables);
    file.error.as_ref().or_else(unset).map(ToString::to_string)
}

/// Returns the entry of a deployed agent, with the findings in its file.
fn entry(current: &Current, file: Option<&AgentEntry>) -> AgentEntry {
    let Some(file) = file else {
        let warning = format!(
            "this process has no file of the agent; it runs version {} of the deployment",
            current.spec.version
        );
        let spec = Some(Arc::clone(&current.spec));
        return AgentEntry {
            spec,
            file: NO_FILE.into(),
            error: None,
            warnings: vec![warning.into()],
            has_unset_variables: false,
        };
    };
    let mut warnings = file.warnings.clone();
    if let Some(spec) = file.spec.as_ref().filter(|spec| spec.version != current.spec.version) {
        let (here, runs) = (&spec.version, &current.spec.version);
        warnings.push(format!("the file of this process has version {here}; the deployment runs {runs}").into());
    }
    let spec = Some(Arc::clone(&current.spec));
    AgentEntry {
        spec,
        file: Arc::clone(&file.file),
        error: file.error.clone(),
        warnings,
        has_unset_variables: file.has_unset_variables,
    }
}
