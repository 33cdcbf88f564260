//! Agent files that scenarios need, each as (name, text).

/// An agent file: its name and its text.
pub type AgentFile = (String, String);

/// An agent of a mode whose calls go to the simulator of the run, in OpenAI's protocol.
pub fn agent(name: &str, mode: &str, more: &str) -> AgentFile {
    agent_of(name, mode, "openai", "gpt-4.1-mini", more)
}

/// An agent of a mode, a provider and a model; `more` is further YAML.
pub fn agent_of(name: &str, mode: &str, provider: &str, model: &str, more: &str) -> AgentFile {
    let text = format!(
        "name: {name}\nexecution_mode: {mode}\ndescription: Part of a measurement\n\
         system_prompt: Answer in one word.\nllm_config: {{provider: {provider}, model: {model}, temperature: 0.2}}\n{more}"
    );
    (name.to_owned(), text)
}

/// The agent whose answers cost nothing: what is left is the platform's own cost.
pub fn noop() -> AgentFile {
    agent_of("bench-noop", "autonomous", "simulated", "echo", "")
}

/// Agents of about forty lines, as a real file has, in the seed's mix of modes, none of which starts by itself: the
/// schedules fire once a year.
pub fn mixed(count: usize) -> Vec<AgentFile> {
    let mut instructions = String::from("instructions: |\n");
    for line in 0..30 {
        instructions.push_str(&format!("  Rule {line}: say what you know, ask what you do not, and keep it short.\n"));
    }
    (0..count)
        .map(|number| {
            let mode = ["autonomous", "continuous", "autonomous", "scheduled"][number % 4];
            let schedule = match mode {
                "scheduled" => "schedule_config: {type: cron, cron: \"0 0 1 1 *\", task_data: {say: happy new year}}\n",
                _ => "",
            };
            let more = format!(
                "tags: [a, b]\nretry_config: {{max_retries: 2, retry_delay_seconds: 1}}\n{schedule}{instructions}"
            );
            agent_of(&format!("test-agent-{number:05}"), mode, "simulated", "echo", &more)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_files_are_long_enough() {
        let fleet = mixed(50);
        let names: std::collections::BTreeSet<_> = fleet.iter().map(|(name, _)| name).collect();
        assert_eq!(names.len(), 50);
        assert!(fleet.iter().all(|(_, text)| text.lines().count() >= 38), "{}", fleet[0].1);
    }
}
