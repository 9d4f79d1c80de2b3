//! The imports of the module: ABI 0.2.1 of proxy-wasm and the part of WASI preview 1 that Envoy 1.36 offers.

use wasmi::{Caller, Error, ExternType, Func, Linker, Module, Store, Val};

use super::status::{BAD_ARGUMENT, CAS_MISMATCH, NOT_FOUND, OK, UNIMPLEMENTED};
use super::stream::{Message, Reply};
use super::vm::{Fault, Garble, State};
use super::{Fields, remove, set};

type Status = Result<u32, Error>;

/// Defines what Envoy 1.36 offers; a module that imports anything else cannot be instantiated. Most of what
/// the SDK brings along has no behaviour here, for the filter has no use for it.
pub(super) fn define(
    linker: &mut Linker<State>,
    store: &mut Store<State>,
    module: &Module,
) -> Result<(), Error> {
    for import in module.imports().filter(|import| import.module() == "env") {
        let (name, kind) = (import.name(), import.ty());
        if let ExternType::Func(kind) = kind.clone()
            && name.starts_with("proxy_")
        {
            let unimplemented = Func::new(&mut *store, kind, |_, _, results| {
                results.fill(Val::I32(UNIMPLEMENTED.cast_signed()));
                Ok(())
            });
            linker.define("env", name, unimplemented)?;
        }
    }
    linker.allow_shadowing(true);
    define_used(linker)
}

/// Defines each call by name and parameters, and lets the test have its way with it first.
macro_rules! calls {
    ($linker:ident, $module:literal: $(fn $name:ident($call:ident $(, $argument:ident)*) $body:block)*) => {
        $($linker.func_wrap($module, stringify!($name), |caller: Caller<'_, State> $(, $argument: calls!(@type $argument))*| -> Status {
            let mut $call = Call { caller, garble: None };
            match $call.fault(stringify!($name))? {
                Some(status) => Ok(status),
                None => $body,
            }
        })?;)*
    };
    (@type wide) => { u64 };
    (@type $argument:ident) => { u32 };
}

