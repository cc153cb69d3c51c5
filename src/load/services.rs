//! The shop's services and their pods, as OpenTelemetry resources.

use opentelemetry_proto::tonic::{
    common::v1::{AnyValue, ArrayValue, InstrumentationScope, KeyValue, any_value::Value},
    resource::v1::Resource,
};

/// A service of the shop.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[allow(missing_docs)]
pub enum Service {
    Frontend,
    Cart,
    Checkout,
    Payment,
    Catalogue,
    Shipping,
    Currency,
    Recommendation,
    Ads,
    Email,
    Accounting,
    Fraud,
}

/// What a service's resource says about it.
struct Facts {
    name: &'static str,
    language: &'static str,
    sdk: &'static str,
    version: &'static str,
    pods: usize,
    port: i64,
}

impl Service {
    /// Every service.
    pub const ALL: [Self; 12] = [
        Self::Frontend,
        Self::Cart,
        Self::Checkout,
        Self::Payment,
        Self::Catalogue,
        Self::Shipping,
        Self::Currency,
        Self::Recommendation,
        Self::Ads,
        Self::Email,
        Self::Accounting,
        Self::Fraud,
    ];

    const fn facts(self) -> Facts {
        let (name, language, sdk, version, pods, port) = match self {
            Self::Frontend => ("frontend", "nodejs", "2.1.0", "3.12.4", 4, 8080),
            Self::Cart => ("cart", "dotnet", "1.12.0", "2.4.1", 3, 7070),
            Self::Checkout => ("checkout", "go", "1.37.0", "1.18.0", 3, 5050),
            Self::Payment => ("payment", "nodejs", "2.1.0", "1.9.3", 2, 50051),
            Self::Catalogue => ("catalogue", "go", "1.37.0", "2.0.7", 3, 3550),
            Self::Shipping => ("shipping", "rust", "0.30.0", "0.8.2", 2, 50050),
            Self::Currency => ("currency", "cpp", "1.21.0", "1.3.0", 2, 7001),
            Self::Recommendation => ("recommendation", "python", "1.35.0", "1.1.5", 2, 9001),
            Self::Ads => ("ads", "java", "1.51.0", "4.0.0", 2, 9555),
            Self::Email => ("email", "ruby", "1.8.0", "1.0.2", 1, 6060),
            Self::Accounting => ("accounting", "dotnet", "1.12.0", "1.2.0", 1, 0),
            Self::Fraud => ("fraud-detection", "java", "1.51.0", "0.9.1", 1, 0),
        };
        Facts { name, language, sdk, version, pods, port }
    }

    /// `service.name`.
    pub const fn name(self) -> &'static str {
        self.facts().name
    }

    /// Number of pods.
    pub const fn pods(self) -> usize {
        self.facts().pods
    }

    /// The port it listens on.
    pub const fn port(self) -> i64 {
        self.facts().port
    }

    /// The instrumentation scope of its spans of one kind.
    pub fn scope(self, kind: Scope) -> InstrumentationScope {
        let facts = self.facts();
        let library = match (facts.language, kind) {
            (_, Scope::App) => facts.name,
            ("nodejs", Scope::Http) => "@opentelemetry/instrumentation-http",
            ("nodejs", Scope::Rpc) => "@opentelemetry/instrumentation-grpc",
            ("go", Scope::Rpc) => "go.opentelemetry.io/contrib/instrumentation/google.golang.org/grpc/otelgrpc",
            ("go", Scope::Http) => "go.opentelemetry.io/contrib/instrumentation/net/http/otelhttp",
            ("java", Scope::Rpc) => "io.opentelemetry.grpc-1.6",
            ("java", Scope::Messaging) => "io.opentelemetry.kafka-clients-0.11",
            ("dotnet", Scope::Rpc) => "OpenTelemetry.Instrumentation.GrpcNetClient",
            ("dotnet", Scope::Db) => "OpenTelemetry.Instrumentation.StackExchangeRedis",
            ("python", _) => "opentelemetry.instrumentation.grpc",
            (_, Scope::Http) => "http",
            (_, Scope::Rpc) => "grpc",
            (_, Scope::Db) => "db",
            (_, Scope::Messaging) => "kafka",
        };
        InstrumentationScope { name: library.to_owned(), version: facts.sdk.to_owned(), ..Default::default() }
    }
}

