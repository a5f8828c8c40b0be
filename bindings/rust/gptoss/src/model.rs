use crate::error::{check, get, Result};
use crate::tokenizer::{c_path, c_string, Tokenizer};
use gptoss_sys as sys;
use std::any::Any;
use std::ffi::{CStr, CString};
use std::mem::{size_of, zeroed};
use std::ops::ControlFlow;
use std::os::raw::{c_char, c_int, c_void};
use std::panic::{catch_unwind, resume_unwind, AssertUnwindSafe};
use std::path::{Path, PathBuf};
use std::ptr;
use std::sync::Arc;

/// An enum of gptoss.h, its values in order from 0.
macro_rules! values {
    ($(#[$meta:meta])* $name:ident { $($value:ident),* }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum $name { $($value),* }

        impl $name {
            fn from_c(value: u32) -> $name {
                *[$($name::$value),*].get(value as usize).unwrap_or(&[$($name::$value),*][0])
            }
        }
    };
}

values!(DeviceType { Other, IntegratedGpu, DiscreteGpu, VirtualGpu, Cpu });
values!(
    /// Which kernels run the matrix products.
    KernelTier { Default, Exact, Coopmat, Integer }
);
values!(
    /// How the dense weights are held in device memory; the default is as in the file.
    WeightType { Default, Bf16, Q8 }
);
values!(
    /// The type of cached keys and values; the default is F16.
    KvType { Default, F16, F32 }
);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogLevel {
    Error,
    Warning,
    Info,
}

#[derive(Clone, Debug)]
pub struct DeviceInfo {
    pub name: String,
    pub driver: String,
    pub device_type: DeviceType,
    pub tier: KernelTier,
    pub memory_size: u64,
    pub memory_available: u64,
    pub supported: bool,
    pub subgroup_size: u32,
    pub max_allocation_size: u64,
    /// As 8-4-4-4-12 hexadecimal digits; [`ModelOptions`]' device takes it.
    pub uuid: String,
}

/// The Vulkan devices of this machine; none without Vulkan.
pub fn devices() -> Result<Vec<DeviceInfo>> {
    let count = get(|count| unsafe { sys::gptoss_device_count(count) })?;
    (0..count)
        .map(|index| {
            let mut info: sys::gptoss_device_info = unsafe { zeroed() };
            info.struct_size = size_of::<sys::gptoss_device_info>();
            check(unsafe { sys::gptoss_device_get_info(index, &mut info) })?;
            let text = |field: &[c_char]| unsafe { CStr::from_ptr(field.as_ptr()) }.to_string_lossy().into_owned();
            Ok(DeviceInfo {
                name: text(&info.name),
                driver: text(&info.driver),
                device_type: DeviceType::from_c(info.r#type),
                tier: KernelTier::from_c(info.tier),
                memory_size: info.memory_size,
                memory_available: info.memory_available,
                supported: info.supported != 0,
                subgroup_size: info.subgroup_size,
                max_allocation_size: info.max_allocation_size,
                uuid: text(&info.uuid),
            })
        })
        .collect()
}

/// How fast a device copies its own memory, in bytes read and written a second; takes about a second.
pub fn measure_bandwidth(device: u32) -> Result<f64> {
    get(|bytes_per_second| unsafe { sys::gptoss_device_measure_bandwidth(device, bytes_per_second) })
}

#[derive(Clone, Debug)]
pub struct ModelInfo {
    pub num_layers: u32,
    pub hidden_size: u32,
    pub intermediate_size: u32,
    pub num_heads: u32,
    pub num_kv_heads: u32,
    pub head_size: u32,
    pub num_experts: u32,
    pub num_active_experts: u32,
    pub vocabulary_size: u32,
    pub sliding_window: u32,
    pub max_context_length: u64,
    pub weights: WeightType,
    pub kv: KvType,
    pub tier: KernelTier,
    pub device: u32,
    pub weight_bytes: u64,
    pub bytes_per_token: u64,
    pub host_weight_bytes: u64,
    pub num_device_experts: u32,
    pub expert_hits: u64,
    pub expert_misses: u64,
    pub num_variants_left_out: u32,
}

/// What a model and one context of it would take, bytes.
#[derive(Clone, Debug)]
pub struct MemoryEstimate {
    pub weight_bytes: u64,
    pub host_weight_bytes: u64,
    pub cache_bytes: u64,
    pub activation_bytes: u64,
    pub staging_bytes: u64,
    pub available_bytes: u64,
    pub fits: bool,
    pub prefix_cache_bytes: u64,
    pub adapter_bytes: u64,
}

type Progress<'a> = dyn FnMut(u64, u64) -> ControlFlow<()> + 'a;
type Log = dyn Fn(LogLevel, &str) + Send + Sync;

/// How to load a model: `ModelOptions::new().device("RTX").open("gpt-oss-20b")`.
#[derive(Default)]
pub struct ModelOptions<'a> {
    device: Option<String>,
    weights: Option<WeightType>,
    kv: Option<KvType>,
    tier: Option<KernelTier>,
    memory_budget: u64,
    context_length: u64,
    progress: Option<Box<Progress<'a>>>,
    log: Option<Box<Log>>,
    cache_directory: Option<PathBuf>,
    warm_up: bool,
    prefix_cache_bytes: u64,
    adapters: Vec<PathBuf>,
}

impl<'a> ModelOptions<'a> {
    pub fn new() -> ModelOptions<'a> {
        ModelOptions::default()
    }
    /// An index ("0") or a part of a name ("RTX").
    pub fn device(mut self, device: impl Into<String>) -> Self {
        self.device = Some(device.into());
        self
    }
    pub fn weights(mut self, weights: WeightType) -> Self {
        self.weights = Some(weights);
        self
    }
    pub fn kv(mut self, kv: KvType) -> Self {
        self.kv = Some(kv);
        self
    }
    pub fn tier(mut self, tier: KernelTier) -> Self {
        self.tier = Some(tier);
        self
    }
    /// Device memory that the model and its contexts may take, bytes.
    pub fn memory_budget(mut self, bytes: u64) -> Self {
        self.memory_budget = bytes;
        self
    }
    /// Where experts must be left in host memory, device memory is kept free of them for a context so long, tokens.
    pub fn context_length(mut self, tokens: u64) -> Self {
        self.context_length = tokens;
        self
    }
    /// Called with the bytes done and in all; `Break` cancels the load.
    pub fn progress(mut self, progress: impl FnMut(u64, u64) -> ControlFlow<()> + 'a) -> Self {
        self.progress = Some(Box::new(progress));
        self
    }
    /// Called from any thread that uses the model.
    pub fn log(mut self, log: impl Fn(LogLevel, &str) + Send + Sync + 'static) -> Self {
        self.log = Some(Box::new(log));
        self
    }
    /// Where compiled kernels and the result of the self-test are kept between runs; empty for nowhere.
    pub fn cache_directory(mut self, path: impl Into<PathBuf>) -> Self {
        self.cache_directory = Some(path.into());
        self
    }

    /// Builds the kernels of a first answer while the model is opened, which else the first answer waits for.
    pub fn warm_up(mut self, warm_up: bool) -> Self {
        self.warm_up = warm_up;
        self
    }

    /// The most device memory that beginnings of prompts are kept in for later ones, bytes; 1 for none.
    pub fn prefix_cache_bytes(mut self, bytes: u64) -> Self {
        self.prefix_cache_bytes = bytes;
        self
    }

    /// There will be room for an adapter of that path, which [`Adapter::open`](crate::Adapter::open) loads.
    pub fn adapter(mut self, path: impl Into<PathBuf>) -> Self {
        self.adapters.push(path.into());
        self
    }

    /// The options without callbacks and paths; `device` is their device's name.
    fn to_c(&self, device: &Option<CString>) -> sys::gptoss_model_options {
        sys::gptoss_model_options {
            struct_size: size_of::<sys::gptoss_model_options>(),
            device: device.as_ref().map_or(ptr::null(), |device| device.as_ptr()),
            weights: self.weights.map_or(0, |value| value as u32),
            kv: self.kv.map_or(0, |value| value as u32),
            tier: self.tier.map_or(0, |value| value as u32),
            memory_budget: self.memory_budget,
            progress: None,
            progress_user_data: ptr::null_mut(),
            log: None,
            log_user_data: ptr::null_mut(),
            context_length: self.context_length,
            cache_directory: ptr::null(),
            warm_up: self.warm_up.into(),
            prefix_cache_bytes: self.prefix_cache_bytes,
            adapters: ptr::null(),
            num_adapters: 0,
        }
    }

    /// What the model and a context of it would take; 0 for the defaults of `Context`. Loads nothing.
    pub fn estimate_memory(
        &self,
        path: impl AsRef<Path>,
        context_length: usize,
        max_batch_tokens: usize,
    ) -> Result<MemoryEstimate> {
        let path = c_path(path.as_ref())?;
        let device = self.device.as_deref().map(c_string).transpose()?;
        let adapters = Paths::new(&self.adapters)?;
        let options = sys::gptoss_model_options {
            adapters: adapters.pointers.as_ptr(),
            num_adapters: adapters.pointers.len(),
            ..self.to_c(&device)
        };
        let mut e: sys::gptoss_memory_estimate = unsafe { zeroed() };
        e.struct_size = size_of::<sys::gptoss_memory_estimate>();
        check(unsafe {
            sys::gptoss_model_estimate_memory(path.as_ptr(), &options, context_length, max_batch_tokens, &mut e)
        })?;
        Ok(MemoryEstimate {
            weight_bytes: e.weight_bytes,
            host_weight_bytes: e.host_weight_bytes,
            cache_bytes: e.cache_bytes,
            activation_bytes: e.activation_bytes,
            staging_bytes: e.staging_bytes,
            available_bytes: e.available_bytes,
            fits: e.fits != 0,
            prefix_cache_bytes: e.prefix_cache_bytes,
            adapter_bytes: e.adapter_bytes,
        })
    }

    pub fn open(self, path: impl AsRef<Path>) -> Result<Model> {
        let path = c_path(path.as_ref())?;
        let device = self.device.as_deref().map(c_string).transpose()?;
        let cache = self.cache_directory.as_deref().map(c_path).transpose()?;
        let adapters = Paths::new(&self.adapters)?;
        let options = self.to_c(&device);
        let mut progress = ProgressState { call: self.progress, panic: None };
        let log = self.log.map(Arc::new);
        let options = sys::gptoss_model_options {
            progress: progress.call.as_ref().map(|_| on_progress as _),
            progress_user_data: (&mut progress as *mut ProgressState).cast(),
            log: log.as_ref().map(|_| on_log as _),
            // The Box within the Arc: it stays where it is.
            log_user_data: log.as_ref().map_or(ptr::null_mut(), |log| Arc::as_ptr(log) as *mut c_void),
            cache_directory: cache.as_ref().map_or(ptr::null(), |cache| cache.as_ptr()),
            adapters: adapters.pointers.as_ptr(),
            num_adapters: adapters.pointers.len(),
            ..options
        };
        let mut handle = ptr::null_mut();
        let status = unsafe { sys::gptoss_model_create(path.as_ptr(), &options, &mut handle) };
        if let Some(panic) = progress.panic {
            resume_unwind(panic);
        }
        check(status)?;
        Ok(Model { handle, log })
    }
}

