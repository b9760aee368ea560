//! A server that answers as a test says: for answers that a real one gives only now and then.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

/// What a command has asked for.
#[derive(Debug, Clone)]
pub(crate) struct Asked {
    /// Method and path with its query, as they were sent.
    pub(crate) line: String,
    pub(crate) body: Value,
}

pub(crate) struct Stub {
    address: SocketAddr,
    asked: Arc<Mutex<Vec<Asked>>>,
}

impl Stub {
    /// Serves until the test's process ends.
    pub(crate) fn start(answer: impl Fn(&Asked) -> (u16, Value) + Send + 'static) -> Self {
        Self::dated("", answer)
    }

    /// The same, with a header more in each answer.
    pub(crate) fn dated(header: &str, answer: impl Fn(&Asked) -> (u16, Value) + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (address, asked) = (listener.local_addr().unwrap(), Arc::new(Mutex::new(Vec::new())));
        let (log, header) = (Arc::clone(&asked), header.to_owned());
        std::thread::spawn(move || {
            for connection in listener.incoming() {
                let connection = connection.unwrap();
                let request = read(&connection);
                let (status, body) = answer(&request);
                log.lock().unwrap().push(request);
                write(connection, status, &header, &body.to_string());
            }
        });
        Self { address, asked }
    }

    pub(crate) fn server(&self) -> String {
        format!("--server http://{}", self.address)
    }

    /// All that was asked so far.
    pub(crate) fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }

    /// The body of the first request whose line begins so.
    #[track_caller]
    pub(crate) fn sent(&self, line: &str) -> Value {
        let asked = self.asked();
        let found = asked.iter().find(|asked| asked.line.starts_with(line));
        found.unwrap_or_else(|| panic!("no {line} in {asked:?}")).body.clone()
    }
}

fn read(connection: &TcpStream) -> Asked {
    let mut reader = BufReader::new(connection);
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).unwrap();
        match line.trim_end() {
            "" => break,
            line => lines.push(line.to_owned()),
        }
    }
    let length = lines.iter().find_map(|line| line.to_lowercase().strip_prefix("content-length: ")?.parse().ok());
    let mut body = vec![0; length.unwrap_or(0)];
    reader.read_exact(&mut body).unwrap();
    Asked {
        line: lines[0].trim_end_matches(" HTTP/1.1").to_owned(),
        body: serde_json::from_slice(&body).unwrap_or(Value::Null),
    }
}

fn write(mut connection: TcpStream, status: u16, header: &str, body: &str) {
    let head = format!("HTTP/1.1 {status} Said\r\nContent-Length: {}\r\nConnection: close\r\n{header}\r\n", body.len());
    connection.write_all(head.as_bytes()).unwrap();
    connection.write_all(body.as_bytes()).unwrap();
}

/// An error answer.
pub(crate) fn problem(status: u16, code: &str, detail: &str) -> (u16, Value) {
    (status, json!({"type": "about:blank", "status": status, "code": code, "detail": detail}))
}

/// What a stub does not know.
pub(crate) fn missing() -> (u16, Value) {
    problem(404, "NotFound", "what the path names does not exist")
}
