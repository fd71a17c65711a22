//! Scenarios and laws of Deployments.
