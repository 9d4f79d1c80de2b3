//! Host calls of proxy-wasm ABI 0.2.1 that never panic: an answer that was not expected is `None` or
//! `false`. <https://github.com/proxy-wasm/spec/tree/main/abi-versions/v0.2.1>

#![expect(unsafe_code, reason = "host functions are foreign, and hand over memory by pointer")]

use core::ptr::null_mut;

use crate::headers::{Field, Headers};
use crate::ledger::{ABSENT, SetError, SharedData};
use crate::time::UnixTime;

mod ffi {
    unsafe extern "C" {
        pub(super) fn proxy_log(level: u32, data: *const u8, size: usize) -> u32;
        pub(super) fn proxy_get_current_time_nanoseconds(time: *mut u64) -> u32;
        pub(super) fn proxy_set_tick_period_milliseconds(period: u32) -> u32;
        pub(super) fn proxy_get_buffer_bytes(
            kind: u32,
            start: usize,
            max: usize,
            data: *mut *mut u8,
            size: *mut usize,
        ) -> u32;
        pub(super) fn proxy_set_buffer_bytes(
            kind: u32,
            start: usize,
            size: usize,
            data: *const u8,
            data_size: usize,
        ) -> u32;
        pub(super) fn proxy_get_header_map_pairs(
            kind: u32,
            data: *mut *mut u8,
            size: *mut usize,
        ) -> u32;
        pub(super) fn proxy_replace_header_map_value(
            kind: u32,
            name: *const u8,
            name_size: usize,
            value: *const u8,
            value_size: usize,
        ) -> u32;
        pub(super) fn proxy_remove_header_map_value(
            kind: u32,
            name: *const u8,
            name_size: usize,
        ) -> u32;
        pub(super) fn proxy_get_property(
            path: *const u8,
            path_size: usize,
            data: *mut *mut u8,
            size: *mut usize,
        ) -> u32;
        pub(super) fn proxy_set_property(
            path: *const u8,
            path_size: usize,
            value: *const u8,
            value_size: usize,
        ) -> u32;
        pub(super) fn proxy_get_shared_data(
            key: *const u8,
            key_size: usize,
            data: *mut *mut u8,
            size: *mut usize,
            cas: *mut u32,
        ) -> u32;
        pub(super) fn proxy_set_shared_data(
            key: *const u8,
            key_size: usize,
            value: *const u8,
            value_size: usize,
            cas: u32,
        ) -> u32;
        pub(super) fn proxy_continue_stream(kind: u32) -> u32;
        pub(super) fn proxy_send_local_response(
            status: u32,
            details: *const u8,
            details_size: usize,
            body: *const u8,
            body_size: usize,
            headers: *const u8,
            headers_size: usize,
            grpc_status: i32,
        ) -> u32;
        pub(super) fn proxy_set_effective_context(context: u32) -> u32;
        pub(super) fn proxy_define_metric(
            kind: u32,
            name: *const u8,
            name_size: usize,
            id: *mut u32,
        ) -> u32;
        pub(super) fn proxy_record_metric(id: u32, value: u64) -> u32;
        pub(super) fn proxy_increment_metric(id: u32, offset: i64) -> u32;
    }
}

const OK: u32 = 0;
const CAS_MISMATCH: u32 = 8;

/// Which of the two messages of an exchange.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Message {
    Request,
    Response,
}

impl Message {
    const fn headers(self) -> u32 {
        match self {
            Self::Request => 0,
            Self::Response => 2,
        }
    }

    const fn body(self) -> u32 {
        match self {
            Self::Request => 0,
            Self::Response => 1,
        }
    }
}

const PLUGIN_CONFIGURATION: u32 = 7;

pub(super) fn log(level: log::Level, message: &str) {
    let level = match level {
        log::Level::Trace => 0,
        log::Level::Debug => 1,
        log::Level::Info => 2,
        log::Level::Warn => 3,
        log::Level::Error => 4,
    };
    // SAFETY: the host reads `message` during the call only; the same holds for all slices below.
    unsafe { ffi::proxy_log(level, message.as_ptr(), message.len()) };
}

