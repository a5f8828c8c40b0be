use crate::context::{Context, Inner};
use crate::error::{check, Result};
use crate::sampler::{Sampler, SamplerHandle};
use crate::tokenizer::c_string;
use gptoss_sys as sys;
use std::any::Any;
use std::ffi::CString;
use std::future::Future;
use std::mem::size_of;
use std::ops::ControlFlow;
use std::os::raw::{c_char, c_int, c_void};
use std::panic::{catch_unwind, resume_unwind, AssertUnwindSafe};
use std::pin::Pin;
use std::{ptr, slice};
use std::sync::mpsc::{sync_channel, Receiver, TryRecvError};
use std::sync::{Arc, Mutex};
use std::task::{self, Poll, Waker};
use std::thread::{self, JoinHandle};

/// Tokens that may wait for the consumer of an iterator: enough that the device does not.
const AHEAD: usize = 32;

/// Whether tokens that stood in the context before are tried again, several in one forward pass: gptoss.h says more.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PromptLookup {
    /// Where it pays.
    #[default]
    Default,
    Off,
    Always,
}

#[derive(Clone, Debug, Default)]
pub struct GenerateOptions {
    /// The most likely tokens without one.
    pub sampler: Option<Sampler>,
    /// 0: until a stop token or until the context is full.
    pub max_tokens: usize,
    /// Without any given: `<|return|>`, `<|call|>` and `<|endoftext|>`.
    pub stop_tokens: Option<Vec<u32>>,
    pub prompt_lookup: PromptLookup,
    /// Texts that end the answer, and that no output's text holds.
    pub stop_strings: Vec<String>,
    pub logprobs: Logprobs,
    /// How many of the likeliest tokens each output tells; up to 256.
    pub top_logprobs: u32,
}

/// Which log-probabilities a generation tells.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Logprobs {
    #[default]
    None,
    /// Of the model's own distribution: before bias, penalties, temperature and filters.
    Model,
    /// Of the distribution that is drawn from: after all of them, and after the grammar.
    Drawn,
}

/// A token, with what the text grew by and its log-probability.
#[derive(Clone, Debug, PartialEq)]
pub struct Output {
    pub token: u32,
    pub text: String,
    /// 0 unless asked for.
    pub logprob: f32,
    /// The likeliest first.
    pub top_logprobs: Vec<(u32, f32)>,
}

impl Output {
    unsafe fn from_c(output: *const sys::gptoss_output) -> Output {
        let output = &*output;
        let text = slice::from_raw_parts(output.text.cast::<u8>(), output.text_size);
        let top = match output.num_top_logprobs {
            0 => &[],
            n => slice::from_raw_parts(output.top_logprobs, n),
        };
        Output {
            token: output.token,
            text: String::from_utf8_lossy(text).into_owned(),
            logprob: output.logprob,
            top_logprobs: top.iter().map(|each| (each.token, each.logprob)).collect(),
        }
    }
}

/// Tokens that a generation counted; gptoss.h says more.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    pub prompt_tokens: usize,
    pub cached_tokens: usize,
    pub generated_tokens: usize,
    pub forced_tokens: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StopReason {
    None,
    MaxTokens,
    StopToken,
    Callback,
    ContextFull,
    GrammarEnd,
    StopString,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Generated {
    pub num_tokens: usize,
    pub stop_reason: StopReason,
    pub usage: Usage,
}

pub(crate) fn stop_reason(reason: sys::gptoss_stop_reason) -> StopReason {
    match reason {
        sys::gptoss_stop_reason_max_tokens => StopReason::MaxTokens,
        sys::gptoss_stop_reason_stop_token => StopReason::StopToken,
        sys::gptoss_stop_reason_callback => StopReason::Callback,
        sys::gptoss_stop_reason_context_full => StopReason::ContextFull,
        sys::gptoss_stop_reason_grammar_end => StopReason::GrammarEnd,
        sys::gptoss_stop_reason_stop_string => StopReason::StopString,
        _ => StopReason::None,
    }
}

/// What the library's options point to.
pub(crate) struct OptionsInC<'a> {
    options: &'a GenerateOptions,
    _strings: Vec<CString>,
    stop_strings: Vec<*const c_char>, // in them
    usage: Box<sys::gptoss_usage>,
}

