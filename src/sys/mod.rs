//! The only room that talks to the operating system.