/// Which library made a span.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Scope {
    /// The service's own code.
    App,
    /// HTTP client or server.
    Http,
    /// gRPC client or server.
    Rpc,
    /// Database or cache client.
    Db,
    /// Kafka client.
    Messaging,
}

/// A pod of a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Place {
    /// The service.
    pub service: Service,
    /// The pod's number.
    pub pod: usize,
}

const NODES: [(&str, &str); 3] =
    [("ip-10-0-12-41.internal", "eu-west-1a"), ("ip-10-0-27-8.internal", "eu-west-1b"), ("ip-10-0-33-190.internal", "eu-west-1c")];

impl Place {
    /// The pod's name; the same in every run.
    pub fn pod_name(self) -> String {
        let facts = self.service.facts();
        let mut hash = fnv(facts.name.as_bytes());
        let set = tail(hash, 9);
        hash = fnv(format!("{}{}", facts.name, self.pod).as_bytes());
        format!("{}-{set}-{}", facts.name, tail(hash, 5))
    }

    /// The resource of its spans.
    pub fn resource(self) -> Resource {
        let facts = self.service.facts();
        let pod = self.pod_name();
        let hash = fnv(pod.as_bytes());
        let uid = format!("{:08x}-{:04x}-4{:03x}-9{:03x}-{:012x}", hash as u32, hash >> 48, hash >> 52, (hash >> 20) & 0xfff, hash >> 16);
        let (node, zone) = NODES[(hash % 3) as usize];
        let attributes = vec![
            kv("service.name", facts.name),
            kv("service.version", facts.version),
            kv("service.namespace", "shop"),
            kv("service.instance.id", uid.as_str()),
            kv("deployment.environment.name", "production"),
            kv("telemetry.sdk.name", "opentelemetry"),
            kv("telemetry.sdk.language", facts.language),
            kv("telemetry.sdk.version", facts.sdk),
            kv("host.name", node),
            kv("host.arch", "amd64"),
            kv("os.type", "linux"),
            kv("process.pid", (hash % 400) as i64 + 1),
            kv("cloud.provider", "aws"),
            kv("cloud.region", "eu-west-1"),
            kv("cloud.availability_zone", zone),
            kv("k8s.cluster.name", "shop-eu-1"),
            kv("k8s.namespace.name", "shop"),
            kv("k8s.node.name", node),
            kv("k8s.deployment.name", facts.name),
            kv("k8s.pod.name", pod.as_str()),
            kv("k8s.pod.uid", uid.as_str()),
            kv("k8s.container.name", facts.name),
            kv("k8s.container.restart_count", (hash % 3) as i64),
            kv("container.image.name", format!("registry.example.com/shop/{}", facts.name)),
            kv("container.image.tags", vec![facts.version, "stable"]),
        ];
        Resource { attributes, ..Default::default() }
    }
}

/// FNV-1a: names stay the same whatever the seed is.
fn fnv(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |h, b| (h ^ u64::from(*b)).wrapping_mul(0x0100_0000_01b3))
}

/// `len` characters as Kubernetes uses them in generated names.
fn tail(mut hash: u64, len: usize) -> String {
    const ALPHABET: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
    (0..len)
        .map(|_| {
            hash = hash.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(1);
            ALPHABET[(hash >> 33) as usize % ALPHABET.len()] as char
        })
        .collect()
}

/// A value that an attribute can have.
pub trait Attribute {
    /// As OTLP has it.
    fn value(self) -> Value;
}

impl Attribute for &str {
    fn value(self) -> Value {
        Value::StringValue(self.to_owned())
    }
}
impl Attribute for String {
    fn value(self) -> Value {
        Value::StringValue(self)
    }
}
impl Attribute for i64 {
    fn value(self) -> Value {
        Value::IntValue(self)
    }
}
impl Attribute for f64 {
    fn value(self) -> Value {
        Value::DoubleValue(self)
    }
}
impl Attribute for bool {
    fn value(self) -> Value {
        Value::BoolValue(self)
    }
}
impl<T: Attribute> Attribute for Vec<T> {
    fn value(self) -> Value {
        Value::ArrayValue(ArrayValue { values: self.into_iter().map(|v| AnyValue { value: Some(v.value()) }).collect() })
    }
}

/// An attribute.
pub fn kv(key: &str, value: impl Attribute) -> KeyValue {
    KeyValue { key: key.to_owned(), value: Some(AnyValue { value: Some(value.value()) }), ..Default::default() }
}