impl<'a> OptionsInC<'a> {
    pub(crate) fn new(options: &'a GenerateOptions) -> Result<OptionsInC<'a>> {
        let strings = options.stop_strings.iter().map(|string| c_string(string)).collect::<Result<Vec<CString>>>()?;
        let stop_strings = strings.iter().map(|string| string.as_ptr()).collect();
        let usage = Box::new(sys::gptoss_usage {
            struct_size: size_of::<sys::gptoss_usage>(),
            prompt_tokens: 0,
            cached_tokens: 0,
            generated_tokens: 0,
            forced_tokens: 0,
        });
        Ok(OptionsInC { options, _strings: strings, stop_strings, usage })
    }

    /// Without a callback; for as long as `self` lives.
    pub(crate) fn get(&mut self) -> sys::gptoss_generate_options {
        let stop_tokens = self.options.stop_tokens.as_ref();
        sys::gptoss_generate_options {
            struct_size: size_of::<sys::gptoss_generate_options>(),
            max_tokens: self.options.max_tokens,
            stop_tokens: stop_tokens.map_or(ptr::null(), |tokens| tokens.as_ptr()),
            num_stop_tokens: stop_tokens.map_or(0, |tokens| tokens.len()),
            callback: None,
            user_data: ptr::null_mut(),
            output_callback: None,
            stop_strings: self.stop_strings.as_ptr(),
            num_stop_strings: self.stop_strings.len(),
            logprobs: match self.options.logprobs {
                Logprobs::None => sys::gptoss_logprobs_none,
                Logprobs::Model => sys::gptoss_logprobs_model,
                Logprobs::Drawn => sys::gptoss_logprobs_drawn,
            },
            num_top_logprobs: self.options.top_logprobs,
            prompt_lookup: self.options.prompt_lookup as sys::gptoss_prompt_lookup,
            usage_out: &mut *self.usage,
        }
    }

    pub(crate) fn usage(&self) -> Usage {
        Usage {
            prompt_tokens: self.usage.prompt_tokens,
            cached_tokens: self.usage.cached_tokens,
            generated_tokens: self.usage.generated_tokens,
            forced_tokens: self.usage.forced_tokens,
        }
    }
}

struct CallbackState<F> {
    on_output: F,
    panic: Option<Box<dyn Any + Send>>,
}

unsafe extern "C" fn on_output<F: FnMut(Output) -> ControlFlow<()>>(
    state: *mut c_void,
    output: *const sys::gptoss_output,
) -> c_int {
    let state = &mut *state.cast::<CallbackState<F>>();
    match catch_unwind(AssertUnwindSafe(|| (state.on_output)(Output::from_c(output)))) {
        Ok(flow) => matches!(flow, ControlFlow::Break(())).into(),
        Err(panic) => {
            state.panic = Some(panic); // goes on once the call of the library has returned
            1
        }
    }
}

pub(crate) fn generate<F: FnMut(Output) -> ControlFlow<()>>(
    context: sys::gptoss_context_t,
    options: &GenerateOptions,
    callback: F,
) -> Result<Generated> {
    let sampler = SamplerHandle::new(options.sampler.as_ref())?;
    let mut state = CallbackState { on_output: callback, panic: None };
    let mut in_c = OptionsInC::new(options)?;
    let mut c_options = in_c.get();
    c_options.output_callback = Some(on_output::<F>);
    c_options.user_data = (&mut state as *mut CallbackState<F>).cast();
    let (mut num_tokens, mut reason) = (0, 0);
    let status = unsafe { sys::gptoss_context_generate(context, sampler.0, &c_options, &mut num_tokens, &mut reason) };
    if let Some(panic) = state.panic {
        resume_unwind(panic);
    }
    check(status)?;
    Ok(Generated { num_tokens, stop_reason: stop_reason(reason), usage: in_c.usage() })
}

fn wake(waker: &Mutex<Option<Waker>>) {
    let waker = waker.lock().unwrap().take();
    if let Some(waker) = waker {
        waker.wake();
    }
}

/// A generation in a thread of its own, so that the device goes on while the consumer uses a token.
pub(crate) struct Run {
    context: Arc<Inner>,
    tokens: Receiver<Output>,
    waker: Arc<Mutex<Option<Waker>>>, // a task that waits for a token or for the end
    thread: JoinHandle<Result<Generated>>,
    start: usize,
    taken: usize,
}

impl Run {
    fn new(context: Arc<Inner>, start: usize, options: GenerateOptions) -> Run {
        let (sender, tokens) = sync_channel(AHEAD);
        let waker = Arc::new(Mutex::new(None));
        let (inner, waiting) = (context.clone(), waker.clone());
        let thread = thread::spawn(move || {
            // The consumer's end is gone once it takes no more.
            let result = generate(inner.handle, &options, |output| match sender.send(output) {
                Ok(()) => {
                    wake(&waiting);
                    ControlFlow::Continue(())
                }
                Err(_) => ControlFlow::Break(()),
            });
            drop(sender);
            wake(&waiting);
            result
        });
        Run { context, tokens, waker, thread, start, taken: 0 }
    }

