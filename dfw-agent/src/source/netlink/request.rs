//! Questions to rtnetlink, each answered or failed within [`PATIENCE`].

use std::{io, time::Duration};

use futures_util::StreamExt;
use rtnetlink::{
    Handle,
    packet_core::{NLM_F_DUMP, NLM_F_DUMP_INTR, NLM_F_REQUEST, NetlinkMessage, NetlinkPayload},
    packet_route::{
        AddressFamily, RouteNetlinkMessage,
        address::{AddressAttribute, AddressMessage},
        link::{LinkAttribute, LinkExtentMask, LinkMessage},
        tc::TcMessage,
    },
};
use tokio::task::JoinHandle;

use super::{
    LinkError,
    cache::{FarEnd, Sight, sight},
};

/// The kernel answers at once; longer means that the answer was lost.
const PATIENCE: Duration = Duration::from_secs(5);

/// Dumps that the kernel says it was interrupted in are asked for again this often; then events have to correct them.
const DUMP_TRIES: usize = 5;

/// A socket for questions. It checks strictly: without that the kernel ignores IFA_TARGET_NETNSID in a dump and answers for
/// the host's namespace (Linux 4.20, d7e38611b81e).
pub(super) struct Requests {
    handle: Handle,
    driver: JoinHandle<()>,
}

impl Drop for Requests {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

impl Requests {
    pub(super) fn open() -> io::Result<Self> {
        let (mut connection, handle, _) = rtnetlink::new_connection_with_strict_check()?;
        // The interruption of a dump may be told in its last message alone.
        connection.set_forward_done(true);
        Ok(Self {
            handle,
            driver: tokio::spawn(connection),
        })
    }

    /// Every link of the host's namespace, then every address, then every queueing discipline.
    pub(super) async fn dump(&mut self) -> Result<Vec<RouteNetlinkMessage>, LinkError> {
        let mut links = LinkMessage::default();
        links
            .attributes
            .push(LinkAttribute::ExtMask(vec![LinkExtentMask::SkipStats]));
        let mut all = self
            .ask(RouteNetlinkMessage::GetLink(links), "list links", true)
            .await?;
        let addresses = RouteNetlinkMessage::GetAddress(AddressMessage::default());
        all.extend(self.ask(addresses, "list addresses", true).await?);
        let queues = RouteNetlinkMessage::GetQueueDiscipline(TcMessage::default());
        all.extend(self.ask(queues, "list queueing disciplines", true).await?);
        Ok(all)
    }

    /// Looks at the other end of a veth from here, without entering its namespace. None if it is gone.
    pub(super) async fn look(
        &mut self,
        host_ifindex: u32,
        end: FarEnd,
    ) -> Result<Option<Sight>, LinkError> {
        let mut request = LinkMessage::default();
        request.header.index = end.ifindex;
        request
            .attributes
            .push(LinkAttribute::IfNetnsId(end.netnsid));
        request
            .attributes
            .push(LinkAttribute::ExtMask(vec![LinkExtentMask::SkipStats]));
        let link = self
            .ask(
                RouteNetlinkMessage::GetLink(request),
                "read the other end of a veth",
                false,
            )
            .await;

        let mut request = AddressMessage::default();
        request.header.family = AddressFamily::Unspec;
        request.header.index = end.ifindex;
        request
            .attributes
            .push(AddressAttribute::TargetNetNsId(end.netnsid));
        let what = "read the addresses of the other end of a veth";
        let addresses = self
            .ask(RouteNetlinkMessage::GetAddress(request), what, true)
            .await;

        match (link, addresses) {
            (Ok(link), Ok(addresses)) => Ok(link.iter().find_map(|message| {
                if let RouteNetlinkMessage::NewLink(link) = message {
                    sight(link, &addresses, host_ifindex)
                } else {
                    None
                }
            })),
            (Err(error), _) | (_, Err(error)) if error.is_gone() => Ok(None),
            (Err(error), _) | (_, Err(error)) => Err(error),
        }
    }

    async fn ask(
        &mut self,
        message: RouteNetlinkMessage,
        what: &'static str,
        dump: bool,
    ) -> Result<Vec<RouteNetlinkMessage>, LinkError> {
        let mut request = NetlinkMessage::from(message);
        request.header.flags = if dump {
            NLM_F_REQUEST | NLM_F_DUMP
        } else {
            NLM_F_REQUEST
        };
        let mut answer = Vec::new();
        for _ in 0..DUMP_TRIES {
            let whole =
                tokio::time::timeout(PATIENCE, self.ask_once(request.clone(), what, &mut answer))
                    .await
                    .map_err(|_| LinkError::NoAnswer { what })??;
            if whole {
                break;
            }
        }
        Ok(answer)
    }

    /// Whether the answer is whole, not interrupted by a change.
    async fn ask_once(
        &mut self,
        request: NetlinkMessage<RouteNetlinkMessage>,
        what: &'static str,
        answer: &mut Vec<RouteNetlinkMessage>,
    ) -> Result<bool, LinkError> {
        answer.clear();
        let mut whole = true;
        let mut refusal = None;
        let mut replies = self
            .handle
            .request(request)
            .map_err(|_| LinkError::Closed)?;
        while let Some(reply) = replies.next().await {
            whole &= reply.header.flags & NLM_F_DUMP_INTR == 0;
            match reply.payload {
                NetlinkPayload::InnerMessage(message) => answer.push(message),
                // Read on to the end: what comes after a refusal must not find its reader gone.
                NetlinkPayload::Error(error) => refusal = Some(error.to_io()),
                NetlinkPayload::Overrun(_) => whole = false,
                NetlinkPayload::Done(_) | NetlinkPayload::Noop => {}
                _ => {}
            }
        }
        match refusal {
            Some(source) => Err(LinkError::Kernel { what, source }),
            None => Ok(whole),
        }
    }
}
