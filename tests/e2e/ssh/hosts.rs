//! Who is let in, on both sides.
use super::*;
