//! Fetches the database that is the bucket's head, from wherever it is. Touches nothing that is live.

use super::session::Session;
use crate::database::code::Admits;
use crate::error::{Code, CommandResult, Failure};
use crate::install::image::{self, Image};
use crate::python::head::{Foreign, Head};
use crate::python::object;

/// Fetches and checks the database that is the bucket's head; with `Admits::Any` it must not be installed.
///
/// # Errors
/// It is missing, does not match its checksum, is damaged, brings code along, or does not fit on the disk.
pub async fn image(session: &Session, head: &Head, admits: Admits) -> CommandResult<Image> {
    let landing = session.landing(admits);
    let commit = match head {
        Head::Commit(head) => &head.commit,
        Head::Foreign(Foreign { announced: None, .. }) => return Err(unannounced(session)),
        Head::Foreign(_) => return object::download(&landing, head.announced()).await,
    };
    match image::of_commit(&landing, commit).await {
        Ok(image) => Ok(image),
        // The mirror for Python nodes is another copy of the same rows.
        Err(error) if error.is_damage() && head.mirrored() => {
            session.ui.warn(format!("{error}; the copy for Python nodes is used instead"));
            let copy = object::download(&landing, head.announced()).await?;
            Ok(Image { sha256: Some(commit.sha256), ..copy })
        }
        Err(error) => Err(error.into()),
    }
}

/// Fetches whatever whole database is the head, announced or not. Good for asking which rows are in it.
///
/// # Errors
/// As [`image`], without the checksum of a Python node.
pub async fn whatever_is_there(session: &Session, head: Option<&Head>) -> CommandResult<Image> {
    match head {
        Some(head @ Head::Commit(_)) => image(session, head, Admits::Any).await,
        _ => object::download(&session.landing(Admits::Any), None).await,
    }
}

fn unannounced(session: &Session) -> Failure {
    Failure::of(Code::BadObject, format!(
        "{} is at {}, but nothing announces it: somebody is pushing, or the push of a Python node was cut off",
        session.bucket.keys.database(),
        session.bucket.store.name()
    ))
    .hint("try again in a minute; when it stays so, push again from the machine that pushed it")
}
