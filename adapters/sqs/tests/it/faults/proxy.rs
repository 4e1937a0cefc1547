//! A proxy in front of a server, which makes requests fail in all the ways that they can.

use std::{
    collections::BTreeMap,
    fmt, io,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use fastrand::Rng;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream},
    sync::watch,
    time::sleep,
};

use super::http::Piece;

/// What happens to a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Fault {
    /// The connection is reset before the server has the request.
    ResetBefore,
    /// The server applies the request, and the connection is reset instead of answered.
    ResetAfter,
    /// As before, in the middle of the answer.
    CutAnswer,
    /// The server applies the request, and a gateway tells of a timeout.
    LostInGateway,
    /// The server is slow.
    Slow,
    /// There is no answer at all, for longer than anybody waits.
    Silence,
    /// 500 InternalError.
    Internal,
    /// 503 of a gateway, which is no JSON.
    Unavailable,
    /// ThrottlingException.
    Throttled,
    /// Some entries of a batch fail, the others do not.
    SomeEntries,
}

/// How many of 1,000 requests meet each of them.
const RATES: [(Fault, u32); 10] = [
    (Fault::ResetBefore, 8),
    (Fault::ResetAfter, 8),
    (Fault::CutAnswer, 4),
    (Fault::LostInGateway, 4),
    (Fault::Slow, 10),
    (Fault::Silence, 1),
    (Fault::Internal, 6),
    (Fault::Unavailable, 6),
    (Fault::Throttled, 8),
    (Fault::SomeEntries, 20),
];

/// The longest that a slow server takes: less than a client waits.
const SLOW: Duration = Duration::from_millis(1_500);

#[derive(Clone, Debug)]
pub(super) struct FaultProxy {
    pub(super) endpoint: String,
    state: Arc<State>,
}

#[derive(Debug)]
struct State {
    /// Where the server is; `None` while it is away.
    upstream: watch::Sender<Option<String>>,
    is_failing: AtomicBool,
    rng: Mutex<Rng>,
    requests: AtomicUsize,
    counts: Mutex<BTreeMap<Fault, usize>>,
    /// Entries of requests that the server may have applied, but that were not answered, by action.
    unanswered: Mutex<BTreeMap<String, usize>>,
}

impl FaultProxy {
    /// Starts a proxy that passes everything on as it is. It ends with the runtime.
    pub(super) async fn start(server: &str, seed: u64) -> io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let endpoint = format!("http://{}", listener.local_addr()?);
        let state = Arc::new(State {
            upstream: watch::Sender::new(Some(address(server))),
            is_failing: AtomicBool::new(false),
            rng: Mutex::new(Rng::with_seed(seed)),
            requests: AtomicUsize::new(0),
            counts: Mutex::default(),
            unanswered: Mutex::default(),
        });
        let shared = state.clone();
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let state = shared.clone();
                tokio::spawn(async move {
                    let mut upstream = state.upstream.subscribe();
                    let mut client = BufReader::new(client);
                    let ended = serve(&mut client, &mut upstream, &state).await;
                    if !matches!(ended, Ok(End::Closed)) {
                        reset(client.get_ref());
                    }
                });
            }
        });
        Ok(Self { endpoint, state })
    }

    /// From now on requests fail, or no longer.
    pub(super) fn set_failing(&self, is_failing: bool) {
        self.state.is_failing.store(is_failing, Ordering::SeqCst);
    }

    /// Cuts all connections, and refuses new ones.
    pub(super) fn cut(&self) {
        self.state.upstream.send_replace(None);
    }

    /// Passes on again, to the server at this endpoint.
    pub(super) fn restore(&self, server: &str) {
        self.state.upstream.send_replace(Some(address(server)));
    }

    /// Up to how many entries of requests of `action` were applied without an answer.
    pub(super) fn unanswered(&self, action: &str) -> usize {
        let unanswered = self.state.unanswered.lock();
        let unanswered = unanswered.unwrap_or_else(PoisonError::into_inner);
        unanswered.get(action).copied().unwrap_or(0)
    }

    /// How many requests met a fault.
    pub(super) fn faults(&self) -> usize {
        self.state.counts().values().sum()
    }
}

