//! Wire-level simulators: they are used only through sockets, as the real thing is.
//!
//! [`llm`] is an LLM provider that speaks OpenAI's protocol. Its answers depend on nothing but the seed, the model
//! and the conversation, and it keeps a ledger of its own: a witness of every call that reached it.
//!
//! # Directives
//! The last user message of a request may say how it is to be answered (`[[badplan]]` may stand in any user message;
//! in a request for a plan, `[[ask]]`, `[[tool]]` and `[[say]]` are not followed but handed to the plan's first step):
//!
//! | directive | effect |
//! |---|---|
//! | `[[tool:NAME {json}]]` | calls this tool with these arguments, when it is offered and has not answered yet |
//! | `[[ask:question\|option\|option]]` | calls `ask_human`, when it is offered and has not answered yet |
//! | `[[say:TEXT]]` | answers `TEXT` |
//! | `[[fail:STATUS]]` | answers with this HTTP status, for example 500, or 429 with `Retry-After` |
//! | `[[fail:STATUS:N]]` | so for the first `N` requests with the same text, then answers |
//! | `[[sleep:MS]]` | waits so many milliseconds more before it answers (at most 10 minutes) |
//! | `[[hang]]` | never answers |
//! | `[[html]]` | answers with a page of HTML, as a proxy does |
//! | `[[truncate]]` | closes the connection in the middle of the answer |
//! | `[[badplan]]` | answers a request for a plan with an invalid one first, then with a good one |
//! | `[[badplan:always]]` | answers every request for a plan with an invalid one |
//!
//! Tokens are characters divided by four, rounded up: over all messages of a request for those sent, over text and
//! arguments of the answer for those received.

pub mod llm;
