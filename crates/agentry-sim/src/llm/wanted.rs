//! What a message wants beside its answer: an error, tokens in the cache, time.

use std::time::Duration;

use super::answer::Answer;
use super::ask::{Ask, Tally};
use super::directive::{Directive, Found};
use super::wire::Refusal;

/// An error of the provider's, with words of its own where they matter.
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

/// The tokens of a request and its answer, with those that directives put into the cache.
pub(super) fn tally(ask: &Ask<'_>, answer: &Answer, directives: &[Found<'_>]) -> Tally {
    let number = |read: fn(&Directive<'_>) -> Option<u64>| directives.iter().find_map(|found| read(&found.directive));
    let cached = number(|directive| if let Directive::Cached(tokens) = directive { Some(*tokens) } else { None });
    let written = number(|directive| if let Directive::Written(tokens) = directive { Some(*tokens) } else { None });
    let input = ask.tokens();
    let cached = cached.unwrap_or(0).min(input);
    let (reasoning, shown) = answer.tokens();
    Tally { input, cached, written: written.unwrap_or(0).min(input - cached), output: reasoning + shown, reasoning }
}

/// What `[[sleep]]` adds.
pub(super) fn extra(directives: &[Found<'_>]) -> Duration {
    let wait = |found: &Found<'_>| if let Directive::Sleep(wait) = found.directive { Some(wait) } else { None };
    directives.iter().filter_map(wait).sum()
}