/// Paths as C takes them.
struct Paths {
    _owned: Vec<CString>,
    pointers: Vec<*const c_char>,
}

impl Paths {
    fn new(paths: &[PathBuf]) -> Result<Paths> {
        let owned = paths.iter().map(|path| c_path(path)).collect::<Result<Vec<_>>>()?;
        let pointers = owned.iter().map(|path| path.as_ptr()).collect();
        Ok(Paths { _owned: owned, pointers })
    }
}

/// Which states an embedding is made of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Pooling {
    /// The last token's, which has seen all others.
    #[default]
    Last = sys::gptoss_pooling_last as isize,
    Mean = sys::gptoss_pooling_mean as isize,
}

struct ProgressState<'a> {
    call: Option<Box<Progress<'a>>>,
    panic: Option<Box<dyn Any + Send>>,
}

unsafe extern "C" fn on_progress(state: *mut c_void, done: u64, total: u64) -> c_int {
    let state = &mut *state.cast::<ProgressState>();
    let call = &mut state.call;
    match catch_unwind(AssertUnwindSafe(|| call.as_mut().map(|call| call(done, total)))) {
        Ok(Some(ControlFlow::Break(()))) => 1,
        Ok(_) => 0,
        Err(panic) => {
            state.panic = Some(panic); // goes on once the call of the library has returned
            1
        }
    }
}

