//! The row log: how memory travels between machines. What is published and taken in, row by row, and where it lies in
//! the bucket. It knows no roles, no locks and no images.
//!
//! - [`segment`] is the format of rows on the wire, [`header`] what a segment says about itself;

pub mod header;
pub mod segment;
