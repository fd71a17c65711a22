//! End-to-end tests of whole clusters; they are in `e2e/`.
