//! What the clients of each dialect send, as WIRE.md says they do, and what they are answered: every byte of it, but for the
//! date and what is made anew each time. The answers are in `transcript.txt`: after a change that is meant, refresh it with
//! `REVEILLE_REFRESH=1` and read the difference.

use std::fmt::Write as _;
use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use harness::stack::Stack;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// Headers of each client, before those of the request.
const OCI: &str = "date: Thu, 26 Nov 2026 00:00:00 GMT
opc-request-id: 0123456789ABCDEF0123456789ABCDEF
opc-client-info: Oracle-PythonSDK/2.189.0
opc-client-retries: true
accept: */*
accept-encoding: gzip, deflate
content-type: application/json
authorization: Signature version=\"1\",keyId=\"a/b/c\",algorithm=\"rsa-sha256\",headers=\"date (request-target) host\",signature=\"AAAA\"";
const AZURE: &str = "x-ms-client-request-id: 00000000-0000-0000-0000-000000000001
accept: */*
accept-encoding: gzip, deflate
user-agent: azsdk-python-core/1.41.0";
const GOOGLE: &str = "content-type: application/json
x-goog-api-client: gl-python/3.11 rest/2.32 gapic/2.44.0
accept: */*";

/// Client, request line, and the headers of this request alone. GOOD, BAD and HOLD stand for ids.
const EXCHANGES: &[(&str, &str, &str)] = &[
    (OCI, "GET /20160918/workRequests/GOOD", ""),
    (OCI, "GET /20190415/workRequests/BAD", ""),
    (OCI, "GET /20220504/workRequests/HOLD", ""),
    (OCI, "GET /20160918/workRequests?compartmentId=default&limit=2", ""),
    (OCI, "GET /20220504/workRequests?compartmentId=default&status=FAILED&sortBy=timeAccepted&sortOrder=ASC", ""),
    (OCI, "GET /20160918/workRequests/BAD/errors?sortOrder=DESC", ""),
    (OCI, "GET /20220504/workRequests/BAD/errors", ""),
    (OCI, "GET /20190415/workRequests/GOOD/errors", ""),
    (OCI, "GET /20160918/workRequests/GOOD/logs", ""),
    (OCI, "GET /20160918/workRequests?compartmentId=default&limit=0", ""),
    (OCI, "GET /20160918/workRequests/unknown", ""),
    (OCI, "DELETE /20160918/workRequests/GOOD", ""),
    (OCI, "DELETE /20190415/workRequests/GOOD", "content-length: 0"),
    (AZURE, "GET /v1/workRequests/GOOD", ""),
    (AZURE, "GET /v1/workRequests/GOOD/result", ""),
    (AZURE, "GET /v1/workRequests/BAD", ""),
    (AZURE, "GET /v1/workRequests/BAD/result", ""),
    (AZURE, "GET /v1/workRequests/HOLD", ""),
    (AZURE, "GET /v1/workRequests/HOLD/result", ""),
    (GOOGLE, "GET /v1/operations/GOOD", ""),
    (GOOGLE, "GET /v1/compartments/default/operations/BAD", ""),
    (GOOGLE, "GET /v1/operations/HOLD", ""),
    (GOOGLE, "GET /v1/operations?pageSize=1&filter=done%3Dtrue", ""),
    (GOOGLE, "POST /v1/operations/GOOD:cancel", "content-length: 0"),
    (GOOGLE, "GET /v1/operations/unknown", ""),
    (GOOGLE, "DELETE /v1/operations/GOOD", "content-length: 0"),
    (OCI, "DELETE /20220504/workRequests/HOLD", "content-length: 0"),
];

/// Starts one of each, as OCI's clients do, and waits until it stands as it should.
async fn started(stack: &Stack, host: &str) -> Result<Vec<(String, &'static str)>> {
    let mut names = Vec::new();
    for (job, name, status) in
        [("good", "GOOD", "SUCCEEDED"), ("bad", "BAD", "FAILED"), ("hold", "HOLD", "IN_PROGRESS")]
    {
        let line = format!("POST /v1/jobs/{job}/trigger");
        let token = format!("opc-retry-token: {job}\ncontent-length: 0");
        let first = exchange(host, OCI, &line, &token).await?;
        ensure!(first.starts_with("HTTP/1.1 202 "), "{first}");
        let id = header(&first, "opc-work-request-id").with_context(|| format!("no id in {first}"))?.to_owned();
        stack.api.wait_status(&id, status).await?;
        let again = exchange(host, OCI, &line, &token).await?;
        ensure!(header(&again, "opc-work-request-id") == Some(&id), "another one under the same token: {again}");
        names.push((id, name));
    }
    Ok(names)
}

#[tokio::test(flavor = "multi_thread")]
async fn every_byte_is_as_each_dialect_wants_it() -> Result<()> {
    let stack = super::stack(Stack::embedded()).start().await?;
    let host = super::base(&stack)?.replace("http://", "");
    let names = started(&stack, &host).await?;
    let mut transcript = String::new();
    for (client, line, own) in EXCHANGES {
        let mut sent = (*line).to_owned();
        for (id, name) in &names {
            sent = sent.replace(name, id);
        }
        let heard = exchange(&host, client, &sent, own).await?;
        writeln!(transcript, "> {line}")?;
        for heard in lasting(&heard, &host, &names).lines() {
            writeln!(transcript, "< {heard}")?;
        }
        writeln!(transcript)?;
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("e2e/dialects/transcript.txt");
    if std::env::var_os("REVEILLE_REFRESH").is_some() {
        std::fs::write(&path, &transcript)?;
    }
    let known = std::fs::read_to_string(&path)?;
    for (known, now) in known.split("\n\n").zip(transcript.split("\n\n")) {
        ensure!(known == now, "expected\n{known}\nand got\n{now}");
    }
    ensure!(known == transcript, "the transcript has another length");
    Ok(())
}

/// Sends a request as it is, and reads the answer to its end.
async fn exchange(host: &str, client: &str, line: &str, own: &str) -> Result<String> {
    let headers: String = client.lines().chain(own.lines()).map(|header| format!("{header}\r\n")).collect();
    let request = format!("{line} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n{headers}\r\n");
    let mut connection = TcpStream::connect(host).await?;
    connection.write_all(request.as_bytes()).await?;
    let mut answer = String::new();
    connection.read_to_string(&mut answer).await?;
    Ok(answer)
}

fn header<'a>(answer: &'a str, name: &str) -> Option<&'a str> {
    let head = answer.split("\r\n\r\n").next()?;
    head.lines()
        .filter_map(|line| line.split_once(": "))
        .find(|(own, _)| own.eq_ignore_ascii_case(name))
        .map(|(_, v)| v)
}

/// An answer without what is made anew each time; its headers in the order of their names, which means nothing.
fn lasting(answer: &str, host: &str, names: &[(String, &str)]) -> String {
    let mut answer = answer.to_owned();
    for (id, name) in names {
        answer = answer.replace(id, name);
    }
    let answer =
        stamped(&stamped(&answer, "dddd-dd-ddTdd:dd:dd.dddZ", "TIME"), "xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx", "UUID");
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    let (status, headers) = head.split_once("\r\n").unwrap_or((head, ""));
    let lasting = |line: &str| match line.split_once(": ") {
        // Of ids and numbers of a length that may vary.
        Some(("date" | "content-length", _)) => None,
        Some((name @ ("etag" | "opc-next-page" | "link"), _)) => Some(format!("{name}: …")),
        _ => Some(line.to_owned()),
    };
    let mut headers: Vec<_> = headers.lines().filter_map(lasting).collect();
    headers.sort_unstable();
    let token = body.split("\"nextPageToken\":\"").nth(1).and_then(|rest| rest.split('"').next()).unwrap_or("\0");
    format!("{status}\n{}\n{}", headers.join("\n"), body.replace(token, "…")).replace(host, "HOST")
}

/// Replaces what looks like `pattern`, where d is a digit and x a hexadecimal one.
fn stamped(text: &str, pattern: &str, name: &str) -> String {
    let fits = |part: &str| {
        part.len() == pattern.len()
            && part.bytes().zip(pattern.bytes()).all(|(byte, of)| match of {
                b'd' => byte.is_ascii_digit(),
                b'x' => byte.is_ascii_hexdigit(),
                other => byte == other,
            })
    };
    let (mut done, mut rest) = (String::new(), text);
    while let Some(next) = rest.chars().next() {
        match rest.get(..pattern.len()).filter(|part| fits(part)) {
            Some(part) => {
                done.push_str(name);
                rest = &rest[part.len()..];
            }
            None => {
                done.push(next);
                rest = &rest[next.len_utf8()..];
            }
        }
    }
    done
}
