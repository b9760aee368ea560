//! `reveille logs ID`

use std::time::Duration;

use crate::client::{Client, Page};
use crate::failure::{Exit, Failure, say};
use crate::output::Output;
use crate::view::{LogLine, Run};

/// How long to wait for new lines.
const PERIOD: Duration = Duration::from_secs(1);

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// The run's id, as `reveille runs` prints it
    id: String,

    /// Go on until the run has ended
    #[arg(long, short)]
    follow: bool,

    /// Only the text of the lines, without time, attempt and stream
    #[arg(long, conflicts_with = "json")]
    raw: bool,
}

/// Prints the lines; with `--json`, a document a line.
pub(crate) async fn run(arguments: &Arguments, client: &Client, output: &mut Output) -> Result<Exit, Failure> {
    let mut place = Place::default();
    loop {
        // Asked first: when it has ended, the lines that are read afterwards are all.
        let run: Run = client.get(&["workRequests", &arguments.id], &[]).await?.read()?;
        read_on(arguments, client, &mut place, output).await?;
        output.finish()?;
        if !arguments.follow {
            return Ok(Exit::Done);
        }
        if run.status.is_terminal() {
            say(&format!("the run has ended: {}", run.status));
            return Ok(Exit::Done);
        }
        tokio::time::sleep(PERIOD).await;
    }
}

/// Where reading goes on: the last page begun, and the last line printed.
#[derive(Debug, Default)]
struct Place {
    page: Option<String>,
    printed: (u32, i32),
}

async fn read_on(
    arguments: &Arguments,
    client: &Client,
    place: &mut Place,
    output: &mut Output,
) -> Result<(), Failure> {
    loop {
        let mut query = vec![("limit", "1000".to_owned())];
        query.extend(place.page.clone().map(|token| ("page", token)));
        let Page { items, next_page } = client.page(&["workRequests", &arguments.id, "logs"], &query).await?;
        for item in &items {
            let line: LogLine = client.read(item)?;
            // The page that was the last one is read again when it may have grown.
            if (line.attempt, line.seq) <= place.printed {
                continue;
            }
            place.printed = (line.attempt, line.seq);
            if output.json {
                output.record(item)?;
            } else {
                print(&line, arguments.raw, output)?;
            }
        }
        match next_page {
            Some(token) => place.page = Some(token),
            None => return Ok(()),
        }
    }
}

fn print(line: &LogLine, raw: bool, output: &mut Output) -> Result<(), Failure> {
    let text = output.foreign(&line.message);
    if raw {
        return output.line(&text);
    }
    let (colour, plain) = match line.stream.as_str() {
        _ if !output.colour => ("", ""),
        "stderr" => ("\x1b[33m", "\x1b[0m"),
        "system" => ("\x1b[36m", "\x1b[0m"),
        _ => ("", ""),
    };
    let (time, stream) = (output.time_of_day(line.timestamp), output.foreign(&line.stream));
    output.line(&format!("{time} #{} {stream}  {colour}{text}{plain}", line.attempt))
}