/// `requests=1 ResetBefore=1 ..`
impl fmt::Display for FaultProxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "requests={}",
            self.state.requests.load(Ordering::Relaxed)
        )?;
        for (fault, count) in self.state.counts() {
            write!(f, " {fault:?}={count}")?;
        }
        Ok(())
    }
}

fn address(endpoint: &str) -> String {
    endpoint.trim_start_matches("http://").to_owned()
}

/// Lets the client see a reset instead of an orderly end.
fn reset(client: &TcpStream) {
    // Where it cannot be set, the client sees a connection that ends without an answer.
    let _ = client.set_zero_linger();
}

enum End {
    /// The client is done.
    Closed,
    /// To be reset.
    Reset,
}

/// Serves the requests of a client until either is done.
async fn serve(
    client: &mut BufReader<TcpStream>,
    upstream: &mut watch::Receiver<Option<String>>,
    state: &State,
) -> io::Result<End> {
    let Some(address) = upstream.borrow_and_update().clone() else {
        return Ok(End::Reset);
    };
    client.get_ref().set_nodelay(true)?;
    let mut server: Option<BufReader<TcpStream>> = None;
    loop {
        let request = tokio::select! {
            // A request that is half read goes away with its connection.
            _ = upstream.changed() => return Ok(End::Reset),
            request = Piece::read(client) => request?,
        };
        let Some(request) = request else {
            return Ok(End::Closed);
        };
        let exchange = Exchange::new(state, request);
        let ended = tokio::select! {
            // What was under way is noted as unanswered when the exchange is dropped.
            _ = upstream.changed() => return Ok(End::Reset),
            ended = exchange.run(client, &mut server, &address) => ended?,
        };
        if let Some(end) = ended {
            return Ok(end);
        }
    }
}

/// A request and what becomes of it. Dropping it unanswered notes that.
struct Exchange<'a> {
    state: &'a State,
    request: Piece,
    is_applied: bool,
    is_answered: bool,
}

impl Drop for Exchange<'_> {
    fn drop(&mut self) {
        if self.is_applied && !self.is_answered {
            let entries = self.request.json()["Entries"]
                .as_array()
                .map_or(1, Vec::len);
            let mut unanswered = self
                .state
                .unanswered
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            *unanswered
                .entry(self.request.action().to_owned())
                .or_default() += entries;
        }
    }
}

impl<'a> Exchange<'a> {
    fn new(state: &'a State, request: Piece) -> Self {
        state.requests.fetch_add(1, Ordering::Relaxed);
        Self {
            state,
            request,
            is_applied: false,
            is_answered: false,
        }
    }

    /// `None` is to go on with the connection.
    async fn run(
        mut self,
        client: &mut BufReader<TcpStream>,
        server: &mut Option<BufReader<TcpStream>>,
        address: &str,
    ) -> io::Result<Option<End>> {
        let fault = self.state.fault(&self.request);
        match fault {
            Some(Fault::ResetBefore) => return Ok(Some(End::Reset)),
            Some(Fault::Silence) => {
                // Until the client gives up, and closes.
                let _ = Piece::read(client).await;
                return Ok(Some(End::Reset));
            }
            Some(Fault::Internal) => return self.refuse(client, 500, "InternalError").await,
            Some(Fault::Throttled) => return self.refuse(client, 400, "ThrottlingException").await,
            Some(Fault::Unavailable) => {
                let body = "<html>the gateway has nobody to ask</html>".to_owned();
                let answer = Piece::answer(503, &["content-type: text/html"], body);
                answer.write(client).await?;
                return Ok(None);
            }
            Some(Fault::Slow) => sleep(self.state.delay()).await,
            _ => {}
        }
        let mut request = self.request.clone();
        let mut failing = Vec::new();
        if fault == Some(Fault::SomeEntries) {
            (request, failing) = self.state.take_entries(request);
        }
        self.is_applied = true;
        let answer = pass_on(&request, server, address).await?;
        let mut answer = answer.ok_or(io::ErrorKind::UnexpectedEof)?;
        match fault {
            Some(Fault::ResetAfter) => return Ok(Some(End::Reset)),
            Some(Fault::CutAnswer) => {
                let bytes = answer.bytes();
                client.write_all(&bytes[..bytes.len() / 2]).await?;
                client.flush().await?;
                return Ok(Some(End::Reset));
            }
            Some(Fault::LostInGateway) => {
                let answer = Piece::answer(504, &[], String::new());
                answer.write(client).await?;
                return Ok(None);
            }
            Some(Fault::SomeEntries) if answer.is_success() => {
                let mut body = answer.json();
                if !body["Failed"].is_array() {
                    body["Failed"] = json!([]);
                }
                if let Some(list) = body["Failed"].as_array_mut() {
                    list.append(&mut failing);
                }
                answer = answer.with_json(&body);
            }
            _ => {}
        }
        answer.write(client).await?;
        self.is_answered = true;
        Ok(None)
    }

