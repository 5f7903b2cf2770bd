//! `/openapi.json`: which paths there are and with which methods, for the tools that ask. Written from the table of
//! routes; bodies are described in docs/fleet.md.

use serde_json::{Map, Value, json};

/// A path and its methods in lower case.
pub type RouteLine = (&'static str, &'static [&'static str]);

/// The document.
pub fn document(title: &str, version: &str, routes: &[RouteLine]) -> Value {
    let mut paths = Map::new();
    for (path, methods) in routes {
        let operation = json!({"responses": {"200": {"description": "Successful Response"}}});
        let operations: Map<String, Value> =
            methods.iter().map(|method| ((*method).to_owned(), operation.clone())).collect();
        paths.insert((*path).to_owned(), Value::Object(operations));
    }
    json!({"openapi": "3.1.0", "info": {"title": title, "version": version}, "paths": paths})
}
