//! The socket of the admin address and its connections, on a thread of its own. Changed in two steps by a reload, as
//! listeners are: [`Admin::prepare`] does what can fail, [`Admin::commit`] cannot.

use super::Process;
use super::answer::{Answer, error};
use super::calls::Question;
use super::guard::{self, Asker};
use super::routes::{self, Call};
use crate::config::load::LARGEST_FILE;
use crate::config::plan;
use crate::config::words::ListenAddress;
use crate::edge::tls::{self, Termination};
use crate::edge::{Inherited, listener};
use crate::link::Link;
use crate::observe::events;
use crate::unix_socket::SocketFile;
use arc_swap::ArcSwap;
use http::header::{self, HeaderValue};
use http::{Request, StatusCode};
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use parking_lot::Mutex;
use socket2::Socket;
use std::convert::Infallible;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::{Semaphore, watch};

/// Connections at once; more wait.
const CONNECTIONS: usize = 64;
/// For a handshake, and for a head: idle connections end after it, too.
const HEAD: Duration = Duration::from_secs(30);
/// The longest head, in bytes.
const LONGEST_HEAD: usize = 16 * 1024;
/// The longest bodies, in bytes.
const LONGEST_BODY: usize = 4096;
const LONGEST_CONFIGURATION: usize = LARGEST_FILE as usize;
/// For a whole body.
const BODY: Duration = Duration::from_secs(30);
/// A connection is kept no longer than this, and then has so long to end.
const KEPT: (Duration, Duration) = (Duration::from_secs(600), Duration::from_secs(60));
/// After a failure to accept: mostly too many open files.
const PAUSE: Duration = Duration::from_millis(100);

/// The admin address of the process, if it has one. Clones are the same.
#[derive(Clone)]
pub struct Admin(Arc<Inner>);

struct Inner {
    place: watch::Sender<Option<Arc<Place>>>,
    /// Sockets of the admin address that another process has opened.
    inherited: Mutex<Vec<Inherited>>,
}

/// A socket that is listened on.
struct Place {
    address: ListenAddress,
    socket: Socket,
    file: Mutex<Option<SocketFile>>,
    terms: Arc<ArcSwap<Terms>>,
}

/// How connections are met.
struct Terms {
    plan: Arc<plan::Admin>,
    tls: Option<Termination>,
}

/// An admin address that is ready to work. Dropped, it closes what was opened for it.
pub struct Prepared(Step);

enum Step {
    Off,
    Keep,
    Change(Terms),
    Open(Arc<Place>),
}

impl Admin {
    /// Without an address. `inherited` are sockets for it that another process has opened.
    pub fn new(inherited: Vec<Inherited>) -> Admin {
        Admin(Arc::new(Inner { place: watch::Sender::new(None), inherited: Mutex::new(inherited) }))
    }

    /// Opens the socket, if nobody listens there yet, and gets TLS ready.
    ///
    /// # Errors
    /// In words for the operator. Nothing has changed then.
    pub fn prepare(&self, plan: Option<&Arc<plan::Admin>>) -> Result<Prepared, String> {
        let Some(plan) = plan else { return Ok(Prepared(Step::Off)) };
        let now = self.0.place.borrow().clone();
        if let Some(place) = now.as_ref().filter(|place| place.address == plan.address) {
            return Ok(Prepared(match place.terms.load().plan == *plan {
                true => Step::Keep,
                false => Step::Change(Terms::build(plan)?),
            }));
        }
        let terms = Terms::build(plan)?;
        let inherited = std::mem::take(&mut *self.0.inherited.lock());
        let at = (&plan.address, plan.socket_mode);
        let (socket, file) = listener::open_one("admin", at, inherited, now.is_some())?;
        Ok(Prepared(Step::Open(Arc::new(Place {
            address: plan.address.clone(),
            socket,
            file: Mutex::new(file),
            terms: Arc::new(ArcSwap::from_pointee(terms)),
        }))))
    }

