//! Where a message of PostgreSQL's or RabbitMQ's protocol ends in a stream of bytes, and of what kind it is.

/// What a server speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Protocol {
    Postgres,
    Amqp,
}

/// Who sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sender {
    Client,
    Server,
}

/// What is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Executed at the database, BEGIN and COMMIT among them.
    Statement,
    /// Sent to the broker.
    Published,
    /// Received from it.
    Delivered,
    /// Acknowledged to it, one or several at once.
    Acknowledged,
    /// A sign of life between a process and the broker, of either.
    Heartbeat,
}

impl Kind {
    pub(crate) const ALL: [Self; 5] =
        [Self::Statement, Self::Published, Self::Delivered, Self::Acknowledged, Self::Heartbeat];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Statement => "statements",
            Self::Published => "published",
            Self::Delivered => "delivered",
            Self::Acknowledged => "acks",
            Self::Heartbeat => "heartbeats",
        }
    }
}

/// What the first message of an encrypted or a plain connection to PostgreSQL says, in place of a version.
const SSL_REQUEST: u32 = 80_877_103;
/// What AMQP begins with: its name and version.
const AMQP_HEADER: usize = 8;
/// The class of AMQP's methods for messages.
const BASIC: u16 = 60;

/// Cuts the bytes of one direction of a connection.
#[derive(Debug)]
pub(crate) struct Cutter {
    protocol: Protocol,
    sender: Sender,
    /// What came behind the last whole message.
    rest: Vec<u8>,
    /// The opening, which has another form, is over.
    open: bool,
}

impl Cutter {
    pub(crate) fn new(protocol: Protocol, sender: Sender) -> Self {
        // RabbitMQ answers in frames from the start.
        let open = protocol == Protocol::Amqp && sender == Sender::Server;
        Self { protocol, sender, rest: Vec::new(), open }
    }

    /// Takes further bytes and tells the kinds of the messages that are whole now.
    pub(crate) fn take(&mut self, bytes: &[u8]) -> Vec<Kind> {
        // What PostgreSQL answers is not counted.
        if self.protocol == Protocol::Postgres && self.sender == Sender::Server {
            return Vec::new();
        }
        self.rest.extend_from_slice(bytes);
        let mut kinds = Vec::new();
        let mut begin = 0;
        while let Some(length) = self.length(&self.rest[begin..]) {
            let message = &self.rest[begin..begin + length];
            if self.open {
                kinds.extend(kind(self.protocol, self.sender, message));
            } else {
                self.open = self.protocol == Protocol::Amqp || number(message, 4) != Some(SSL_REQUEST);
            }
            begin += length;
        }
        self.rest.drain(..begin);
        kinds
    }

    /// Of the first message in there, if it is whole.
    fn length(&self, bytes: &[u8]) -> Option<usize> {
        let length = match (self.protocol, self.open) {
            (Protocol::Amqp, false) => AMQP_HEADER,
            // A kind, a channel, the length of what follows, and an end mark.
            (Protocol::Amqp, true) => usize::try_from(number(bytes, 3)?).ok()?.checked_add(8)?,
            // The length counts itself, but not the letter before it, which the opening does without.
            (Protocol::Postgres, false) => usize::try_from(number(bytes, 0)?).ok()?.max(4),
            (Protocol::Postgres, true) => usize::try_from(number(bytes, 1)?).ok()?.max(4).checked_add(1)?,
        };
        (bytes.len() >= length).then_some(length)
    }
}

fn kind(protocol: Protocol, sender: Sender, message: &[u8]) -> Option<Kind> {
    match protocol {
        // A simple query, or the execution of a prepared one.
        Protocol::Postgres => matches!(message[0], b'Q' | b'E').then_some(Kind::Statement),
        Protocol::Amqp => match message[0] {
            8 => Some(Kind::Heartbeat),
            1 => match (short(message, 7)?, short(message, 9)?, sender) {
                (BASIC, 40, Sender::Client) => Some(Kind::Published),
                (BASIC, 60, Sender::Server) => Some(Kind::Delivered),
                (BASIC, 80, Sender::Client) => Some(Kind::Acknowledged),
                _ => None,
            },
            _ => None,
        },
    }
}

fn number(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_be_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

fn short(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn postgres(letter: u8, body: &[u8]) -> Vec<u8> {
        let length = u32::try_from(body.len() + 4).unwrap().to_be_bytes();
        [&[letter], &length[..], body].concat()
    }

    fn amqp(kind: u8, payload: &[u8]) -> Vec<u8> {
        let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
        [&[kind, 0, 1], &length[..], payload, &[0xCE]].concat()
    }

    fn method(class: u16, method: u16) -> Vec<u8> {
        amqp(1, &[&class.to_be_bytes()[..], &method.to_be_bytes(), b"..."].concat())
    }

    /// However the bytes arrive.
    fn kinds(protocol: Protocol, sender: Sender, bytes: &[u8]) -> Vec<Kind> {
        let at_once = Cutter::new(protocol, sender).take(bytes);
        let mut cutter = Cutter::new(protocol, sender);
        let by_bytes: Vec<_> = bytes.iter().flat_map(|byte| cutter.take(&[*byte])).collect();
        assert_eq!(at_once, by_bytes);
        at_once
    }

    #[test]
    fn counts_what_postgres_is_to_execute() {
        let ssl = [&8_u32.to_be_bytes()[..], &SSL_REQUEST.to_be_bytes()].concat();
        // The protocol's version, 3.0, and who wants what; the letters in it are none of a message.
        let startup = [&12_u32.to_be_bytes()[..], &196_608_u32.to_be_bytes(), b"QEQE"].concat();
        let messages = [
            postgres(b'P', b"SELECT 1"),
            postgres(b'B', b"E"),
            postgres(b'E', b"\0\0\0\0\0"),
            postgres(b'S', b""),
            postgres(b'Q', b"BEGIN\0"),
        ]
        .concat();
        let expected = [Kind::Statement, Kind::Statement];
        let with_ssl = [&ssl, &startup, &messages[..]].concat();
        assert_eq!(kinds(Protocol::Postgres, Sender::Client, &with_ssl), expected);
        assert_eq!(kinds(Protocol::Postgres, Sender::Client, &[&startup, &messages[..]].concat()), expected);
        assert_eq!(kinds(Protocol::Postgres, Sender::Server, &with_ssl), []);
    }

    #[test]
    fn counts_messages_of_each_direction() {
        let frames = [
            method(BASIC, 40),
            amqp(2, b"header"),
            amqp(3, b"body"),
            method(BASIC, 60),
            method(BASIC, 80),
            amqp(8, b""),
        ]
        .concat();
        let client = [b"AMQP\0\0\x09\x01", &frames[..]].concat();
        let expected = [Kind::Published, Kind::Acknowledged, Kind::Heartbeat];
        assert_eq!(kinds(Protocol::Amqp, Sender::Client, &client), expected);
        // The broker's acknowledgement is a confirm.
        assert_eq!(kinds(Protocol::Amqp, Sender::Server, &frames), [Kind::Delivered, Kind::Heartbeat]);
    }
}
