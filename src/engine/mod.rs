//! How the kernel is asked to move bytes.