    /// Connections from now on are met by what was prepared. Those that are open end after the request they are at,
    /// where the address is another.
    pub fn commit(&self, prepared: Prepared) {
        match prepared.0 {
            Step::Keep => {}
            Step::Off => {
                self.0.place.send_if_modified(|place| place.take().is_some());
            }
            Step::Change(terms) => {
                if let Some(place) = &*self.0.place.borrow() {
                    place.terms.store(Arc::new(terms));
                }
            }
            Step::Open(place) => {
                events::admin_listens(&place.address);
                if let Some(file) = &mut *place.file.lock() {
                    file.claim();
                }
                self.0.place.send_replace(Some(place));
            }
        }
    }

    /// A descriptor of its socket, for a process that is to accept on it, too.
    ///
    /// # Errors
    /// When the process may not have so many open files.
    pub fn sockets(&self) -> io::Result<Vec<Inherited>> {
        let Some(place) = self.0.place.borrow().clone() else { return Ok(Vec::new()) };
        let lent = place.address.ip().is_none() && place.file.lock().is_none();
        let socket = OwnedFd::from(place.socket.try_clone()?);
        Ok(vec![Inherited { address: place.address.clone(), udp: false, socket, lent }])
    }

    /// Another process has the socket, and accepts from now on.
    pub fn hand_over(&self) {
        if let Some(place) = self.0.place.send_replace(None)
            && let Some(file) = place.file.lock().take()
        {
            file.leave();
        }
    }

    /// The process ends, and takes its socket along where that is a file: the thread that accepts may not come to it.
    pub fn close(&self) {
        if let Some(place) = self.0.place.send_replace(None) {
            drop(place.file.lock().take());
        }
    }

    /// Answers for as long as the process lives, on a thread of its own.
    ///
    /// # Errors
    /// The thread cannot be had.
    pub fn serve(&self, process: Arc<dyn Process>) -> io::Result<()> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let mut places = self.0.place.subscribe();
        let thread = std::thread::Builder::new().name("admin".into());
        thread.spawn(move || {
            runtime.block_on(async move {
                loop {
                    let place = places.borrow_and_update().clone();
                    tokio::select! {
                        next = places.changed() => {
                            if next.is_err() {
                                return;
                            }
                        }
                        () = accept(place, &process) => {}
                    }
                }
            });
        })?;
        Ok(())
    }
}

impl Terms {
    fn build(plan: &Arc<plan::Admin>) -> Result<Terms, String> {
        let tls =
            plan.tls.as_ref().map(|tls| Termination::build(tls, (true, false), &tls::Common::default()));
        Ok(Terms { plan: plan.clone(), tls: tls.transpose()? })
    }
}

/// Either kind of listening socket.
enum Door {
    Tcp(TcpListener),
    Unix(UnixListener),
}

impl Door {
    fn of(place: &Place) -> io::Result<Door> {
        let socket = place.socket.try_clone()?;
        Ok(match place.address {
            ListenAddress::Ip(_) => Door::Tcp(TcpListener::from_std(socket.into())?),
            ListenAddress::Unix(_) => Door::Unix(UnixListener::from_std(OwnedFd::from(socket).into())?),
        })
    }

    async fn accept(&self) -> io::Result<Link> {
        match self {
            Door::Tcp(door) => door.accept().await.map(|(tcp, _)| Link::from(tcp)),
            Door::Unix(door) => door.accept().await.map(|(unix, _)| Link::from(unix)),
        }
    }
}

