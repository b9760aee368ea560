//! What the tests of the whole system stand on: real databases, brokers and processes of a test's own.
//! In reading order:
//!
//! - [`wait`]: wait for a state, never for a time.
//! - [`ports`]: ports that nobody else takes.
//! - [`process`], [`process_tree`]: real programs, and all that is left of them; [`usage`]: what they cost.
//! - [`postgres`], [`rabbitmq`]: private servers.
//! - [`services`]: a fresh database and virtual host on the servers of the whole test run, or private ones.
//! - [`proxy`]: a network that can be cut.
//! - [`sshd`]: a host to run commands on.
//! - [`client`]: the REST interface; [`sse`]: its streams; [`callee`]: an endpoint whose work takes long; [`receiver`]: one for webhooks.
//! - [`stack`]: all of it together.
//!
//! Output of the programs that a test starts is printed when the test drops them: the test runner shows
//! it only if the test failed.

pub mod callee;
pub mod client;
pub mod key;
pub mod ports;
pub mod postgres;
pub mod process;
pub mod process_tree;
pub mod proxy;
pub mod rabbitmq;
pub mod receiver;
pub mod services;
pub mod sse;
pub mod sshd;
pub mod stack;
pub mod usage;
pub mod wait;
