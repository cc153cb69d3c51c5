//! The Model Context Protocol (streamable HTTP): tools with which a language model asks about traces. Tempo's tools under their
//! names, each a request to the query API, and one for SQL.
//!
//! Every request stands for itself: there are no sessions, so nothing is kept between two of them.

mod backend;
mod tools;

pub use backend::ApiBackend;

use std::sync::Arc;

use axum::http::{HeaderMap, request::Parts};
use rmcp::{
    ErrorData, RoleServer, ServerHandler,
    model::{
        CallToolRequestParams, CallToolResponse, CallToolResult, ContentBlock, Implementation, ListResourcesResult, ListToolsResult,
        MetaObject, PaginatedRequestParams, ReadResourceRequestParams, ReadResourceResponse, ReadResourceResult, Resource,
        ResourceContents, ServerCapabilities, ServerConfig,
    },
    service::RequestContext,
    transport::streamable_http_server::{StreamableHttpServerConfig, StreamableHttpService, session::never::NeverSessionManager},
};
use serde_json::{Map, Value, json};

/// Largest body of a request, in bytes: a query and its arguments.
const BODY_BYTES_MAX: usize = 256 * 1024;

/// What the tools ask.
pub trait Backend: Clone + Send + Sync + 'static {
    /// `GET` of a path of the query API, for the tenant of these headers and in the form for language models: the answer, or why
    /// there is none.
    fn get(&self, headers: HeaderMap, path_and_query: String) -> impl Future<Output = Result<String, String>> + Send;

    /// `POST` of a JSON body to a path of the query API, the same way.
    fn post(&self, headers: HeaderMap, path: &str, body: String) -> impl Future<Output = Result<String, String>> + Send;

    /// A question in SQL, for the tenant of these headers: rows as JSON.
    fn sql(&self, headers: HeaderMap, query: String) -> impl Future<Output = Result<String, String>> + Send;
}

/// Pages that the tools and resources hand out, in Markdown.
#[derive(Clone, Copy, Debug)]
pub struct Docs {
    /// On TraceQL.
    pub traceql: &'static str,
    /// On metrics queries.
    pub metrics: &'static str,
    /// On SQL.
    pub sql: &'static str,
    /// On operating the process.
    pub operate: &'static str,
    /// Every setting.
    pub settings: &'static str,
}

/// The service, for any method of `/api/mcp`. `hosts` are the names by which clients may call this server: a browser that was
/// led here by another name (DNS rebinding) is refused. An empty list takes all.
pub fn service<B: Backend>(backend: B, docs: Docs, hosts: Vec<String>) -> StreamableHttpService<Server<B>, NeverSessionManager> {
    let mut config = StreamableHttpServerConfig::default();
    config.legacy_session_mode = false;
    config.json_response = true;
    config.allowed_hosts = hosts;
    config.max_request_body_bytes = BODY_BYTES_MAX;
    let server = Server { backend, docs };
    StreamableHttpService::new(move || Ok(server.clone()), Arc::new(NeverSessionManager::default()), config)
}

/// Answers the protocol's requests.
#[derive(Clone, Debug)]
pub struct Server<B> {
    backend: B,
    docs: Docs,
}

impl Docs {
    /// Address, name, description and text of each page that is a resource.
    fn resources(&self) -> [(&'static str, &'static str, &'static str, &'static str); 8] {
        [
            ("docs://traceql/basic", "TraceQL", "filters, attributes, intrinsics and operators", self.traceql),
            ("docs://traceql/query", "TraceQL searches", "how to find traces", self.traceql),
            ("docs://traceql/aggregates", "TraceQL aggregates", "count, sum and other aggregates of a trace's spans", self.traceql),
            ("docs://traceql/structural", "TraceQL structural operators", "parents, children, siblings", self.traceql),
            ("docs://traceql/metrics", "TraceQL metrics", "series over time from spans", self.metrics),
            ("docs://config/overview", "Operating", "listeners, tenants, data, metrics of the process", self.operate),
            ("docs://config/reference", "Settings", "every setting and its default", self.settings),
            ("docs://sql/query", "SQL", "the table of spans, its columns and functions", self.sql),
        ]
    }

    fn page(&self, uri: &str) -> Option<&'static str> {
        self.resources().into_iter().find(|(known, ..)| *known == uri).map(|(.., text)| text)
    }
}

/// What a tool answers.
pub(crate) struct Answer {
    text: String,
    /// What it is, as Tempo's tools call it.
    kind: &'static str,
    encoding: &'static str,
    version: &'static str,
}

impl<B: Backend> ServerHandler for Server<B> {
    fn get_info(&self) -> ServerConfig {
        let capabilities = ServerCapabilities::builder().enable_tools().enable_resources().build();
        ServerConfig::new(capabilities)
            .with_server_info(Implementation::new("tracehouse", env!("CARGO_PKG_VERSION")))
            .with_instructions("Traces of distributed systems: find them with TraceQL, count and compare them with TraceQL metrics or SQL.")
    }

    async fn list_tools(&self, _: Option<PaginatedRequestParams>, _: RequestContext<RoleServer>) -> Result<ListToolsResult, ErrorData> {
        Ok(ListToolsResult::with_all_items(tools::all()))
    }

    async fn call_tool(&self, request: CallToolRequestParams, context: RequestContext<RoleServer>) -> Result<CallToolResponse, ErrorData> {
        let headers = context.extensions.get::<Parts>().map(|p| p.headers.clone()).unwrap_or_default();
        let arguments = request.arguments.unwrap_or_default();
        let known = tools::all().into_iter().any(|t| t.name == request.name);
        if !known {
            return Err(ErrorData::invalid_params(format!("there is no tool {}: list the tools", request.name), None));
        }
        let result = match tools::call(self, headers, &request.name, &arguments).await {
            Ok(answer) => {
                let mut result = CallToolResult::success(vec![ContentBlock::text(answer.text)]);
                result.meta = Some(meta(&[("type", answer.kind), ("encoding", answer.encoding), ("version", answer.version)]));
                result
            }
            // The model reads it and can do better.
            Err(text) => CallToolResult::error(vec![ContentBlock::text(text)]),
        };
        Ok(result.into())
    }

    async fn list_resources(
        &self,
        _: Option<PaginatedRequestParams>,
        _: RequestContext<RoleServer>,
    ) -> Result<ListResourcesResult, ErrorData> {
        let resource = |(uri, name, description, _): (&str, &str, &str, &str)| {
            Resource::new(uri, name).with_description(description).with_mime_type("text/markdown")
        };
        Ok(ListResourcesResult::with_all_items(self.docs.resources().into_iter().map(resource).collect()))
    }

    async fn read_resource(
        &self,
        request: ReadResourceRequestParams,
        _: RequestContext<RoleServer>,
    ) -> Result<ReadResourceResponse, ErrorData> {
        let Some(text) = self.docs.page(&request.uri) else {
            return Err(ErrorData::resource_not_found(format!("there is no resource {}: list the resources", request.uri), None));
        };
        let contents = ResourceContents::text(text, request.uri).with_mime_type("text/markdown");
        Ok(ReadResourceResult::new(vec![contents]).into())
    }
}

fn meta(pairs: &[(&str, &str)]) -> MetaObject {
    MetaObject(pairs.iter().map(|(key, value)| ((*key).to_owned(), json!(value))).collect::<Map<String, Value>>())
}