    /// Ends it; the context keeps what was taken.
    pub(crate) fn stop(self) -> Option<Result<Generated>> {
        let Run { context, tokens, thread, start, taken, .. } = self;
        // A call that has handed over its last token is let return; any other is cancelled.
        let complete = matches!(tokens.try_recv(), Err(TryRecvError::Disconnected));
        drop(tokens);
        if !complete {
            unsafe { sys::gptoss_context_cancel(context.handle) };
        }
        let result = thread.join();
        let mut size = 0;
        unsafe {
            if !complete {
                sys::gptoss_context_clear_cancel(context.handle); // it may have come too late
            }
            sys::gptoss_context_get_num_tokens(context.handle, &mut size);
            if size > start + taken {
                sys::gptoss_context_truncate(context.handle, start + taken);
            }
        }
        match result {
            Err(panic) if !thread::panicking() => resume_unwind(panic), // of a tap
            result => result.ok().filter(|_| complete),
        }
    }
}

/// The iterator of [`Context::generate`].
pub struct Generation<'a> {
    context: &'a mut Context,
    generated: Option<Generated>,
    output: Option<Output>,
}

impl<'a> Generation<'a> {
    pub(crate) fn start(context: &'a mut Context, options: &GenerateOptions) -> Result<Generation<'a>> {
        SamplerHandle::new(options.sampler.as_ref())?; // settings that are no good are reported here
        let start = context.num_tokens()?;
        *context.run.get_mut() = Some(Run::new(context.inner().clone(), start, options.clone()));
        Ok(Generation { context, generated: None, output: None })
    }

    /// Why it ended; `None` while it has not, or if it failed.
    pub fn stop_reason(&self) -> Option<StopReason> {
        Some(self.generated?.stop_reason)
    }

    /// What it counted; `None` while it has not ended, or if it failed.
    pub fn usage(&self) -> Option<Usage> {
        Some(self.generated?.usage)
    }

    /// Of the token that came last: its text and log-probabilities too.
    pub fn output(&self) -> Option<&Output> {
        self.output.as_ref()
    }

    fn keep(&mut self, output: Output) -> u32 {
        let token = output.token;
        self.output = Some(output);
        token
    }

    /// The same for asynchronous code, of any runtime.
    pub fn into_stream(self) -> TokenStream<'a> {
        TokenStream { generation: self }
    }

    /// What is left to say once the thread hands over no more tokens.
    fn end(&mut self) -> Option<Result<u32>> {
        match self.context.run.get_mut().take()?.stop()? {
            Ok(generated) => {
                self.generated = Some(generated);
                None
            }
            Err(error) => Some(Err(error)),
        }
    }
}

impl Iterator for Generation<'_> {
    type Item = Result<u32>;

    fn next(&mut self) -> Option<Result<u32>> {
        let slot = self.context.run.get_mut();
        let run = slot.as_mut()?;
        if let Ok(output) = run.tokens.recv() {
            run.taken += 1;
            return Some(Ok(self.keep(output)));
        }
        self.end()
    }
}

/// A generation whose tokens a task awaits; made by [`Generation::into_stream`]. It needs no runtime of its own: a thread
/// drives the device and wakes the task. Dropping it, or a task that holds it, ends the generation, and the context then
/// holds the tokens that were taken.
///
/// [`poll_next`](TokenStream::poll_next) is that of the trait `Stream` of futures-core, which the standard library does
/// not have yet: `futures::stream::poll_fn(move |cx| stream.poll_next(cx))` makes one of it.
pub struct TokenStream<'a> {
    generation: Generation<'a>,
}

impl<'a> TokenStream<'a> {
    /// The next token, `Ready(None)` at the end; the task is woken when it is there.
    pub fn poll_next(&mut self, cx: &mut task::Context<'_>) -> Poll<Option<Result<u32>>> {
        let run = match self.generation.context.run.get_mut() {
            Some(run) => run,
            None => return Poll::Ready(None),
        };
        let mut received = run.tokens.try_recv();
        if received == Err(TryRecvError::Empty) {
            *run.waker.lock().unwrap() = Some(cx.waker().clone());
            received = run.tokens.try_recv(); // one may have come before the waker was there
        }
        match received {
            Ok(output) => {
                run.taken += 1;
                Poll::Ready(Some(Ok(self.generation.keep(output))))
            }
            Err(TryRecvError::Empty) => Poll::Pending,
            Err(TryRecvError::Disconnected) => Poll::Ready(self.generation.end()),
        }
    }

    /// Awaits the next token; `None` at the end.
    #[allow(clippy::should_implement_trait)]
    pub fn next(&mut self) -> NextToken<'_, 'a> {
        NextToken(self)
    }

    /// Why it ended; `None` while it has not, or if it failed.
    pub fn stop_reason(&self) -> Option<StopReason> {
        self.generation.stop_reason()
    }

    /// What it counted; `None` while it has not ended, or if it failed.
    pub fn usage(&self) -> Option<Usage> {
        self.generation.usage()
    }

    /// Of the token that came last: its text and log-probabilities too.
    pub fn output(&self) -> Option<&Output> {
        self.generation.output()
    }
}

/// The future of [`TokenStream::next`].
pub struct NextToken<'s, 'a>(&'s mut TokenStream<'a>);

impl Future for NextToken<'_, '_> {
    type Output = Option<Result<u32>>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<Self::Output> {
        self.0.poll_next(cx)
    }
}

impl Drop for Generation<'_> {
    fn drop(&mut self) {
        self.context.idle();
    }
}
