//! `agentry top`: the dashboard's first page in the terminal, from the same API.
//!
//! Drawn anew once a second on the alternate screen, so that the shell's lines are untouched afterwards. Where standard
//! output is no terminal, one picture is printed.

use std::fmt::Write as _;
use std::time::Duration;

use serde_json::Value;

use crate::cli;
use crate::client::Client;
use crate::failure::Failure;
use crate::out;
use crate::serve::StopSignals;

/// How often it is drawn: as often as the server looks.
const EVERY: Duration = Duration::from_secs(1);
/// Columns and lines where nobody says.
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

/// Draws until Ctrl-C, or once.
///
/// # Errors
/// When the server is not there at the first look, or refuses.
pub async fn top(args: &cli::Top) -> Result<(), Failure> {
    let client = args.server.client()?;
    let limit = args.limit as usize;
    let first = picture(&client, limit).await?;
    if args.once || !out::is_terminal() {
        return out::print(&draw(&first, client.base(), SIZE.0, usize::MAX, None));
    }
    let mut signals = StopSignals::listen()?;
    out::print(ENTER)?;
    let drawn = live(&client, limit, first, &mut signals).await;
    out::print(LEAVE)?;
    drawn
}

async fn live(client: &Client, limit: usize, first: Picture, signals: &mut StopSignals) -> Result<(), Failure> {
    let (mut last, mut trouble) = (first, None);
    loop {
        let (columns, lines) = size();
        let text = draw(&last, client.base(), columns, lines, trouble.as_deref());
        let text = text.replace('\n', &format!("{CLEAR_LINE}\n"));
        out::print(&format!("{HOME}{text}{CLEAR_REST}"))?;
        tokio::select! {
            () = signals.next() => return Ok(()),
            () = tokio::time::sleep(EVERY) => {}
        }
        match picture(client, limit).await {
            Ok(picture) => (last, trouble) = (picture, None),
            // It comes back when the server does.
            Err(failure) => trouble = failure.text(false).and_then(|text| text.lines().next().map(str::to_owned)),
        }
    }
}

/// What was seen at one moment.
struct Picture {
    overview: Value,
    agents: Vec<Value>,
    more: bool,
}

async fn picture(client: &Client, limit: usize) -> Result<Picture, Failure> {
    let overview = client.get(&["v1", "overview"], &[]).await?;
    let page = client.get(&["v1", "agents"], &[("limit", limit.to_string())]).await?;
    let agents = page.get("items").and_then(Value::as_array).cloned().unwrap_or_default();
    Ok(Picture { overview, agents, more: page.get("next_cursor").is_some() })
}

fn size() -> (usize, usize) {
    terminal_size::terminal_size().map_or(SIZE, |(width, height)| (usize::from(width.0), usize::from(height.0)))
}

fn number(value: &Value, pointer: &str) -> f64 {
    value.pointer(pointer).and_then(Value::as_f64).unwrap_or(0.0)
}

fn word<'v>(value: &'v Value, pointer: &str) -> &'v str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or("–")
}

fn spark(value: &Value, pointer: &str) -> String {
    let bars: Vec<f64> = value
        .pointer(pointer)
        .and_then(Value::as_array)
        .map_or_else(Vec::new, |bars| bars.iter().map(|bar| bar.as_f64().unwrap_or(0.0)).collect());
    let most = bars.iter().copied().fold(1.0, f64::max);
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a share of seven")]
    bars.iter().map(|bar| BARS[((bar / most) * 7.0).round() as usize]).collect()
}

fn took(ms: Option<f64>) -> String {
    match ms {
        None => "–".to_owned(),
        Some(ms) if ms < 1_000.0 => format!("{ms:.0} ms"),
        Some(ms) if ms < 60_000.0 => format!("{:.1} s", ms / 1e3),
        Some(ms) => format!("{:.1} min", ms / 6e4),
    }
}

