use crate::error::{check, Result};
use crate::grammar::Grammar;
use gptoss_sys as sys;
use std::ptr;

/// How the next token is drawn. The settings apply in this order: bias, penalties, temperature, grammar, top-k,
/// top-p, min-p; gptoss.h says what they mean and allows. The same seed and tokens give the same result.
#[derive(Clone, Debug, PartialEq)]
pub struct Sampler {
    pub temperature: f32,
    pub top_k: u32,
    pub top_p: f32,
    pub min_p: f32,
    pub presence_penalty: f32,
    pub frequency_penalty: f32,
    pub repetition_penalty: f32,
    pub seed: u64,
    /// Tokens, and what is added to their logits.
    pub logit_bias: Vec<(u32, f32)>,
    pub grammar: Option<Grammar>,
}

impl Default for Sampler {
    /// Temperature 1 and everything else off.
    fn default() -> Sampler {
        Sampler {
            temperature: 1.0,
            top_k: 0,
            top_p: 1.0,
            min_p: 0.0,
            presence_penalty: 0.0,
            frequency_penalty: 0.0,
            repetition_penalty: 1.0,
            seed: 0,
            logit_bias: Vec::new(),
            grammar: None,
        }
    }
}

/// The library's object, for the duration of one generation.
pub(crate) struct SamplerHandle(pub(crate) sys::gptoss_sampler_t);

// It stays with the generation that owns it.
unsafe impl Send for SamplerHandle {}

impl SamplerHandle {
    /// NULL, which is greedy, without settings.
    pub(crate) fn new(settings: Option<&Sampler>) -> Result<SamplerHandle> {
        let mut sampler = SamplerHandle(ptr::null_mut());
        if let Some(settings) = settings {
            unsafe {
                check(sys::gptoss_sampler_create(&mut sampler.0))?;
                check(sys::gptoss_sampler_set_temperature(sampler.0, settings.temperature))?;
                check(sys::gptoss_sampler_set_top_k(sampler.0, settings.top_k))?;
                check(sys::gptoss_sampler_set_top_p(sampler.0, settings.top_p))?;
                check(sys::gptoss_sampler_set_min_p(sampler.0, settings.min_p))?;
                check(sys::gptoss_sampler_set_presence_penalty(sampler.0, settings.presence_penalty))?;
                check(sys::gptoss_sampler_set_frequency_penalty(sampler.0, settings.frequency_penalty))?;
                check(sys::gptoss_sampler_set_repetition_penalty(sampler.0, settings.repetition_penalty))?;
                check(sys::gptoss_sampler_set_seed(sampler.0, settings.seed))?;
                let (tokens, biases): (Vec<u32>, Vec<f32>) = settings.logit_bias.iter().copied().unzip();
                check(sys::gptoss_sampler_set_logit_bias(
                    sampler.0,
                    tokens.len(),
                    tokens.as_ptr(),
                    biases.as_ptr(),
                ))?;
                if let Some(grammar) = &settings.grammar {
                    check(sys::gptoss_sampler_set_grammar(sampler.0, grammar.handle()))?;
                }
            }
        }
        Ok(sampler)
    }
}

impl Drop for SamplerHandle {
    fn drop(&mut self) {
        unsafe { sys::gptoss_sampler_release(self.0) };
    }
}
