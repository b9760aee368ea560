//! What the drill's `http` jobs call: an endpoint that works for a while, notices when its caller goes away, keeps its part
//! of the ledger in memory, and tells what it knows of a run.

mod operations;

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use anyhow::{Context as _, Result};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};
use uuid::Uuid;

use self::operations::Book;
use crate::ledger::{Entry, TICK, What};

/// How long it takes to answer a call that lingers, once it has taken effect.
const LINGER: Duration = Duration::from_millis(1_500);
/// How long it takes to answer a call that has begun an operation: its caller may be gone by then.
const PONDERING: Duration = Duration::from_millis(300);
/// Of the calls that begin an operation, one in so many is not answered in the first attempt.
const UNANSWERED: u128 = 5;
/// The longest request that is read.
const MAX_REQUEST: usize = 16 * 1024;

/// The endpoint. Dropped, it ends with all its connections.
#[derive(Debug)]
pub(crate) struct Callee {
    address: SocketAddr,
    book: Book,
    _acceptor: JoinSet<()>,
}

/// What is asked of it.
#[derive(Debug, PartialEq, Eq)]
enum Request {
    /// `POST /{ms}/{manner}` with the work request and its attempt in headers.
    Work(Call),
    /// `GET /{work request}`: whether it took effect.
    Look(Uuid),
    /// `POST /operations/{ms}` with the same headers: work that goes on by itself.
    Begin(Call),
    /// `GET /operations/{work request}`: how far that is.
    Follow(Uuid),
    /// `DELETE /operations/{work request}`: it is to end.
    Cancel(Uuid),
}

/// Work to do.
#[derive(Debug, PartialEq, Eq)]
struct Call {
    id: Uuid,
    attempt: u32,
    work: Duration,
    /// How long it takes until the answer, after the effect.
    linger: Duration,
    /// Closes the connection instead of answering.
    closes_early: bool,
}

impl Callee {
    /// Starts to answer.
    pub(crate) async fn start() -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.context("binding a port for the callee")?;
        let address = listener.local_addr()?;
        let book = Book::default();
        let mut acceptor = JoinSet::new();
        acceptor.spawn(accept(listener, book.clone()));
        Ok(Self { address, book, _acceptor: acceptor })
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// What it has written down.
    pub(crate) fn entries(&self) -> Vec<Entry> {
        self.book.entries()
    }
}

async fn accept(listener: TcpListener, book: Book) {
    let mut calls = JoinSet::new();
    loop {
        tokio::select! {
            // A caller that is gone before it is accepted is no reason to stop.
            accepted = listener.accept() => if let Ok((stream, _)) = accepted {
                calls.spawn(answer(stream, book.clone()));
            },
            Some(_) = calls.join_next() => {}
        }
    }
}

/// One request, one answer; what it has begun goes on after that.
async fn answer(mut stream: TcpStream, book: Book) {
    let answer = match read(&mut stream).await {
        Some(Request::Work(call)) if work(&call, &mut stream, &book).await => http("200 OK", "", "done"),
        Some(Request::Look(id)) => match state(&book.entries(), id) {
            Some(state) => http("200 OK", "", &format!("{{\"state\":\"{state}\"}}")),
            None => http("404 Not Found", "", ""),
        },
        Some(Request::Begin(call)) => {
            if book.begin(call.id, call.attempt) {
                tokio::join!(say_begun(&call, stream), book.work(call.id, call.work));
            } else {
                say_begun(&call, stream).await;
            }
            return;
        }
        Some(Request::Follow(id)) => match book.status(id) {
            Some(status) => http("200 OK", "Retry-After: 1\r\n", &format!("{{\"status\":\"{status}\"}}")),
            None => http("404 Not Found", "", ""),
        },
        Some(Request::Cancel(id)) => match book.cancel(id) {
            Some(true) => http("202 Accepted", "", ""),
            Some(false) => http("409 Conflict", "", ""),
            None => http("404 Not Found", "", ""),
        },
        _ => return,
    };
    say(&mut stream, &answer).await;
}

