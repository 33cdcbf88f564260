//! The estimate for a terminal.

use std::fmt::Write as _;

use super::Estimate;
use crate::show::count;

/// The estimate as text.
pub fn text(estimate: &Estimate) -> String {
    let mut text = format!(
        "profile {} against {}, prices of {}\n\n{:<20} {:<44} {:>10} {:>13} {:>13} {:>14}\n",
        estimate.profile,
        estimate.model,
        estimate.prices,
        "scenario",
        "what",
        "calls",
        "tokens in",
        "tokens out",
        "cost"
    );
    for item in &estimate.items {
        let (input, output) = (count(item.usage.input_tokens), count(item.usage.output_tokens));
        let cost = item.cost.to_string();
        let _ = writeln!(
            text,
            "{:<20} {:<44} {:>10} {input:>13} {output:>13} {cost:>14}",
            item.scenario,
            item.what,
            count(item.calls)
        );
    }
    let input = count(estimate.items.iter().map(|item| item.usage.input_tokens).sum());
    let output = count(estimate.items.iter().map(|item| item.usage.output_tokens).sum());
    let _ = writeln!(
        text,
        "{:<20} {:<44} {:>10} {input:>13} {output:>13} {:>14}",
        "all",
        "",
        count(estimate.calls()),
        estimate.cost().to_string()
    );
    text.push_str(
        "\nAn estimate, not a bill: tokens are those of the declared shapes; retries and longer answers cost more, the provider's\n\
         cache less. Without --live a run costs nothing; with it, 5.1 alone calls the provider, and `agentry bench run 5.1 --live`\n\
         takes its row for its --budget. The plan this suite implements puts a month of load testing at $100-300 for models,\n\
         $200-500 for machines, about $500-1000 for a complete validation.\n",
    );
    text
}
