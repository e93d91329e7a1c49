//! Ports of common services, for the node's policy file and for what `dfw init` proposes.

/// A service that many people run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Preset {
    /// What a policy file calls it.
    pub name: &'static str,
    /// The ports that its clients dial, in the language of rules.
    pub ports: &'static str,
    /// Who says so: IANA's service names of these ports, or the product's documentation.
    pub source: &'static str,
    /// Last components of the names of images that serve this.
    pub images: &'static [&'static str],
}

const fn preset(
    name: &'static str,
    ports: &'static str,
    source: &'static str,
    images: &'static [&'static str],
) -> Preset {
    Preset {
        name,
        ports,
        source,
        images,
    }
}

const WEB: &[&str] = &["nginx", "httpd", "caddy", "traefik"];

/// Every preset, by name.
pub const PRESETS: &[Preset] = &[
    preset(
        "alertmanager",
        "tcp/9093",
        "docs of Alertmanager",
        &["alertmanager"],
    ),
    preset("amqp", "tcp/5672,5671", "IANA amqp, amqps", &["rabbitmq"]),
    preset(
        "cassandra",
        "tcp/9042",
        "docs of Cassandra, CQL",
        &["cassandra"],
    ),
    preset(
        "clickhouse",
        "tcp/8123,9000",
        "docs of ClickHouse",
        &["clickhouse", "clickhouse-server"],
    ),
    preset(
        "dns",
        "udp/53,tcp/53",
        "IANA domain",
        &["bind9", "coredns", "unbound", "dnsmasq"],
    ),
    preset(
        "elasticsearch",
        "tcp/9200",
        "docs of Elasticsearch, HTTP",
        &["elasticsearch"],
    ),
    preset("etcd", "tcp/2379", "IANA etcd-client", &["etcd"]),
    preset(
        "gitea",
        "tcp/3000,22,2222",
        "docs of Gitea, HTTP and SSH, the latter of the rootless image too",
        &["gitea", "forgejo"],
    ),
    preset(
        "grafana",
        "tcp/3000",
        "docs of Grafana",
        &["grafana", "grafana-oss", "grafana-enterprise"],
    ),
    preset("http", "tcp/80", "IANA http", WEB),
    preset(
        "https",
        "tcp/443,udp/443",
        "IANA https, HTTP/3 included",
        WEB,
    ),
    preset(
        "imap",
        "tcp/143,993",
        "IANA imap, imaps",
        &["dovecot", "docker-mailserver"],
    ),
    preset(
        "influxdb",
        "tcp/8086,8181",
        "docs of InfluxDB, to 2 and from 3 on",
        &["influxdb"],
    ),
    preset("kafka", "tcp/9092", "docs of Kafka", &["kafka", "cp-kafka"]),
    preset("kibana", "tcp/5601", "docs of Kibana", &["kibana"]),
    preset("ldap", "tcp/389,636", "IANA ldap, ldaps", &["openldap"]),
    preset("loki", "tcp/3100", "docs of Loki", &["loki"]),
    preset("mariadb", "tcp/3306", "docs of MariaDB", &["mariadb"]),
    preset(
        "memcached",
        "tcp/11211",
        "IANA memcache; UDP is off by default",
        &["memcached"],
    ),
    preset(
        "minio",
        "tcp/9000,9001",
        "docs of MinIO, API and console",
        &["minio"],
    ),
    preset(
        "mongodb",
        "tcp/27017",
        "IANA mongodb",
        &["mongo", "mongodb", "mongodb-community-server"],
    ),
    preset(
        "mqtt",
        "tcp/1883,8883",
        "IANA mqtt, secure-mqtt",
        &["eclipse-mosquitto", "emqx"],
    ),
    preset(
        "mysql",
        "tcp/3306",
        "IANA mysql",
        &["mysql", "mysql-server", "percona"],
    ),
    preset("nats", "tcp/4222", "docs of NATS", &["nats"]),
    preset(
        "node-exporter",
        "tcp/9100",
        "docs of node_exporter",
        &["node-exporter"],
    ),
    preset("ntp", "udp/123", "IANA ntp", &["chrony", "ntp"]),
    preset(
        "opensearch",
        "tcp/9200",
        "docs of OpenSearch, HTTP",
        &["opensearch"],
    ),
    preset(
        "otlp",
        "tcp/4317,4318",
        "docs of OpenTelemetry, gRPC and HTTP",
        &["opentelemetry-collector", "opentelemetry-collector-contrib"],
    ),
    preset("pop3", "tcp/110,995", "IANA pop3, pop3s", &[]),
    preset(
        "postgresql",
        "tcp/5432",
        "IANA postgresql",
        &[
            "postgres",
            "postgresql",
            "postgis",
            "timescaledb",
            "pgvector",
        ],
    ),
    preset(
        "prometheus",
        "tcp/9090",
        "docs of Prometheus",
        &["prometheus"],
    ),
    preset(
        "rabbitmq-management",
        "tcp/15672,15671",
        "docs of RabbitMQ",
        &[],
    ),
    preset(
        "redis",
        "tcp/6379",
        "IANA redis",
        &["redis", "redis-stack-server", "valkey", "keydb"],
    ),
    preset(
        "registry",
        "tcp/5000",
        "docs of Distribution",
        &["registry"],
    ),
    preset("sieve", "tcp/4190", "IANA sieve", &[]),
    preset(
        "smtp",
        "tcp/25",
        "IANA smtp",
        &["postfix", "docker-mailserver"],
    ),
    preset("ssh", "tcp/22", "IANA ssh", &[]),
    preset(
        "submission",
        "tcp/587,465",
        "IANA submission, submissions",
        &["docker-mailserver"],
    ),
    preset("vault", "tcp/8200", "docs of Vault", &["vault"]),
    preset(
        "zookeeper",
        "tcp/2181",
        "docs of ZooKeeper",
        &["zookeeper", "cp-zookeeper"],
    ),
];