/// Accepts for as long as it is not dropped, which lets connections end.
async fn accept(place: Option<Arc<Place>>, process: &Arc<dyn Process>) {
    let Some(place) = place else { return std::future::pending().await };
    let door = match Door::of(&place) {
        Ok(door) => door,
        Err(why) => {
            log::error!("admin: {} cannot be accepted on: {why}", place.address);
            return std::future::pending().await;
        }
    };
    let seats = Arc::new(Semaphore::new(CONNECTIONS));
    let (_here, moved) = watch::channel(());
    loop {
        // it is never closed
        let Ok(seat) = seats.clone().acquire_owned().await else { return };
        match door.accept().await {
            Ok(link) => {
                let desk = Desk { terms: place.terms.clone(), process: process.clone() };
                let moved = moved.clone();
                tokio::spawn(async move {
                    desk.meet(link, moved).await;
                    drop(seat);
                });
            }
            Err(why) => {
                log::debug!("admin: {why}");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

/// Who answers.
struct Desk {
    terms: Arc<ArcSwap<Terms>>,
    process: Arc<dyn Process>,
}

impl Desk {
    async fn meet(self, link: Link, moved: watch::Receiver<()>) {
        let terms = self.terms.load_full();
        let Some(tls) = &terms.tls else { return self.serve(link, false, moved).await };
        match tls::accept(tls, link, HEAD).await {
            Ok(accepted) => {
                let certificate = accepted.facts.certificate.is_some();
                Box::pin(self.serve(accepted.io, certificate, moved)).await;
            }
            Err(why) => log::debug!("admin: TLS handshake: {why}"),
        }
    }

    async fn serve(
        self,
        io: impl AsyncRead + AsyncWrite + Unpin,
        certificate: bool,
        mut moved: watch::Receiver<()>,
    ) {
        let service =
            service_fn(|request| async { Ok::<_, Infallible>(self.answer(request, certificate).await) });
        let mut http = http1::Builder::new();
        http.timer(TokioTimer::new()).header_read_timeout(HEAD).max_buf_size(LONGEST_HEAD);
        let mut connection = std::pin::pin!(http.serve_connection(TokioIo::new(io), service));
        let over = async {
            tokio::select! {
                // an error says that nobody accepts here any more
                _ = moved.changed() => {}
                () = tokio::time::sleep(KEPT.0) => {}
            }
        };
        tokio::select! {
            ended = connection.as_mut() => return tell(ended),
            () = over => connection.as_mut().graceful_shutdown(),
        }
        if let Ok(ended) = tokio::time::timeout(KEPT.1, connection).await {
            tell(ended);
        }
    }

    async fn answer(&self, request: Request<Incoming>, certificate: bool) -> Answer {
        let (route, names) = match routes::find(request.method(), request.uri().path()) {
            Ok(found) => found,
            Err(status) => return error(status, "there is nothing at this path by this method"),
        };
        let terms = self.terms.load_full();
        let asker = Asker { method: request.method(), headers: request.headers(), certificate };
        if let Err(refusal) = guard::admit(&terms.plan, route.access, asker) {
            return refused(refusal);
        }
        let (head, body) = request.into_parts();
        let body = match read(body, route.call).await {
            Ok(body) => body,
            Err(why) => return error(StatusCode::BAD_REQUEST, why),
        };
        let question = Question {
            call: route.call,
            names,
            query: head.uri.query().unwrap_or_default(),
            body,
            admin: &terms.plan,
            certificate,
        };
        question.answered(&*self.process).await
    }
}

/// All of a body, which is text.
async fn read(body: Incoming, call: Call) -> Result<String, &'static str> {
    let configuration = matches!(call, Call::Check | Call::Diff);
    let most = if configuration { LONGEST_CONFIGURATION } else { LONGEST_BODY };
    let whole = Limited::new(body, most).collect();
    let whole = tokio::time::timeout(BODY, whole).await.map_err(|_| "the body took too long")?;
    let bytes = whole.map_err(|_| "the body is too long, or broke off")?.to_bytes();
    String::from_utf8(bytes.into()).map_err(|_| "the body is not UTF-8")
}

fn refused(refusal: guard::Refusal) -> Answer {
    let mut answer = error(refusal.status(), refusal.why());
    if answer.status() == StatusCode::UNAUTHORIZED {
        let bearer = HeaderValue::from_static("Bearer realm=\"weirgate\"");
        answer.headers_mut().insert(header::WWW_AUTHENTICATE, bearer);
    }
    answer
}

fn tell(ended: Result<(), hyper::Error>) {
    if let Err(why) = ended {
        log::debug!("admin: {why}");
    }
}