pub(super) fn now() -> UnixTime {
    let mut nanoseconds = 0;
    // SAFETY: the host writes one u64.
    unsafe { ffi::proxy_get_current_time_nanoseconds(&raw mut nanoseconds) };
    UnixTime(nanoseconds / 1_000_000)
}

pub(super) fn set_tick_period(milliseconds: u32) {
    // SAFETY: plain values.
    unsafe { ffi::proxy_set_tick_period_milliseconds(milliseconds) };
}

pub(super) fn plugin_configuration() -> Vec<u8> {
    buffer(PLUGIN_CONFIGURATION, usize::MAX)
}

/// The first `size` bytes of what the host holds of the body.
pub(super) fn body(message: Message, size: usize) -> Vec<u8> {
    buffer(message.body(), size)
}

/// Replaces the first `size` bytes of what the host holds of the body.
pub(super) fn set_body(message: Message, size: usize, bytes: &[u8]) -> bool {
    // SAFETY: see `log`.
    let status = unsafe {
        ffi::proxy_set_buffer_bytes(message.body(), 0, size, bytes.as_ptr(), bytes.len())
    };
    status == OK
}

pub(super) fn headers(message: Message) -> Headers {
    // SAFETY: the host writes pointer and size of memory it allocated for us.
    let bytes = returned(|data, size| unsafe {
        ffi::proxy_get_header_map_pairs(message.headers(), data, size)
    });
    bytes.and_then(decode_pairs).unwrap_or_default()
}

pub(super) fn set_header(message: Message, name: &str, value: &[u8]) -> bool {
    // SAFETY: see `log`.
    let status = unsafe {
        ffi::proxy_replace_header_map_value(
            message.headers(),
            name.as_ptr(),
            name.len(),
            value.as_ptr(),
            value.len(),
        )
    };
    status == OK
}

pub(super) fn remove_header(message: Message, name: &str) {
    // SAFETY: see `log`.
    unsafe { ffi::proxy_remove_header_map_value(message.headers(), name.as_ptr(), name.len()) };
}

pub(super) fn property(path: &[&str]) -> Option<Vec<u8>> {
    let path = path.join("\0");
    // SAFETY: see `headers`.
    returned(|data, size| unsafe { ffi::proxy_get_property(path.as_ptr(), path.len(), data, size) })
}

pub(super) fn set_property(name: &str, value: &[u8]) -> bool {
    // SAFETY: see `log`.
    let status =
        unsafe { ffi::proxy_set_property(name.as_ptr(), name.len(), value.as_ptr(), value.len()) };
    status == OK
}

pub(super) fn resume_request() {
    // SAFETY: plain values; 0 is the request of the effective context.
    unsafe { ffi::proxy_continue_stream(0) };
}

pub(super) fn resume_response() {
    // SAFETY: plain values; 1 is the answer of the effective context.
    unsafe { ffi::proxy_continue_stream(1) };
}

pub(super) fn set_effective_context(context: u32) -> bool {
    // SAFETY: plain values.
    unsafe { ffi::proxy_set_effective_context(context) == OK }
}

pub(super) fn send_local_response(
    status: u16,
    details: &str,
    headers: &[(&str, &[u8])],
    body: &[u8],
) -> bool {
    let pairs = encode_pairs(headers);
    // SAFETY: see `log`.
    let status = unsafe {
        ffi::proxy_send_local_response(
            u32::from(status),
            details.as_ptr(),
            details.len(),
            body.as_ptr(),
            body.len(),
            pairs.as_ptr(),
            pairs.len(),
            -1,
        )
    };
    status == OK
}

/// As the ABI numbers them.
#[derive(Clone, Copy)]
pub(super) enum Metric {
    Counter = 0,
    Gauge = 1,
    Histogram = 2,
}

pub(super) fn define_metric(kind: Metric, name: &str) -> Option<u32> {
    let mut id = 0;
    // SAFETY: the host writes one u32.
    let status =
        unsafe { ffi::proxy_define_metric(kind as u32, name.as_ptr(), name.len(), &raw mut id) };
    (status == OK).then_some(id)
}

