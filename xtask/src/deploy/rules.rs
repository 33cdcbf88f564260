//! What no schema knows: the services of the deployment are all there, agree with the process-level twin, and are
//! given time to drain.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::cluster::{POOLS, Pool};

/// The servers beside our own services.
const SERVERS: [&str; 3] = ["postgres", "redis", "rabbitmq"];
/// The service that makes the first API keys, before anything of ours answers.
const FIRST_KEYS: &str = "first-keys";
/// The margin between the drain time and the kill of a process, in seconds.
const MARGIN: u64 = 10;

/// Problems of the Compose file.
pub fn compose(file: &Value) -> Vec<String> {
    let mut problems = Vec::new();
    let command = &file["services"][FIRST_KEYS]["command"];
    if command[0] != "keys" || command[1] != "init" {
        problems.push(format!("compose.yml: {FIRST_KEYS} is missing, or does not run `agentry keys init`"));
    }
    for (name, service) in file["services"].as_object().into_iter().flatten() {
        let open = &service["environment"]["AGENTRY_ALLOW_UNAUTHENTICATED"];
        if !open.is_null() && open != "false" {
            problems.push(format!("compose.yml: {name}: answers without API keys"));
        }
    }
    for server in SERVERS {
        if file["services"][server]["healthcheck"]["test"].is_null() {
            problems.push(format!("compose.yml: {server} is missing, or has no health check"));
        }
    }
    for pool in POOLS {
        let service = &file["services"][pool.service];
        let mut problem = |text: String| problems.push(format!("compose.yml: {}: {text}", pool.service));
        if service.is_null() {
            problem("is missing".to_owned());
            continue;
        }
        if !service["container_name"].is_null() {
            problem("has a container_name, so it cannot be scaled".to_owned());
        }
        for server in SERVERS {
            if service["depends_on"][server]["condition"] != "service_healthy" {
                problem(format!("does not wait until {server} is healthy"));
            }
        }
        if service["depends_on"][FIRST_KEYS]["condition"] != "service_completed_successfully" {
            problem(format!("does not wait for the keys of {FIRST_KEYS}"));
        }
        let setting = |key: &str| service["environment"][key].as_str();
        agree(pool, setting("AGENTRY_ROLE"), setting("AGENTRY_MODE"), &mut problem);
        let grace = service["stop_grace_period"].as_str().and_then(seconds);
        enough_time(setting("AGENTRY_DRAIN").and_then(|text| text.parse().ok()), grace, 0, &mut problem);
        for port in service["ports"].as_array().into_iter().flatten() {
            if !port.as_str().is_some_and(|port| port.starts_with("127.0.0.1:")) {
                problem(format!("publishes {port} beyond loopback, without TLS"));
            }
        }
    }
    problems
}

