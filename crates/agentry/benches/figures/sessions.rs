//! Conversations: many at once, and one that is long.

use std::time::Instant;

use super::http::{get, post};
use super::server::{Server, agent};
use super::spread;

fn chat() -> Vec<(String, String)> {
    vec![("chat".to_owned(), agent("chat", "continuous", "simulated", "echo"))]
}

/// Two hundred sessions of one agent, messages offered in batches that touch every session; order read back.
pub async fn throughput(rounds: usize) {
    const SESSIONS: usize = 200;
    const TURNS: usize = 50;
    let mut rates = Vec::new();
    for _ in 0..rounds {
        let server = Server::start(&chat(), &[]);
        let mut connection = server.connect().await;
        let began = Instant::now();
        for turn in 0..TURNS {
            let tasks: Vec<String> = (0..SESSIONS)
                .map(|s| format!("{{\"agent\":\"chat\",\"session\":\"s{s}\",\"input\":\"turn {turn}\"}}"))
                .collect();
            let request = post("/v1/tasks/batch", &format!("{{\"tasks\":[{}]}}", tasks.join(",")));
            assert_eq!(connection.send(&request).await.0, 200);
        }
        server.drained().await;
        rates.push((SESSIONS * TURNS) as f64 / began.elapsed().as_secs_f64());
        for session in 0..SESSIONS {
            let (status, body) = connection.send(&get(&format!("/v1/sessions/chat:s{session}?limit=1000"))).await;
            assert_eq!(status, 200);
            let view: serde_json::Value = serde_json::from_slice(body).unwrap();
            let messages = view["history"].as_array().unwrap();
            let said: Vec<&str> = messages
                .iter()
                .filter(|m| m["message"]["role"] == "user" || m["role"] == "user")
                .filter_map(|m| m["message"]["content"].as_str().or(m["content"].as_str()))
                .collect();
            let expected: Vec<String> = (0..TURNS).map(|turn| format!("turn {turn}")).collect();
            assert_eq!(said, expected, "session {session} is in order");
        }
    }
    println!("200 sessions of one agent: {} messages/s, order verified in each", spread(rates));
}

/// Ten thousand turns of one session, one after another: time and bytes of the first and the last thousand.
pub async fn long() {
    const TURNS: usize = 10_000;
    let server = Server::start(&chat(), &[]);
    let mut connection = server.connect().await;
    let data = server.dir.path().join("data");
    let stored = || -> u64 { std::fs::metadata(data.join("agentry.db")).map_or(0, |file| file.len()) };
    let mut marks = vec![(Instant::now(), stored())];
    for turn in 0..TURNS {
        let body = format!("{{\"agent\":\"chat\",\"session\":\"long\",\"input\":\"turn number {turn:05}\"}}");
        let (status, _) = connection.send(&post("/v1/tasks?wait=10", &body)).await;
        assert_eq!(status, 200);
        if (turn + 1) % 1_000 == 0 {
            marks.push((Instant::now(), stored()));
        }
    }
    let millis: Vec<f64> = marks.windows(2).map(|pair| (pair[1].0 - pair[0].0).as_secs_f64()).collect();
    let (first, last) = (millis[0], millis[millis.len() - 1]);
    let bytes = (marks[TURNS / 1_000].1 - marks[2].1) as f64 / (TURNS as f64 - 2_000.0);
    println!(
        "one session of {TURNS} turns: first thousand {first:.2} ms a turn, last {last:.2} ({:+.1} %); {bytes:.0} bytes a turn in the file; thousands: {}",
        (last / first - 1.0) * 100.0,
        millis.iter().map(|ms| format!("{ms:.2}")).collect::<Vec<_>>().join(" ")
    );
}
