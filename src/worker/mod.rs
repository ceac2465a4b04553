//! One share-nothing loop per CPU.
