//! A dispatcher for many tenants: so many deliveries, so many at a time, at a rate or as fast as they are answered.
//!
//! Every answer must be the tenant's own. What is refused with 503 is counted apart: that is what shedding is for.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::error::Error;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::header::{CONTENT_TYPE, HOST, HeaderMap, RETRY_AFTER};
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

/// Latencies are kept by their size: eight steps for each power of two of microseconds.
const STEPS: usize = 8;

/// What is asked for.
#[derive(Clone, Copy)]
pub struct Load {
    /// Connections, each with one delivery at a time.
    pub in_flight: usize,
    /// Deliveries altogether; 0 for as many as there is time for.
    pub count: u64,
    /// The longest that it goes on.
    pub seconds: u64,
    /// Deliveries a second; 0 for as fast as they are answered.
    pub rate: u64,
    /// `tenant-00`, `tenant-01`, …
    pub tenants: u64,
    /// Each tenant's installations are called `tenant-NN-host-H`.
    pub hosts: u64,
    /// The size of an invocation, in bytes.
    pub bytes: usize,
    /// Whether a connection that is told to come back later waits for as long, as `Retry-After` asks for.
    pub heeds: bool,
}

struct Answered {
    status: StatusCode,
    headers: HeaderMap,
    body: Bytes,
}

#[derive(Default)]
struct Told {
    begun: Cell<u64>,
    by_status: RefCell<BTreeMap<u16, u64>>,
    crossed: Cell<u64>,
    broken: Cell<u64>,
    latencies: RefCell<BTreeMap<usize, u64>>,
    shed_latencies: RefCell<BTreeMap<usize, u64>>,
}

/// Delivers, then prints one line of JSON.
pub async fn run(to: SocketAddr, load: Load) -> Result<(), Box<dyn Error>> {
    let (told, start) = (Rc::new(Told::default()), Instant::now());
    let mut all = Vec::new();
    for _ in 0..load.in_flight {
        all.push(tokio::task::spawn_local(deliver(to, load, Rc::clone(&told), start)));
    }
    for one in all {
        one.await?;
    }
    print(&told, start.elapsed());
    Ok(())
}

async fn deliver(to: SocketAddr, load: Load, told: Rc<Told>, start: Instant) {
    let mut connection: Option<SendRequest<Full<Bytes>>> = None;
    loop {
        let n = told.begun.get();
        if (load.count > 0 && n >= load.count) || start.elapsed() >= Duration::from_secs(load.seconds) {
            return;
        }
        told.begun.set(n + 1);
        if load.rate > 0 {
            let due = start + Duration::from_nanos(n.saturating_mul(1_000_000_000) / load.rate);
            tokio::time::sleep_until(due.into()).await;
        }
        let (tenant, request) = invocation(n, load);
        let asked = Instant::now();
        match exchange(to, &mut connection, request).await {
            Ok(Answered { status, headers, body }) => {
                *told.by_status.borrow_mut().entry(status.as_u16()).or_default() += 1;
                if status == StatusCode::OK && body != tenant.as_bytes() {
                    told.crossed.set(told.crossed.get() + 1);
                }
                let latencies = if status == StatusCode::SERVICE_UNAVAILABLE {
                    &told.shed_latencies
                } else {
                    &told.latencies
                };
                *latencies.borrow_mut().entry(step(asked.elapsed())).or_default() += 1;
                if load.heeds && status == StatusCode::SERVICE_UNAVAILABLE {
                    tokio::time::sleep(retry_after(&headers)).await;
                }
            }
            Err(_) => {
                connection = None;
                told.broken.set(told.broken.get() + 1);
            }
        }
    }
}

/// The n-th invocation, and whose it is. Neighbours in time are different tenants.
fn invocation(n: u64, load: Load) -> (String, Request<Full<Bytes>>) {
    let tenant = format!("tenant-{:02}", n % load.tenants);
    let host = (n / load.tenants) % load.hosts;
    let mut body = format!("{{\"id\":\"inv_{n}\",\"payload\":{{\"of\":\"{tenant}\",\"pad\":\"");
    let pad = load.bytes.saturating_sub(body.len() + 3);
    body.extend(std::iter::repeat_n('x', pad));
    body.push_str("\"}}");
    let request = Request::post("/webhooks/issue.created")
        .header(HOST, "localhost")
        .header(CONTENT_TYPE, "application/json")
        .header("X-Kiket-Installation-Id", format!("{tenant}-host-{host}"))
        .body(Full::from(body));
    (tenant, request.unwrap_or_default())
}

async fn exchange(
    to: SocketAddr,
    kept: &mut Option<SendRequest<Full<Bytes>>>,
    request: Request<Full<Bytes>>,
) -> Result<Answered, Box<dyn Error>> {
    let mut sender = match kept.take() {
        Some(sender) if !sender.is_closed() => sender,
        _ => {
            let stream = TcpStream::connect(to).await?;
            stream.set_nodelay(true)?;
            let (sender, connection) = handshake(TokioIo::new(stream)).await?;
            tokio::task::spawn_local(connection);
            sender
        }
    };
    sender.ready().await?;
    let answer = sender.send_request(request).await?;
    let (head, body) = answer.into_parts();
    let body = body.collect().await?.to_bytes();
    *kept = Some(sender);
    Ok(Answered {
        status: head.status,
        headers: head.headers,
        body,
    })
}

/// How long an answer asks to wait; none does not ask.
fn retry_after(headers: &HeaderMap) -> Duration {
    let seconds = headers.get(RETRY_AFTER).and_then(|text| text.to_str().ok()?.parse().ok());
    Duration::from_secs(seconds.unwrap_or(0))
}

/// Which step a latency falls into.
fn step(took: Duration) -> usize {
    let micros = usize::try_from(took.as_micros()).unwrap_or(usize::MAX).max(1);
    let power = micros.ilog2() as usize;
    power * STEPS + ((micros << 3) >> power) - STEPS
}

/// The lower end of a step, in milliseconds.
fn millis(step: usize) -> f64 {
    let (power, part) = (step / STEPS, step % STEPS);
    ((STEPS + part) << power) as f64 / STEPS as f64 / 1000.0
}

fn quantile(latencies: &BTreeMap<usize, u64>, part: f64) -> f64 {
    let all: u64 = latencies.values().sum();
    let mut left = (all as f64 * part) as u64;
    for (step, count) in latencies {
        if left < *count {
            return millis(*step);
        }
        left -= count;
    }
    latencies.keys().last().copied().map_or(0.0, millis)
}

fn print(told: &Told, took: Duration) {
    let (by_status, latencies) = (told.by_status.borrow(), told.latencies.borrow());
    let shed = told.shed_latencies.borrow();
    let statuses: Vec<String> = by_status
        .iter()
        .map(|(status, count)| format!("\"{status}\": {count}"))
        .collect();
    println!(
        "{{\"statuses\": {{{}}}, \"crossed\": {}, \"broken\": {}, \"seconds\": {:.3}, \"p50_ms\": {:.3}, \
         \"p99_ms\": {:.3}, \"worst_ms\": {:.3}, \"shed_p99_ms\": {:.3}}}",
        statuses.join(", "),
        told.crossed.get(),
        told.broken.get(),
        took.as_secs_f64(),
        quantile(&latencies, 0.5),
        quantile(&latencies, 0.99),
        quantile(&latencies, 1.0),
        quantile(&shed, 0.99),
    );
}
