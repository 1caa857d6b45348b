//! Request and response types of the REST interface, and its client.
