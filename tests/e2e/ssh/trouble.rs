//! Commands that must end, however the worker, the network or they themselves behave.
use super::*;
