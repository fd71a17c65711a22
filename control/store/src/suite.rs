//! The laws that every engine keeps.
