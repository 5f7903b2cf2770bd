//! `membridge server`: the fleet on one page, and the place from which its agents are asked. The routes are the Python
//! server's 0.3.0. It decides nothing: roles are the lease's, nodes are what they say of themselves.

mod page;
mod routes;
mod running;
mod select;
mod settings;
mod state;
mod work;

pub use settings::{API_VERSION, ServerSettings};
pub use state::{Server, Surroundings};
