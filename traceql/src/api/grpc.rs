//! `tempopb.StreamingQuerier`: the query API over gRPC. Requests become the parameters of the HTTP API, so that both have one
//! set of rules; names and values are its answers in other clothes.

use std::{
    convert::Infallible,
    future::{Ready, ready},
    sync::Arc,
    task::{Context, Poll},
};

use axum::{
    Router,
    body::{Body, to_bytes},
    extract::Request as HttpRequest,
    http::{StatusCode, header},
};
use futures::future::BoxFuture;
use prost::Message;
use serde::de::DeserializeOwned;
use tonic::{
    Request, Response, Status,
    codec::CompressionEncoding,
    codegen::Service,
    metadata::MetadataMap,
    server::{Grpc, NamedService, ServerStreamingService},
};
use tonic_prost::ProstCodec;
use tracehouse_engine::{Error, TenantId, clock, tenant::TENANT_HEADER};

use super::{
    Api, ApiError, metrics,
    params::Params,
    search,
    streaming::{Answer, answer, send_all, split, status},
    wire,
};
use crate::result::tempopb::{
    QueryInstantRequest, QueryInstantResponse, QueryRangeRequest, QueryRangeResponse, SearchRequest, SearchResponse,
    SearchTagValuesRequest, SearchTagValuesResponse, SearchTagValuesV2Response, SearchTagsRequest, SearchTagsResponse,
    SearchTagsV2Response, SearchTagsV2Scope,
};

/// Largest request, in bytes; a query may have 128 KiB.
const REQUEST_BYTES_MAX: usize = 1 << 20;
/// Largest text of an error that is passed on, in bytes.
const ERROR_BYTES_MAX: usize = 64 << 10;

/// The service.
#[derive(Clone, Debug)]
pub struct StreamingQuerier {
    api: Arc<Api>,
    /// The HTTP API.
    http: Router,
}

impl StreamingQuerier {
    /// The service over an API.
    pub fn new(api: Arc<Api>) -> Self {
        Self { http: super::router(api.clone()), api }
    }

    fn tenant(&self, metadata: &MetadataMap) -> Result<TenantId, ApiError> {
        let header =
            metadata.get(TENANT_HEADER).map(|v| v.to_str().map_err(|_| Error::invalid("x-scope-orgid is not text"))).transpose()?;
        Ok(self.api.tenancy.resolve(header)?)
    }

    fn search(&self, request: Request<SearchRequest>) -> Result<Answer<SearchResponse>, ApiError> {
        let tenant = self.tenant(request.metadata())?;
        let api = self.api.clone();
        let mut request = request.into_inner();
        let mut tags: Vec<(String, String)> = std::mem::take(&mut request.tags).into_iter().collect();
        tags.sort();
        let tags = Some(tags).filter(|tags| !tags.is_empty());
        Ok(match search::request_of(&api, &search_params(request), tags)? {
            search::Request::Query(request) => api.stream_search(tenant, request),
            search::Request::Tags(request) => api.stream_search_by_tags(tenant, request),
        })
    }

    fn range(&self, request: Request<QueryRangeRequest>) -> Result<Answer<QueryRangeResponse>, ApiError> {
        let tenant = self.tenant(request.metadata())?;
        let r = request.into_inner();
        let step = if r.step == 0 { String::new() } else { format!("{}ns", r.step) };
        let numbers = [("start", r.start), ("end", r.end), ("exemplars", r.exemplars.into()), ("maxSeries", r.max_series.into())];
        let params = Params::of([("q", r.query), ("step", step)].into_iter().chain(numbers.map(|(n, v)| (n, text(v)))));
        let request = metrics::range_request(&self.api, &params, clock::now_unix_nanos() as i64)?;
        Ok(self.api.clone().stream_range(tenant, request))
    }

    fn instant(&self, request: Request<QueryInstantRequest>) -> Result<Answer<QueryInstantResponse>, ApiError> {
        let tenant = self.tenant(request.metadata())?;
        let r = request.into_inner();
        let params = Params::of([("q", r.query), ("start", text(r.start)), ("end", text(r.end))]);
        let request = metrics::instant_request(&self.api, &params, clock::now_unix_nanos() as i64)?;
        Ok(self.api.clone().stream_instant(tenant, request))
    }

