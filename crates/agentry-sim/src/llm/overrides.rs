//! Effects of directives beside the answer: errors, cached tokens, delays.

use std::time::Duration;

use super::answer::Answer;
use super::directive::{Directive, DirectiveMatch};
use super::prompt::{Prompt, TokenCounts};
use super::wire::Refusal;

/// Returns a provider error with the message of its status.
pub(super) fn failure(status: u16, retry_after: Option<u32>) -> Refusal {
    let message = match status {
        429 => "Rate limit reached for requests",
        529 => "Overloaded",
        500.. => "The server had an error while processing your request",
        _ => "failed as the message asked",
    };
    let retry_after = retry_after.or((status == 429).then_some(1));
    Refusal { retry_after, ..Refusal::new(status, message) }
}

/// Counts the tokens of a request and its answer, including those that directives count as cached.
pub(super) fn counts(prompt: &Prompt<'_>, answer: &Answer, directives: &[DirectiveMatch<'_>]) -> TokenCounts {
    let number = |read: fn(&Directive<'_>) -> Option<u64>| directives.iter().find_map(|found| read(&found.directive));
    let cached = number(|directive| if let Directive::Cached(tokens) = directive { Some(*tokens) } else { None });
    let written = number(|directive| if let Directive::Written(tokens) = directive { Some(*tokens) } else { None });
    let input = prompt.tokens();
    let cached = cached.unwrap_or(0).min(input);
    let (reasoning, shown) = answer.tokens();
    TokenCounts {
        input,
        cached,
        written: written.unwrap_or(0).min(input - cached),
        written_1h: 0,
        output: reasoning + shown,
        reasoning,
    }
}

/// Returns the delay of all `[[sleep]]` directives.
pub(super) fn added_delay(directives: &[DirectiveMatch<'_>]) -> Duration {
    let wait =
        |found: &DirectiveMatch<'_>| if let Directive::Sleep(wait) = found.directive { Some(wait) } else { None };
    directives.iter().filter_map(wait).sum()
}

/// Returns true when the answer reports no usage.
pub(super) fn hides_usage(directives: &[DirectiveMatch<'_>]) -> bool {
    directives.iter().any(|found| found.directive == Directive::NoUsage)
}
