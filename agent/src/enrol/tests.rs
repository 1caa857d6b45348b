//! Against a server in a thread of the test.
