//! Links and addresses of the host by rtnetlink: one dump at the start, then the kernel's own news.

mod cache;
mod request;
mod watched;

use std::{io, time::Instant};

use futures_util::{FutureExt as _, Stream, StreamExt as _};
use rtnetlink::{MulticastGroup, packet_core::NetlinkPayload, packet_route::RouteNetlinkMessage};
use tokio::{task::JoinHandle, time::sleep_until};

use self::{cache::Cache, request::Requests};
use crate::model::Links;

/// Follows the links of the namespace it was opened in.
pub struct LinkWatcher {
    cache: Cache,
    requests: Requests,
    news: Box<dyn Stream<Item = News> + Send + Unpin>,
    driver: JoinHandle<()>,
    overrun: bool,
    differs: bool,
    /// How many changes were told since the last look at another end.
    unlooked: u32,
}

/// So many changes may be told before a look at another end: one container that makes its link go up and down without
/// end must not keep the others unknown.
const NEWS_FIRST: u32 = 256;

/// What [`LinkWatcher::changed`] saw.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LinkChange {
    /// A veth became the port of a bridge: time to attach, before anybody knows whose it is.
    Appeared {
        /// Its ifindex.
        ifindex: u32,
        /// Its name.
        name: String,
        /// ifindex of the bridge.
        bridge: u32,
    },
    /// Something else in [`LinkWatcher::links`] is not what it was.
    Other,
    /// The kernel dropped news that nobody read in time; everything was read anew.
    Overrun,
}

/// Why links cannot be followed.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// No netlink socket.
    #[error(
        "cannot open a netlink socket: {source}; dfw needs the host's network namespace and AF_NETLINK allowed"
    )]
    Open {
        /// What the kernel said.
        source: io::Error,
    },
    /// A netlink socket failed for good.
    #[error("the netlink socket was closed; open a new one")]
    Closed,
    /// The kernel refused.
    #[error("netlink: cannot {what}: {source}; dfw needs CAP_NET_ADMIN")]
    Kernel {
        /// What was asked.
        what: &'static str,
        /// What the kernel said.
        source: io::Error,
    },
    /// An answer was lost.
    #[error("netlink: cannot {what}: no answer; try again")]
    NoAnswer {
        /// What was asked.
        what: &'static str,
    },
}

impl LinkError {
    /// Whether the link or its namespace has gone: ENODEV, or EINVAL for a namespace id that is no more.
    fn is_gone(&self) -> bool {
        match self {
            Self::Kernel { source, .. } => matches!(
                source.raw_os_error(),
                Some(libc::ENODEV | libc::EINVAL | libc::ENOENT)
            ),
            Self::Open { .. } | Self::Closed | Self::NoAnswer { .. } => false,
        }
    }
}

enum News {
    Message(RouteNetlinkMessage),
    Overrun,
    Nothing,
}

impl Drop for LinkWatcher {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

impl LinkWatcher {
    /// Subscribes to the news, then reads everything once, so that nothing falls between. Needs a tokio runtime.
    pub async fn open() -> Result<Self, LinkError> {
        let groups = [
            MulticastGroup::Link,
            MulticastGroup::Ipv4Ifaddr,
            MulticastGroup::Ipv6Ifaddr,
            MulticastGroup::Tc,
        ];
        let open = |source| LinkError::Open { source };
        let (connection, _, messages) =
            rtnetlink::new_multicast_connection(&groups).map_err(open)?;
        let news = messages.map(|(message, _)| match message.payload {
            NetlinkPayload::InnerMessage(message) => News::Message(message),
            NetlinkPayload::Overrun(_) => News::Overrun,
            NetlinkPayload::Done(_) | NetlinkPayload::Error(_) | NetlinkPayload::Noop => {
                News::Nothing
            }
            _ => News::Nothing,
        });
        let mut watcher = Self {
            cache: Cache::default(),
            requests: Requests::open().map_err(open)?,
            news: Box::new(news),
            driver: tokio::spawn(connection),
            overrun: false,
            differs: false,
            unlooked: 0,
        };
        watcher.resync().await?;
        Ok(watcher)
    }

    /// What is known now.
    pub fn links(&self) -> &Links {
        self.cache.links()
    }

    /// Waits until [`links`](Self::links) differs, and says how. Cancel-safe: a call that was dropped loses nothing. What the
    /// kernel has told already comes first: a new port waits for nobody's addresses.
    pub async fn changed(&mut self) -> Result<LinkChange, LinkError> {
        loop {
            if self.overrun {
                self.resync().await?;
                self.overrun = false;
                return Ok(LinkChange::Overrun);
            }
            if self.unlooked < NEWS_FIRST
                && let Some(told) = self.told()
            {
                self.unlooked += 1;
                return told;
            }
            self.unlooked = 0;
            if self.look_once().await? {
                continue;
            }
            if std::mem::take(&mut self.differs) {
                return Ok(LinkChange::Other);
            }
            let due = self.cache.next_due();
            let news = tokio::select! {
                news = self.news.next() => news,
                () = sleep_until(due.unwrap_or_else(Instant::now).into()), if due.is_some() => continue,
            };
            if let Some(change) = self.take_in(news) {
                return change;
            }
        }
    }

    /// The next change that the kernel has told already, without waiting and without asking it anything.
    pub fn told(&mut self) -> Option<Result<LinkChange, LinkError>> {
        while !self.overrun {
            let news = self.news.next().now_or_never()?;
            let change = self.take_in(news);
            if change.is_some() {
                return change;
            }
        }
        None
    }

    fn take_in(&mut self, news: Option<News>) -> Option<Result<LinkChange, LinkError>> {
        match news {
            Some(News::Message(message)) => self.cache.apply(&message).map(Ok),
            Some(News::Overrun) => {
                self.overrun = true;
                None
            }
            Some(News::Nothing) => None,
            None => Some(Err(LinkError::Closed)),
        }
    }

    /// Reads everything anew. What is final of peers stays as it was.
    pub async fn resync(&mut self) -> Result<(), LinkError> {
        let dump = self.requests.dump().await?;
        self.cache.replace(&dump);
        self.look().await?;
        self.differs = false;
        Ok(())
    }

    /// Looks at the other end of a veth again, for a port that has no endpoint yet: its MAC or addresses may have come since.
    /// Whether [`links`](Self::links) differs now. Does nothing once the MAC is final: when it was seen up with an address,
    /// or by [`pin_peer`](Self::pin_peer).
    pub async fn refresh_peer(&mut self, ifindex: u32) -> Result<bool, LinkError> {
        self.cache.look_again(ifindex);
        self.look().await?;
        Ok(std::mem::take(&mut self.differs))
    }

    /// The port has its endpoint: what its container does to its MAC from now on is not learned, and its addresses only until
    /// a moment later.
    pub fn pin_peer(&mut self, ifindex: u32) {
        self.cache.pin(ifindex, Instant::now());
    }

    /// Looks at every other end that there is news of, or that is due.
    async fn look(&mut self) -> Result<(), LinkError> {
        while self.look_once().await? {}
        Ok(())
    }

    /// Looks at one of them; whether there was one.
    async fn look_once(&mut self) -> Result<bool, LinkError> {
        let Some((ifindex, end)) = self.cache.next_look(Instant::now()) else {
            return Ok(false);
        };
        let sight = self.requests.look(ifindex, end).await?;
        self.differs |= self.cache.sighted(ifindex, end, sight, Instant::now());
        Ok(true)
    }
}
