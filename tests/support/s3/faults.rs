//! The faults a test can switch on while the server runs, and which requests each of
//! them meets. Decides only; front.rs and service.rs carry the faults out.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// What a request asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Op {
    CreateBucket,
    HeadBucket,
    ListObjects,
    GetObject,
    HeadObject,
    PutObject,
    DeleteObject,
    CopyObject,
    CreateMultipartUpload,
    UploadPart,
    CompleteMultipartUpload,
    AbortMultipartUpload,
    Other,
}

impl Op {
    /// Changes what is stored.
    pub fn writes(self) -> bool {
        !matches!(self, Op::HeadBucket | Op::ListObjects | Op::GetObject | Op::HeadObject | Op::Other)
    }
}

impl fmt::Display for Op {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// One way of misbehaving.
#[derive(Clone, Debug, PartialEq)]
pub enum Fault {
    /// Conditional headers have no effect: 200, and the object is overwritten.
    IgnoresConditions,
    /// A write with a conditional header is answered 501 NotImplemented.
    Conditions501,
    /// A conditional write is answered 409 ConditionalRequestConflict and not done.
    Conflict409,
    /// The condition is checked, time passes, then the write happens whatever came between.
    NotAtomic(Duration),
    /// The request is carried out, then answered 500 InternalError.
    LostReply,
    /// The request is carried out, then answered 200 with a document of another kind.
    Unreadable,
    /// The request is carried out, then the connection is dropped without an answer.
    LostConnection,
    /// A write without an integrity header is refused, as by a bucket with Object Lock.
    WantsIntegrity,
    /// 503 SlowDown, nothing is done.
    SlowDown,
    /// This status and error code, nothing is done.
    Status(u16, &'static str),
    /// This status and HTML page (none when empty), as a proxy or a web server in between answers.
    Page(u16, &'static str),
    /// The answer comes this much later.
    Latency(Duration),
    /// The answers come when so many requests are waiting for theirs: whoever asks one after the other gets none.
    Together(Meeting),
    /// The connection is dropped on arrival, nothing is done.
    Disconnect,
    /// The connection is dropped after this many body bytes, of the request for a write
    /// (nothing is stored), of the answer for a GET.
    CutConnection(u64),
    /// A GET's answer ends after this many bytes and claims to be whole.
    TruncatedBody(u64),
    /// The request is taken and never answered.
    BlackHole,
}

/// Where requests wait for each other.
#[derive(Clone, Debug)]
pub struct Meeting(pub Arc<tokio::sync::Barrier>);

impl Meeting {
    /// Of so many.
    pub fn of(count: usize) -> Meeting {
        Meeting(Arc::new(tokio::sync::Barrier::new(count)))
    }
}

impl PartialEq for Meeting {
    fn eq(&self, other: &Meeting) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

/// A fault and the requests it is for. All requests, until narrowed.
#[derive(Clone, Debug)]
pub struct Rule {
    fault: Fault,
    op: Option<Op>,
    key: Option<String>,
    left: Option<usize>,
    skip: usize,
}

impl From<Fault> for Rule {
    fn from(fault: Fault) -> Rule {
        Rule { fault, op: None, key: None, left: None, skip: 0 }
    }
}

impl Fault {
    /// Only for this operation.
    pub fn on(self, op: Op) -> Rule {
        Rule::from(self).on(op)
    }

    /// Only for keys that contain `part`.
    pub fn key(self, part: &str) -> Rule {
        Rule::from(self).key(part)
    }

    /// Only for the next `count` requests that match.
    pub fn next(self, count: usize) -> Rule {
        Rule::from(self).next(count)
    }
}

impl Rule {
    /// Only for this operation.
    pub fn on(mut self, op: Op) -> Rule {
        self.op = Some(op);
        self
    }

    /// Only for keys that contain `part`.
    pub fn key(mut self, part: &str) -> Rule {
        self.key = Some(part.to_owned());
        self
    }

    /// Only for the next `count` requests that match.
    pub fn next(mut self, count: usize) -> Rule {
        self.left = Some(count);
        self
    }

    /// Lets the first `count` matching requests through.
    pub fn after(mut self, count: usize) -> Rule {
        self.skip = count;
        self
    }

    fn applies(&self, op: Op, key: &str, conditional: bool) -> bool {
        let for_conditions = matches!(
            self.fault,
            Fault::IgnoresConditions | Fault::Conditions501 | Fault::Conflict409 | Fault::NotAtomic(_)
        );
        let for_bodies = matches!(self.fault, Fault::TruncatedBody(_));
        self.op.is_none_or(|wanted| wanted == op)
            && self.key.as_ref().is_none_or(|part| key.contains(part.as_str()))
            && (!for_conditions || conditional)
            && (!for_bodies || op == Op::GetObject)
            && self.left != Some(0)
    }
}

/// The rules in force.
#[derive(Default)]
pub struct Faults(Mutex<Table>);

#[derive(Default)]
struct Table {
    rules: Vec<(u64, Rule)>,
    last: u64,
}

impl Faults {
    fn with<T>(&self, change: impl FnOnce(&mut Table) -> T) -> T {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub fn add(&self, rule: Rule) -> u64 {
        self.with(|table| {
            table.last += 1;
            table.rules.push((table.last, rule));
            table.last
        })
    }

    pub fn remove(&self, id: u64) {
        self.with(|table| table.rules.retain(|(other, _)| *other != id));
    }

    pub fn clear(&self) {
        self.with(|table| table.rules.clear());
    }

    /// The faults that this request meets; counts it against "the next N".
    pub fn meet(&self, op: Op, key: &str, conditional: bool) -> Vec<Fault> {
        self.with(|table| {
            let mut met = Vec::new();
            for (_, rule) in &mut table.rules {
                if !rule.applies(op, key, conditional) {
                    continue;
                }
                if rule.skip > 0 {
                    rule.skip -= 1;
                    continue;
                }
                if let Some(left) = &mut rule.left {
                    *left -= 1;
                }
                met.push(rule.fault.clone());
            }
            met
        })
    }
}

/// Keeps a fault switched on until dropped.
#[must_use = "the fault ends when this is dropped; `forever` keeps it"]
pub struct FaultGuard {
    pub(super) faults: Arc<Faults>,
    pub(super) id: u64,
}

impl FaultGuard {
    /// Leaves the fault on until `clear_faults`.
    pub fn forever(self) {
        std::mem::forget(self);
    }
}

impl Drop for FaultGuard {
    fn drop(&mut self) {
        self.faults.remove(self.id);
    }
}