/// Problems of the manifests.
pub fn kubernetes(manifests: &[Value]) -> Vec<String> {
    let mut problems = Vec::new();
    let of_kind = |kind: &'static str| manifests.iter().filter(move |manifest| manifest["kind"] == kind);
    let settings = of_kind("ConfigMap").find(|map| map["metadata"]["name"] == "agentry-settings");
    let drain = settings.and_then(|map| map["data"]["AGENTRY_DRAIN"].as_str()).and_then(|text| text.parse().ok());
    for pool in POOLS {
        let mut problem = |text: String| problems.push(format!("kubernetes: {}: {text}", pool.service));
        let named = |kind| of_kind(kind).find(|manifest| manifest["metadata"]["name"] == pool.service);
        let Some(deployment) = named("Deployment") else {
            problem("there is no Deployment".to_owned());
            continue;
        };
        deployment_problems(pool, deployment, drain, &mut problem);
        let labels = &deployment["spec"]["template"]["metadata"]["labels"];
        match named("PodDisruptionBudget") {
            Some(budget) if budget["spec"]["selector"]["matchLabels"] == *labels => {}
            Some(_) => problem("its PodDisruptionBudget selects other pods".to_owned()),
            None => problem("there is no PodDisruptionBudget".to_owned()),
        }
        if pool.modes.is_some() {
            match named("HorizontalPodAutoscaler") {
                None => problem("there is no HorizontalPodAutoscaler".to_owned()),
                Some(scaler) if scaler["spec"]["scaleTargetRef"]["name"] != pool.service => {
                    problem("its HorizontalPodAutoscaler scales something else".to_owned());
                }
                Some(_) if !deployment["spec"]["replicas"].is_null() => {
                    problem("has a number of replicas: each apply would undo the autoscaler".to_owned());
                }
                Some(_) => {}
            }
        }
    }
    let namespaces: BTreeSet<&str> = manifests
        .iter()
        .filter(|manifest| manifest["kind"] != "Namespace")
        .map(|manifest| manifest["metadata"]["namespace"].as_str().unwrap_or("(none)"))
        .collect();
    if namespaces.len() > 1 {
        problems.push(format!("kubernetes: more than one namespace: {namespaces:?}"));
    }
    for service in of_kind("Service") {
        if let Some(settings) = settings {
            problems.extend(unnamed_host(&settings["data"], &service["metadata"]));
        }
        let serves = |deployment: &Value| {
            let labels = &deployment["spec"]["template"]["metadata"]["labels"];
            let selector = service["spec"]["selector"].as_object();
            selector.is_some_and(|selector| selector.iter().all(|(key, value)| labels[key] == *value))
        };
        if !of_kind("Deployment").any(serves) {
            problems.push(format!("kubernetes: service {} selects no pods", service["metadata"]["name"]));
        }
    }
    problems
}

/// A server that answers without keys refuses names that it was not told, also those of its own Service.
fn unnamed_host(settings: &Value, service: &Value) -> Option<String> {
    let (name, namespace) = (service["name"].as_str()?, service["namespace"].as_str()?);
    let hosts: Vec<&str> = settings["AGENTRY_ALLOWED_HOSTS"].as_str().unwrap_or_default().split(',').collect();
    let wanted = [name.to_owned(), format!("{name}.{namespace}.svc"), format!("{name}.{namespace}.svc.cluster.local")];
    let missing = wanted.iter().find(|host| !hosts.contains(&host.as_str()))?;
    let is_open = settings["AGENTRY_ALLOW_UNAUTHENTICATED"] == "true";
    is_open.then(|| format!("kubernetes: {missing} is not in AGENTRY_ALLOWED_HOSTS, so without keys it is refused"))
}

fn deployment_problems(pool: &Pool, deployment: &Value, drain: Option<u64>, problem: &mut impl FnMut(String)) {
    let pod = &deployment["spec"]["template"]["spec"];
    let container = &pod["containers"][0];
    let env = container["env"].as_array().cloned().unwrap_or_default();
    let setting = |key: &str| env.iter().find(|one| one["name"] == key).and_then(|one| one["value"].as_str());
    agree(pool, setting("AGENTRY_ROLE"), setting("AGENTRY_MODE"), problem);
    // The hook runs inside the grace period.
    let hook = container["lifecycle"]["preStop"]["exec"]["command"][1].as_str().and_then(|text| text.parse().ok());
    enough_time(drain, pod["terminationGracePeriodSeconds"].as_u64(), hook.unwrap_or(0), problem);
    for (probe, path) in [("livenessProbe", "/health/live"), ("readinessProbe", "/health/ready")] {
        if container[probe]["httpGet"]["path"] != path {
            problem(format!("{probe} does not ask {path}"));
        }
    }
    if pod["securityContext"]["runAsNonRoot"] != true || container["securityContext"]["readOnlyRootFilesystem"] != true
    {
        problem("may run as root, or write to its root file system".to_owned());
    }
    let selected = &deployment["spec"]["selector"]["matchLabels"];
    if deployment["spec"]["template"]["metadata"]["labels"] != *selected {
        problem("its selector does not match its pods".to_owned());
    }
}