/// Says where to ask after an operation.
async fn say_begun(call: &Call, mut stream: TcpStream) {
    sleep(call.linger).await;
    if !call.closes_early {
        let headers = format!("Operation-Location: /operations/{}\r\nRetry-After: 1\r\n", call.id);
        say(&mut stream, &http("202 Accepted", &headers, "")).await;
    }
}

/// A caller that is gone by now has a run that is repeated, or asked after, as after any answer that is lost.
async fn say(stream: &mut TcpStream, answer: &str) {
    let _is_gone = stream.write_all(answer.as_bytes()).await.is_err();
}

/// With further headers, each with its line's end.
fn http(status: &str, headers: &str, body: &str) -> String {
    format!("HTTP/1.1 {status}\r\n{headers}Content-Length: {}\r\nConnection: close\r\n\r\n{body}", body.len())
}

/// What is known of a run: nothing also if all of its calls were given up.
fn state(entries: &[Entry], id: Uuid) -> Option<&'static str> {
    let mut of_run = entries.iter().filter(|entry| entry.id == id);
    if of_run.clone().any(|entry| entry.what == What::Done) {
        return Some("done");
    }
    let begun = of_run.clone().filter(|entry| entry.what == What::Start).count();
    (begun > of_run.by_ref().filter(|entry| entry.what == What::Failed).count()).then_some("running")
}

/// Works; false if there is to be no answer.
async fn work(call: &Call, stream: &mut TcpStream, book: &Book) -> bool {
    let note = |what| book.note(call.id, call.attempt, what);
    let end = Instant::now() + call.work;
    note(What::Start);
    loop {
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            break;
        }
        tokio::select! {
            () = sleep(left.min(TICK)) => note(What::Tick),
            // The caller has sent all that it has to say: what can be read now is its end.
            _ = stream.read_u8() => {
                note(What::Failed);
                return false;
            }
        }
    }
    if call.closes_early {
        note(What::Failed);
        return false;
    }
    note(What::Done);
    sleep(call.linger).await;
    true
}

async fn read(stream: &mut TcpStream) -> Option<Request> {
    let mut request = Vec::new();
    while !request.ends_with(b"\r\n\r\n") {
        if request.len() > MAX_REQUEST || stream.read_buf(&mut request).await.ok()? == 0 {
            return None;
        }
    }
    parse(&String::from_utf8_lossy(&request))
}

