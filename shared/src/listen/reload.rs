//! The pass that looks at a listener's files again.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::watch;
use tokio_rustls::rustls::ServerConfig;

use super::certificate::{Certificate, CertificateError};
use crate::clock::Clock;
use crate::periodic::Pass;
use crate::telemetry::chain;

/// How often the files are looked at.
pub const PERIOD: Duration = Duration::from_secs(2);

/// Takes a listener's certificate and key anew when what is in the files has changed. Connections that are open keep theirs.
///
/// - Reads: the two files. What they hold is compared, not when they were written: clocks and links may deceive.
/// - Writes: what the listener makes its next handshakes with.
/// - Repeating is safe: what has not changed is left as it is. Files that are no pair change nothing.
/// - A crash leaves nothing behind.
#[derive(Debug)]
pub struct Reload {
    certificate: Certificate,
    serving: watch::Sender<Arc<ServerConfig>>,
    clock: Arc<dyn Clock>,
    /// What was wrong with the files at the last look, and whether that is in the log.
    fault: Option<(String, bool)>,
}

impl Reload {
    pub(super) fn new(certificate: Certificate, clock: Arc<dyn Clock>) -> (Self, watch::Receiver<Arc<ServerConfig>>) {
        let (serving, receiver) = watch::channel(Arc::clone(&certificate.config));
        let reload = Self { certificate, serving, clock, fault: None };
        reload.tell("answering over TLS");
        (reload, receiver)
    }

    async fn look(&mut self) -> Result<(), CertificateError> {
        let files = self.certificate.files.clone();
        let contents = files.read().await?;
        if contents != self.certificate.contents {
            self.certificate = Certificate::parse(files, contents).await?;
            self.serving.send_replace(Arc::clone(&self.certificate.config));
            self.tell("a new certificate is in force");
        }
        Ok(())
    }

    fn tell(&self, what: &str) {
        let validity = self.certificate.validity(self.clock.now());
        if validity.soon {
            tracing::warn!(%validity, "{what}");
        } else {
            tracing::info!(%validity, "{what}");
        }
    }
}

#[async_trait]
impl Pass for Reload {
    const NAME: &'static str = "certificate";
    type Report = String;
    type Error = Infallible;

    /// Never fails: with the certificate that is in force all callers are served.
    async fn run_once(&mut self) -> Result<(String, Option<Duration>), Infallible> {
        let found = self.look().await.map_err(|error| chain(&error));
        let validity = self.certificate.validity(self.clock.now());
        let Err(fault) = found else {
            self.fault = None;
            return Ok((validity.to_string(), None));
        };
        // Two files are not written in one instant: what is wrong only once is on its way.
        let told = match self.fault.take() {
            Some((before, told)) if before == fault => {
                if !told {
                    tracing::error!(fault, "the certificate's files are faulty: the one in force stays");
                }
                true
            }
            _ => false,
        };
        let report = format!("{validity}; its files are faulty now: {fault}");
        self.fault = Some((fault, told));
        Ok((report, None))
    }
}
