//! Checks across files: missing collaborators, and agents that reach themselves through others.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, VecDeque};

use agentry_core::agent::AgentName;
use agentry_core::fleet::Fleet;

use super::assemble::{Member, at};
use crate::agent::NamedAgent;
use crate::problem::{Position, did_you_mean};

/// Maximum number of names in a message about a cycle.
const MAX_SHOWN: usize = 8;

/// Adds the problems of its collaborators to every member.
pub(crate) fn check(members: &mut HashMap<AgentName, Member<'_>>, previous: &Fleet) {
    let planners: Vec<AgentName> = members
        .iter()
        .filter(|(_, member)| !member.file.collaborators.is_empty())
        .map(|(name, _)| name.clone())
        .collect();
    if planners.is_empty() {
        return;
    }
    absent(&planners, members, previous);
    let graph = Graph::new(&planners, members);
    for start in 0..planners.len() {
        let Some(cycle) = graph.cycle_from(start) else { continue };
        let quoted = |node: usize| members.get(&planners[node]).map_or("?", Member::quoted_name).to_owned();
        let words: Vec<String> = cycle.iter().chain([&start]).map(|&node| quoted(node)).collect();
        let path = if words.len() > MAX_SHOWN {
            format!("{} → … → {}", words[..MAX_SHOWN - 2].join(" → "), words[words.len() - 2..].join(" → "))
        } else {
            words.join(" → ")
        };
        let second = cycle.get(1).map_or(&planners[start], |&node| &planners[node]);
        let Some(member) = members.get_mut(&planners[start]) else { continue };
        let named = member.file.collaborators.iter().find(|named| named.name == *second);
        let place = named.map_or_else(Position::default, |named| named.place);
        let second = named.map_or("this collaborator", NamedAgent::quoted);
        let message = format!("`{}` reaches itself through its collaborators", member.quoted_name());
        let problem = at(member.path, place, message)
            .label(path)
            .help(format!("remove `{second}` here, or one of the others further on"));
        member.problems.push(problem);
    }
}

fn absent(planners: &[AgentName], members: &mut HashMap<AgentName, Member<'_>>, previous: &Fleet) {
    for planner in planners {
        let Some(member) = members.get(planner) else { continue };
        let mut warnings = Vec::new();
        for named in &member.file.collaborators {
            let name = &named.name;
            if members.contains_key(name) || previous.entry(name.as_str()).is_some_and(|entry| entry.error.is_some()) {
                continue;
            }
            let warning =
                at(member.path, named.place, format!("collaborator `{}` is not in the fleet", named.quoted()))
                    .label("no plan can use it until it is")
                    .warning();
            // Neither the value of a variable nor a suggestion near it is shown.
            let plain = |member: &&Member<'_>| member.file.name.as_ref().is_none_or(|named| named.written.is_none());
            let others = members.values().filter(plain).map(|member| member.spec.name.as_str());
            let near = did_you_mean(name.as_str(), others).filter(|_| named.written.is_none());
            warnings.push(match near {
                Some(near) => warning.help(format!("did you mean `{near}`?")),
                None => warning,
            });
        }
        if let Some(member) = members.get_mut(planner) {
            member.warnings = warnings;
        }
    }
}

/// The collaboration graph among agents that plan: no other agent can be on a cycle.
struct Graph {
    edges: Vec<Vec<usize>>,
}

impl Graph {
    fn new(planners: &[AgentName], members: &HashMap<AgentName, Member<'_>>) -> Self {
        let number: HashMap<&AgentName, usize> = planners.iter().enumerate().map(|(i, name)| (name, i)).collect();
        let of = |name: &AgentName| -> Vec<usize> {
            let named = members.get(name).map(|member| member.file.collaborators.as_slice()).unwrap_or_default();
            named.iter().filter_map(|named| number.get(&named.name).copied()).collect()
        };
        Self { edges: planners.iter().map(of).collect() }
    }

    /// Returns the shortest cycle through a node, starting with it; `None` if there is none.
    fn cycle_from(&self, start: usize) -> Option<Vec<usize>> {
        let mut came_from: HashMap<usize, usize> = HashMap::new();
        let mut queue = VecDeque::from([start]);
        while let Some(node) = queue.pop_front() {
            for &next in &self.edges[node] {
                if next == start {
                    let mut path = vec![node];
                    while let Some(&before) =
                        path.last().filter(|&&last| last != start).and_then(|last| came_from.get(last))
                    {
                        path.push(before);
                    }
                    path.reverse();
                    return Some(path);
                }
                if let Entry::Vacant(unseen) = came_from.entry(next) {
                    unseen.insert(node);
                    queue.push_back(next);
                }
            }
        }
        None
    }
}
