//! `reveille keys`: who may call, and what they may do.

use std::sync::Arc;

use clap::Subcommand;
use jiff::Timestamp;
use reveille_shared::access::{Grant, KeyText, Names, Role, WrongNames};
use reveille_shared::clock::{Clock as _, SystemClock};
use reveille_shared::duration::HumanDuration;
use reveille_shared::store::{NewKey, Store};
use reveille_shared::telemetry::chain;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::actor::Note;
use crate::client::{Client, ClientError};
use crate::failure::{Exit, Failure, say};
use crate::output::{Output, distance};

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Make a key; standard output gets its text and nothing else
    Create(Create),
    /// List keys: never their secrets
    List(List),
    /// Make a key good for nothing, at once
    Revoke(Revoke),
    /// Give a key another secret; the one before stays good for a while
    Rotate(Rotate),
}

#[derive(Debug, clap::Args)]
struct Create {
    /// Who or what is to hold it, for people
    name: String,

    /// What it lets its holder do: a viewer reads, an operator starts and stops runs too, an admin changes definitions,
    /// webhooks and keys too
    #[arg(long, value_name = "viewer|operator|admin")]
    role: Role,

    /// The namespaces that it is for, separated by commas [default: the one of --namespace]
    #[arg(long, value_name = "NAMES", value_delimiter = ',', conflicts_with = "everywhere")]
    namespaces: Vec<String>,

    /// It is for all namespaces, and for what concerns all of them, such as workers and metrics
    #[arg(long)]
    everywhere: bool,

    /// Limit it to these jobs and their runs, separated by commas
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    jobs: Vec<String>,

    /// How long it is good, like 90d [default: for ever]
    #[arg(long, value_name = "DURATION")]
    expires_in: Option<HumanDuration>,

    /// Write it into this database instead of asking a scheduler: for the first key, and when all are lost
    #[arg(long, value_name = "URL", env = "REVEILLE_DATABASE_URL", hide_env_values = true)]
    database_url: Option<String>,

    /// Into the database of --database-url or REVEILLE_DATABASE_URL, without asking a scheduler
    #[arg(long, requires = "database_url")]
    directly: bool,

    #[command(flatten)]
    note: Note,
}

#[derive(Debug, clap::Args)]
struct List {
    /// Only keys with this in their prefix or name
    #[arg(long, value_name = "PART")]
    search: Option<String>,

    /// How many at most
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    limit: u32,
}

#[derive(Debug, clap::Args)]
struct Revoke {
    /// The key's prefix, as `reveille keys list` shows it
    prefix: String,

    #[command(flatten)]
    note: Note,
}

#[derive(Debug, clap::Args)]
struct Rotate {
    /// The key's prefix, as `reveille keys list` shows it
    prefix: String,

    /// How long the present secret stays good, up to 30d; 0s if it has leaked [default: 24h]
    #[arg(long, value_name = "DURATION")]
    overlap: Option<HumanDuration>,

    #[command(flatten)]
    note: Note,
}

/// A key as the server tells of it.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Key {
    prefix: String,
    name: String,
    role: String,
    namespaces: Option<Vec<String>>,
    jobs: Option<Vec<String>>,
    state: String,
    expires_at: Option<Timestamp>,
    last_used_at: Option<Timestamp>,
    previous_until: Option<Timestamp>,
    /// Its text, where it is shown.
    key: Option<String>,
}

/// Does what is asked about keys.
pub(crate) async fn run(
    arguments: &Arguments,
    client: impl Fn() -> Result<Client, ClientError>,
    namespace: Option<&str>,
    output: &mut Output,
) -> Result<Exit, Failure> {
    match &arguments.command {
        Command::Create(create) if create.directly => write(create, namespace, output).await,
        Command::Create(create) => self::create(create, &client()?, output).await,
        Command::List(list) => self::list(list, &client()?, output).await,
        Command::Revoke(revoke) => self::revoke(revoke, &client()?, output).await,
        Command::Rotate(rotate) => self::rotate(rotate, &client()?, output).await,
    }
}

async fn create(create: &Create, client: &Client, output: &mut Output) -> Result<Exit, Failure> {
    let mut body = create.note.body();
    let mut put = |name: &str, value: Value| body[name] = value;
    put("name", create.name.as_str().into());
    put("role", json!(create.role));
    if create.everywhere {
        put("namespaces", json!(["*"]));
    } else if !create.namespaces.is_empty() {
        put("namespaces", json!(create.namespaces));
    }
    if !create.jobs.is_empty() {
        put("jobs", json!(create.jobs));
    }
    if let Some(time) = create.expires_in {
        put("expiresIn", time.to_string().into());
    }
    let answer = client.post(&["keys"], &body, None).await?;
    show(&answer.body, client.read(&answer.body)?, output)
}