unsafe extern "C" fn on_log(log: *mut c_void, level: sys::gptoss_log_level, message: *const c_char) {
    let log = &*log.cast::<Box<Log>>();
    let level = match level {
        sys::gptoss_log_level_error => LogLevel::Error,
        sys::gptoss_log_level_warning => LogLevel::Warning,
        _ => LogLevel::Info,
    };
    // A panic must not cross the C code; there is nobody to report one of a log callback to.
    let _ = catch_unwind(AssertUnwindSafe(|| log(level, &CStr::from_ptr(message).to_string_lossy())));
}

/// A loaded checkpoint. A clone is another reference to the same.
pub struct Model {
    handle: sys::gptoss_model_t,
    log: Option<Arc<Box<Log>>>,
}

// The library allows a model to be used from any number of threads at once, and Log is Send and Sync.
unsafe impl Send for Model {}
unsafe impl Sync for Model {}

impl Model {
    /// `path`: a Hugging Face directory, OpenAI's original/ directory, or a .gguf file.
    pub fn open(path: impl AsRef<Path>) -> Result<Model> {
        ModelOptions::new().open(path)
    }

    pub(crate) fn handle(&self) -> sys::gptoss_model_t {
        self.handle
    }

    pub fn info(&self) -> Result<ModelInfo> {
        let mut info: sys::gptoss_model_info = unsafe { zeroed() };
        info.struct_size = size_of::<sys::gptoss_model_info>();
        check(unsafe { sys::gptoss_model_get_info(self.handle, &mut info) })?;
        Ok(ModelInfo {
            num_layers: info.num_layers,
            hidden_size: info.hidden_size,
            intermediate_size: info.intermediate_size,
            num_heads: info.num_heads,
            num_kv_heads: info.num_kv_heads,
            head_size: info.head_size,
            num_experts: info.num_experts,
            num_active_experts: info.num_active_experts,
            vocabulary_size: info.vocabulary_size,
            sliding_window: info.sliding_window,
            max_context_length: info.max_context_length,
            weights: WeightType::from_c(info.weights),
            kv: KvType::from_c(info.kv),
            tier: KernelTier::from_c(info.tier),
            device: info.device,
            weight_bytes: info.weight_bytes,
            bytes_per_token: info.bytes_per_token,
            host_weight_bytes: info.host_weight_bytes,
            num_device_experts: info.num_device_experts,
            expert_hits: info.expert_hits,
            expert_misses: info.expert_misses,
            num_variants_left_out: info.num_variants_left_out,
        })
    }

