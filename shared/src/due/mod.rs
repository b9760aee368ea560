//! Pure: a schedule's timing → its due times.
