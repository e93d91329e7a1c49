//! Which labels of a container count.

use std::collections::BTreeMap;

/// Compose puts the hash of a service's definition on each container it makes, and on no image.
const COMPOSE_CONFIG_HASH: &str = "com.docker.compose.config-hash";
const COMPOSE: &str = "com.docker.compose.";
const SWARM: [&str; 2] = ["com.docker.swarm.", "com.docker.stack."];

/// Takes away what the image carries with the same value: Docker merges an image's labels into the container's, so a pulled
/// image could disarm its own policy or claim a service. Gives the labels that count, and the keys that were ignored and
/// would have meant something to dfw.
///
/// Compose's own labels are an exception where Compose made the container, for `docker compose build` writes project and
/// service on the image too. It did if the container has a configuration hash that the image has not; and then it set
/// project and service itself, whatever the image says.
pub(super) fn that_count(
    labels: &BTreeMap<String, String>,
    image: &BTreeMap<String, String>,
    prefix: &str,
) -> (BTreeMap<String, String>, Vec<String>) {
    let hash = labels.get(COMPOSE_CONFIG_HASH);
    let made_by_compose = hash.is_some() && hash != image.get(COMPOSE_CONFIG_HASH);
    let (from_image, counting): (BTreeMap<_, _>, BTreeMap<_, _>) = labels
        .iter()
        .map(|(key, value)| (key.clone(), value.clone()))
        .partition(|(key, value)| {
            image.get(key) == Some(value) && !(made_by_compose && key.starts_with(COMPOSE))
        });
    let means_something = |key: &String| {
        key.starts_with(prefix)
            || key.starts_with(COMPOSE)
            || SWARM.iter().any(|swarm| key.starts_with(swarm))
    };
    (
        counting,
        from_image.into_keys().filter(means_something).collect(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(text: &str) -> BTreeMap<String, String> {
        text.split_whitespace()
            .map(|pair| pair.split_once('=').expect("key=value"))
            .map(|(key, value)| (key.into(), value.into()))
            .collect()
    }

    #[test]
    fn image_labels_do_not_count() {
        let (project, service) = ("com.docker.compose.project", "com.docker.compose.service");
        let claimed = format!("{project}=shop {service}=db");
        let cases = [
            (
                "nothing in common",
                "dfw.mode=enforce a=b",
                "a=c",
                "dfw.mode=enforce a=b",
                "",
            ),
            (
                "a pulled image disarms itself",
                "dfw.mode=off",
                "dfw.mode=off",
                "",
                "dfw.mode",
            ),
            (
                "the user overrides the image",
                "dfw.mode=enforce",
                "dfw.mode=off",
                "dfw.mode=enforce",
                "",
            ),
            (
                "any label may be a peer",
                "role=admin",
                "role=admin",
                "",
                "",
            ),
            (
                "a pulled image claims a task of a service",
                "com.docker.swarm.service.name=db com.docker.stack.namespace=shop",
                "com.docker.swarm.service.name=db com.docker.stack.namespace=shop",
                "",
                "com.docker.stack.namespace com.docker.swarm.service.name",
            ),
            (
                "a pulled image claims a service",
                &claimed,
                &claimed,
                "",
                &format!("{project} {service}"),
            ),
            (
                "Compose built the image and made the container",
                &format!("{claimed} com.docker.compose.config-hash=1f dfw.mode=off"),
                &format!("{claimed} dfw.mode=off"),
                &format!("{claimed} com.docker.compose.config-hash=1f"),
                "dfw.mode",
            ),
            (
                "a pulled image with a hash of its own",
                &format!("{claimed} com.docker.compose.config-hash=1f"),
                &format!("{claimed} com.docker.compose.config-hash=1f"),
                "",
                &format!("com.docker.compose.config-hash {project} {service}"),
            ),
        ];
        for (case, container, image, counting, ignored) in cases {
            let (count, keys) = that_count(&labels(container), &labels(image), "dfw.");
            assert_eq!(count, labels(counting), "{case}");
            assert_eq!(keys.join(" "), ignored, "{case}");
        }
    }
}
