//! What changes something. Once begun, a change is carried through even if the client leaves.

use std::num::NonZeroU32;
use std::sync::Arc;

use axum::extract::rejection::PathRejection;
use axum::extract::{Path, Request, State};
use log::LevelFilter;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};
use tokio::time::timeout;

use super::super::Control;
use super::super::model::{Filter, Refusal, RefusalKind, ServerState};
use super::answer::{Answer, Refused, json};
use super::read::no_answer;
use super::{ANSWER_WAIT, App, request};
use crate::config;

/// A body with nothing in it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Nothing {}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Reload {
    confirm: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NewState {
    state: ServerState,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Weight {
    weight: u16,
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Kill {
    filter: Filter,
    all: bool,
    rate: Option<NonZeroU32>,
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Rebalance {
    rate: Option<NonZeroU32>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct LogLevel {
    #[serde(deserialize_with = "level")]
    level: LevelFilter,
}

fn level<'de, D: Deserializer<'de>>(from: D) -> Result<LevelFilter, D::Error> {
    let word = String::deserialize(from)?;
    let level = config::LEVELS.iter().find(|(name, _)| *name == word).map(|(_, level)| *level);
    level.ok_or_else(|| {
        let names = config::LEVELS.map(|(name, _)| format!("`{name}`")).join(", ");
        D::Error::custom(format!("unknown variant `{word}`, expected one of {names}"))
    })
}

pub(super) async fn diff<C: Control>(State(app): State<Arc<App<C>>>, request: Request) -> Answer {
    let text = request::text(request).await?;
    app.change(async move |control| control.diff(&text).await).await
}

pub(super) async fn reload<C: Control>(State(app): State<Arc<App<C>>>, request: Request) -> Answer {
    let Reload { confirm } = request::json(request).await?;
    let confirm = confirm.map(|text| config::duration(&text)).transpose();
    let confirm =
        confirm.map_err(|error| Refusal::new(RefusalKind::Invalid, format!("`confirm`: {error}")))?;
    app.change(async move |control| control.reload(confirm).await).await
}

pub(super) async fn confirm<C: Control>(State(app): State<Arc<App<C>>>, request: Request) -> Answer {
    let Nothing {} = request::json(request).await?;
    app.change(async move |control| control.confirm().await).await
}

pub(super) async fn roll_back<C: Control>(State(app): State<Arc<App<C>>>, request: Request) -> Answer {
    let Nothing {} = request::json(request).await?;
    app.change(async move |control| control.roll_back().await).await
}

pub(super) async fn kill<C: Control>(State(app): State<Arc<App<C>>>, request: Request) -> Answer {
    let Kill { filter, all, rate } = request::json(request).await?;
    let refusal = match (filter == Filter::default(), all) {
        (true, false) => {
            let refusal = Refusal::new(RefusalKind::Invalid, "`filter`: no condition is given");
            Some(refusal.help("give one, or \"all\": true to reset every connection"))
        }
        (false, true) => Some(Refusal::new(RefusalKind::Invalid, "`all`: it is given beside a `filter`")),
        _ => None,
    };
    if let Some(refusal) = refusal {
        return Err(refusal.into());
    }
    app.change(async move |control| control.kill(filter, rate.map(NonZeroU32::get)).await).await
}

/// Names in the path.
type Named<T> = Result<Path<T>, PathRejection>;

fn named<T>(names: Named<T>) -> Result<T, Refused> {
    let refusal = |error: PathRejection| Refusal::new(RefusalKind::Invalid, error.body_text());
    names.map(|Path(names)| names).map_err(|error| refusal(error).into())
}

pub(super) async fn rebalance<C: Control>(
    State(app): State<Arc<App<C>>>,
    pool: Named<String>,
    request: Request,
) -> Answer {
    let pool = named(pool)?;
    let Rebalance { rate } = request::json(request).await?;
    app.change(async move |control| control.rebalance(&pool, rate.map(NonZeroU32::get)).await).await
}

pub(super) async fn state<C: Control>(
    State(app): State<Arc<App<C>>>,
    names: Named<(String, String)>,
    request: Request,
) -> Answer {
    let (pool, server) = named(names)?;
    let NewState { state } = request::json(request).await?;
    app.change(async move |control| control.set_state(&pool, &server, state).await).await
}

pub(super) async fn weight<C: Control>(
    State(app): State<Arc<App<C>>>,
    names: Named<(String, String)>,
    request: Request,
) -> Answer {
    let (pool, server) = named(names)?;
    let Weight { weight } = request::json(request).await?;
    app.change(async move |control| control.set_weight(&pool, &server, weight).await).await
}

pub(super) async fn log_level<C: Control>(State(app): State<Arc<App<C>>>, request: Request) -> Answer {
    let LogLevel { level } = request::json(request).await?;
    app.change(async move |control| Ok(control.set_log_level(level).await)).await
}

impl<C: Control> App<C> {
    /// Makes a change, in a task of its own: a client that hangs up must not leave it half done.
    async fn change<T, Made>(&self, make: impl FnOnce(Arc<C>) -> Made) -> Answer
    where
        T: Serialize + Send + 'static,
        Made: Future<Output = Result<T, Refusal>> + Send + 'static,
    {
        let permit = self.permit()?;
        let made = make(Arc::clone(&self.control));
        let task = tokio::spawn(async move {
            let _permit = permit;
            made.await
        });
        match timeout(ANSWER_WAIT, task).await {
            Ok(Ok(made)) => {
                let made = made?;
                // In this order: the text is made from the state.
                self.status.forget().await;
                self.status_text.forget().await;
                Ok(json(&made))
            }
            Ok(Err(_)) | Err(_) => Err(no_answer().into()),
        }
    }
}
