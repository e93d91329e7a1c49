//! `docker compose`, where the machine has none: as much of `config` as it takes to read the files of the documents. A plugin
//! that is installed goes before it.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::{Map, Value, json};
use yaml_rust2::{Yaml, YamlLoader};

use crate::process;

/// A directory for `DOCKER_CONFIG`, in `directory`: with the stand-in as plugin, unless docker finds one by itself.
///
/// # Panics
/// When it cannot be made.
pub fn docker_config(directory: &Path, stand_in: &Path) -> PathBuf {
    let config = directory.join("docker-config");
    let plugins = config.join("cli-plugins");
    fs::create_dir_all(&plugins).expect("the directory is ours");
    let mut version = Command::new("docker");
    version.args(["compose", "version"]);
    if !process::output(version.env("DOCKER_CONFIG", &config))
        .status
        .success()
    {
        // Not a link: whoever is not root may be kept from where it lies.
        fs::copy(stand_in, plugins.join("docker-compose")).expect("the directory is new");
    }
    config
}

/// What the plugin does with these arguments, and prints.
///
/// # Errors
/// Arguments or files that it does not understand.
pub fn plugin(arguments: &[String]) -> Result<String, String> {
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match &words[..] {
        ["docker-cli-plugin-metadata"] => Ok(json!({
            "SchemaVersion": "0.1.0", "Vendor": "dfw tests", "Version": "v0",
            "ShortDescription": "Reads compose files",
        })
        .to_string()),
        ["compose", "version"] => Ok("a stand-in of dfw's tests".to_owned()),
        ["compose", files @ .., "config", "--format", "json"] => {
            let mut named: Vec<&str> = Vec::new();
            for pair in files.chunks(2) {
                match pair {
                    ["--file" | "-f", file] => named.push(file),
                    _ => return Err(format!("{files:?}: only --file FILE is known here")),
                }
            }
            if named.is_empty() {
                named.push("compose.yaml");
            }
            config(&named).map(|value| value.to_string())
        }
        _ => Err(format!(
            "{words:?}: this stand-in knows `config --format json` only"
        )),
    }
}

/// Several files as one project.
fn config(files: &[&str]) -> Result<Value, String> {
    let mut whole = Value::Null;
    for file in files {
        let text = fs::read_to_string(file).map_err(|error| format!("{file}: {error}"))?;
        let yaml = YamlLoader::load_from_str(&text).map_err(|error| format!("{file}: {error}"))?;
        for document in &yaml {
            let read = json_of(document).map_err(|error| format!("{file}: {error}"))?;
            merge(&mut whole, read);
        }
    }
    let directory = env::current_dir().unwrap_or_default();
    let directory = directory.file_name().unwrap_or_default().to_string_lossy();
    let name = whole["name"].as_str().unwrap_or(&directory).to_owned();
    let mut networks = named(&whole["networks"]);
    let mut services = Map::new();
    for (service, written) in named(&whole["services"]) {
        let normal = normal(written).map_err(|error| format!("service {service}: {error}"))?;
        for network in named(&normal["networks"]).keys() {
            match networks.get(network) {
                Some(_) => {}
                None if network == "default" => drop(networks.insert(network.clone(), Value::Null)),
                None => return Err(format!("service {service}: undefined network {network}")),
            }
        }
        services.insert(service, normal);
    }
    for (short, network) in &mut networks {
        let is_external = network["external"] == true;
        let engine_name = match network["name"].as_str() {
            Some(given) => given.to_owned(),
            None if is_external => short.clone(),
            None => format!("{name}_{short}"),
        };
        network["name"] = engine_name.into();
    }
    Ok(json!({ "name": name, "services": services, "networks": networks }))
}