fn define_used(linker: &mut Linker<State>) -> Result<(), Error> {
    calls! { linker, "env":
        fn proxy_log(call, level, data, size) {
            let message = call.read(data, size)?;
            call.state().process.write_log(level, &message);
            Ok(OK)
        }
        fn proxy_get_current_time_nanoseconds(call, out) {
            let now = call.state().process.now_ms() * 1_000_000;
            call.write(out, &now.to_le_bytes())
        }
        fn proxy_set_tick_period_milliseconds(call, period) {
            call.state().set_tick_period(period);
            Ok(OK)
        }
        fn proxy_get_buffer_bytes(call, kind, start, max, data, size) {
            let Some(buffer) = call.state().buffer(kind) else { return Ok(NOT_FOUND) };
            let bytes = buffer.iter().skip(usize(start)).take(usize(max)).copied().collect();
            call.hand_over(bytes, data, size)
        }
        fn proxy_set_buffer_bytes(call, kind, start, size, data, data_size) {
            let bytes = call.read(data, data_size)?;
            let state = call.state();
            let Some(side) = body_of(kind).and_then(|message| state.side(message)) else {
                return Ok(BAD_ARGUMENT);
            };
            Ok(if side.replace_body(usize(start), usize(size), &bytes) { OK } else { BAD_ARGUMENT })
        }
        fn proxy_get_header_map_pairs(call, kind, data, size) {
            let state = call.state();
            let side = headers_of(kind).and_then(|message| state.side(message));
            let pairs = side.and_then(|side| side.headers.clone()).unwrap_or_default();
            let bytes = if pairs.is_empty() { Vec::new() } else { encode(&pairs) };
            call.hand_over(bytes, data, size)
        }
        fn proxy_replace_header_map_value(call, kind, name, name_size, value, value_size) {
            let name = call.read(name, name_size)?.to_ascii_lowercase();
            let value = call.read(value, value_size)?;
            Ok(call.headers(kind, |headers| set(headers, &name, &value)))
        }
        fn proxy_remove_header_map_value(call, kind, name, name_size) {
            let name = call.read(name, name_size)?.to_ascii_lowercase();
            Ok(call.headers(kind, |headers| remove(headers, &name)))
        }
        fn proxy_get_property(call, path, path_size, data, size) {
            let path = call.read(path, path_size)?;
            match call.state().property(&path) {
                Some(value) => call.hand_over(value, data, size),
                None => Ok(NOT_FOUND),
            }
        }
        fn proxy_set_property(call, path, path_size, value, value_size) {
            let name = [b"wasm.", call.read(path, path_size)?.as_slice()].concat();
            let value = call.read(value, value_size)?;
            let Some(stream) = call.state().stream() else { return Ok(NOT_FOUND) };
            stream.filter_state.lock().unwrap().insert(name, value);
            Ok(OK)
        }
        fn proxy_get_shared_data(call, slot, slot_size, data, size, token) {
            let slot = call.read(slot, slot_size)?;
            let Some((value, current)) = call.state().process.shared.get(&slot) else {
                return Ok(NOT_FOUND);
            };
            call.write(token, &current.to_le_bytes())?;
            call.hand_over(value, data, size)
        }
        fn proxy_set_shared_data(call, slot, slot_size, value, value_size, token) {
            let slot = call.read(slot, slot_size)?;
            let value = call.read(value, value_size)?;
            let taken = call.state().process.shared.set(&slot, &value, token);
            Ok(if taken { OK } else { CAS_MISMATCH })
        }
        fn proxy_continue_stream(call, kind) {
            call.state().resume(if kind == 0 { Message::Request } else { Message::Response });
            Ok(OK)
        }
        fn proxy_send_local_response(call, status, _details, _details_size, body, body_size, headers, headers_size, _grpc) {
            let body = call.read(body, body_size)?;
            let pairs = call.read(headers, headers_size)?;
            let Some(headers) = decode(&pairs) else { return Ok(BAD_ARGUMENT) };
            let Some(stream) = call.state().stream() else { return Ok(BAD_ARGUMENT) };
            // The first is sent; Envoy ignores further ones.
            stream.reply.get_or_insert(Reply { status, headers, body });
            Ok(OK)
        }
        fn proxy_set_effective_context(call, context) {
            Ok(if call.state().set_effective(context) { OK } else { BAD_ARGUMENT })
        }
        fn proxy_call_foreign_function(call, name, name_size, _arguments, _arguments_size, _results, _results_size) {
            let known = call.read(name, name_size)? == b"clear_route_cache";
            Ok(if known { OK } else { NOT_FOUND })
        }
        fn proxy_define_metric(call, _kind, name, name_size, id) {
            let name = call.read(name, name_size)?;
            let defined = call.state().process.metrics.define(&name);
            call.write(id, &defined.to_le_bytes())
        }
        fn proxy_record_metric(call, id, wide) {
            let value = i64::try_from(wide).unwrap_or(i64::MAX);
            let known = call.state().process.metrics.change(id, |_| value);
            Ok(if known { OK } else { NOT_FOUND })
        }
        fn proxy_increment_metric(call, id, wide) {
            let known = call.state().process.metrics.change(id, |value| value.wrapping_add_unsigned(wide));
            Ok(if known { OK } else { NOT_FOUND })
        }
    }
    calls! { linker, "wasi_snapshot_preview1":
        fn random_get(call, data, size) {
            let mut bytes = vec![0; usize(size)];
            call.state().process.fill_random(&mut bytes);
            call.write(data, &bytes)
        }
        fn environ_sizes_get(call, count, size) {
            let variables = call.state().environment();
            let total = u32(variables.iter().map(Vec::len).sum());
            call.write(count, &u32(variables.len()).to_le_bytes())?;
            call.write(size, &total.to_le_bytes())
        }
        fn environ_get(call, pointers, data) {
            let mut place = data;
            for (index, variable) in call.state().environment().iter().enumerate() {
                call.write(pointers + 4 * u32(index), &place.to_le_bytes())?;
                call.write(place, variable)?;
                place += u32(variable.len());
            }
            Ok(OK)
        }
        fn fd_write(call, _file, parts, count, written) {
            let mut message = Vec::new();
            for part in 0..count {
                let (place, size) = (call.word(parts + 8 * part)?, call.word(parts + 8 * part + 4)?);
                message.extend(call.read(place, size)?);
            }
            call.state().process.write_log(2, &message);
            call.write(written, &u32(message.len()).to_le_bytes())
        }
    }
    linker.func_wrap("wasi_snapshot_preview1", "proc_exit", |_: u32| -> Result<(), Error> {
        Err(Error::new("the filter exits"))
    })?;
    Ok(())
}

