//! Start-up, memory and idle cost.

use std::time::Duration;

use super::server::{Server, agent};

/// Agents of about forty lines.
pub fn fleet(count: usize) -> Vec<(String, String)> {
    (0..count)
        .map(|n| {
            let name = format!("agent-{n:05}");
            let mut text = agent(&name, "autonomous", "openai", "gpt-4.1-mini");
            text.push_str("tags: [a, b]\nretry_config: {max_retries: 2, retry_delay_seconds: 1}\n");
            // About forty lines, like a real file.
            text.push_str("instructions: |\n");
            for line in 0..30 {
                text.push_str(&format!("  Rule {line}: say what you know, ask what you do not, and keep it short.\n"));
            }
            (name, text)
        })
        .collect()
}

/// Process start to all agents healthy, five times; memory above a server of one agent.
pub async fn measure(count: usize) {
    let base = {
        let server = Server::start(&fleet(1), &[]);
        server.wait("agentry_agents{state=\"healthy\"}", |healthy| healthy == 1).await;
        server.pss_kib()
    };
    let mut times = Vec::new();
    let mut kib = 0.0;
    for _ in 0..5 {
        let server = Server::start(&fleet(count), &[]);
        server.wait("agentry_agents{state=\"healthy\"}", |healthy| healthy == count as u64).await;
        times.push(server.spawned.elapsed().as_secs_f64() * 1_000.0);
        kib = (server.pss_kib() as f64 - base as f64) / (count as f64 - 1.0);
    }
    println!(
        "startup {count} agents: {} ms to all healthy; {kib:.1} KiB per agent over {base} KiB",
        super::spread(times)
    );
}

/// Processor time of a server that has nothing to do.
pub async fn idle(count: usize, window: Duration) {
    let server = Server::start(&fleet(count), &[]);
    server.wait("agentry_agents{state=\"healthy\"}", |healthy| healthy == count as u64).await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    let before = server.cpu();
    tokio::time::sleep(window).await;
    let share = (server.cpu() - before).as_secs_f64() / window.as_secs_f64() * 100.0;
    println!("idle {count} agents: {share:.2} % of a core over {} s", window.as_secs());
}
