//! The agent reads and writes these types as bytes.

use crate::{key, value};

macro_rules! pod {
    ($($type:ty),+ $(,)?) => {
        // SAFETY: repr(C), Copy, made of integers with explicit padding: no uninitialised byte, every bit pattern valid.
        $(unsafe impl aya::Pod for $type {})+
    };
}

pod!(
    key::AddressKey,
    key::PrefixKey,
    key::PolicyKey,
    key::FlowKey,
    key::SeenKey,
    value::Endpoint,
    value::Address,
    value::Prefix,
    value::PolicyEntry,
    value::Flow,
    value::RingEntry,
    value::SeenTimes,
    value::SeenQuota,
    value::Settings,
    value::Count,
    value::EventBudget,
);