    pub fn tokenizer(&self) -> Result<Tokenizer> {
        let mut tokenizer = ptr::null_mut();
        check(unsafe { sys::gptoss_model_get_tokenizer(self.handle, &mut tokenizer) })?;
        Ok(Tokenizer::from_handle(tokenizer))
    }

    /// A vector for each text, of its tokens; `normalize` scales them to length 1. gptoss.h says what they are good for.
    pub fn embed(&self, texts: &[&[u32]], pooling: Pooling, normalize: bool) -> Result<Vec<Vec<f32>>> {
        let tokens = texts.concat();
        let sizes: Vec<usize> = texts.iter().map(|text| text.len()).collect();
        let hidden = self.info()?.hidden_size as usize;
        let mut vectors = vec![0.0; texts.len() * hidden];
        let options = sys::gptoss_embedding_options {
            struct_size: size_of::<sys::gptoss_embedding_options>(),
            pooling: pooling as sys::gptoss_pooling,
            unnormalized: (!normalize).into(),
        };
        check(unsafe {
            let out = vectors.as_mut_ptr();
            sys::gptoss_model_embed(self.handle, texts.len(), tokens.as_ptr(), sizes.as_ptr(), &options, out)
        })?;
        Ok(vectors.chunks(hidden).map(|vector| vector.to_vec()).collect())
    }

    /// The logits of residual states, each of hidden_size values, as `TapKind::Hidden` tells them after a layer.
    pub fn unembed(&self, states: &[&[f32]]) -> Result<Vec<Vec<f32>>> {
        let info = self.info()?;
        let (hidden, vocabulary) = (info.hidden_size as usize, info.vocabulary_size as usize);
        assert!(states.iter().all(|state| state.len() == hidden), "a state has {hidden} values");
        let mut logits = vec![0.0; states.len() * vocabulary];
        let all = states.concat();
        check(unsafe { sys::gptoss_model_unembed(self.handle, states.len(), all.as_ptr(), logits.as_mut_ptr()) })?;
        Ok(logits.chunks(vocabulary).map(|row| row.to_vec()).collect())
    }

    pub fn max_context_length(&self) -> Result<usize> {
        get(|n| unsafe { sys::gptoss_model_get_max_context_length(self.handle, n) })
    }
}

impl Clone for Model {
    fn clone(&self) -> Model {
        unsafe { sys::gptoss_model_retain(self.handle) };
        Model { handle: self.handle, log: self.log.clone() }
    }
}

impl Drop for Model {
    fn drop(&mut self) {
        unsafe { sys::gptoss_model_release(self.handle) };
    }
}
