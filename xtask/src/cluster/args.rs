//! The command line of `cargo xtask cluster`.

use std::path::PathBuf;

use anyhow::{Context, Result, bail};

use super::pool::{self, Pool};

/// Processes of one pool at most: this is one machine.
const MOST: u32 = 64;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verb {
    Up,
    Scale,
    Status,
    Down,
    Help,
}

#[derive(Debug, PartialEq, Eq)]
pub struct Args {
    pub verb: Verb,
    pub scale: Vec<(&'static Pool, u32)>,
    pub dir: Option<PathBuf>,
    pub release: bool,
    pub binary: Option<PathBuf>,
    pub fresh: bool,
    pub volumes: bool,
    /// For every `agentry serve`.
    pub flags: Vec<String>,
}

impl Args {
    pub fn parse(arguments: &[String]) -> Result<Self> {
        let (ours, flags) = match arguments.iter().position(|argument| argument == "--") {
            Some(at) => (&arguments[..at], arguments[at + 1..].to_vec()),
            None => (arguments, Vec::new()),
        };
        let mut rest = ours.iter();
        let verb = verb(rest.next().map(String::as_str))?;
        let mut args = Self {
            verb,
            scale: Vec::new(),
            dir: None,
            release: false,
            binary: None,
            fresh: false,
            volumes: false,
            flags,
        };
        while let Some(argument) = rest.next() {
            let mut value = || rest.next().with_context(|| format!("`{argument}` needs a value"));
            match (verb, argument.as_str()) {
                (_, "--dir") => args.dir = Some(PathBuf::from(value()?)),
                (Verb::Up, "--scale") => args.set(value()?)?,
                (Verb::Up, "--release") => args.release = true,
                (Verb::Up, "--binary") => args.binary = Some(PathBuf::from(value()?)),
                (Verb::Up, "--fresh") => args.fresh = true,
                (Verb::Down, "--volumes") => args.volumes = true,
                (Verb::Scale, target) if !target.starts_with('-') => args.set(target)?,
                _ => bail!("`{argument}` is not an argument of it"),
            }
        }
        if verb == Verb::Scale && args.scale.is_empty() {
            bail!("`scale` needs what to scale, for example autonomous=2");
        }
        if verb != Verb::Up && !args.flags.is_empty() {
            bail!("flags after `--` are for `up`");
        }
        if args.release && args.binary.is_some() {
            bail!("`--release` builds, `--binary` names what was built: give one of them");
        }
        Ok(args)
    }

    fn set(&mut self, target: &str) -> Result<()> {
        let (pool, count) = target_of(target)?;
        if self.scale.iter().any(|(named, _)| *named == pool) {
            bail!("`{}` is scaled twice", pool.word);
        }
        self.scale.push((pool, count));
        Ok(())
    }
}

fn verb(word: Option<&str>) -> Result<Verb> {
    Ok(match word {
        Some("up") => Verb::Up,
        Some("scale") => Verb::Scale,
        Some("status") => Verb::Status,
        Some("down") => Verb::Down,
        None | Some("help" | "--help" | "-h") => Verb::Help,
        Some(other) => bail!("unknown verb `{other}`"),
    })
}

/// `autonomous=5` or `autonomous-agent-pool=5`.
fn target_of(text: &str) -> Result<(&'static Pool, u32)> {
    let (name, count) = text.split_once('=').with_context(|| format!("`{text}`: expected POOL=NUMBER"))?;
    let pool = pool::find(name).with_context(|| format!("there is no pool `{name}`: {} are", pool::words()))?;
    let count = count.parse().with_context(|| format!("`{text}`: `{count}` is not a number"))?;
    if count > MOST {
        bail!("`{text}`: at most {MOST} processes of a pool fit on one machine");
    }
    Ok((pool, count))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Args> {
        Args::parse(&line.split_whitespace().map(str::to_owned).collect::<Vec<_>>())
    }

    #[test]
    fn pools_are_scaled_by_either_name() {
        let args =
            parse("up --scale autonomous=5 --scale collaborative-agent-pool=2 --dir /x --release -- --sim").unwrap();
        let scale: Vec<_> = args.scale.iter().map(|(pool, count)| (pool.word, *count)).collect();
        assert_eq!(scale, [("autonomous", 5), ("collaborative", 2)]);
        assert_eq!((args.dir, args.release, args.flags), (Some("/x".into()), true, vec!["--sim".to_owned()]));
        assert_eq!(parse("scale api=0").unwrap().scale[0].1, 0);
    }

    #[test]
    fn mistakes_are_named() {
        for (line, said) in [
            ("up --scale autonomous", "expected POOL=NUMBER"),
            ("up --scale autonomos=5", "no pool `autonomos`: api,"),
            ("up --scale autonomous=five", "`five` is not a number"),
            ("up --scale autonomous=-1", "`-1` is not a number"),
            ("up --scale autonomous=65", "at most 64"),
            ("up --scale autonomous=1 --scale autonomous-agent-pool=2", "scaled twice"),
            ("up --scale", "`--scale` needs a value"),
            ("up --release --binary x", "give one of them"),
            ("up --volumes", "`--volumes` is not an argument"),
            ("scale", "needs what to scale"),
            ("down -- --sim", "are for `up`"),
            ("start", "unknown verb `start`"),
        ] {
            let error = parse(line).unwrap_err().to_string();
            assert!(error.contains(said), "{line}: {error}");
        }
    }
}
