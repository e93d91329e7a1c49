//! One look at an engine, by a command that follows nothing.

use std::collections::BTreeMap;

use super::{
    cache::Cache,
    convert,
    engine::{ConnectError, Engine, EngineError},
};
use crate::model::Snapshot;

/// What runs on an engine.
#[derive(Clone, Debug, Default)]
pub struct Survey {
    /// Its version: `28.2.2`.
    pub version: String,
    /// Who there is.
    pub snapshot: Snapshot,
    /// The image of each container by its id, as it was called when the container was made.
    pub images: BTreeMap<String, String>,
    /// Whether the image that was asked about is there.
    pub has_image: bool,
}

/// Reads everything once; `host` and `prefix` are those of [`DockerSource::connect`](super::DockerSource::connect), `image`
/// is an image to look for. Needs a tokio runtime.
///
/// # Errors
/// There is no engine, or it does not answer.
pub async fn survey(host: Option<&str>, prefix: &str, image: &str) -> Result<Survey, ConnectError> {
    let engine = Engine::connect(host).await?;
    let survey = read(&engine, prefix, image).await;
    survey.map_err(|source| ConnectError::not_an_engine(host, source))
}

async fn read(engine: &Engine, prefix: &str, image: &str) -> Result<Survey, EngineError> {
    let mut cache = Cache::new(prefix.to_owned());
    let mut images = BTreeMap::new();
    for summary in engine.list(None).await? {
        let name = summary.image.clone().unwrap_or_default();
        let Some((id, meta)) = convert::listed(summary) else {
            continue;
        };
        let is_live = meta.live;
        cache.set_meta(&id, meta);
        if is_live {
            if let Some((meta, powers)) = engine.container(&id).await?.map(convert::inspected) {
                cache.set_meta(&id, meta);
                cache.set_powers(&id, powers);
            }
            if let Some(image) = cache.lacks_image(&id).map(str::to_owned) {
                let labels = engine.image_labels(&image).await?;
                cache.set_image(&image, labels);
            }
        }
        images.insert(id, name);
    }
    for id in engine.networks().await? {
        let state = engine.network(&id).await?.and_then(convert::network);
        cache.set_network(&id, state);
    }
    Ok(Survey {
        version: engine.version().await?,
        snapshot: cache.snapshot(),
        images,
        has_image: engine.image_labels(image).await?.is_some(),
    })
}
