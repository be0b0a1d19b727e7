//! The switchboard: Pingora's callbacks in the order a request meets them. Each names its step
//! and calls it; the steps are in the files beside this one.

use super::ctx::Ctx;
use super::kept::{Keeper, Kept, Opener};
use super::patrol::Patrol;
use super::queue::Stop;
use super::site::Live;
use super::{answer, call, forward, hop, intake, journal, retry, sticky, trace, websocket};
use crate::acme::Challenges;
use crate::observe::Recent;
use async_trait::async_trait;
use bytes::Bytes;
use http::HeaderMap;
use pingora_core::apps::HttpServerOptions;
use pingora_core::modules::http::HttpModules;
use pingora_core::protocols::Digest;
use pingora_core::server::configuration::ServerConf;
use pingora_core::services::listening::Service;
use pingora_core::upstreams::peer::HttpPeer;
use pingora_core::{Error, Result};
use pingora_http::{RequestHeader, ResponseHeader};
use pingora_proxy::{FailToProxy, HttpProxy, ProxyHttp, ProxyServiceBuilder, ProxyWarnLogContext, Session};
use std::future::{poll_fn, ready};
use std::io;
use std::mem::ManuallyDrop;
use std::os::fd::RawFd;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

/// The proxy of one worker.
pub struct Proxy {
    live: Arc<Live>,
    /// What authorities may ask for, whatever the site says.
    challenges: Arc<Challenges>,
    patrol: Arc<Patrol>,
    kept: Arc<Kept>,
    /// Requests that failed of late.
    recent: Arc<Recent>,
}

/// What Pingora makes of it.
pub type Application = HttpProxy<Proxy, Keeper>;

impl Proxy {
    /// For one worker. Requests that fail are noted in `recent`; connections to servers are opened by `opener`.
    ///
    /// # Errors
    /// Pingora has made none.
    pub fn application(
        (live, challenges, recent): (Arc<Live>, Arc<Challenges>, Arc<Recent>),
        opener: Arc<Opener>,
        conf: &Arc<ServerConf>,
    ) -> io::Result<Application> {
        let keeper = Keeper::new(opener, conf.upstream_keepalive_pool_size);
        let proxy = Proxy { live, challenges, patrol: Arc::default(), kept: keeper.kept(), recent };
        let mut options = HttpServerOptions::default();
        // refused by us, with a line in the access log
        options.allow_connect_method_proxying = true;
        let service = ProxyServiceBuilder::new(conf, proxy)
            .custom(keeper, Arc::new(|_, _, _: &_| Box::pin(std::future::ready(None))))
            .server_options(options)
            .build();
        taken_out(service)
    }
}

/// Pingora makes a proxy with a connector of somebody else's as part of a service only, which has sockets; ours are those of
/// `edge`.
fn taken_out(service: Service<Application>) -> io::Result<Application> {
    let service = ManuallyDrop::new(service);
    // a service that has not been started has one
    let application = service.app_logic().ok_or_else(|| io::Error::other("Pingora has no application"))?;
    // SAFETY: it is moved. Nobody uses or drops the service after this.
    Ok(unsafe { std::ptr::read(application) })
}

/// What a hook returns.
type Hook<'f, T> = Pin<Box<dyn Future<Output = T> + Send + 'f>>;

