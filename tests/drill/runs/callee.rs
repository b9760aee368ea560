//! What the drill's `http` jobs call: an endpoint that works for a while, notices when its caller goes away, keeps its part
//! of the ledger in memory, and tells what it knows of a run.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};
use uuid::Uuid;

use crate::ledger::{Entry, TICK, What};

/// How long it takes to answer a call that lingers, once it has taken effect.
const LINGER: Duration = Duration::from_millis(1_500);
/// The longest request that is read.
const MAX_REQUEST: usize = 16 * 1024;

type Entries = Arc<Mutex<Vec<Entry>>>;

/// The endpoint. Dropped, it ends with all its connections.
#[derive(Debug)]
pub(crate) struct Callee {
    address: SocketAddr,
    entries: Entries,
    _acceptor: JoinSet<()>,
}

/// What is asked of it.
#[derive(Debug, PartialEq, Eq)]
enum Request {
    /// `POST /{ms}/{manner}` with the work request and its attempt in headers.
    Work(Call),
    /// `GET /{work request}`: whether it took effect.
    Look(Uuid),
}

/// Work to do.
#[derive(Debug, PartialEq, Eq)]
struct Call {
    id: Uuid,
    attempt: u32,
    work: Duration,
    /// How long it takes until the answer, after the effect.
    linger: Duration,
    /// Closes the connection instead of answering, in the first attempt.
    closes_early: bool,
}

impl Callee {
    /// Starts to answer.
    pub(crate) async fn start() -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.context("binding a port for the callee")?;
        let address = listener.local_addr()?;
        let entries = Entries::default();
        let mut acceptor = JoinSet::new();
        acceptor.spawn(accept(listener, Arc::clone(&entries)));
        Ok(Self { address, entries, _acceptor: acceptor })
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// What it has written down.
    pub(crate) fn entries(&self) -> Vec<Entry> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

async fn accept(listener: TcpListener, entries: Entries) {
    let mut calls = JoinSet::new();
    loop {
        tokio::select! {
            // A caller that is gone before it is accepted is no reason to stop.
            accepted = listener.accept() => if let Ok((stream, _)) = accepted {
                calls.spawn(answer(stream, Arc::clone(&entries)));
            },
            Some(_) = calls.join_next() => {}
        }
    }
}

/// One request, one answer.
async fn answer(mut stream: TcpStream, entries: Entries) {
    let answer = match read(&mut stream).await {
        Some(Request::Work(call)) if work(&call, &mut stream, &entries).await => http("200 OK", "done"),
        Some(Request::Look(id)) => match state(&entries.lock().unwrap_or_else(PoisonError::into_inner), id) {
            Some(state) => http("200 OK", &format!("{{\"state\":\"{state}\"}}")),
            None => http("404 Not Found", ""),
        },
        _ => return,
    };
    // A caller that is gone by now has a run that is repeated, or asked after, as after any answer that is lost.
    let _ = stream.write_all(answer.as_bytes()).await;
}

fn http(status: &str, body: &str) -> String {
    format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}", body.len())
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
async fn work(call: &Call, stream: &mut TcpStream, entries: &Entries) -> bool {
    let note = |what| {
        let entry = Entry::now(call.id, call.attempt, what, 0);
        entries.lock().unwrap_or_else(PoisonError::into_inner).push(entry);
    };
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
    if method == "GET" {
        return Some(Request::Look(path.next()?.parse().ok()?));
    }
    let (work, manner) = (Duration::from_millis(path.next()?.parse().ok()?), path.next()?);
    let headers: Vec<_> = lines.filter_map(|line| line.split_once(": ")).collect();
    let header = |wanted: &str| headers.iter().find(|(name, _)| name.eq_ignore_ascii_case(wanted)).map(|pair| pair.1);
    let attempt = header("x-reveille-attempt")?.parse().ok()?;
    let id = header("idempotency-key")?.parse().ok()?;
    let linger = if manner == "linger" { LINGER } else { Duration::ZERO };
    Some(Request::Work(Call { id, attempt, work, linger, closes_early: manner == "early" && attempt == 1 }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn answers_and_writes_it_down() {
        let callee = Callee::start().await.unwrap();
        let id = Uuid::from_u128(5);
        let head = |attempt: u32| {
            format!("POST /250/early HTTP/1.1\r\nIdempotency-Key: {id}\r\nX-Reveille-Attempt: {attempt}\r\n\r\n")
        };
        let mut answers = Vec::new();
        for attempt in [1, 2] {
            let mut stream = TcpStream::connect(callee.address()).await.unwrap();
            stream.write_all(head(attempt).as_bytes()).await.unwrap();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await.unwrap();
            answers.push(answer);
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
        let note = |attempt, what| callee.entries.lock().unwrap().push(Entry::now(id, attempt, what, 0));
        let look = async |id: Uuid| {
            let mut stream = TcpStream::connect(callee.address()).await.unwrap();
            stream.write_all(format!("GET /{id} HTTP/1.1\r\nhost: x\r\n\r\n").as_bytes()).await.unwrap();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await.unwrap();
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
}
