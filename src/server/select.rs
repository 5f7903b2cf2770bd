//! Who is primary, shown and chosen. A choice is the lease itself, written by compare-and-swap: nodes obey it with their
//! next command, those with the Python script too.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use serde_json::{Map, Value, json};

use super::state::Server;
use crate::fleet::nodes;
use crate::fleet::survey::{Known, is_cid};
use crate::http::answer::{Handled, Refusal, ok};
use crate::http::fields::{Fields, problem};
use crate::http::given::{Given, Name};
use crate::leadership::LeaseRecord;
use crate::leadership::{Handed, Leadership, LeadershipError, Promotion};
use crate::storage::Bucket;

/// Ten years.
const LONGEST_LEASE: i64 = 315_360_000;

pub(super) async fn nodes(State(server): State<Arc<Server>>, Name(cid): Name) -> Handled {
    let known = server.known(&cid).await;
    ok(&server.nodes(&cid, &known))
}

pub(super) async fn leadership(State(server): State<Arc<Server>>, Name(cid): Name) -> Handled {
    let known = server.known(&cid).await;
    let nodes = server.nodes(&cid, &known);
    let mut answer = lease_fields(known.lease.as_ref(), server.context.server_now().as_second());
    answer.insert("canonical_id".to_owned(), cid.into());
    answer.insert("node_count".to_owned(), nodes.len().into());
    answer.insert("nodes".to_owned(), json!(nodes));
    answer.insert("store_error".to_owned(), json!(trouble(&server, &known)));
    ok(&answer)
}

/// Why roles may not be what is shown.
fn trouble(server: &Server, known: &Known) -> Option<String> {
    known.trouble.clone().or_else(|| server.surroundings.store.as_ref().err().cloned())
}

/// Both sets of fields: that of the Python server, and the lease's own, which the React pages read [6].
fn lease_fields(lease: Option<&LeaseRecord>, now: i64) -> Map<String, Value> {
    let primary = lease.map(|lease| lease.primary_node_id.as_str()).filter(|name| !name.is_empty());
    let fields = json!({
        "canonical_id": Value::Null,
        "preferred_primary": primary,
        "primary_node_id": primary,
        "issued_at": lease.map(|lease| lease.issued_at),
        "expires_at": lease.map(|lease| lease.expires_at),
        "lease_seconds": lease.map(|lease| lease.lease_seconds),
        "epoch": lease.map_or(0, |lease| lease.epoch),
        "policy": lease.map(|lease| lease.policy.as_str()),
        "issued_by": lease.map(|lease| lease.issued_by.as_str()),
        "needs_ui_selection": lease.is_none_or(|lease| lease.needs_ui_selection),
        "expired": lease.map(|lease| lease.expires_at <= now),
    });
    match fields {
        Value::Object(fields) => fields,
        _ => Map::new(),
    }
}

/// What was chosen.
#[derive(Debug, PartialEq)]
struct Choice {
    node: String,
    seconds: i64,
    over: Option<i64>,
}

fn choice(cid: &str, body: &Map<String, Value>) -> Result<Choice, Refusal> {
    let mut fields = Fields::of_body(body);
    let node = fields.text("primary_node_id", 1, 128);
    let seconds = fields.int("lease_seconds", 1, LONGEST_LEASE, 3600);
    let over = fields.optional_int("expected_epoch");
    fields.end()?;
    let mismatch = |place: &Value, pattern: &str, input: &str| {
        let message = format!("String should match pattern '{pattern}'");
        Refusal::Fields(vec![problem("string_pattern_mismatch", place, &message, &input.into())])
    };
    if !is_cid(cid) {
        return Err(mismatch(&json!(["path", "cid"]), "^[0-9a-f]{16}$", cid));
    }
    if !node.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-')) {
        return Err(mismatch(&json!(["body", "primary_node_id"]), "^[A-Za-z0-9._-]+$", &node));
    }
    Ok(Choice { node, seconds, over })
}

pub(super) async fn select(
    State(server): State<Arc<Server>>,
    Name(cid): Name,
    Given(body): Given,
) -> Handled {
    let choice = choice(&cid, &body)?;
    let Some(survey) = &server.survey else {
        let why = server.surroundings.store.as_ref().err().cloned().unwrap_or_default();
        return Err(Refusal::new(
            StatusCode::SERVICE_UNAVAILABLE,
            format!("This server has no store, and the lease lies there: {why}"),
        ));
    };
    let bucket = survey.bucket(&cid).await.map_err(|error| {
        Refusal::new(StatusCode::BAD_GATEWAY, format!("The store cannot be used: {error}"))
    })?;
    let handed = promote(&server, &bucket, &choice).await.map_err(|error| refused(&error))?;
    survey.forget(&cid);
    let known = server.known(&cid).await;
    let doubts = nodes::doubts(&choice.node, &server.nodes(&cid, &known));
    let answer = told(&cid, &handed, &doubts);
    server.events.tell(
        "lease",
        &json!({"canonical_id": cid, "primary_node_id": choice.node, "epoch": handed.now.epoch}),
    );
    ok(&answer)
}

