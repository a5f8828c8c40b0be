use crate::adapter::Adapter;
use crate::error::{check, get, Result};
use crate::generation::{self, GenerateOptions, Generated, Generation, Output, Run};
use crate::model::Model;
use crate::sampler::{Sampler, SamplerHandle};
use crate::taps::OnTap;
use gptoss_sys as sys;
use std::cell::RefCell;
use std::ffi::CStr;
use std::mem::{size_of, zeroed};
use std::ops::ControlFlow;
use std::ptr;
use std::sync::atomic::{AtomicPtr, Ordering};
use std::sync::Arc;

/// The reference to a context, with the model that it belongs to.
pub(crate) struct Inner {
    pub(crate) handle: sys::gptoss_context_t,
    pub(crate) model: Model, // its log callback lives as long as this
    tap: AtomicPtr<OnTap>,
}

impl Inner {
    fn new(handle: sys::gptoss_context_t, model: Model) -> Inner {
        Inner { handle, model, tap: AtomicPtr::new(ptr::null_mut()) }
    }

    /// Once the library calls the other one.
    pub(crate) fn replace_tap(&self, tap: *mut OnTap) {
        let old = self.tap.swap(tap, Ordering::AcqRel);
        if !old.is_null() {
            drop(unsafe { Box::from_raw(old) });
        }
    }
}

// Only gptoss_context_cancel and _clear_cancel are called from more than one thread, which the library allows.
unsafe impl Send for Inner {}
unsafe impl Sync for Inner {}

impl Drop for Inner {
    fn drop(&mut self) {
        unsafe { sys::gptoss_context_release(self.handle) };
        self.replace_tap(ptr::null_mut());
    }
}

/// What a context holds, and what a token costs it: gptoss.h says more.
#[derive(Clone, Copy, Debug)]
pub struct ContextStats {
    pub cache_bytes: u64,
    pub activation_bytes: u64,
    pub cache_bytes_per_token: u64,
    pub step_dispatches: u32,
    pub step_barriers: u32,
    pub prompt_tokens_computed: u64,
    pub decode_steps: u64,
}

/// What all dispatches of a kernel took together.
#[derive(Clone, Debug)]
pub struct KernelTime {
    pub name: String,
    pub microseconds: f64,
    pub dispatches: u32,
}

/// One timeline of tokens over a model.
pub struct Context {
    inner: Arc<Inner>,
    // A generation that was forgotten (mem::forget) goes on in its thread: it is stopped before the context is used.
    pub(crate) run: RefCell<Option<Run>>,
}

impl Context {
    /// Holds as many tokens as the model supports.
    pub fn new(model: &Model) -> Result<Context> {
        Context::with_limits(model, 0, 0)
    }

    /// `context_length`: the most tokens it can hold; 0 for the model's maximum. `max_batch_tokens`: the most tokens of
    /// a prompt that are computed at once; 0 for the default.
    pub fn with_limits(model: &Model, context_length: usize, max_batch_tokens: usize) -> Result<Context> {
        let mut handle = ptr::null_mut();
        check(unsafe { sys::gptoss_context_create(model.handle(), context_length, max_batch_tokens, &mut handle) })?;
        Ok(Context { inner: Arc::new(Inner::new(handle, model.clone())), run: RefCell::new(None) })
    }

    /// The handle, while no generation runs on it.
    pub(crate) fn idle(&self) -> sys::gptoss_context_t {
        if let Some(run) = self.run.borrow_mut().take() {
            run.stop();
        }
        self.inner.handle
    }

    pub(crate) fn inner(&self) -> &Arc<Inner> {
        &self.inner
    }

    pub fn num_tokens(&self) -> Result<usize> {
        get(|n| unsafe { sys::gptoss_context_get_num_tokens(self.idle(), n) })
    }

    pub fn max_tokens(&self) -> Result<usize> {
        get(|n| unsafe { sys::gptoss_context_get_max_tokens(self.idle(), n) })
    }

    pub fn tokens(&self) -> Result<Vec<u32>> {
        let mut tokens = vec![0; self.num_tokens()?];
        get(|n| unsafe { sys::gptoss_context_get_tokens(self.idle(), tokens.as_mut_ptr(), tokens.len(), n) })?;
        Ok(tokens)
    }

