//! `agentry top`: the overview of a deployment in the terminal.
//!
//! It redraws the alternate screen once a second. If standard output is no terminal, it prints one snapshot.

use std::fmt::Write as _;
use std::time::Duration;

use agentry_api::{Activity, AgentQuery, AgentView, Client, List, Overview};
use agentry_core::fleet::AgentState;

use crate::cli;
use crate::failure::Failure;
use crate::out;
use crate::render::shown;
use crate::serve::StopSignals;

/// Interval of redraws, which is the interval of snapshots of the server.
const REFRESH: Duration = Duration::from_secs(1);
/// Default columns and lines.
const SIZE: (usize, usize) = (100, 40);
/// The alternate screen without a cursor, and back.
const ENTER: &str = "\u{1b}[?1049h\u{1b}[?25l";
const LEAVE: &str = "\u{1b}[?25h\u{1b}[?1049l";
/// To the first line; each line then clears what is behind it, so that nothing flickers.
const HOME: &str = "\u{1b}[H";
const CLEAR_LINE: &str = "\u{1b}[K";
const CLEAR_REST: &str = "\u{1b}[J";
/// Bars of a sparkline, from nothing to the most.
const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// States in display order.
const STATES: [AgentState; 6] = [
    AgentState::Healthy,
    AgentState::Starting,
    AgentState::Restarting,
    AgentState::Failed,
    AgentState::Invalid,
    AgentState::Disabled,
];

/// Draws until Ctrl-C, or once.
pub async fn top(args: &cli::TopArgs) -> Result<(), Failure> {
    let client = args.server.client()?;
    let limit = args.limit as usize;
    let first = snapshot(&client, limit).await?;
    if args.once || !out::is_terminal() {
        return out::print(&draw(&first, client.base(), SIZE.0, usize::MAX, None));
    }
    let mut signals = StopSignals::listen()?;
    out::print(ENTER)?;
    let drawn = live(&client, limit, first, &mut signals).await;
    out::print(LEAVE)?;
    drawn
}

async fn live(client: &Client, limit: usize, first: TopSnapshot, signals: &mut StopSignals) -> Result<(), Failure> {
    let (mut last, mut trouble) = (first, None);
    loop {
        let (columns, lines) = size();
        let text = draw(&last, client.base(), columns, lines, trouble.as_deref());
        let text = text.replace('\n', &format!("{CLEAR_LINE}\n"));
        out::print(&format!("{HOME}{text}{CLEAR_REST}"))?;
        tokio::select! {
            () = signals.next() => return Ok(()),
            () = tokio::time::sleep(REFRESH) => {}
        }
        match snapshot(client, limit).await {
            Ok(snapshot) => (last, trouble) = (snapshot, None),
            // The next snapshot may succeed.
            Err(failure) => trouble = failure.text(false).and_then(|text| text.lines().next().map(str::to_owned)),
        }
    }
}

/// The displayed data.
struct TopSnapshot {
    overview: Overview,
    agents: Vec<AgentView>,
    more: bool,
}

async fn snapshot(client: &Client, limit: usize) -> Result<TopSnapshot, Failure> {
    let overview = client.overview().await?;
    let query = AgentQuery { limit: Some(limit), ..AgentQuery::default() };
    let List { items: agents, next_cursor } = client.agents(&query).await?;
    Ok(TopSnapshot { overview, agents, more: next_cursor.is_some() })
}

fn size() -> (usize, usize) {
    terminal_size::terminal_size().map_or(SIZE, |(width, height)| (usize::from(width.0), usize::from(height.0)))
}

fn spark(activity: &Activity) -> String {
    let most = f64::from(activity.spark.iter().copied().max().unwrap_or(0).max(1));
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a share of seven")]
    activity.spark.iter().map(|bar| BARS[((f64::from(*bar) / most) * 7.0).round() as usize]).collect()
}

fn took(ms: Option<f64>) -> String {
    match ms {
        None => "–".to_owned(),
        Some(ms) if ms < 1_000.0 => format!("{ms:.0} ms"),
        Some(ms) if ms < 60_000.0 => format!("{:.1} s", ms / 1e3),
        Some(ms) => format!("{:.1} min", ms / 6e4),
    }
}

/// Truncates a line with an ellipsis, and removes control characters, which must not reach the terminal.
fn cut(text: &str, most: usize) -> String {
    let clean: Vec<char> = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    if clean.len() <= most {
        return clean.into_iter().collect();
    }
    clean[..most.saturating_sub(1)].iter().chain(&['…']).collect()
}

