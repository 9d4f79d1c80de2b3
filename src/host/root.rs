//! One plugin in one VM: its configuration, its gauges, the requests that wait for their time.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use proxy_wasm::traits::{Context, HttpContext, RootContext};
use proxy_wasm::types::ContextType;

use super::abi::{self, HostSharedData};
use super::http::{Http, Stage};
use super::telemetry::Metrics;
use crate::effect::Cx;
use crate::limit::account::Leases;
use crate::plan::ProcessKey;
use crate::random::Random;
use crate::runtime::Runtime;
use crate::time::UnixTime;

/// What every request of a plugin shares.
pub(super) struct Plugin {
    runtime: Runtime,
    process_key: Option<ProcessKey>,
    pub(super) metrics: Metrics,
    /// Seeds for callbacks: the host is asked once, because that costs more than most callbacks.
    seeds: RefCell<Random>,
    waiting: RefCell<Vec<Waiting>>,
}

struct Waiting {
    context: u32,
    until: UnixTime,
    /// Shared with the request: still waiting.
    flag: Rc<Cell<bool>>,
}

/// Between two looks at the gauges.
const GAUGE_PERIOD_MS: u32 = 5_000;
/// While requests wait for their time.
const WAIT_PERIOD_MS: u32 = 50;

impl Plugin {
    pub(super) fn cx(&self) -> Cx<'_> {
        let seed = self.seeds.borrow_mut().next_u64();
        let key = self.process_key.as_ref();
        let mut cx = Cx::new(&self.runtime, &HostSharedData, key, abi::now(), seed);
        cx.holder = HOLDER.get();
        cx.entropy = || {
            let mut drawn = [0; 16];
            getrandom::fill(&mut drawn).ok().map(|()| drawn)
        };
        cx
    }

    pub(super) fn hold(&self, slot: String) {
        LEASES.with_borrow_mut(|leases| leases.hold(slot));
    }

    pub(super) fn release(&self, slot: &str) {
        LEASES.with_borrow_mut(|leases| leases.release(slot));
    }

    /// Resumes the request of `context` at that time. The flag is cleared then.
    pub(super) fn wait(&self, context: u32, until: UnixTime, flag: Rc<Cell<bool>>) {
        self.waiting.borrow_mut().push(Waiting { context, until, flag });
        abi::set_tick_period(WAIT_PERIOD_MS);
    }

    fn resume_due(&self, root: u32) {
        let now = abi::now();
        let mut due = Vec::new();
        self.waiting.borrow_mut().retain(|waiting| {
            let over = waiting.until <= now || !waiting.flag.get();
            if over && waiting.flag.replace(false) {
                due.push(waiting.context);
            }
            !over
        });
        for context in due {
            if abi::set_effective_context(context) {
                abi::resume_request();
            }
        }
        abi::set_effective_context(root);
        if self.waiting.borrow().is_empty() {
            abi::set_tick_period(GAUGE_PERIOD_MS);
        }
    }
}

// Of the VM, not of a plugin: a reload of the configuration makes another plugin in the same VM, while requests of
// the former are still under way.
thread_local! {
    /// Names the VM in shared data.
    static HOLDER: Cell<u64> = const { Cell::new(0) };
    static LEASES: RefCell<Leases> = RefCell::default();
}

pub(super) struct Root {
    context_id: u32,
    stage: Stage,
    plugin: Option<Rc<Plugin>>,
}

impl Root {
    pub(super) fn new(context_id: u32) -> Self {
        Self { context_id, stage: Stage::Standalone, plugin: None }
    }

    fn configure(&mut self) -> Result<(), String> {
        // Not known is not the same as empty: a gateway must not come up as something else.
        let root_id = abi::property(&["plugin_root_id"])
            .ok_or_else(|| "root_id: the host does not tell it".to_owned())?;
        self.stage = match root_id.as_slice() {
            b"gateway" => Stage::Gateway,
            b"attempt" => Stage::Attempt,
            b"standalone" | b"" => Stage::Standalone,
            other => {
                let other = String::from_utf8_lossy(other);
                return Err(format!(
                    "root_id: \"{other}\" is not a stage; known: gateway, attempt, standalone"
                ));
            }
        };
        let document = abi::plugin_configuration();
        let mut runtime = crate::runtime::load(&document, &|name| std::env::var(name).ok())
            .map_err(|error| error.to_string())?;
        drop(document);
        match self.stage {
            Stage::Gateway => {}
            Stage::Attempt => runtime.keep_for_attempts(),
            Stage::Standalone => crate::standalone::check(&runtime)?,
        }
        for warning in &runtime.warnings {
            abi::log(log::Level::Warn, &format!("keyward: {warning}"));
        }
        let mut drawn = [0; 32];
        let process_key = match getrandom::fill(&mut drawn) {
            Ok(()) => ProcessKey::obtain(&HostSharedData, drawn),
            Err(_) => None,
        };
        if process_key.is_none() {
            let message =
                "keyward: no randomness from the host: requests cannot move between providers";
            abi::log(log::Level::Error, message);
        }
        let mut seed = [0; 8];
        // Without randomness there is no jitter, and the VMs share what they hold: a lease then lasts too long or not
        // long enough, where several workers serve the same consumer.
        let _ = getrandom::fill(&mut seed);
        let mut seeds = Random::new(u64::from_le_bytes(seed));
        if HOLDER.get() == 0 {
            HOLDER.set(seeds.next_u64());
        }
        self.plugin = Some(Rc::new(Plugin {
            runtime,
            process_key,
            metrics: Metrics::default(),
            seeds: RefCell::new(seeds),
            waiting: RefCell::default(),
        }));
        abi::set_tick_period(GAUGE_PERIOD_MS);
        Ok(())
    }
}

impl Context for Root {}

impl RootContext for Root {
    fn on_configure(&mut self, _size: usize) -> bool {
        match self.configure() {
            Ok(()) => true,
            Err(error) => {
                abi::log(log::Level::Error, &format!("keyward: configuration refused:\n{error}"));
                false
            }
        }
    }

    fn on_tick(&mut self) {
        let Some(plugin) = &self.plugin else { return };
        plugin.resume_due(self.context_id);
        LEASES.with_borrow_mut(|leases| leases.renew(&HostSharedData, HOLDER.get(), abi::now()));
        if self.stage != Stage::Attempt {
            plugin.metrics.gauge_keys(&plugin.cx());
        }
    }

    fn create_http_context(&self, context_id: u32) -> Option<Box<dyn HttpContext>> {
        Some(Box::new(Http::new(context_id, self.stage, self.plugin.clone())))
    }

    fn get_type(&self) -> Option<ContextType> {
        Some(ContextType::HttpContext)
    }
}