    fn names<M>(&self, path: &'static str, request: Request<SearchTagsRequest>, parts: fn(M, usize) -> Vec<M>) -> Answer<M>
    where
        M: DeserializeOwned + Send + 'static,
    {
        let (metadata, _, r) = request.into_parts();
        let params = [("start", r.start), ("end", r.end), ("limit", r.max_tags_per_scope)].map(|(n, v)| (n, text(v.into())));
        self.ask(path.to_owned(), &metadata, [("scope", r.scope), ("q", r.query)].into_iter().chain(params), parts)
    }

    fn values<M>(&self, path: &'static str, request: Request<SearchTagValuesRequest>, parts: fn(M, usize) -> Vec<M>) -> Answer<M>
    where
        M: DeserializeOwned + Send + 'static,
    {
        let (metadata, _, r) = request.into_parts();
        let params = [("start", r.start), ("end", r.end), ("limit", r.max_tag_values)].map(|(n, v)| (n, text(v.into())));
        let path = format!("{path}/{}/values", in_path(&r.tag_name));
        self.ask(path, &metadata, std::iter::once(("q", r.query)).chain(params), parts)
    }

    /// Asks the HTTP API, and gives its answer as messages.
    fn ask<M: DeserializeOwned + Send + 'static>(
        &self,
        path: String,
        metadata: &MetadataMap,
        params: impl Iterator<Item = (&'static str, String)>,
        parts: fn(M, usize) -> Vec<M>,
    ) -> Answer<M> {
        let query: String =
            url::form_urlencoded::Serializer::new(String::new()).extend_pairs(params.filter(|(_, v)| !v.is_empty())).finish();
        let mut request = HttpRequest::get(format!("{path}?{query}")).header(header::ACCEPT, "application/json");
        if let Some(tenant) = metadata.get(TENANT_HEADER) {
            request = request.header(TENANT_HEADER, tenant.as_bytes());
        }
        let (mut http, bytes_max) = (self.http.clone(), self.api.config.streaming_message_bytes_max);
        answer(move |to| async move {
            let request = request.body(Body::empty()).map_err(|e| ApiError::bad_request(format!("invalid request: {e}")))?;
            let response = http.call(request).await.unwrap_or_else(|never: Infallible| match never {});
            if response.status() != StatusCode::OK {
                let status = response.status();
                let text = to_bytes(response.into_body(), ERROR_BYTES_MAX).await.unwrap_or_default();
                return Err(ApiError { status, text: String::from_utf8_lossy(&text).trim_end().to_owned() });
            }
            send_all(&to, parts(wire::message(response).await?, bytes_max)).await
        })
    }
}

/// A number as a parameter; 0 is absent.
fn text(number: u64) -> String {
    if number == 0 { String::new() } else { number.to_string() }
}

/// A name as one segment of a path.
fn in_path(name: &str) -> String {
    name.bytes().fold(String::new(), |mut out, b| {
        match b.is_ascii_alphanumeric() {
            true => out.push(b.into()),
            false => out.push_str(&format!("%{b:02X}")),
        }
        out
    })
}

fn search_params(r: SearchRequest) -> Params {
    let milliseconds = |n: u32| if n == 0 { String::new() } else { format!("{n}ms") };
    let pairs = [
        ("q", r.query),
        ("minDuration", milliseconds(r.min_duration_ms)),
        ("maxDuration", milliseconds(r.max_duration_ms)),
        ("limit", text(r.limit.into())),
        ("spss", text(r.spans_per_span_set.into())),
        ("start", text(r.start.into())),
        ("end", text(r.end.into())),
    ];
    Params::of(pairs)
}

fn names_v1(all: SearchTagsResponse, bytes_max: usize) -> Vec<SearchTagsResponse> {
    let metrics = Some(all.metrics.unwrap_or_default());
    split(all.tag_names, bytes_max, String::len, |tag_names| SearchTagsResponse { tag_names, metrics })
}

/// A scope may come in several messages, some of its names in each.
fn names_v2(all: SearchTagsV2Response, bytes_max: usize) -> Vec<SearchTagsV2Response> {
    let metrics = Some(all.metrics.unwrap_or_default());
    let scopes = all
        .scopes
        .into_iter()
        .flat_map(|scope| split(scope.tags, bytes_max / 2, String::len, move |tags| SearchTagsV2Scope { name: scope.name.clone(), tags }));
    split(scopes.collect(), bytes_max, Message::encoded_len, |scopes| SearchTagsV2Response { scopes, metrics })
}

fn values_v1(all: SearchTagValuesResponse, bytes_max: usize) -> Vec<SearchTagValuesResponse> {
    let metrics = Some(all.metrics.unwrap_or_default());
    split(all.tag_values, bytes_max, String::len, |tag_values| SearchTagValuesResponse { tag_values, metrics })
}

fn values_v2(all: SearchTagValuesV2Response, bytes_max: usize) -> Vec<SearchTagValuesV2Response> {
    let metrics = Some(all.metrics.unwrap_or_default());
    split(all.tag_values, bytes_max, Message::encoded_len, |tag_values| SearchTagValuesV2Response { tag_values, metrics })
}

impl NamedService for StreamingQuerier {
    const NAME: &'static str = "tempopb.StreamingQuerier";
}

impl Service<HttpRequest<tonic::body::Body>> for StreamingQuerier {
    type Response = axum::http::Response<tonic::body::Body>;
    type Error = Infallible;
    type Future = Reply;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: HttpRequest<tonic::body::Body>) -> Self::Future {
        let this = self.clone();
        let (values, typed_values) = ("/api/search/tag", "/api/v2/search/tag");
        match request.uri().path().rsplit('/').next().unwrap_or_default() {
            "Search" => reply(request, move |r| this.search(r)),
            "MetricsQueryRange" => reply(request, move |r| this.range(r)),
            "MetricsQueryInstant" => reply(request, move |r| this.instant(r)),
            "SearchTags" => reply(request, move |r| Ok(this.names("/api/search/tags", r, names_v1))),
            "SearchTagsV2" => reply(request, move |r| Ok(this.names("/api/v2/search/tags", r, names_v2))),
            "SearchTagValues" => reply(request, move |r| Ok(this.values(values, r, values_v1))),
            "SearchTagValuesV2" => reply(request, move |r| Ok(this.values(typed_values, r, values_v2))),
            other => Box::pin(ready(Ok(Status::unimplemented(format!("no such method: {other:?}")).into_http()))),
        }
    }
}

/// An answer of the service.
type Reply = BoxFuture<'static, Result<axum::http::Response<tonic::body::Body>, Infallible>>;

/// Reads a request, and answers with a stream.
fn reply<M, R, F>(request: HttpRequest<tonic::body::Body>, method: F) -> Reply
where
    M: Message + Default + Send + Sync + 'static,
    R: Message + Send + Sync + 'static,
    F: Fn(Request<M>) -> Result<Answer<R>, ApiError> + Send + 'static,
{
    let codec = ProstCodec::<R, M>::default();
    let mut grpc =
        Grpc::new(codec).accept_compressed(CompressionEncoding::Gzip).apply_max_message_size_config(Some(REQUEST_BYTES_MAX), None);
    Box::pin(async move { Ok(grpc.server_streaming(Method(method), request).await) })
}

/// A method as tonic calls it.
struct Method<F>(F);

impl<F, M, R> ServerStreamingService<M> for Method<F>
where
    F: Fn(Request<M>) -> Result<Answer<R>, ApiError>,
{
    type Response = R;
    type ResponseStream = Answer<R>;
    type Future = Ready<Result<Response<Self::ResponseStream>, Status>>;

    fn call(&mut self, request: Request<M>) -> Self::Future {
        ready((self.0)(request).map(Response::new).map_err(|e| status(&e)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_tags_survive_the_path() {
        assert_eq!(in_path("span.a/b c"), "span%2Ea%2Fb%20c");
        assert_eq!(in_path("ü"), "%C3%BC");
    }

    #[test]
    fn a_search_becomes_parameters() {
        let params = search_params(SearchRequest { min_duration_ms: 5, limit: 7, ..SearchRequest::default() });
        assert_eq!(
            (params.get("minDuration"), params.get("limit"), params.get("q"), params.get("end")),
            (Some("5ms"), Some("7"), None, None)
        );
    }

    #[test]
    fn a_large_scope_comes_in_several_messages() {
        let scope = |name: &str, n: usize| SearchTagsV2Scope { name: name.to_owned(), tags: vec!["x".repeat(10); n] };
        let all = SearchTagsV2Response { scopes: vec![scope("span", 30), scope("resource", 2)], metrics: None };
        let messages = names_v2(all, 100);
        assert!(messages.len() > 3 && messages.iter().all(|m| m.encoded_len() < 200 && m.metrics.is_some()), "{messages:?}");
        assert_eq!(messages.iter().flat_map(|m| &m.scopes).map(|s| s.tags.len()).sum::<usize>(), 32);
    }
}
