//! One instance of the module: what Envoy runs in one worker.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, OnceLock};

use wasmi::{Config, Engine, Error, Instance, Linker, Memory, Module, Store, TypedFunc};
use wasmi::{WasmParams, WasmResults};

use super::stream::{FilterState, Message, Side, Stream};
use super::{Fields, Process, calls};

pub struct Vm {
    store: Store<State>,
    instance: Instance,
    next_context: u32,
}

/// What a host call of the filter meets in place of what it asked for.
pub enum Fault {
    /// Nothing is done, and nothing handed over.
    Status(u32),
    /// The call does not return: to the host it looks like a panic of the filter.
    Trap,
    /// What is handed over becomes something else.
    Garble(Garble),
}

pub type Garble = Box<dyn FnOnce(Vec<u8>) -> Vec<u8>>;

/// Decides on a host call by its name and how many there were before.
pub type Faults = Box<dyn FnMut(&'static str, usize) -> Option<Fault>>;

/// The host's side of an instance.
pub(super) struct State {
    pub(super) process: Arc<Process>,
    roots: BTreeMap<u32, Root>,
    streams: BTreeMap<u32, Stream>,
    effective: u32,
    resumed: Vec<(u32, Message)>,
    faults: Option<Faults>,
    calls: usize,
    called: BTreeSet<&'static str>,
    guest: Option<Guest>,
}

struct Root {
    root_id: String,
    configuration: Vec<u8>,
    tick_period_ms: u32,
}

#[derive(Clone, Copy)]
pub(super) struct Guest {
    pub(super) memory: Memory,
    pub(super) allocate: TypedFunc<u32, u32>,
}

const CONTINUE: u32 = 0;

impl Vm {
    pub fn new(process: &Arc<Process>) -> Self {
        Self::of(module(false), process)
    }

    /// One that counts what it executes ([`Self::fuel`]).
    pub fn metered(process: &Arc<Process>) -> Self {
        Self::of(module(true), process)
    }

    fn of((engine, module): &(Engine, Module), process: &Arc<Process>) -> Self {
        let state = State {
            process: Arc::clone(process),
            roots: BTreeMap::new(),
            streams: BTreeMap::new(),
            effective: 0,
            resumed: Vec::new(),
            faults: None,
            calls: 0,
            called: BTreeSet::new(),
            guest: None,
        };
        let mut store = Store::new(engine, state);
        // Refused by an engine that does not meter.
        let _ = store.set_fuel(u64::MAX);
        let mut linker = Linker::new(engine);
        calls::define(&mut linker, &mut store, module).unwrap();
        let instance = linker.instantiate_and_start(&mut store, module).unwrap();
        let allocate = instance.get_typed_func(&store, "proxy_on_memory_allocate").unwrap();
        let memory = instance.get_memory(&store, "memory").unwrap();
        store.data_mut().guest = Some(Guest { memory, allocate });
        let mut vm = Self { store, instance, next_context: 0 };
        vm.call::<(), ()>(0, "_initialize", ()).unwrap();
        vm
    }

    /// Starts a plugin; its context, and whether it took the configuration.
    pub fn start(&mut self, root_id: &str, configuration: &[u8]) -> Result<(u32, bool), Error> {
        let context = self.new_context();
        let root = Root {
            root_id: root_id.to_owned(),
            configuration: configuration.to_vec(),
            tick_period_ms: 0,
        };
        self.store.data_mut().roots.insert(context, root);
        self.call::<_, ()>(context, "proxy_on_context_create", (context, 0))?;
        let started: u32 = self.call(context, "proxy_on_vm_start", (context, 0))?;
        let size = u32::try_from(configuration.len()).unwrap();
        let taken: u32 = self.call(context, "proxy_on_configure", (context, size))?;
        Ok((context, started != 0 && taken != 0))
    }

    /// Opens a stream of the plugin with context `root`.
    pub fn open(&mut self, root: u32, filter_state: &FilterState) -> Result<u32, Error> {
        let context = self.new_context();
        let stream = Stream { root, filter_state: Arc::clone(filter_state), ..Stream::default() };
        self.store.data_mut().streams.insert(context, stream);
        self.call::<_, ()>(context, "proxy_on_context_create", (context, root))?;
        Ok(context)
    }

    pub fn headers(
        &mut self,
        context: u32,
        message: Message,
        headers: Fields,
        end_of_stream: bool,
    ) -> Result<(), Error> {
        let count = u32::try_from(headers.len()).unwrap();
        self.stream(context).side(message).headers_come(headers, end_of_stream);
        let name = match message {
            Message::Request => "proxy_on_request_headers",
            Message::Response => "proxy_on_response_headers",
        };
        let action = self.call(context, name, (context, count, u32::from(end_of_stream)))?;
        self.act(context, message, action, false);
        Ok(())
    }

    pub fn body(
        &mut self,
        context: u32,
        message: Message,
        chunk: &[u8],
        end_of_stream: bool,
    ) -> Result<(), Error> {
        let size = self.stream(context).side(message).body_comes(chunk, end_of_stream);
        let name = match message {
            Message::Request => "proxy_on_request_body",
            Message::Response => "proxy_on_response_body",
        };
        let size = u32::try_from(size).unwrap();
        let action = self.call(context, name, (context, size, u32::from(end_of_stream)))?;
        self.act(context, message, action, true);
        Ok(())
    }

    pub fn trailers(&mut self, context: u32, message: Message) -> Result<(), Error> {
        self.stream(context).side(message).trailers_come();
        let name = match message {
            Message::Request => "proxy_on_request_trailers",
            Message::Response => "proxy_on_response_trailers",
        };
        let action = self.call(context, name, (context, 1_u32))?;
        self.act(context, message, action, false);
        Ok(())
    }

    /// Ends a stream as Envoy does; upstream filters get no `on_log`.
    pub fn close(&mut self, context: u32, upstream: bool) -> Result<(), Error> {
        self.call::<_, u32>(context, "proxy_on_done", context)?;
        if !upstream {
            self.call::<_, ()>(context, "proxy_on_log", context)?;
        }
        self.delete(context)
    }

    pub fn delete(&mut self, context: u32) -> Result<(), Error> {
        self.call::<_, ()>(context, "proxy_on_delete", context)?;
        self.store.data_mut().streams.remove(&context);
        Ok(())
    }

    pub fn tick(&mut self, root: u32) -> Result<(), Error> {
        self.call(root, "proxy_on_tick", root)
    }

    /// Calls any export, whatever the state of the stream is.
    pub fn call<P: WasmParams, R: WasmResults>(
        &mut self,
        context: u32,
        export: &str,
        parameters: P,
    ) -> Result<R, Error> {
        self.store.data_mut().effective = context;
        let function: TypedFunc<P, R> = self.instance.get_typed_func(&self.store, export).unwrap();
        let result = function.call(&mut self.store, parameters);
        let resumed = core::mem::take(&mut self.store.data_mut().resumed);
        for (context, message) in resumed {
            if let Some(stream) = self.store.data_mut().streams.get_mut(&context) {
                stream.side(message).go_on();
            }
        }
        result
    }

    pub fn stream(&mut self, context: u32) -> &mut Stream {
        self.store.data_mut().streams.get_mut(&context).unwrap()
    }

    pub fn process(&self) -> &Process {
        &self.store.data().process
    }

    pub fn tick_period_ms(&self, root: u32) -> u32 {
        self.store.data().roots.get(&root).unwrap().tick_period_ms
    }

    /// Linear memory in bytes; it never shrinks.
    pub fn memory_size(&self) -> usize {
        self.store.data().guest().memory.data_size(&self.store)
    }

    /// What was executed so far by a metered instance: about an instruction each, more for those on many bytes. The
    /// same work is the same number.
    pub fn fuel(&self) -> u64 {
        u64::MAX - self.store.get_fuel().unwrap()
    }

    /// From now on.
    pub fn set_faults(&mut self, faults: Faults) {
        let state = self.store.data_mut();
        (state.faults, state.calls) = (Some(faults), 0);
    }

    pub fn clear_faults(&mut self) {
        self.store.data_mut().faults = None;
    }

    /// How many host calls there were since faults were set, and the names of all ever made.
    pub fn calls(&self) -> (usize, BTreeSet<&'static str>) {
        let state = self.store.data();
        (state.calls, state.called.clone())
    }

    fn new_context(&mut self) -> u32 {
        self.next_context += 1;
        self.next_context
    }

    fn act(&mut self, context: u32, message: Message, action: u32, body: bool) {
        let stream = self.stream(context);
        if stream.reply.is_some() && message == Message::Request {
            return;
        }
        if action == CONTINUE {
            stream.side(message).go_on();
        } else if body {
            stream.side(message).hold_body();
        }
    }
}

impl State {
    pub(super) fn guest(&self) -> &Guest {
        self.guest.as_ref().unwrap()
    }

    pub(super) fn fault(&mut self, name: &'static str) -> Option<Fault> {
        let before = self.calls;
        self.calls += 1;
        self.called.insert(name);
        self.faults.as_mut()?(name, before)
    }

    pub(super) fn stream(&mut self) -> Option<&mut Stream> {
        self.streams.get_mut(&self.effective)
    }

    pub(super) fn side(&mut self, message: Message) -> Option<&mut Side> {
        self.stream().map(|stream| stream.side(message))
    }

    pub(super) fn buffer(&mut self, kind: u32) -> Option<&[u8]> {
        const PLUGIN_CONFIGURATION: u32 = 7;
        match kind {
            0 => self.side(Message::Request).map(|side| side.body.as_slice()),
            1 => self.side(Message::Response).map(|side| side.body.as_slice()),
            PLUGIN_CONFIGURATION => self.root().map(|root| root.configuration.as_slice()),
            _ => None,
        }
    }

    pub(super) fn property(&mut self, path: &[u8]) -> Option<Vec<u8>> {
        if path == b"plugin_root_id" {
            return self.root().map(|root| root.root_id.clone().into_bytes());
        }
        let stream = self.stream()?;
        match path.strip_prefix(b"filter_state\0") {
            Some(name) => stream.filter_state.lock().unwrap().get(name).cloned(),
            None => stream.properties.get(path).cloned(),
        }
    }

    pub(super) fn set_tick_period(&mut self, milliseconds: u32) {
        if let Some(root) = self.root() {
            root.tick_period_ms = milliseconds;
        }
    }

    pub(super) fn set_effective(&mut self, context: u32) -> bool {
        let known = self.roots.contains_key(&context) || self.streams.contains_key(&context);
        if known {
            self.effective = context;
        }
        known
    }

    /// Takes effect after the call of the filter, as in Envoy.
    pub(super) fn resume(&mut self, message: Message) {
        self.resumed.push((self.effective, message));
    }

    /// `NAME=value` and a zero byte each.
    pub(super) fn environment(&self) -> Vec<Vec<u8>> {
        let variables = self.process.environment.iter();
        variables.map(|(name, value)| format!("{name}={value}\0").into_bytes()).collect()
    }

    /// Of the effective context, be it a root's or a stream's.
    fn root(&mut self) -> Option<&mut Root> {
        let of_stream = self.streams.get(&self.effective).map(|stream| stream.root);
        self.roots.get_mut(&of_stream.unwrap_or(self.effective))
    }
}

/// The built filter; compiled once, and once more for those who count.
fn module(metered: bool) -> &'static (Engine, Module) {
    static MODULES: [OnceLock<(Engine, Module)>; 2] = [const { OnceLock::new() }; 2];
    MODULES[usize::from(metered)].get_or_init(|| {
        let built =
            concat!(env!("CARGO_MANIFEST_DIR"), "/target/wasm32-wasip1/release/keyward.wasm");
        let path = std::env::var("KEYWARD_WASM").unwrap_or_else(|_| built.to_owned());
        let bytes = std::fs::read(&path)
            .unwrap_or_else(|error| panic!("{path}: {error}: run `make build` first"));
        let engine = Engine::new(Config::default().consume_fuel(metered));
        let module = Module::new(&engine, bytes).unwrap();
        (engine, module)
    })
}
