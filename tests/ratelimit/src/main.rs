//! A rate limit service as operators run one beside Envoy, for the tests: the counters are Limitador's, in Redis.
//!
//! ```text
//! keyward-ratelimit PORT REDIS_URL LIMITS
//! ```
//!
//! `LIMITS` is a JSON list of what Limitador calls limits: `namespace` (Envoy's domain), `max_value`, `seconds`,
//! `conditions` on the entries of a descriptor and, in `variables`, the entries to count by. A descriptor is counted as <https://github.com/envoyproxy/ratelimit>
//! counts: its `hits_addend` is added first, then it is over the limit or not, so that callers at once never get
//! more than the limit; a `hits_addend` of 0 adds nothing and asks whether the next hit would be over.

mod messages;

use std::collections::HashMap;
use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use limitador::AsyncRateLimiter;
use limitador::counter::Counter;
use limitador::errors::LimitadorError;
use limitador::limit::{Limit, Namespace};
use limitador::storage::redis::AsyncRedisStorage;
use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::body::Body;
use tonic::codegen::Service;
use tonic::codegen::http::{Request, Response};
use tonic::server::{Grpc, UnaryService};
use tonic_prost::ProstCodec;

use messages::{
    Code, CurrentLimit, Descriptor, Duration, RateLimitRequest, RateLimitResponse, Status, Unit,
};

type Pending<T> = Pin<Box<dyn Future<Output = T> + Send>>;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [port, redis, limits] = arguments.as_slice() else {
        return Err("usage: keyward-ratelimit PORT REDIS_URL LIMITS".into());
    };
    let limits: Vec<Limit> = serde_json::from_str(limits)?;
    let storage = AsyncRedisStorage::new(redis).await?;
    let limiter = AsyncRateLimiter::new_with_storage(Box::new(storage));
    limiter.configure_with(limits).await?;
    let listener = TcpListener::bind(("127.0.0.1", port.parse()?)).await?;
    println!("listening on {}", listener.local_addr()?.port());
    let server = Server { limiter: Arc::new(limiter) };
    let incoming = TcpListenerStream::new(listener);
    tonic::transport::Server::builder().serve_with_incoming(server, incoming).await?;
    Ok(())
}

#[derive(Clone)]
struct Server {
    limiter: Arc<AsyncRateLimiter>,
}

impl Server {
    async fn answer(&self, request: RateLimitRequest) -> Result<RateLimitResponse, LimitadorError> {
        let namespace: Namespace = request.domain.into();
        // Zero is not set, and then a request is one hit.
        let hits = u64::from(request.hits_addend).max(1);
        let mut statuses = Vec::new();
        for descriptor in &request.descriptors {
            statuses.push(self.count(&namespace, descriptor, hits).await?);
        }
        let limited = statuses.iter().any(|status| status.code() == Code::OverLimit);
        let overall = if limited { Code::OverLimit } else { Code::Ok };
        Ok(RateLimitResponse { overall_code: overall.into(), statuses })
    }

    async fn count(
        &self,
        namespace: &Namespace,
        descriptor: &Descriptor,
        hits: u64,
    ) -> Result<Status, LimitadorError> {
        let entries = descriptor.entries.iter();
        let values: HashMap<_, _> = entries.map(|e| (e.key.clone(), e.value.clone())).collect();
        let hits = i64::try_from(descriptor.hits_addend.unwrap_or(hits)).unwrap_or(i64::MAX);
        if hits > 0 {
            self.limiter.update_counters(namespace, &values, hits).await?;
        }
        let checked =
            self.limiter.check_rate_limited_and_update(namespace, &values, 0, true).await?;
        let left = |counter: &Counter| counter.remaining().unwrap_or_default();
        let Some(tightest) = checked.counters.iter().min_by_key(|counter| left(counter)) else {
            return Ok(Status { code: Code::Ok.into(), ..Status::default() });
        };
        let left = left(tightest);
        // The next hit would be over where this one adds none.
        let limited = left < i64::from(hits == 0);
        let code = if limited { Code::OverLimit } else { Code::Ok };
        let unit = match tightest.seconds() {
            1 => Unit::Second,
            60 => Unit::Minute,
            3_600 => Unit::Hour,
            86_400 => Unit::Day,
            _ => Unit::Unknown,
        };
        let reset = tightest.expires_in().map_or(0, |wait| wait.as_millis().div_ceil(1_000));
        Ok(Status {
            code: code.into(),
            current_limit: Some(CurrentLimit {
                requests_per_unit: u32::try_from(tightest.max_value()).unwrap_or(u32::MAX),
                unit: unit.into(),
            }),
            limit_remaining: u32::try_from(left.max(0)).unwrap_or(u32::MAX),
            duration_until_reset: Some(Duration {
                seconds: i64::try_from(reset).unwrap_or(i64::MAX),
            }),
        })
    }
}

impl UnaryService<RateLimitRequest> for Server {
    type Response = RateLimitResponse;
    type Future = Pending<Result<tonic::Response<RateLimitResponse>, tonic::Status>>;

    fn call(&mut self, request: tonic::Request<RateLimitRequest>) -> Self::Future {
        let server = self.clone();
        Box::pin(async move {
            let answer = server.answer(request.into_inner()).await;
            answer.map(tonic::Response::new).map_err(|e| tonic::Status::unavailable(e.to_string()))
        })
    }
}

/// The one method that there is, whatever the path says.
impl Service<Request<Body>> for Server {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pending<Result<Response<Body>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let server = self.clone();
        Box::pin(async move {
            let codec = ProstCodec::<RateLimitResponse, RateLimitRequest>::default();
            Ok(Grpc::new(codec).unary(server, request).await)
        })
    }
}
