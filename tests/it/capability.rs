//! F46: what the probe finds out about a store, and that a bad moment is not taken for a bad store.

use membridge::context::Context;
use membridge::storage::keys::Keys;
use membridge::storage::probe::{self, Verdict};

use crate::stores::{self, Subject, unique};
use crate::support::s3::{Fault, Op, S3Server};

const BOTH: Verdict = Verdict { create: true, replace: true };

async fn verdict(subject: &Subject) -> Verdict {
    let keys = Keys::new(&unique("probe"));
    let store = subject.open();
    let verdict = probe::probe(&store, &keys, &Context::default()).await.unwrap();
    assert_eq!(store.list(&keys.root()).await.unwrap(), [], "the probe tidies up");
    verdict
}

#[tokio::test]
async fn f46_the_probe_knows_every_kind_of_server() {
    assert_eq!(verdict(&Subject::conforming()).await, BOTH);
    for subject in [Subject::ignoring(), Subject::refusing(), Subject::not_atomic()] {
        assert!(!verdict(&subject).await.atomic(), "{}", subject.name);
    }
}

#[tokio::test]
async fn f46_one_lost_answer_is_not_a_verdict() {
    for lost in [0, 1, 3, 6, 30] {
        let server = S3Server::start();
        let _fault = server.fault(Fault::LostReply.on(Op::PutObject).after(lost).next(1));
        let store = stores::open(&(&server).into());
        let found = probe::probe(&store, &Keys::new("c"), &Context::default()).await;
        assert_eq!(found.unwrap(), BOTH, "answer {lost} was lost");
    }
}