/// A hook that waits for nothing. `async_trait` would put its arguments into a box, for every request; a future without
/// any state takes no memory (an `async` block has some: whether it has begun). The lifetimes are those that it gives to the trait: of each reference, and of the future.
macro_rules! hook {
    (
        $(#[$about:meta])*
        fn $name:ident<$($of:lifetime),+>(&$own:lifetime $this:ident, $($arg:ident: $kind:ty),+ $(,)?) -> $out:ty $body:block
    ) => {
        $(#[$about])*
        fn $name<$own, $($of,)+ 'f>(&$own $this, $($arg: $kind),+) -> Hook<'f, $out>
        where
            $own: 'f,
            $($of: 'f,)+
            Self: 'f,
        $body
    };
}

fn at_once<'f>(done: Result<()>) -> Hook<'f, Result<()>> {
    match done {
        Ok(()) => Box::pin(poll_fn(|_| Poll::Ready(Ok(())))),
        Err(error) => Box::pin(ready(Err(error))),
    }
}

/// Judges the head of a server's answer, and makes it one of ours.
fn response_head(session: &mut Session, head: &mut ResponseHeader, ctx: &mut Ctx) -> Result<()> {
    let judged = call::answered(ctx, head);
    trace::answered(ctx, head.status);
    retry::answered(session, ctx, judged)?;
    websocket::switched(session.req_header(), head)?;
    forward::answered(ctx, head.status, judged)?;
    hop::strip(head);
    sticky::answered(ctx, head);
    answer::response_head(session, ctx, head);
    Ok(())
}

#[async_trait]
impl ProxyHttp for Proxy {
    type CTX = Box<Ctx>;

    fn new_ctx(&self) -> Box<Ctx> {
        Box::default()
    }

    /// Pingora would add a compression module that looks at every request.
    fn init_downstream_modules(&self, _modules: &mut HttpModules) {}

    /// The head is here: who asks, for what, which route, what do its filters say.
    /// `Ok(true)` when that was answered here.
    async fn request_filter(&self, session: &mut Session, ctx: &mut Box<Ctx>) -> Result<bool> {
        let site = self.live.load();
        match intake::admit((&site, &self.challenges), session, ctx).await {
            Ok(None) => Ok(false),
            // boxed: room for an answer of our own is not set aside for every request
            Ok(Some(reply)) => Box::pin(answer::send(session, ctx, reply)).await.map(|()| true),
            Err(Stop::Refuse(reject)) => Box::pin(answer::refuse(session, ctx, reject)).await.map(|()| true),
            Err(Stop::Gone(why)) => Err(why),
        }
    }

    /// Called for every try: the server for it, not one that was tried before.
    async fn upstream_peer(&self, session: &mut Session, ctx: &mut Box<Ctx>) -> Result<Box<HttpPeer>> {
        if ctx.forward.attempts > 0 {
            // boxed: room for it is not set aside for every request
            Box::pin(retry::pause(session, ctx)).await?;
        }
        forward::choose_again(session, ctx).await?;
        forward::next_peer(session, ctx)
    }

    hook! {
        /// Nothing comes before `request_filter`.
        fn early_request_filter<'s, 'c>(&'p self, _session: &'s mut Session, _ctx: &'c mut Box<Ctx>) -> Result<()> {
            at_once(Ok(()))
        }
    }

    hook! {
        /// What is let in goes on to a server.
        fn proxy_upstream_filter<'s, 'c>(&'p self, _session: &'s mut Session, _ctx: &'c mut Box<Ctx>) -> Result<bool> {
            Box::pin(poll_fn(|_| Poll::Ready(Ok(true))))
        }
    }

    hook! {
        /// The connection to the server stands, new or kept.
        fn connected_to_upstream<'s, 'o, 'd, 'c>(
            &'p self,
            session: &'s mut Session,
            reused: bool,
            peer: &'o HttpPeer,
            fd: RawFd,
            _digest: Option<&'d Digest>,
            ctx: &'c mut Box<Ctx>,
        ) -> Result<()> {
            let reused = reused || self.kept.knew(peer, fd);
            at_once(forward::connected(session, ctx, peer, (reused, fd), &self.patrol))
        }
    }

    hook! {
        /// The head that the server will see.
        fn upstream_request_filter<'s, 'h, 'c>(
            &'p self,
            session: &'s mut Session,
            head: &'h mut RequestHeader,
            ctx: &'c mut Box<Ctx>,
        ) -> Result<()> {
            at_once(forward::request_head(session, ctx, head))
        }
    }

    hook! {
        /// A piece of the request body, on its way to the server.
        fn request_body_filter<'s, 'b, 'c>(
            &'p self,
            session: &'s mut Session,
            body: &'b mut Option<Bytes>,
            end: bool,
            ctx: &'c mut Box<Ctx>,
        ) -> Result<()> {
            let bytes = body.as_ref().map_or(0, Bytes::len);
            let passed = intake::body(session, ctx, body, end);
            at_once(passed.map(|()| forward::body_passed(ctx, bytes, end)))
        }
    }

    hook! {
        /// Heads are changed by `response_filter`.
        fn upstream_response_filter<'s, 'h, 'c>(
            &'p self,
            _session: &'s mut Session,
            _head: &'h mut ResponseHeader,
            _ctx: &'c mut Box<Ctx>,
        ) -> Result<()> {
            at_once(Ok(()))
        }
    }

    hook! {
        /// The head of the server's answer, on its way to the client.
        fn response_filter<'s, 'h, 'c>(
            &'p self,
            session: &'s mut Session,
            head: &'h mut ResponseHeader,
            ctx: &'c mut Box<Ctx>,
        ) -> Result<()> {
            at_once(response_head(session, head, ctx))
        }
    }

    /// A piece of the server's body, on its way to the client.
    fn response_body_filter(
        &self,
        session: &mut Session,
        body: &mut Option<Bytes>,
        end: bool,
        ctx: &mut Box<Ctx>,
    ) -> Result<Option<Duration>> {
        forward::answering(ctx, end)?;
        answer::response_body(session, ctx, body, end);
        Ok(None)
    }

    /// The trailers of the server's answer, on their way to the client.
    async fn response_trailer_filter(
        &self,
        session: &mut Session,
        trailers: &mut HeaderMap,
        ctx: &mut Box<Ctx>,
    ) -> Result<Option<Bytes>> {
        Ok(call::trailers(session, ctx, trailers))
    }

    /// No connection was made: nothing was sent, so another server may be tried.
    fn fail_to_connect(
        &self,
        _session: &mut Session,
        peer: &HttpPeer,
        ctx: &mut Box<Ctx>,
        error: Box<Error>,
    ) -> Box<Error> {
        retry::connect_failed(ctx, peer, error)
    }

    /// It broke after the connection stood.
    fn error_while_proxy(
        &self,
        peer: &HttpPeer,
        session: &mut Session,
        error: Box<Error>,
        ctx: &mut Box<Ctx>,
        _reused: bool,
    ) -> Box<Error> {
        retry::exchange_failed(session, ctx, error, peer)
    }

    /// No more tries: what the client is told.
    async fn fail_to_proxy(&self, session: &mut Session, error: &Error, ctx: &mut Box<Ctx>) -> FailToProxy {
        answer::failed(session, ctx, error).await
    }

    hook! {
        /// It is over, whatever became of it.
        fn logging<'s, 'e, 'c>(
            &'p self,
            session: &'s mut Session,
            error: Option<&'e Error>,
            ctx: &'c mut Box<Ctx>,
        ) -> () {
            journal::close((&self.live.load(), &self.recent), session, ctx, error);
            Box::pin(poll_fn(|_| Poll::Ready(())))
        }
    }

    /// Every failure is told once, by `forward` and the access log.
    fn suppress_error_log(&self, _session: &Session, _ctx: &Box<Ctx>, _error: &Error) -> bool {
        true
    }

    fn suppress_proxy_warn_log(
        &self,
        _session: &Session,
        _ctx: &Box<Ctx>,
        _error: &Error,
        _context: ProxyWarnLogContext,
    ) -> bool {
        true
    }
}
