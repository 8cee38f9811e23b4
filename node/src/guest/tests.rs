//! Sessions, versions and failures, with real guests.