fn json_of(yaml: &Yaml) -> Result<Value, String> {
    Ok(match yaml {
        Yaml::Null => Value::Null,
        Yaml::Boolean(is) => (*is).into(),
        Yaml::Integer(number) => (*number).into(),
        Yaml::Real(text) | Yaml::String(text) => text.as_str().into(),
        Yaml::Array(items) => items.iter().map(json_of).collect::<Result<_, _>>()?,
        Yaml::Hash(pairs) => {
            let pair = |(key, value): (&Yaml, &Yaml)| {
                let key = key.as_str().ok_or("a key that is no word")?;
                Ok((key.to_owned(), json_of(value)?))
            };
            let pairs: Result<Map<_, _>, String> = pairs.iter().map(pair).collect();
            pairs?.into()
        }
        Yaml::Alias(_) | Yaml::BadValue => return Err("not understood".to_owned()),
    })
}

/// Maps key by key, lists one behind the other, anything else by what comes later.
fn merge(into: &mut Value, from: Value) {
    match (into, from) {
        (Value::Object(into), Value::Object(from)) => {
            for (key, value) in from {
                merge(into.entry(key).or_insert(Value::Null), value);
            }
        }
        (Value::Array(into), Value::Array(mut from)) => into.append(&mut from),
        (into, from) => *into = from,
    }
}

/// A map, or a list of names as one.
fn named(value: &Value) -> Map<String, Value> {
    match value {
        Value::Object(map) => map.clone(),
        Value::Array(names) => {
            let names = names.iter().filter_map(Value::as_str);
            names.map(|name| (name.to_owned(), Value::Null)).collect()
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => Map::new(),
    }
}

/// A service with ports and networks in their long form.
fn normal(mut service: Value) -> Result<Value, String> {
    if service["network_mode"].is_null() {
        let mut networks = named(&service["networks"]);
        if networks.is_empty() {
            networks.insert("default".to_owned(), Value::Null);
        }
        service["networks"] = networks.into();
    }
    if let Some(ports) = service["ports"].as_array() {
        let ports: Result<Vec<Value>, String> = ports.iter().map(long_port).collect();
        service["ports"] = ports?.into();
    }
    Ok(service)
}

/// `[[ADDRESS:]PUBLISHED:]TARGET[/PROTOCOL]`.
fn long_port(port: &Value) -> Result<Value, String> {
    let Some(text) = port.as_str() else {
        return Ok(port.clone());
    };
    let wrong = || format!("invalid port {text}");
    let (rest, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    let (rest, target) = rest.rsplit_once(':').unwrap_or(("", rest));
    let target: u16 = target.parse().map_err(|_| wrong())?;
    let (address, published) = rest.rsplit_once(':').unwrap_or(("", rest));
    let mut long = json!({ "mode": "ingress", "target": target, "protocol": protocol });
    if !published.is_empty() {
        long["published"] = published.into();
    }
    if !address.is_empty() {
        long["host_ip"] = address.trim_matches(['[', ']']).into();
    }
    Ok(long)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scratch::Scratch;

    #[test]
    fn files_are_read_as_one_project() {
        let scratch = Scratch::new();
        let first = "name: shop
services:
  web:
    ports: ['127.0.0.1:8080:80', '53:53/udp']
    networks: [edge, default]
    labels: { dfw.mode: audit }
networks:
  edge: { external: true }
";
        let second = "services:
  web:
    labels: { dfw.mode: enforce }
";
        let files = [scratch.file("a", first), scratch.file("b", second)];
        let files = files.each_ref().map(|file| file.to_str().expect("UTF-8"));
        let expected = json!({
            "name": "shop",
            "services": { "web": {
                "ports": [
                    { "mode": "ingress", "target": 80, "published": "8080", "host_ip": "127.0.0.1", "protocol": "tcp" },
                    { "mode": "ingress", "target": 53, "published": "53", "protocol": "udp" },
                ],
                "networks": { "edge": null, "default": null },
                "labels": { "dfw.mode": "enforce" },
            } },
            "networks": {
                "edge": { "external": true, "name": "edge" },
                "default": { "name": "shop_default" },
            },
        });
        assert_eq!(config(&files), Ok(expected));
    }
}
