//! Machine of a run, quality of the harness, and place of the raw data.

use maud::{Markup, html};

use super::{Shade, figure};
use crate::model::{Fingerprint, GateState, Report};
use crate::report::{HDR, JSON, JUNIT, MARKDOWN, SERIES, keyed};
use crate::show::{percent, with_unit};

/// The validity gates and the plots of the harness.
pub fn harness(report: &Report) -> Markup {
    let harness = &report.harness;
    html! {
        section #harness {
            h2 { "The harness itself" }
            p.dim { "A slow generator measures itself: beyond a limit the figures of that test are kept and prove nothing." }
            dl {
                @if let Some(lag) = harness.lag_p99_ms { dt { "schedule lag p99" } dd { (with_unit(lag, "ms")) } }
                @if let Some(share) = harness.cpu_share { dt { "harness and simulators" } dd { (percent(share)) " of the machine" } }
                @if let Some(steal) = harness.steal { dt { "taken by the hypervisor" } dd { (percent(steal)) } }
                @if let Some(floor) = harness.floor_p99_ms { dt { "floor: no-op over loopback, p99" } dd { (with_unit(floor, "ms")) } }
                @for group in &harness.cpu { dt { "CPU " (group.group) } dd { (with_unit(group.seconds, "s")) ", " (percent(group.share)) } }
            }
            @for note in &harness.notes { p { (note) } }
            @if !harness.gates.is_empty() {
                table.stack {
                    caption { "Validity gates" }
                    thead { tr { th { "gate" } th { "state" } th { "limit" } th { "seen" } } }
                    tbody {
                        @for gate in &harness.gates {
                            tr {
                                th scope="row" { (gate.id) @if let Some(test) = &gate.test { span.tag { (test) } } }
                                td.verdict { (gate_state(gate.state)) }
                                td data-label="limit" { (gate.limit) }
                                td data-label="seen" { (gate.observed) }
                            }
                        }
                    }
                }
            }
            @for plot in &harness.plots { (figure(plot, "harness", Shade { windows: &[], faults: &report.faults })) }
        }
    }
}

fn gate_state(state: GateState) -> Markup {
    html! {
        @match state {
            GateState::Ok => span.state.pass { "✓ ok" },
            GateState::Flagged => span.state.inconclusive { "≈ flagged" },
            GateState::Broken => span.state.invalid { "! broken" },
            GateState::Unknown => span.state.not-run { "– unknown" },
        }
    }
}

/// The machine, the servers, the binary.
pub fn fingerprint(report: &Report) -> Markup {
    let print = &report.fingerprint;
    html! {
        section #fingerprint {
            h2 { "Machine and versions" }
            p.dim { "Two reports may be compared when this agrees: " code { (print.hash) } }
            (machine(print))
            @for server in &print.servers {
                h3 { (server.name) " " (server.version) }
                dl { @for (name, value) in &server.settings { dt { (name) } dd { (value) } } }
            }
            dl {
                dt { "agentry" } dd { (print.agentry.version) " " (print.agentry.git) ", build " (print.agentry.build) ", allocator " (print.agentry.allocator) }
                dt { "model profile" } dd { (print.llm_profile) }
                dt { "command" } dd { code { (report.run.argv.join(" ")) } }
            }
        }
    }
}

fn machine(print: &Fingerprint) -> Markup {
    let m = &print.machine;
    let text = |value: &Option<String>| value.clone().unwrap_or_else(|| "unknown".to_owned());
    let micros = |value: Option<f64>| value.map_or_else(|| "unknown".to_owned(), |us| with_unit(us, "µs"));
    html! {
        dl {
            dt { "processor" } dd { (m.cpus) " × " (text(&m.cpu_model)) @if let Some(mhz) = m.mhz { ", " (with_unit(mhz, "MHz")) } }
            @if m.cpus < 8 { dt { "note" } dd { "Below the recommended hardware (8 cores, 16 GB)." } }
            dt { "memory" } dd { (with_unit(crate::stats::number(m.ram_bytes) / f64::from(1 << 30), "GiB")) }
            dt { "virtualised by" } dd { (text(&m.virt)) }
            dt { "kernel" } dd { (text(&m.kernel)) }
            dt { "file system" } dd { (text(&m.filesystem)) " on " (text(&m.device)) }
            dt { "fdatasync p50, p99" } dd { (micros(m.fdatasync_p50_us)) ", " (micros(m.fdatasync_p99_us)) }
            dt { "timer overshoot p99" } dd { (micros(m.timer_overshoot_p99_us)) }
            dt { "governor" } dd { (text(&m.governor)) }
            @if let Some(cpus) = m.cgroup_cpus { dt { "limit on processors" } dd { (cpus) } }
            @if let Some(bytes) = m.cgroup_memory_bytes { dt { "limit on memory" } dd { (bytes) " bytes" } }
        }
    }
}

/// Links to the files beside the page.
pub fn raw(report: &Report) -> Markup {
    html! {
        section #raw {
            h2 { "Raw data" }
            ul.plain {
                @for name in [JSON, MARKDOWN, JUNIT] { li { a href=(name) { (name) } } }
                li { code { (SERIES) "/" } " every plotted series as CSV" }
                li { code { (HDR) "/" } " every histogram as .hgrm" }
                @for (test, _) in keyed(report) {
                    @for file in &test.raw { li { a href=(relative(file)) { (file) } span.tag { (test.id) } } }
                }
            }
        }
    }
}

/// A link that stays beside the page, whatever the report says.
fn relative(file: &str) -> String {
    format!("./{}", file.trim_start_matches(['/', '.']).replace(':', "%3A"))
}
