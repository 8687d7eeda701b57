//! The one integration binary: the product from outside, over real sockets, TLS and SQLite.
