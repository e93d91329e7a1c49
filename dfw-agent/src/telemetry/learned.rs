//! What was learned in audit, for who asks; and the order to begin anew.

use std::sync::Arc;

use axum::{
    Json,
    extract::State,
    response::{IntoResponse as _, Response},
};
use tokio::sync::{mpsc, oneshot, watch};

use super::{http::Shared, orders};
use crate::{
    model::{Done, Finding, ForgetOrder, Level, Refused, View},
    policy::Learned,
};

/// Begins anew for some, or for all.
#[derive(Debug)]
pub struct Forgetting {
    /// For whom.
    pub order: ForgetOrder,
    /// Nobody may be waiting for it any more.
    pub answer: oneshot::Sender<Result<Done, Refused>>,
}

/// What the agent remembers, and where it is told to forget.
#[derive(Clone, Debug)]
pub struct Memory {
    /// As it was last written down.
    pub learned: watch::Receiver<Arc<Learned>>,
    /// Where orders go.
    pub forget: mpsc::Sender<Forgetting>,
}

impl Memory {
    /// Says in a view what was learned.
    pub(super) fn tell(&self, view: &mut View) {
        let learned = self.learned.borrow();
        view.learned = Some(learned.figures());
        view.findings.extend(learned.unkept.as_ref().map(|why| {
            let what = format!(
                "what is learned in audit ends with the agent: {why}; let the agent write to the directory of --state"
            );
            Finding::new(Level::Warning, "not-kept", "", what)
        }));
    }
}

pub(super) async fn seen(State(shared): State<Shared>) -> Response {
    let learned = Arc::clone(&shared.memory.learned.borrow());
    Json(&*learned).into_response()
}

pub(super) async fn forget(
    State(shared): State<Shared>,
    Json(order): Json<ForgetOrder>,
) -> Response {
    orders::carry_out(&shared.memory.forget, |answer| Forgetting { order, answer }).await
}