/// Roles and modes are those of the twin, so that what is tested is what is deployed.
fn agree(pool: &Pool, roles: Option<&str>, modes: Option<&str>, problem: &mut impl FnMut(String)) {
    if roles != Some(pool.roles) || modes != pool.modes {
        problem(format!(
            "has roles {roles:?} and modes {modes:?}; `cargo xtask cluster` has {:?} and {:?}",
            pool.roles, pool.modes
        ));
    }
}

fn enough_time(drain: Option<u64>, grace: Option<u64>, before: u64, problem: &mut impl FnMut(String)) {
    match (drain, grace) {
        (Some(drain), Some(grace)) if grace >= before + drain + MARGIN => {}
        _ => {
            problem(format!("is given {grace:?} s to end; it needs {before} + {drain:?} (AGENTRY_DRAIN) + {MARGIN} s"))
        }
    }
}

/// `45s` or `1m`.
fn seconds(text: &str) -> Option<u64> {
    match text.strip_suffix('s') {
        Some(number) => number.parse().ok(),
        None => text.strip_suffix('m')?.parse::<u64>().ok().map(|minutes| minutes * 60),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn good_compose() -> Value {
        let mut services = serde_json::Map::new();
        for server in SERVERS {
            services.insert(server.to_owned(), json!({"healthcheck": {"test": ["CMD", "true"]}}));
        }
        services.insert(FIRST_KEYS.to_owned(), json!({"command": ["keys", "init", "/keys"], "environment": {}}));
        let healthy = json!({"condition": "service_healthy"});
        for pool in POOLS {
            let mut environment = json!({"AGENTRY_ROLE": pool.roles, "AGENTRY_DRAIN": "30"});
            if let Some(modes) = pool.modes {
                environment["AGENTRY_MODE"] = json!(modes);
            }
            let service = json!({
                "environment": environment, "stop_grace_period": "45s",
                "depends_on": {"postgres": healthy, "redis": healthy, "rabbitmq": healthy,
                    "first-keys": {"condition": "service_completed_successfully"}},
            });
            services.insert(pool.service.to_owned(), service);
        }
        json!({"services": services})
    }

    #[test]
    fn each_broken_rule_of_compose_is_said_once() {
        assert_eq!(compose(&good_compose()), [] as [&str; 0]);
        let breaks: [(&str, Value, &str); 9] = [
            ("/services/api/stop_grace_period", json!("35s"), "is given Some(35) s"),
            ("/services/api/environment/AGENTRY_ROLE", json!("api"), "has roles Some(\"api\")"),
            ("/services/scheduler/depends_on/redis", json!({}), "does not wait until redis"),
            ("/services/redis/healthcheck", json!({}), "redis is missing, or has no health check"),
            ("/services/autonomous-agent-pool", Value::Null, "autonomous-agent-pool: is missing"),
            ("/services/api/environment/AGENTRY_DRAIN", json!("60"), "it needs 0 + Some(60)"),
            ("/services/api/depends_on/first-keys", json!({}), "does not wait for the keys"),
            ("/services/first-keys/command", json!(["serve"]), "does not run `agentry keys init`"),
            ("/services/first-keys/environment", json!({"AGENTRY_ALLOW_UNAUTHENTICATED": "true"}), "without API keys"),
        ];
        for (at, value, said) in breaks {
            let mut file = good_compose();
            *file.pointer_mut(at).unwrap() = value;
            let problems = compose(&file);
            assert_eq!(problems.len(), 1, "{at}: {problems:?}");
            assert!(problems[0].contains(said), "{at}: {problems:?}");
        }
        let mut file = good_compose();
        file["services"]["autonomous-agent-pool"]["container_name"] = json!("pool");
        file["services"]["api"]["ports"] = json!(["8080:8080", "127.0.0.1:8081:8080"]);
        assert_eq!(compose(&file).len(), 2);
    }

    fn good_manifests() -> Vec<Value> {
        let mut all = vec![json!({
            "kind": "ConfigMap", "metadata": {"name": "agentry-settings", "namespace": "agentry"},
            "data": {"AGENTRY_DRAIN": "30", "AGENTRY_ALLOW_UNAUTHENTICATED": "true",
                "AGENTRY_ALLOWED_HOSTS": "api,api.agentry.svc,api.agentry.svc.cluster.local"},
        })];
        for pool in POOLS {
            let metadata = json!({"name": pool.service, "namespace": "agentry"});
            let labels = json!({"component": pool.service});
            let mut env = vec![json!({"name": "AGENTRY_ROLE", "value": pool.roles})];
            env.extend(pool.modes.map(|modes| json!({"name": "AGENTRY_MODE", "value": modes})));
            let container = json!({
                "env": env,
                "lifecycle": {"preStop": {"exec": {"command": ["sleep", "5"]}}},
                "livenessProbe": {"httpGet": {"path": "/health/live"}},
                "readinessProbe": {"httpGet": {"path": "/health/ready"}},
                "securityContext": {"readOnlyRootFilesystem": true},
            });
            let pod = json!({
                "terminationGracePeriodSeconds": 50, "securityContext": {"runAsNonRoot": true}, "containers": [container],
            });
            all.push(json!({"kind": "Deployment", "metadata": metadata, "spec": {
                "selector": {"matchLabels": labels}, "template": {"metadata": {"labels": labels}, "spec": pod},
            }}));
            all.push(json!({"kind": "PodDisruptionBudget", "metadata": metadata, "spec": {"selector": {"matchLabels": labels}}}));
            if pool.modes.is_some() {
                all.push(json!({"kind": "HorizontalPodAutoscaler", "metadata": metadata,
                    "spec": {"scaleTargetRef": {"name": pool.service}}}));
            }
        }
        all.push(json!({"kind": "Service", "metadata": {"name": "api", "namespace": "agentry"},
            "spec": {"selector": {"component": "api"}}}));
        all
    }

    #[test]
    fn each_broken_rule_of_the_manifests_is_said_once() {
        assert_eq!(kubernetes(&good_manifests()), [] as [&str; 0]);
        let pod = "/spec/template/spec";
        // Manifest 1 is the API's Deployment, 2 its budget, 7 the autonomous pool's Deployment.
        let breaks: [(usize, String, Value, &str); 9] = [
            (0, "/data/AGENTRY_DRAIN".to_owned(), json!("30"), ""),
            (0, "/data/AGENTRY_ALLOWED_HOSTS".to_owned(), json!("api"), "api.agentry.svc is not in"),
            (1, format!("{pod}/terminationGracePeriodSeconds"), json!(44), "it needs 5 + Some(30)"),
            (1, format!("{pod}/containers/0/readinessProbe"), json!({}), "readinessProbe does not ask"),
            (1, format!("{pod}/securityContext"), json!({}), "may run as root"),
            (1, format!("{pod}/containers/0/env/0/value"), json!("worker"), "has roles Some(\"worker\")"),
            (2, "/spec/selector/matchLabels/component".to_owned(), json!("x"), "selects other pods"),
            (2, "/metadata/namespace".to_owned(), json!("default"), "more than one namespace"),
            (2, "/kind".to_owned(), json!("Other"), "there is no PodDisruptionBudget"),
        ];
        for (index, at, value, said) in breaks {
            let mut manifests = good_manifests();
            *manifests[index].pointer_mut(&at).unwrap() = value;
            let problems = kubernetes(&manifests);
            assert_eq!(problems.len(), usize::from(!said.is_empty()), "{at}: {problems:?}");
            assert!(problems.iter().all(|problem| problem.contains(said)), "{at}: {problems:?}");
        }
    }

    #[test]
    fn times_are_read() {
        assert_eq!((seconds("45s"), seconds("2m"), seconds("soon")), (Some(45), Some(120), None));
    }
}