/// The preset of this name.
pub fn find(name: &str) -> Option<&'static Preset> {
    PRESETS.iter().find(|preset| preset.name == name)
}

/// The presets of what an image serves, from its name: `registry:5000/library/postgres:16@sha256:…` is `postgres`.
pub fn of_image(image: &str) -> impl Iterator<Item = &'static Preset> {
    let name = image.split('@').next().unwrap_or_default();
    let last = name.rsplit('/').next().unwrap_or_default();
    let last = last.split(':').next().unwrap_or_default().to_owned();
    let serves = move |preset: &&Preset| preset.images.contains(&last.as_str());
    PRESETS.iter().filter(serves)
}

#[cfg(test)]
mod tests {
    use dfw_common::reason::Direction;

    use super::*;
    use crate::policy::parse_rules;

    #[test]
    fn names_are_unique_and_in_order_and_ports_are_ports() {
        assert!(PRESETS.is_sorted_by(|a, b| a.name < b.name));
        for Preset { name, ports, .. } in PRESETS {
            let rules = parse_rules(Direction::Ingress, &format!("{ports} from any"));
            assert_eq!(rules.map(|rules| rules.len()), Ok(1), "{name}");
        }
    }

    /// Versions and variants are told by tags, and an image by its name.
    #[test]
    fn ports_are_those_of_every_version() {
        let ports = |name: &str| find(name).map(|preset| preset.ports);
        assert_eq!(ports("influxdb"), Some("tcp/8086,8181"));
        assert_eq!(ports("gitea"), Some("tcp/3000,22,2222"));
    }

    #[test]
    fn images_go_by_their_last_component() {
        let names = |image: &str| -> Vec<&str> { of_image(image).map(|one| one.name).collect() };
        assert_eq!(names("postgres"), ["postgresql"]);
        assert_eq!(names("postgres:16-alpine"), ["postgresql"]);
        assert_eq!(names("localhost:5000/library/nginx"), ["http", "https"]);
        assert_eq!(names("grafana/grafana@sha256:0123"), ["grafana"]);
        assert_eq!(names("quay.io/minio/minio:latest@sha256:01"), ["minio"]);
        assert_eq!(names("influxdb:3-core"), ["influxdb"]);
        for none in [
            // It listens on 2222.
            "lscr.io/linuxserver/openssh-server",
            "",
            ":",
            "@",
            "/",
            "postgres/",
            "sha256:postgres",
            "shop-api",
            "my-postgres",
        ] {
            assert_eq!(names(none), [""; 0], "{none}");
        }
    }
}
