use crate::context::{Context, Inner};
use crate::error::{check, Result};
use crate::sampler::{Sampler, SamplerHandle};
use gptoss_sys as sys;
use std::any::Any;
use std::future::Future;
use std::mem::size_of;
use std::ops::ControlFlow;
use std::os::raw::{c_int, c_void};
use std::panic::{catch_unwind, resume_unwind, AssertUnwindSafe};
use std::pin::Pin;
use std::ptr;
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
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StopReason {
    None,
    MaxTokens,
    StopToken,
    Callback,
    ContextFull,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Generated {
    pub num_tokens: usize,
    pub stop_reason: StopReason,
}

struct CallbackState<F> {
    on_token: F,
    panic: Option<Box<dyn Any + Send>>,
}

unsafe extern "C" fn on_token<F: FnMut(u32) -> ControlFlow<()>>(state: *mut c_void, token: u32) -> c_int {
    let state = &mut *state.cast::<CallbackState<F>>();
    match catch_unwind(AssertUnwindSafe(|| (state.on_token)(token))) {
        Ok(flow) => matches!(flow, ControlFlow::Break(())).into(),
        Err(panic) => {
            state.panic = Some(panic); // goes on once the call of the library has returned
            1
        }
    }
}

pub(crate) fn generate<F: FnMut(u32) -> ControlFlow<()>>(
    context: sys::gptoss_context_t,
    options: &GenerateOptions,
    callback: F,
) -> Result<Generated> {
    let sampler = SamplerHandle::new(options.sampler.as_ref())?;
    let mut state = CallbackState { on_token: callback, panic: None };
    let in_c = sys::gptoss_generate_options {
        struct_size: size_of::<sys::gptoss_generate_options>(),
        max_tokens: options.max_tokens,
        stop_tokens: options.stop_tokens.as_ref().map_or(ptr::null(), |tokens| tokens.as_ptr()),
        num_stop_tokens: options.stop_tokens.as_ref().map_or(0, |tokens| tokens.len()),
        callback: Some(on_token::<F>),
        user_data: (&mut state as *mut CallbackState<F>).cast(),
        prompt_lookup: options.prompt_lookup as sys::gptoss_prompt_lookup,
    };
    let (mut num_tokens, mut reason) = (0, 0);
    let status = unsafe { sys::gptoss_context_generate(context, sampler.0, &in_c, &mut num_tokens, &mut reason) };
    if let Some(panic) = state.panic {
        resume_unwind(panic);
    }
    check(status)?;
    let stop_reason = match reason {
        sys::gptoss_stop_reason_max_tokens => StopReason::MaxTokens,
        sys::gptoss_stop_reason_stop_token => StopReason::StopToken,
        sys::gptoss_stop_reason_callback => StopReason::Callback,
        sys::gptoss_stop_reason_context_full => StopReason::ContextFull,
        _ => StopReason::None,
    };
    Ok(Generated { num_tokens, stop_reason })
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
    tokens: Receiver<u32>,
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
            let result = generate(inner.handle, &options, |token| match sender.send(token) {
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
        if complete { result.ok() } else { None }
    }
}

/// The iterator of [`Context::generate`].
pub struct Generation<'a> {
    context: &'a mut Context,
    stop_reason: Option<StopReason>,
}

impl<'a> Generation<'a> {
    pub(crate) fn start(context: &'a mut Context, options: &GenerateOptions) -> Result<Generation<'a>> {
        SamplerHandle::new(options.sampler.as_ref())?; // settings that are no good are reported here
        let start = context.num_tokens()?;
        *context.run.get_mut() = Some(Run::new(context.inner().clone(), start, options.clone()));
        Ok(Generation { context, stop_reason: None })
    }

    /// Why it ended; `None` while it has not, or if it failed.
    pub fn stop_reason(&self) -> Option<StopReason> {
        self.stop_reason
    }

    /// The same for asynchronous code, of any runtime.
    pub fn into_stream(self) -> TokenStream<'a> {
        TokenStream { generation: self }
    }

    /// What is left to say once the thread hands over no more tokens.
    fn end(&mut self) -> Option<Result<u32>> {
        match self.context.run.get_mut().take()?.stop()? {
            Ok(generated) => {
                self.stop_reason = Some(generated.stop_reason);
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
        if let Ok(token) = run.tokens.recv() {
            run.taken += 1;
            return Some(Ok(token));
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
            Ok(token) => {
                run.taken += 1;
                Poll::Ready(Some(Ok(token)))
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
        self.generation.stop_reason
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
