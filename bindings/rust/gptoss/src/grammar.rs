use crate::error::{check, Result};
use crate::tokenizer::Tokenizer;
use gptoss_sys as sys;
use std::os::raw::c_char;
use std::ptr;
use std::sync::Arc;

/// Which texts an answer may be, for [`Sampler::grammar`](crate::Sampler::grammar). Made with the tokenizer of the model
/// that is to follow it; clones share it. gptoss.h says more of each kind.
#[derive(Clone, Debug)]
pub struct Grammar {
    handle: Arc<Handle>,
}

#[derive(Debug)]
struct Handle(sys::gptoss_grammar_t);

// The library's grammars are immutable, for any number of threads.
unsafe impl Send for Handle {}
unsafe impl Sync for Handle {}

impl Drop for Handle {
    fn drop(&mut self) {
        unsafe { sys::gptoss_grammar_release(self.0) };
    }
}

impl PartialEq for Grammar {
    /// Whether they are the same one.
    fn eq(&self, other: &Grammar) -> bool {
        Arc::ptr_eq(&self.handle, &other.handle)
    }
}

type Create = unsafe extern "C" fn(
    sys::gptoss_tokenizer_t,
    *const c_char,
    usize,
    *mut sys::gptoss_grammar_t,
) -> sys::gptoss_status;

impl Grammar {
    fn make(create: Create, tokenizer: &Tokenizer, text: &str) -> Result<Grammar> {
        let mut handle = ptr::null_mut();
        check(unsafe { create(tokenizer.handle(), text.as_ptr().cast(), text.len(), &mut handle) })?;
        Ok(Grammar { handle: Arc::new(Handle(handle)) })
    }

    /// JSON that is valid by a JSON schema.
    pub fn json_schema(tokenizer: &Tokenizer, schema: &str) -> Result<Grammar> {
        Grammar::make(sys::gptoss_grammar_create_from_json_schema, tokenizer, schema)
    }

    /// Texts that match a regular expression from beginning to end.
    pub fn regex(tokenizer: &Tokenizer, regex: &str) -> Result<Grammar> {
        Grammar::make(sys::gptoss_grammar_create_from_regex, tokenizer, regex)
    }

    /// Texts of a grammar as llama.cpp writes it.
    pub fn gbnf(tokenizer: &Tokenizer, gbnf: &str) -> Result<Grammar> {
        Grammar::make(sys::gptoss_grammar_create_from_gbnf, tokenizer, gbnf)
    }

    /// The assistant's whole turn, from tools, tool_choice, response_format and reasoning as JSON.
    pub fn harmony(tokenizer: &Tokenizer, options_json: &str) -> Result<Grammar> {
        Grammar::make(sys::gptoss_grammar_create_from_harmony, tokenizer, options_json)
    }

    pub(crate) fn handle(&self) -> sys::gptoss_grammar_t {
        self.handle.0
    }
}
