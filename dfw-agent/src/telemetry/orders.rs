//! Orders over the command socket: handed to whoever reconciles, and answered when they are in force.

use axum::{
    Json,
    extract::State,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use tokio::sync::{mpsc, oneshot};

use super::http::Shared;
use crate::model::{Done, Refused, SwitchOrder};

/// What the agent can be told.
#[derive(Clone, Debug)]
pub enum Order {
    /// To read the policy file anew.
    Reload,
    /// To switch modes.
    Switch(SwitchOrder),
}

/// An order, and where its outcome goes.
#[derive(Debug)]
pub struct Asked {
    /// What.
    pub order: Order,
    /// Nobody may be waiting for it any more.
    pub answer: oneshot::Sender<Result<Done, Refused>>,
}

/// Where orders go.
pub type Orders = mpsc::Sender<Asked>;

pub(super) async fn reload(State(shared): State<Shared>) -> Response {
    let order = Order::Reload;
    carry_out(&shared.orders, |answer| Asked { order, answer }).await
}

pub(super) async fn switch(
    State(shared): State<Shared>,
    Json(order): Json<SwitchOrder>,
) -> Response {
    let order = Order::Switch(order);
    carry_out(&shared.orders, |answer| Asked { order, answer }).await
}

/// Hands an order over, and answers what came of it.
pub(super) async fn carry_out<T>(
    to: &mpsc::Sender<T>,
    order: impl FnOnce(oneshot::Sender<Result<Done, Refused>>) -> T,
) -> Response {
    let (answer, outcome) = oneshot::channel();
    let told = to.send(order(answer)).await;
    match (told, outcome.await) {
        (Ok(()), Ok(Ok(done))) => Json(done).into_response(),
        (Ok(()), Ok(Err(refused))) => {
            (StatusCode::UNPROCESSABLE_ENTITY, Json(refused)).into_response()
        }
        _ => (
            StatusCode::SERVICE_UNAVAILABLE,
            "the agent is about to end\n",
        )
            .into_response(),
    }
}
