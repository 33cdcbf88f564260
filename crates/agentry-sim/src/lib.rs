//! Wire-level simulators: they are used only through sockets, as the real thing is.
//!
//! [`llm`] is an LLM provider that speaks the protocols of OpenAI (chat completions and Responses), Anthropic, Bedrock
//! (Converse), Gemini and Ollama on one listener. Its answers depend on nothing but the seed, the model and the
//! conversation, and it keeps a ledger of its own: a witness of every call that reached it.
//!
//! [`slack`] is Slack towards an app: it takes calls of the Web API, and signs and sends what people do.
//!
//! # Directives
//! The last user message of a request may say how it is to be answered (`[[badplan]]` may stand in any user message;
//! in a request for a plan, `[[ask]]`, `[[tool]]` and `[[say]]` are not followed but handed to the plan's first step):
//!
//! | directive | effect |
//! |---|---|
//! | `[[tool:NAME {json}]]` | calls this tool with these arguments, when it is offered and has not answered yet |
//! | `[[ask:question\|option\|option]]` | calls `ask_human`, when it is offered and has not answered yet |
//! | `[[together]]` | calls all tools of the message at once, not one after another |
//! | `[[say:TEXT]]` | answers `TEXT` |
//! | `[[long:N]]` | answers `N` tokens |
//! | `[[refuse]]` | declines, with the provider's reason for it |
//! | `[[pause]]` | pauses in a tool of the provider until the answer is sent back |
//! | `[[cut]]` | cuts the answer in half, as the token limit does |
//! | `[[empty]]` | answers with an empty text |
//! | `[[nousage]]` | reports no usage |
//! | `[[reason:N]]` | reasons for `N` tokens first, where the request lets it |
//! | `[[cached:N]]`, `[[written:N]]` | counts `N` input tokens as read from, or written to, the cache |
//! | `[[fail:STATUS]]` | answers with this HTTP status, for example 500, 529, or 429 with `Retry-After: 1` |
//! | `[[fail:STATUS:N]]` | so for the first `N` requests with the same text, then answers |
//! | `[[fail:STATUS:N:SECONDS]]` | the same with this `Retry-After`; without `N`, always |
//! | `[[sleep:MS]]` | waits so many milliseconds more before it answers (at most 10 minutes) |
//! | `[[hang]]` | never answers |
//! | `[[html]]` | answers with a page of HTML, as a proxy does |
//! | `[[truncate]]` | closes the connection in the middle of the answer |
//! | `[[garble]]` | sends something that is no frame, or no JSON, in the middle of the answer |
//! | `[[break:STATUS]]` | ends a stream in the middle with the provider's own report of an error |
//! | `[[drip]]`, `[[drip:MS]]` | sends the answer 16 bytes at a time, 20 ms or so many milliseconds apart |
//! | `[[endless]]` | never ends the answer |
//! | `[[disconnect]]` | closes the connection before anything is answered |
//! | `[[badplan]]` | answers a request for a plan with an invalid one first, then with a good one |
//! | `[[badplan:always]]` | answers every request for a plan with an invalid one |
//!
//! Models whose names begin with `unknown` do not exist; those whose names contain `no-tools` refuse tools. Names of real
//! models are held to what their providers take; everything else is answered.
//!
//! Tokens are characters divided by four, rounded up: over all messages of a request for those sent; for those
//! received, over the reasoning, the text, and the name and arguments of each call.

mod clock;
mod digest;
mod ledger;
pub mod llm;
mod server;
pub mod slack;