/// A call of the filter that is being carried out.
struct Call<'a> {
    caller: Caller<'a, State>,
    garble: Option<Garble>,
}

impl Call<'_> {
    fn state(&mut self) -> &mut State {
        self.caller.data_mut()
    }

    /// `Some`: the status to return, without doing anything.
    fn fault(&mut self, name: &'static str) -> Result<Option<u32>, Error> {
        match self.state().fault(name) {
            None => Ok(None),
            Some(Fault::Status(status)) => Ok(Some(status)),
            Some(Fault::Trap) => Err(Error::new("a trap that the test asked for")),
            Some(Fault::Garble(garble)) => {
                self.garble = Some(garble);
                Ok(None)
            }
        }
    }

    fn headers(&mut self, kind: u32, change: impl FnOnce(&mut Fields)) -> u32 {
        let state = self.state();
        let side = headers_of(kind).and_then(|message| state.side(message));
        match side.and_then(|side| side.headers.as_mut()) {
            Some(headers) => {
                change(headers);
                OK
            }
            // They have gone on, or never came.
            None => BAD_ARGUMENT,
        }
    }

    fn read(&self, place: u32, size: u32) -> Result<Vec<u8>, Error> {
        let memory = self.caller.data().guest().memory.data(&self.caller);
        let bytes =
            usize(place).checked_add(usize(size)).and_then(|end| memory.get(usize(place)..end));
        bytes
            .map(<[u8]>::to_vec)
            .ok_or_else(|| Error::new("the filter reads outside of its memory"))
    }

    fn word(&self, place: u32) -> Result<u32, Error> {
        Ok(self.read(place, 4)?.try_into().map_or(0, u32::from_le_bytes))
    }

    fn write(&mut self, place: u32, bytes: &[u8]) -> Status {
        let memory = self.caller.data().guest().memory;
        memory.write(&mut self.caller, usize(place), bytes)?;
        Ok(OK)
    }

    /// Copies `bytes` into memory that the filter allocates for it.
    fn hand_over(&mut self, bytes: Vec<u8>, data: u32, size: u32) -> Status {
        let bytes = match self.garble.take() {
            Some(garble) => garble(bytes),
            None => bytes,
        };
        let mut place = 0;
        if !bytes.is_empty() {
            let allocate = self.caller.data().guest().allocate;
            place = allocate.call(&mut self.caller, u32(bytes.len()))?;
            self.write(place, &bytes)?;
        }
        self.write(data, &place.to_le_bytes())?;
        self.write(size, &u32(bytes.len()).to_le_bytes())
    }
}

fn headers_of(kind: u32) -> Option<Message> {
    match kind {
        0 => Some(Message::Request),
        2 => Some(Message::Response),
        _ => None,
    }
}

fn body_of(kind: u32) -> Option<Message> {
    match kind {
        0 => Some(Message::Request),
        1 => Some(Message::Response),
        _ => None,
    }
}

fn usize(number: u32) -> usize {
    usize::try_from(number).unwrap()
}

fn u32(number: usize) -> u32 {
    u32::try_from(number).unwrap()
}

/// The ABI's encoding of a header map: count, sizes, then each text followed by a zero byte.
fn encode(fields: &Fields) -> Vec<u8> {
    let mut out = u32(fields.len()).to_le_bytes().to_vec();
    for (name, value) in fields {
        out.extend(u32(name.len()).to_le_bytes());
        out.extend(u32(value.len()).to_le_bytes());
    }
    for text in fields.iter().flat_map(|(name, value)| [name, value]) {
        out.extend(text);
        out.push(0);
    }
    out
}

fn decode(bytes: &[u8]) -> Option<Fields> {
    let word = |at: usize| Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?));
    let count = usize(word(0)?);
    let mut at = 4 + 8 * count;
    let mut text = |size: u32| {
        let text = bytes.get(at..at + usize(size))?.to_vec();
        at += usize(size) + 1;
        Some(text)
    };
    (0..count).map(|n| Some((text(word(4 + 8 * n)?)?, text(word(8 + 8 * n)?)?))).collect()
}