fn parse(request: &str) -> Option<Request> {
    let mut lines = request.lines();
    let (method, rest) = lines.next()?.split_once(" /")?;
    let mut path = rest.split(' ').next()?.split('/');
    let first = path.next()?;
    let (is_operation, subject) = if first == "operations" { (true, path.next()?) } else { (false, first) };
    match (method, is_operation) {
        ("GET", false) => return Some(Request::Look(subject.parse().ok()?)),
        ("GET", true) => return Some(Request::Follow(subject.parse().ok()?)),
        ("DELETE", true) => return Some(Request::Cancel(subject.parse().ok()?)),
        _ => {}
    }
    let work = Duration::from_millis(subject.parse().ok()?);
    let headers: Vec<_> = lines.filter_map(|line| line.split_once(": ")).collect();
    let header = |wanted: &str| headers.iter().find(|(name, _)| name.eq_ignore_ascii_case(wanted)).map(|pair| pair.1);
    let attempt: u32 = header("x-reveille-attempt")?.parse().ok()?;
    let id: Uuid = header("idempotency-key")?.parse().ok()?;
    if is_operation {
        let closes_early = attempt == 1 && id.as_u128().is_multiple_of(UNANSWERED);
        return Some(Request::Begin(Call { id, attempt, work, linger: PONDERING, closes_early }));
    }
    let manner = path.next()?;
    let linger = if manner == "linger" { LINGER } else { Duration::ZERO };
    Some(Request::Work(Call { id, attempt, work, linger, closes_early: manner == "early" && attempt == 1 }))
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn say(callee: &Callee, request: &str) -> String {
        let mut stream = TcpStream::connect(callee.address()).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }

    #[tokio::test]
    async fn answers_and_writes_it_down() {
        let callee = Callee::start().await.unwrap();
        let id = Uuid::from_u128(5);
        let head = |attempt: u32| {
            format!("POST /250/early HTTP/1.1\r\nIdempotency-Key: {id}\r\nX-Reveille-Attempt: {attempt}\r\n\r\n")
        };
        let mut answers = Vec::new();
        for attempt in [1, 2] {
            answers.push(say(&callee, &head(attempt)).await);
        }
        assert!(answers[0].is_empty() && answers[1].ends_with("done"), "{answers:?}");
        let of = |attempt| callee.entries().into_iter().filter(move |entry| entry.attempt == attempt);
        let what = |attempt| of(attempt).map(|entry| entry.what).collect::<Vec<_>>();
        assert!(what(1).starts_with(&[What::Start, What::Tick, What::Tick]) && what(1).ends_with(&[What::Failed]));
        assert!(what(2).ends_with(&[What::Done]) && of(2).all(|entry| entry.id == id));
    }

    #[tokio::test]
    async fn tells_what_it_knows_of_a_run() {
        let callee = Callee::start().await.unwrap();
        let (id, other) = (Uuid::from_u128(5), Uuid::from_u128(6));
        let note = |attempt, what| callee.book.note(id, attempt, what);
        let look = async |id: Uuid| {
            let answer = say(&callee, &format!("GET /{id} HTTP/1.1\r\nhost: x\r\n\r\n")).await;
            let (head, body) = answer.split_once("\r\n\r\n").unwrap();
            format!("{} {body}", head.split(' ').nth(1).unwrap())
        };
        assert_eq!(look(id).await, "404 ");
        note(1, What::Start);
        assert_eq!(look(id).await, r#"200 {"state":"running"}"#);
        note(1, What::Failed);
        assert_eq!(look(id).await, "404 ");
        note(2, What::Start);
        note(2, What::Done);
        assert_eq!(look(id).await, r#"200 {"state":"done"}"#);
        assert_eq!(look(other).await, "404 ");
    }

    #[tokio::test]
    async fn notices_that_its_caller_is_gone() {
        let callee = Callee::start().await.unwrap();
        let mut stream = TcpStream::connect(callee.address()).await.unwrap();
        let head =
            format!("POST /60000/well HTTP/1.1\r\nidempotency-key: {}\r\nx-reveille-attempt: 1\r\n\r\n", Uuid::nil());
        stream.write_all(head.as_bytes()).await.unwrap();
        while callee.entries().is_empty() {
            sleep(Duration::from_millis(5)).await;
        }
        drop(stream);
        while callee.entries().last().unwrap().what != What::Failed {
            sleep(Duration::from_millis(5)).await;
        }
    }

    #[tokio::test]
    async fn an_operation_goes_on_when_its_caller_is_gone() {
        let callee = Callee::start().await.unwrap();
        // The first is not answered in its first attempt.
        let (hidden, told) = (Uuid::from_u128(5), Uuid::from_u128(6));
        let begin = |id: Uuid, ms: u32, attempt: u32| {
            format!("POST /operations/{ms} HTTP/1.1\r\nidempotency-key: {id}\r\nx-reveille-attempt: {attempt}\r\n\r\n")
        };
        assert_eq!(say(&callee, &begin(hidden, 60_000, 1)).await, "");
        let place = |id: Uuid| format!("Operation-Location: /operations/{id}\r\n");
        assert!(say(&callee, &begin(hidden, 60_000, 2)).await.contains(&place(hidden)));
        assert!(say(&callee, &begin(told, 10, 1)).await.starts_with("HTTP/1.1 202 "));
        let ask =
            async |method: &str, id: Uuid| say(&callee, &format!("{method} /operations/{id} HTTP/1.1\r\n\r\n")).await;
        assert!(ask("GET", told).await.ends_with("{\"status\":\"Succeeded\"}"));
        assert!(ask("GET", hidden).await.ends_with("{\"status\":\"Running\"}"));
        assert!(ask("DELETE", hidden).await.starts_with("HTTP/1.1 202 "));
        assert!(ask("GET", hidden).await.ends_with("{\"status\":\"Canceled\"}"));
        assert!(ask("GET", Uuid::nil()).await.starts_with("HTTP/1.1 404 "));
        assert!(ask("DELETE", told).await.starts_with("HTTP/1.1 409 "));
    }
}
