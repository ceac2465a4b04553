//! What happens once in a process: start-up, signals, the end.
