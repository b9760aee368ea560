//! What dies in mid-run, and what is missing at the start: every work request reaches its end all the same (I2),
//! exactly one for each fire and job (I1).

mod at_start;
mod killed;
