//! `profile`: CPU and heap profiles of a server.

use std::io::Write as _;

use reqwest::Method;
use serde_json::json;

use crate::cli::ProfileArgs;
use crate::failure::Failure;
use crate::out;

pub async fn profile(args: &ProfileArgs) -> Result<(), Failure> {
    let is_picture = args.out.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("svg"));
    let format = if is_picture { "flamegraph" } else { "pprof" };
    let cannot = |error: std::io::Error| Failure::new(format!("cannot write {}: {error}", args.out.display()));
    // Before the wait for it: a file that cannot be written should not cost a minute.
    let mut file = std::fs::File::create(&args.out).map_err(cannot)?;
    let client = args.server.client()?;
    let call = |what| client.call::<()>(Method::GET, &["debug", "pprof", what]).query(&json!({"format": format}));
    let call = if args.heap {
        out::eprint(&format!("looking at the memory of {}\n", client.base()));
        call("heap")
    } else {
        out::eprint(&format!("looking at {} for {} s\n", client.base(), args.seconds));
        call("profile").query(&json!({"seconds": args.seconds}))
    };
    let taken = call.bytes().await.inspect_err(|_| {
        // Nothing was written into it.
        let _ = std::fs::remove_file(&args.out);
    })?;
    file.write_all(&taken).map_err(cannot)?;
    let way = if is_picture { "open it in a browser" } else { "look at it with `go tool pprof`" };
    out::line(&format!("{}: {way}", args.out.display()))
}
