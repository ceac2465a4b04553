//! `tidegate demo`.