    /// Special tokens in the text count as such. Returns the number of tokens appended.
    pub fn append_text(&mut self, text: impl AsRef<[u8]>) -> Result<usize> {
        let text = text.as_ref();
        get(|n| unsafe { sys::gptoss_context_append_chars(self.idle(), text.as_ptr().cast(), text.len(), n) })
    }

    /// Appends all tokens or, on an error, none.
    pub fn append(&mut self, tokens: &[u32]) -> Result<()> {
        check(unsafe { sys::gptoss_context_append_tokens(self.idle(), tokens.len(), tokens.as_ptr()) })
    }

    /// Empties the context. What was computed stays cached, for tokens that come again.
    pub fn reset(&mut self) -> Result<()> {
        check(unsafe { sys::gptoss_context_reset(self.idle()) })
    }

    /// Keeps the first tokens.
    pub fn truncate(&mut self, num_tokens: usize) -> Result<()> {
        check(unsafe { sys::gptoss_context_truncate(self.idle(), num_tokens) })
    }

    /// From now on the context computes with the adapter, multiplied by `scale`; `None` takes it away. The tokens stay,
    /// and are computed again when that is needed.
    pub fn set_adapter(&mut self, adapter: Option<&Adapter>, scale: f32) -> Result<()> {
        let adapter = adapter.map_or(ptr::null_mut(), Adapter::handle);
        check(unsafe { sys::gptoss_context_set_adapter(self.idle(), adapter, scale) })
    }

    /// Computes what was appended. Sampling does it too; this does it ahead of time.
    pub fn process(&mut self) -> Result<()> {
        check(unsafe { sys::gptoss_context_process(self.idle()) })
    }

    /// Fills `logits` with those of the token that would follow, as many as fit; returns the size of the vocabulary.
    pub fn logits(&mut self, logits: &mut [f32]) -> Result<usize> {
        get(|n| unsafe { sys::gptoss_context_get_logits(self.idle(), logits.as_mut_ptr(), logits.len(), n) })
    }

    /// Samples as many tokens as the slice holds, or until the context is full, and appends them; returns how many.
    pub fn sample(&mut self, tokens: &mut [u32], temperature: f32, seed: u64) -> Result<usize> {
        get(|n| unsafe {
            sys::gptoss_context_sample(self.idle(), temperature, seed, tokens.len(), tokens.as_mut_ptr(), n)
        })
    }