/// At most so many characters of a line; what is cut ends with an ellipsis. Control characters from a file or a caller
/// must not reach the terminal.
fn cut(text: &str, most: usize) -> String {
    let clean: Vec<char> = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    if clean.len() <= most {
        return clean.into_iter().collect();
    }
    clean[..most.saturating_sub(1)].iter().chain(&['…']).collect()
}

fn draw(seen: &Picture, url: &str, columns: usize, lines: usize, trouble: Option<&str>) -> String {
    let now = &seen.overview;
    let states = ["healthy", "starting", "restarting", "failed", "invalid", "disabled"];
    let states = states.iter().map(|state| (state, number(now, &format!("/agents/{state}")))).filter(|(_, n)| *n > 0.0);
    let states = states.map(|(state, n)| format!("{n} {state}")).collect::<Vec<_>>().join("  ");
    let ended = number(now, "/ended").max(1.0);
    let head = [
        format!("agentry {} · {} engine · {url}", word(now, "/version"), word(now, "/engine")),
        trouble.map_or_else(|| format!("● live   {states}"), |trouble| format!("▲ {trouble}")),
        format!(
            "{:.0} tasks/min {}   p95 {}   errors {:.1} %   {} queued, {} running, {} waiting   today ${}",
            number(now, "/per_minute"),
            spark(now, "/spark"),
            took(now.pointer("/p95_ms").and_then(Value::as_f64)),
            100.0 * number(now, "/failed") / ended,
            number(now, "/tasks/queued"),
            number(now, "/tasks/running"),
            number(now, "/tasks/waiting"),
            word(now, "/cost_usd_today"),
        ),
        format!(
            "{} of {} workers alive   {} questions for people   {} dead letters",
            number(now, "/workers_alive"),
            number(now, "/workers"),
            number(now, "/questions_open"),
            number(now, "/dead_letters_open"),
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

fn row(agent: &Value) -> String {
    let state = word(agent, "/status");
    // A word and a shape for every state.
    let shape = match state {
        "healthy" => '●',
        "starting" | "restarting" => '◐',
        "disabled" => '◌',
        _ => '▲',
    };
    let (name, mode) = (cut(word(agent, "/name"), 24), word(agent, "/mode"));
    let version: String = word(agent, "/version").chars().take(6).collect();
    let start = format!("{name:<24} {mode:<14} {version:<7} {shape} {state:<10}");
    if let Some(error) = agent.pointer("/error").and_then(Value::as_str).filter(|_| shape == '▲') {
        return format!("{start} {error}");
    }
    let p95 = took(agent.pointer("/activity/p95_ms").and_then(Value::as_f64));
    format!(
        "{start} {:>9.0} {:<12} {p95:>9} {:>7} {:>7}",
        number(agent, "/activity/per_minute"),
        spark(agent, "/activity/spark"),
        number(agent, "/activity/failed"),
        number(agent, "/activity/queued"),
    )
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_picture_fits_its_terminal_and_lets_no_control_character_through() {
        let overview = json!({"version": "1", "engine": "embedded", "agents": {"healthy": 1}, "spark": [0, 1, 2],
            "per_minute": 12.0, "p95_ms": 1500.0, "ended": 10, "failed": 1, "cost_usd_today": "0.5"});
        let evil = json!({"name": "a\u{1b}[2Jb", "status": "invalid", "error": "agents/a.yml:1:1: \u{7}bad"});
        let agents = vec![evil; 50];
        let text = draw(&Picture { overview, agents, more: true }, "http://h", 60, 20, None);
        assert_eq!(text.lines().count(), 19);
        assert!(text.lines().all(|line| line.chars().count() <= 60));
        assert!(!text.contains('\u{1b}') && !text.contains('\u{7}'), "{text}");
        assert!(text.contains("errors 10.0 %") || text.contains("p95 1.5 s"), "{text}");
        assert!(text.contains("▲ invalid") && text.contains("▁▅█"), "{text}");
    }
}