async fn promote(server: &Server, bucket: &Bucket, choice: &Choice) -> Result<Handed, LeadershipError> {
    let leadership =
        Leadership { bucket, config: &server.surroundings.leadership, node: &server.surroundings.node };
    let promotion = Promotion {
        node: choice.node.clone(),
        seconds: Some(choice.seconds),
        force: false,
        over: choice.over,
    };
    Box::pin(leadership.promote(&promotion)).await
}

fn told(cid: &str, handed: &Handed, doubts: &[String]) -> Value {
    let was = handed.before.as_ref().map(LeaseRecord::primary_label);
    let now = &handed.now;
    let mut detail = format!(
        "{} is primary now (epoch {}, was: {}). Machines obey with their next push or pull.",
        now.primary_node_id,
        now.epoch,
        was.unwrap_or("nobody")
    );
    for doubt in doubts {
        detail = format!("{detail} Note: {doubt}.");
    }
    json!({
        "ok": true,
        "canonical_id": cid,
        "primary_node_id": now.primary_node_id,
        "lease_seconds": now.lease_seconds,
        "detail": detail,
        "epoch": now.epoch,
        "expires_at": now.expires_at,
        "was": was,
    })
}

fn refused(error: &LeadershipError) -> Refusal {
    let status = match error {
        LeadershipError::Contended(_) | LeadershipError::Overtaken { .. } | LeadershipError::Senseless(_) => {
            StatusCode::CONFLICT
        }
        LeadershipError::Store(_) | LeadershipError::History(_) => StatusCode::BAD_GATEWAY,
        LeadershipError::Random(_) => StatusCode::INTERNAL_SERVER_ERROR,
    };
    Refusal::new(status, error.to_string())
}

#[cfg(test)]
mod tests {
    use super::{Choice, choice, lease_fields};
    use serde_json::{Map, Value, json};

    fn body(value: Value) -> Map<String, Value> {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn what_can_be_chosen() {
        let cid = "6fe2e0f6071ac2bb";
        let table = [
            (cid, json!({"primary_node_id": "opi"}), true),
            (cid, json!({"primary_node_id": "a.b_c-9", "lease_seconds": "60"}), true),
            (cid, json!({"primary_node_id": "opi", "lease_seconds": 0}), false),
            (cid, json!({"primary_node_id": "opi", "lease_seconds": null}), false),
            (cid, json!({"primary_node_id": "a b"}), false),
            (cid, json!({"primary_node_id": "../x"}), false),
            (cid, json!({"primary_node_id": ""}), false),
            (cid, json!({}), false),
            ("zzz", json!({"primary_node_id": "opi"}), false),
            ("../6fe2e0f6071ac2b", json!({"primary_node_id": "opi"}), false),
        ];
        for (cid, value, taken) in table {
            assert_eq!(choice(cid, &body(value.clone())).is_ok(), taken, "{cid} {value}");
        }
        let chosen = choice(cid, &body(json!({"primary_node_id": "opi", "expected_epoch": 3}))).unwrap();
        assert_eq!(chosen, Choice { node: "opi".to_owned(), seconds: 3600, over: Some(3) });
    }

    #[test]
    fn f06_of_the_fleet_a_lease_says_when_it_ends_in_both_sets_of_fields() {
        let fields = lease_fields(None, 100);
        assert!(fields["preferred_primary"].is_null() && fields["primary_node_id"].is_null());
        assert_eq!((&fields["epoch"], &fields["needs_ui_selection"]), (&json!(0), &json!(true)));
        let lease = serde_json::from_value(json!({
            "primary_node_id": "desk", "issued_at": 1, "expires_at": 99, "lease_seconds": 98, "epoch": 7,
        }));
        let fields = lease_fields(Some(&lease.unwrap()), 100);
        assert_eq!((&fields["preferred_primary"], &fields["expired"]), (&json!("desk"), &json!(true)));
        assert_eq!(fields["epoch"], 7);
    }
}