    /// An iterator over tokens as they are generated, each of which is appended. Dropping it ends the generation, and
    /// the context then holds the tokens that were taken from it.
    pub fn generate(&mut self, options: &GenerateOptions) -> Result<Generation<'_>> {
        Generation::start(self, options)
    }

    /// Generates on this thread, and hands each token to `on_token`, which may stop.
    pub fn generate_with(
        &mut self,
        options: &GenerateOptions,
        mut on_token: impl FnMut(u32) -> ControlFlow<()>,
    ) -> Result<Generated> {
        generation::generate(self.idle(), options, |output| on_token(output.token))
    }

    /// Generates on this thread, and hands each token with its text and log-probabilities to `on_output`, which may stop.
    pub fn generate_outputs(
        &mut self,
        options: &GenerateOptions,
        on_output: impl FnMut(Output) -> ControlFlow<()>,
    ) -> Result<Generated> {
        generation::generate(self.idle(), options, on_output)
    }

    /// Log-probabilities of `num_tokens` tokens from number `first` on, each after those before it, and the `num_top`
    /// likeliest tokens in the place of each.
    #[allow(clippy::type_complexity)]
    pub fn logprobs(
        &mut self,
        first: usize,
        num_tokens: usize,
        num_top: usize,
    ) -> Result<(Vec<f32>, Vec<Vec<(u32, f32)>>)> {
        let mut logprobs = vec![0.0; num_tokens];
        let mut top = vec![sys::gptoss_logprob { token: 0, logprob: 0.0 }; num_tokens * num_top];
        check(unsafe {
            let (values, rows) = (logprobs.as_mut_ptr(), top.as_mut_ptr());
            sys::gptoss_context_get_logprobs(self.idle(), first, num_tokens, num_top, values, rows)
        })?;
        let row = |i: usize| top[i * num_top..(i + 1) * num_top].iter().map(|each| (each.token, each.logprob)).collect();
        Ok((logprobs, (0..num_tokens).map(row).collect()))
    }

    /// Another context that begins as this one, and shares what is computed.
    pub fn fork(&self) -> Result<Context> {
        let mut handle = ptr::null_mut();
        check(unsafe { sys::gptoss_context_fork(self.idle(), &mut handle) })?;
        Ok(Context { inner: Arc::new(Inner::new(handle, self.inner.model.clone())), run: RefCell::new(None) })
    }

    /// The context as bytes, with all that is computed, for [`restore`](Context::restore).
    pub fn save(&self) -> Result<Vec<u8>> {
        let handle = self.idle();
        let mut state = vec![0u8; get(|n| unsafe { sys::gptoss_context_save(handle, ptr::null_mut(), 0, n) })?];
        get(|n| unsafe { sys::gptoss_context_save(handle, state.as_mut_ptr().cast(), state.len(), n) })?;
        Ok(state)
    }

    /// Makes this context what the saved one was, of the same model; it stays as it is if that fails.
    pub fn restore(&mut self, state: &[u8]) -> Result<()> {
        check(unsafe { sys::gptoss_context_restore(self.idle(), state.as_ptr().cast(), state.len()) })
    }

    /// What the context holds, and what a token costs it.
    pub fn stats(&self) -> Result<ContextStats> {
        let mut stats: sys::gptoss_context_stats = unsafe { zeroed() };
        stats.struct_size = size_of::<sys::gptoss_context_stats>();
        check(unsafe { sys::gptoss_context_get_stats(self.idle(), &mut stats) })?;
        Ok(ContextStats {
            cache_bytes: stats.cache_bytes,
            activation_bytes: stats.activation_bytes,
            cache_bytes_per_token: stats.cache_bytes_per_token,
            step_dispatches: stats.step_dispatches,
            step_barriers: stats.step_barriers,
            prompt_tokens_computed: stats.prompt_tokens_computed,
            decode_steps: stats.decode_steps,
        })
    }

    /// What each kernel takes to compute the last tokens again in one batch and to draw a token, greedily without a
    /// sampler; empty where the device has no clock.
    pub fn profile(&mut self, num_tokens: usize, sampler: Option<&Sampler>) -> Result<Vec<KernelTime>> {
        let sampler = SamplerHandle::new(sampler)?;
        let mut times: Vec<sys::gptoss_kernel_time> = Vec::new();
        let mut n = 64;
        while n > times.len() {
            times.resize_with(n, || unsafe { zeroed() });
            n = get(|n| unsafe {
                sys::gptoss_context_profile(self.idle(), num_tokens, sampler.0, times.as_mut_ptr(), times.len(), n)
            })?;
        }
        times.truncate(n);
        let time = |time: &sys::gptoss_kernel_time| KernelTime {
            name: unsafe { CStr::from_ptr(time.name.as_ptr()) }.to_string_lossy().into_owned(),
            microseconds: time.microseconds,
            dispatches: time.dispatches,
        };
        Ok(times.iter().map(time).collect())
    }

    /// Stops what runs on this context, from any thread.
    pub fn canceller(&self) -> Canceller {
        Canceller(self.inner.clone())
    }
}

impl Drop for Context {
    fn drop(&mut self) {
        self.idle();
    }
}

/// Stops a context's running call, or its next one, which then fails with
/// [`Status::Cancelled`](crate::Status::Cancelled).
#[derive(Clone)]
pub struct Canceller(Arc<Inner>);

impl Canceller {
    pub fn cancel(&self) {
        unsafe { sys::gptoss_context_cancel(self.0.handle) };
    }

    /// Takes back a cancel that came too late for the call that it was meant to stop.
    pub fn clear(&self) {
        unsafe { sys::gptoss_context_clear_cancel(self.0.handle) };
    }
}
