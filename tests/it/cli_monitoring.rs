//! What the command line says of the audit log, alerts, health and policies.
