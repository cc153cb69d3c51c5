//! HTTP as a test wants it: one call, one answer, no error but a broken connection.

use std::{sync::LazyLock, time::Duration};

use super::block_on;

/// Longest wait for an answer: a server that takes longer hangs.
const TIMEOUT: Duration = Duration::from_secs(120);

static CLIENT: LazyLock<reqwest::Client> = LazyLock::new(|| {
    // Certificates of tests are their own; who looks at them is a test of its own.
    reqwest::Client::builder().no_proxy().timeout(TIMEOUT).danger_accept_invalid_certs(true).build().unwrap()
});

/// What a server answered.
#[derive(Clone, Debug)]
pub struct Answer {
    /// HTTP status.
    pub status: u16,
    /// Header `content-type`, or nothing.
    pub content_type: String,
    /// The body.
    pub body: Vec<u8>,
}

impl Answer {
    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON.
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|e| panic!("{e}: status {}: {}", self.status, self.text()))
    }

    /// The same answer, if it is 200.
    #[track_caller]
    pub fn ok(self) -> Self {
        assert_eq!(self.status, 200, "{}", self.text());
        self
    }
}

/// The client under all calls, for tests that send many at a time.
pub fn client() -> &'static reqwest::Client {
    &CLIENT
}

/// Sends a request; an error means that no answer came.
pub async fn send(request: reqwest::RequestBuilder) -> Result<Answer, reqwest::Error> {
    let response = request.send().await?;
    let status = response.status().as_u16();
    let content_type = response.headers().get("content-type").and_then(|v| v.to_str().ok()).unwrap_or_default().to_owned();
    Ok(Answer { status, content_type, body: response.bytes().await?.to_vec() })
}

/// `GET url`.
#[track_caller]
pub fn get(url: &str, headers: &[(&str, &str)]) -> Answer {
    let request = headers.iter().fold(CLIENT.get(url), |r, (k, v)| r.header(*k, *v));
    block_on(send(request)).unwrap_or_else(|e| panic!("GET {url}: {e:?}"))
}

/// `POST url`.
#[track_caller]
pub fn post(url: &str, headers: &[(&str, &str)], body: Vec<u8>) -> Answer {
    try_post(url, headers, body).unwrap_or_else(|e| panic!("POST {url}: {e:?}"))
}

/// `POST url`, where the connection may break.
pub fn try_post(url: &str, headers: &[(&str, &str)], body: Vec<u8>) -> Result<Answer, reqwest::Error> {
    let request = headers.iter().fold(CLIENT.post(url).body(body), |r, (k, v)| r.header(*k, *v));
    block_on(send(request))
}

/// A path with a query.
pub fn with_query(path: &str, params: &[(&str, &str)]) -> String {
    let mut url = url::Url::parse("http://x").unwrap().join(path).unwrap();
    url.query_pairs_mut().extend_pairs(params);
    format!("{}?{}", url.path(), url.query().unwrap_or_default())
}