    /// An error of SQS, before anything was applied.
    async fn refuse(
        &self,
        client: &mut BufReader<TcpStream>,
        status: u16,
        code: &str,
    ) -> io::Result<Option<End>> {
        let body = json!({
            "__type": format!("com.amazonaws.sqs#{code}"),
            "message": "a fault of the test",
        });
        let headers = ["content-type: application/x-amz-json-1.0"];
        Piece::answer(status, &headers, body.to_string())
            .write(client)
            .await?;
        Ok(None)
    }
}

/// Asks the server, over the connection that there is or a new one.
async fn pass_on(
    request: &Piece,
    server: &mut Option<BufReader<TcpStream>>,
    address: &str,
) -> io::Result<Option<Piece>> {
    let mut connection = match server.take() {
        Some(connection) => connection,
        None => {
            let connection = TcpStream::connect(address).await?;
            connection.set_nodelay(true)?;
            BufReader::new(connection)
        }
    };
    request.write(&mut connection).await?;
    let answer = Piece::read(&mut connection).await?;
    if answer.as_ref().is_some_and(|answer| !answer.is_last()) {
        *server = Some(connection);
    }
    Ok(answer)
}

impl State {
    fn rng(&self) -> std::sync::MutexGuard<'_, Rng> {
        self.rng.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn counts(&self) -> BTreeMap<Fault, usize> {
        let counts = self.counts.lock();
        counts.unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What is to happen to this request.
    fn fault(&self, request: &Piece) -> Option<Fault> {
        if !self.is_failing.load(Ordering::SeqCst) {
            return None;
        }
        let mut dice = self.rng().u32(..1_000);
        let (fault, _) = RATES.into_iter().find(|(_, rate)| {
            let is_hit = dice < *rate;
            dice = dice.saturating_sub(*rate);
            is_hit
        })?;
        if fault == Fault::SomeEntries
            && request.json()["Entries"]
                .as_array()
                .is_none_or(|entries| entries.len() < 2)
        {
            return None;
        }
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        *counts.entry(fault).or_default() += 1;
        Some(fault)
    }

    fn delay(&self) -> Duration {
        SLOW.mul_f64(self.rng().f64())
    }

    /// Takes some entries out of a batch: what is left to pass on, and what to say of them.
    fn take_entries(&self, request: Piece) -> (Piece, Vec<Value>) {
        let mut body = request.json();
        let mut failing = Vec::new();
        if let Some(entries) = body["Entries"].as_array_mut() {
            let count = self.rng().usize(1..entries.len());
            for _ in 0..count {
                let taken = entries.remove(self.rng().usize(..entries.len()));
                failing.push(json!({
                    "Id": taken["Id"],
                    "Code": "InternalError",
                    "Message": "a fault of the test",
                    "SenderFault": false,
                }));
            }
        }
        (request.with_json(&body), failing)
    }
}
