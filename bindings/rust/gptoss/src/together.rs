use crate::context::Context;
use crate::error::{check_as, last_error, status_text, Error, Result};
use crate::generation::{stop_reason, GenerateOptions, Generated, OptionsInC};
use crate::sampler::SamplerHandle;
use gptoss_sys as sys;
use std::any::Any;
use std::mem::size_of;
use std::ops::ControlFlow;
use std::os::raw::{c_int, c_void};
use std::panic::{catch_unwind, resume_unwind, AssertUnwindSafe};

type OnToken<'a> = Box<dyn FnMut(u32) -> ControlFlow<()> + 'a>;

/// One of the generations of [`generate_together`].
pub struct GenerateRequest<'a> {
    context: &'a mut Context,
    options: GenerateOptions,
    on_token: Option<OnToken<'a>>,
}

impl<'a> GenerateRequest<'a> {
    pub fn new(context: &'a mut Context, options: &GenerateOptions) -> GenerateRequest<'a> {
        GenerateRequest { context, options: options.clone(), on_token: None }
    }

    /// Hands each token to `on_token`, which may stop this generation.
    pub fn on_token(mut self, on_token: impl FnMut(u32) -> ControlFlow<()> + 'a) -> GenerateRequest<'a> {
        self.on_token = Some(Box::new(on_token));
        self
    }
}

struct CallbackState<'a> {
    on_token: OnToken<'a>,
    contexts: *const [sys::gptoss_context_t], // of all generations
    panic: Option<Box<dyn Any + Send>>,
}

unsafe extern "C" fn call_back(state: *mut c_void, token: u32) -> c_int {
    let state = &mut *state.cast::<CallbackState>();
    match catch_unwind(AssertUnwindSafe(|| (state.on_token)(token))) {
        Ok(flow) => matches!(flow, ControlFlow::Break(())).into(),
        Err(panic) => {
            state.panic = Some(panic); // goes on once the call of the library has returned, which is soon
            for context in &*state.contexts {
                sys::gptoss_context_cancel(*context);
            }
            1
        }
    }
}

/// Generates in several contexts of one model at once, on this thread, which takes little longer than for one of them:
/// together they get several times the tokens a second. Returns once all have ended, with the outcome of each; one that
/// fails ends alone. What keeps all of them from running, such as contexts of two models, is the error of the whole.
///
/// ```no_run
/// # fn use_them(model: &gptoss::Model) -> gptoss::Result<()> {
/// use gptoss::{generate_together, Context, GenerateOptions, GenerateRequest};
/// let mut contexts = [Context::new(model)?, Context::new(model)?];
/// for context in &mut contexts {
///     context.append_text("The capital of France is")?;
/// }
/// let options = GenerateOptions { max_tokens: 16, ..Default::default() };
/// for generated in generate_together(contexts.iter_mut().map(|context| GenerateRequest::new(context, &options)))? {
///     println!("{} tokens", generated?.num_tokens);
/// }
/// # Ok(())
/// # }
/// ```
pub fn generate_together<'a>(
    requests: impl IntoIterator<Item = GenerateRequest<'a>>,
) -> Result<Vec<Result<Generated>>> {
    let (mut contexts, mut samplers, mut all_options, mut states) = (vec![], vec![], vec![], vec![]);
    let mut model = None;
    for GenerateRequest { context, options, on_token } in requests {
        let its_model = context.inner().model.handle();
        if *model.get_or_insert(its_model) != its_model {
            return Err(Error::invalid_argument("the contexts of generate_together must be of one model"));
        }
        contexts.push(context.idle());
        samplers.push(SamplerHandle::new(options.sampler.as_ref())?);
        all_options.push(options);
        states.push(on_token);
    }
    // From here on nothing is pushed: the library gets pointers to what lies in these.
    let cancelled: *const [sys::gptoss_context_t] = &contexts[..];
    let mut states: Vec<Option<CallbackState>> = states
        .into_iter()
        .map(|on_token| Some(CallbackState { on_token: on_token?, contexts: cancelled, panic: None }))
        .collect();
    let mut in_c = all_options.iter().map(OptionsInC::new).collect::<Result<Vec<_>>>()?;
    let options: Vec<_> = in_c
        .iter_mut()
        .zip(&mut states)
        .map(|(in_c, state)| {
            let mut options = in_c.get();
            if let Some(state) = state {
                options.callback = Some(call_back);
                options.user_data = (state as *mut CallbackState).cast();
            }
            options
        })
        .collect();
    let mut entries: Vec<_> = (0..contexts.len())
        .map(|i| sys::gptoss_generation {
            struct_size: size_of::<sys::gptoss_generation>(),
            context: contexts[i],
            sampler: samplers[i].0,
            options: &options[i],
            num_tokens: 0,
            stop_reason: sys::gptoss_stop_reason_none,
            status: sys::gptoss_status_success,
        })
        .collect();
    let status = unsafe { sys::gptoss_generate_together(entries.as_mut_ptr(), entries.len()) };
    let message = last_error();
    if let Some(panic) = states.iter_mut().flatten().find_map(|state| state.panic.take()) {
        for context in &contexts {
            unsafe { sys::gptoss_context_clear_cancel(*context) }; // one that came too late
        }
        resume_unwind(panic);
    }
    // The library's message is about the first that failed; most often, others of that status failed alike.
    let message_of = |its| if its == status { message.clone() } else { status_text(its) };
    let outcome = |(entry, in_c): (&sys::gptoss_generation, &OptionsInC)| {
        check_as(entry.status, || message_of(entry.status))?;
        Ok(Generated { num_tokens: entry.num_tokens, stop_reason: stop_reason(entry.stop_reason), usage: in_c.usage() })
    };
    Ok(entries.iter().zip(&in_c).map(outcome).collect())
}