fn draw(seen: &TopSnapshot, url: &str, columns: usize, lines: usize, trouble: Option<&str>) -> String {
    let (now, activity) = (&seen.overview, &seen.overview.activity);
    let states = STATES.iter().filter_map(|state| Some((state, now.agents.get(state).filter(|n| **n > 0)?)));
    let states = states.map(|(state, n)| format!("{n} {}", state.as_str())).collect::<Vec<_>>().join("  ");
    #[allow(clippy::cast_precision_loss, reason = "counts of a few thousand")]
    let errors = 100.0 * activity.failed as f64 / activity.ended.max(1) as f64;
    let head = [
        format!("agentry {} · {} engine · {url}", now.version, now.engine),
        trouble.map_or_else(|| format!("● live   {states}"), |trouble| format!("▲ {trouble}")),
        format!(
            "{:.0} tasks/min {}   p95 {}   errors {errors:.1} %   {} queued, {} running, {} waiting   today ${}",
            activity.per_minute,
            spark(activity),
            took(activity.p95_ms),
            now.tasks.queued,
            now.tasks.running,
            now.tasks.waiting,
            now.cost_usd_today,
        ),
        format!(
            "{} of {} workers alive   {} questions for people   {} dead letters",
            now.workers_alive, now.workers, now.questions_open, now.dead_letters_open,
        ),
        String::new(),
        format!(
            "{:<24} {:<14} {:<7} {:<12} {:>9} {:<12} {:>9} {:>7} {:>7}",
            "agent", "mode", "version", "state", "tasks/min", "", "p95", "errors", "queue"
        ),
    ];
    let mut text = String::new();
    // One line stays free, so that the terminal does not scroll.
    let room = lines.saturating_sub(head.len() + 1);
    for line in head.into_iter().chain(seen.agents.iter().take(room).map(row)) {
        let _ = writeln!(text, "{}", cut(&line, columns));
    }
    if seen.more && seen.agents.len() < room {
        let _ = writeln!(text, "more: --limit, or the dashboard at {url}");
    }
    text
}

fn row(agent: &AgentView) -> String {
    // A word and a shape for every state.
    let shape = match agent.status {
        AgentState::Healthy => '●',
        AgentState::Starting | AgentState::Restarting => '◐',
        AgentState::Disabled => '◌',
        AgentState::Failed | AgentState::Invalid => '▲',
    };
    let (name, mode, state) = (cut(agent.name.as_str(), 24), shown(&agent.mode), agent.status.as_str());
    let version: String = shown(&agent.version).chars().take(6).collect();
    let start = format!("{name:<24} {mode:<14} {version:<7} {shape} {state:<10}");
    if let Some(error) = agent.error.as_ref().filter(|_| shape == '▲') {
        return format!("{start} {error}");
    }
    let activity = &agent.activity;
    format!(
        "{start} {:>9.0} {:<12} {:>9} {:>7} {:>7}",
        activity.per_minute,
        spark(activity),
        took(activity.p95_ms),
        activity.failed,
        activity.queued,
    )
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_picture_fits_its_terminal_and_lets_no_control_character_through() {
        let activity = json!({"accepted": 10, "ended": 10, "failed": 1, "queued": 0, "per_minute": 12.0, "p95_ms": 1500.0,
            "spark": [0, 1, 2]});
        let mut overview = json!({"version": "1", "engine": "embed\u{1b}[2Jded", "agents": {"healthy": 1}, "window_seconds": 600.0,
            "tasks": {"queued": 0, "running": 0, "waiting": 0}, "cost_usd_today": "0.5", "questions_open": 0,
            "dead_letters_open": 0, "workers_alive": 1, "workers": 1});
        overview.as_object_mut().unwrap().extend(activity.as_object().unwrap().clone());
        let overview = serde_json::from_value(overview).unwrap();
        let evil = json!({"name": "a", "status": "invalid", "error": "agents/a\u{1b}[2J.yml:1:1: \u{7}bad", "file": "a.yml",
            "tags": [], "subscriptions": [], "warnings": [], "activity": activity, "counters": {"restarts": 0,
            "llm_calls_today": 0, "failed_calls_today": 0, "input_tokens_today": 0, "output_tokens_today": 0,
            "cost_usd_today": "0"}});
        let agents = vec![serde_json::from_value(evil).unwrap(); 50];
        let text = draw(&TopSnapshot { overview, agents, more: true }, "http://h", 60, 20, None);
        assert_eq!(text.lines().count(), 19);
        assert!(text.lines().all(|line| line.chars().count() <= 60));
        assert!(!text.contains('\u{1b}') && !text.contains('\u{7}'), "{text}");
        assert!(text.contains("errors 10.0 %") || text.contains("p95 1.5 s"), "{text}");
        assert!(text.contains("▲ invalid") && text.contains("▁▅█"), "{text}");
    }
}
