//! Flow events of the kernel, into the log.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use tokio::sync::watch;

use crate::{
    datapath::{self, Events, Traces},
    model::View,
    policy::{RuleText, RuleTexts},
    telemetry::events::FlowEvent,
};

/// Logs new and denied flows: at debug level, at info level where the deciding rule says `log`. Reads the buffer whatever
/// the level, or it would fill and be counted as lost.
pub(super) async fn log(
    events: Events,
    views: watch::Receiver<Arc<View>>,
    rules: watch::Receiver<RuleTexts>,
) {
    let mut events = match datapath::readable(events) {
        Ok(events) => events,
        Err(error) => {
            tracing::error!(%error, "flow events cannot be read; everything else goes on");
            return;
        }
    };
    let boot = boot_time();
    loop {
        let mut guard = match events.readable_mut().await {
            Ok(guard) => guard,
            Err(error) => {
                tracing::error!(%error, "flow events cannot be read any more");
                return;
            }
        };
        // A burst must not keep this thread from answering commands.
        const BURST: usize = 256;
        let view = Arc::clone(&views.borrow());
        let texts = Arc::clone(&rules.borrow());
        for _ in 0..BURST {
            let Some(item) = guard.get_inner_mut().next() else {
                guard.clear_ready();
                break;
            };
            if let Some(event) = FlowEvent::decode(&item, boot, &view) {
                let rule = event.rule.and_then(|rule| texts.get(&(event.policy, rule)));
                tell(&event, rule);
            }
        }
        drop(guard);
        tokio::task::yield_now().await;
    }
}

/// Passes on what the programs themselves log.
pub(super) async fn trace(traces: Traces) {
    let mut tracer = match datapath::readable(traces) {
        Ok(tracer) => tracer,
        Err(error) => {
            tracing::error!(%error, "what the programs log cannot be read");
            return;
        }
    };
    loop {
        match tracer.readable_mut().await {
            Ok(mut guard) => {
                guard.get_inner_mut().flush();
                guard.clear_ready();
            }
            Err(error) => {
                tracing::error!(%error, "what the programs log cannot be read any more");
                return;
            }
        }
    }
}

fn tell(event: &FlowEvent, rule: Option<&RuleText>) {
    let (text, label) = rule.map_or(("", ""), |rule| (&rule.text, &rule.label));
    if rule.is_some_and(|rule| rule.log) {
        tracing::info!(target: "dfw::flow", rule = text, label, "{event}");
    } else {
        tracing::debug!(target: "dfw::flow", rule = text, label, "{event}");
    }
}

/// The wall-clock time at which CLOCK_MONOTONIC was zero.
fn boot_time() -> SystemTime {
    let uptime = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    let since = Duration::new(
        u64::try_from(uptime.tv_sec).unwrap_or(0),
        u32::try_from(uptime.tv_nsec).unwrap_or(0),
    );
    SystemTime::now()
        .checked_sub(since)
        .unwrap_or(SystemTime::UNIX_EPOCH)
}