/// Writes a key into the database: whoever has that needs nobody's leave.
async fn write(create: &Create, namespace: Option<&str>, output: &mut Output) -> Result<Exit, Failure> {
    let failed = |message: String| Failure::Other { message, hint: None };
    let grant = grant(create, namespace)?;
    let url = create.database_url.as_deref().unwrap_or_default();
    let store = Store::connect(url, "reveille keys", Arc::new(SystemClock)).await;
    let store = store.map_err(|error| failed(chain(&error)))?;
    let now = store.now().await.map_err(|error| failed(chain(&error)))?;
    let until = |time: HumanDuration| now.checked_add(time.signed()).ok();
    let text = KeyText::generate().map_err(|error| failed(format!("the system has no random numbers: {error}")))?;
    let new =
        NewKey { text: text.clone(), name: create.name.clone(), grant, expires_at: create.expires_in.and_then(until) };
    let by = format!("{} (directly)", create.note.name());
    let made = store.create_key(new, (&by, create.note.reason())).await;
    let made = made.map_err(|error| failed(chain(&error)))?;
    let document = json!({
        "key": text.reveal(), "prefix": made.prefix, "name": made.name, "role": made.grant.role, "state": "good",
        "namespaces": made.grant.namespaces, "jobs": made.grant.jobs,
        "expiresAt": made.expires_at.map(|at| at.to_string()),
    });
    let key = Key::deserialize(&document).map_err(|error| failed(error.to_string()))?;
    show(&document, key, output)
}

/// What a key is to let its holder do, held to what the API holds it to.
fn grant(create: &Create, namespace: Option<&str>) -> Result<Grant, Failure> {
    let wrong = |flag: &str, wrong: WrongNames| Failure::Usage(format!("{flag}: {wrong}"));
    let namespaces = match (create.everywhere, create.namespaces.as_slice()) {
        (true, _) => Names::All,
        (false, []) => {
            Names::read(&[namespace.unwrap_or("default")], false).map_err(|why| wrong("--namespace", why))?
        }
        (false, names) => Names::read(names, true).map_err(|why| wrong("--namespaces", why))?,
    };
    let jobs = match create.jobs.as_slice() {
        [] => Names::All,
        names => Names::read(names, false).map_err(|why| wrong("--jobs", why))?,
    };
    Ok(Grant { role: create.role, namespaces, jobs })
}

/// Shows a key with its text: that to programs, the rest to people.
fn show(document: &Value, key: Key, output: &mut Output) -> Result<Exit, Failure> {
    if output.json {
        output.document(document)?;
        return Ok(Exit::Done);
    }
    let until = key.expires_at.map_or(String::new(), |at| format!(", until {}", output.local(at)));
    output.line(key.key.as_deref().unwrap_or_default())?;
    output.finish()?;
    say(&format!("{} \"{}\": {} {}{until}", key.prefix, key.name, key.role, reach(&key)));
    if let Some(until) = key.previous_until {
        say(&format!("the secret before is good until {}", output.local(until)));
    }
    say("this is the only time that it is shown; use it as REVEILLE_KEY, or in the header X-API-Key");
    Ok(Exit::Done)
}

fn reach(key: &Key) -> String {
    let namespaces = match &key.namespaces {
        None => "everywhere".to_owned(),
        Some(names) => format!("in {}", names.join(", ")),
    };
    match &key.jobs {
        None => namespaces,
        Some(jobs) => format!("{namespaces}, on {} only", jobs.join(", ")),
    }
}

async fn list(List { search, limit }: &List, client: &Client, output: &mut Output) -> Result<Exit, Failure> {
    let limit = usize::try_from(*limit).unwrap_or(usize::MAX);
    let query: Vec<_> = search.iter().map(|part| ("search", part.clone())).collect();
    let mut items = client.list(&["keys"], &query, limit.saturating_add(1)).await?;
    let more = items.len() > limit;
    items.truncate(limit);
    if output.json {
        output.document(&items)?;
    } else if items.is_empty() {
        output.line("No keys.")?;
    } else {
        let now = SystemClock.now();
        let ago = |at: Option<Timestamp>, none: &str| at.map_or(none.to_owned(), |at| distance(at, now));
        let mut rows = Vec::new();
        for item in &items {
            let key: Key = client.read(item)?;
            rows.push(vec![
                Output::cell(&key.prefix),
                Output::cell(&key.name),
                Output::cell(&key.role),
                Output::cell(&reach(&key)),
                if key.state == "good" { Output::cell(&key.state) } else { output.alert_cell(&key.state) },
                Output::cell(&ago(key.expires_at, "never")),
                Output::cell(&ago(key.last_used_at, "not yet")),
            ]);
        }
        output.table(&["PREFIX", "NAME", "ROLE", "REACH", "STATE", "EXPIRES", "LAST USED"], rows)?;
    }
    output.finish()?;
    if more {
        say("there are more: see --limit and --search");
    }
    Ok(Exit::Done)
}

async fn revoke(revoke: &Revoke, client: &Client, output: &mut Output) -> Result<Exit, Failure> {
    let answer = client.post(&["keys", &format!("{}:revoke", revoke.prefix)], &revoke.note.body(), None).await?;
    if output.json {
        output.document(&answer.body)?;
        return Ok(Exit::Done);
    }
    let key: Key = answer.read()?;
    output.line(&format!("{} \"{}\" is revoked", key.prefix, key.name))?;
    Ok(Exit::Done)
}

async fn rotate(rotate: &Rotate, client: &Client, output: &mut Output) -> Result<Exit, Failure> {
    let mut body = rotate.note.body();
    if let Some(time) = rotate.overlap {
        body["overlap"] = time.to_string().into();
    }
    let answer = client.post(&["keys", &format!("{}:rotate", rotate.prefix)], &body, None).await?;
    show(&answer.body, answer.read()?, output)
}