pub(super) fn increment_metric(id: u32, by: u64) {
    // SAFETY: plain values.
    unsafe { ffi::proxy_increment_metric(id, i64::try_from(by).unwrap_or(i64::MAX)) };
}

pub(super) fn record_metric(id: u32, value: u64) {
    // SAFETY: plain values.
    unsafe { ffi::proxy_record_metric(id, value) };
}

/// Shared data of the host: one map per `vm_id` and process, across workers, stages and reloads.
pub(super) struct HostSharedData;

impl SharedData for HostSharedData {
    fn get(&self, slot: &str) -> Option<(Vec<u8>, u32)> {
        let mut token = 0;
        // SAFETY: see `headers`; the host writes one u32 more.
        let value = returned(|data, size| unsafe {
            ffi::proxy_get_shared_data(slot.as_ptr(), slot.len(), data, size, &raw mut token)
        })?;
        // A slot without a value was written by nobody here.
        (!value.is_empty()).then_some((value, token))
    }

    fn set(&self, slot: &str, value: &[u8], token: u32) -> Result<(), SetError> {
        // Zero would overwrite whatever is there.
        let token = if token == 0 { ABSENT } else { token };
        // SAFETY: see `log`.
        let status = unsafe {
            ffi::proxy_set_shared_data(
                slot.as_ptr(),
                slot.len(),
                value.as_ptr(),
                value.len(),
                token,
            )
        };
        match status {
            OK => Ok(()),
            CAS_MISMATCH => Err(SetError::Mismatch),
            _ => Err(SetError::Failed),
        }
    }
}

fn buffer(kind: u32, max: usize) -> Vec<u8> {
    // SAFETY: see `headers`.
    let bytes =
        returned(|data, size| unsafe { ffi::proxy_get_buffer_bytes(kind, 0, max, data, size) });
    bytes.unwrap_or_default()
}

/// Takes over memory that the host allocated through `proxy_on_memory_allocate`.
fn returned(call: impl FnOnce(*mut *mut u8, *mut usize) -> u32) -> Option<Vec<u8>> {
    let mut data: *mut u8 = null_mut();
    let mut size = 0;
    if call(&raw mut data, &raw mut size) != OK {
        return None;
    }
    if data.is_null() || size == 0 {
        return Some(Vec::new());
    }
    // SAFETY: the SDK's allocator made it as a boxed slice of exactly `size` bytes and leaked it.
    Some(unsafe { Vec::from_raw_parts(data, size, size) })
}

/// `count`, then the sizes of all names and values, then each followed by a zero byte.
fn decode_pairs(bytes: Vec<u8>) -> Option<Headers> {
    let (count, mut sizes) = take_u32(&bytes)?;
    let mut at = count.checked_mul(8)?.checked_add(4)?;
    // Before anything is allocated by `count`.
    bytes.get(at..)?;
    let mut part = |size: usize| {
        let part = at..at.checked_add(size)?;
        at = part.end.checked_add(1)?;
        Some(part)
    };
    let mut fields = Vec::with_capacity(count);
    for _ in 0..count {
        let (name, after) = take_u32(sizes)?;
        let (value, after) = take_u32(after)?;
        sizes = after;
        fields.push(Field { name: part(name)?, value: part(value)? });
    }
    bytes.get(..at)?;
    Some(Headers::new(bytes, fields))
}

fn take_u32(bytes: &[u8]) -> Option<(usize, &[u8])> {
    let (head, rest) = bytes.split_first_chunk::<4>()?;
    Some((usize::try_from(u32::from_le_bytes(*head)).ok()?, rest))
}

fn encode_pairs(headers: &[(&str, &[u8])]) -> Vec<u8> {
    let size = |bytes: &[u8]| u32::try_from(bytes.len()).unwrap_or_default().to_le_bytes();
    let mut out = u32::try_from(headers.len()).unwrap_or_default().to_le_bytes().to_vec();
    for (name, value) in headers {
        out.extend_from_slice(&size(name.as_bytes()));
        out.extend_from_slice(&size(value));
    }
    for (name, value) in headers {
        out.extend_from_slice(name.as_bytes());
        out.push(0);
        out.extend_from_slice(value);
        out.push(0);
    }
    out
}
