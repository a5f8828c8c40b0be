use crate::error::{check, get, Error, Result};
use gptoss_sys as sys;
use std::{ffi::CStr, ffi::CString, path::Path, ptr, slice};

/// Text to tokens and back.
pub struct Tokenizer {
    handle: sys::gptoss_tokenizer_t,
}

// The library allows a tokenizer to be used from any number of threads at once.
unsafe impl Send for Tokenizer {}
unsafe impl Sync for Tokenizer {}

impl Tokenizer {
    /// The built-in o200k_harmony.
    pub fn o200k_harmony() -> Result<Tokenizer> {
        Tokenizer::create(ptr::null())
    }

    /// A tokenizer.json, .tiktoken or .gguf file, or a directory that holds one.
    pub fn open(path: impl AsRef<Path>) -> Result<Tokenizer> {
        let path = c_path(path.as_ref())?;
        Tokenizer::create(path.as_ptr())
    }

    fn create(path: *const std::os::raw::c_char) -> Result<Tokenizer> {
        let mut handle = ptr::null_mut();
        check(unsafe { sys::gptoss_tokenizer_create(path, &mut handle) })?;
        Ok(Tokenizer { handle })
    }

    /// Takes over a reference.
    pub(crate) fn from_handle(handle: sys::gptoss_tokenizer_t) -> Tokenizer {
        Tokenizer { handle }
    }

    pub(crate) fn handle(&self) -> sys::gptoss_tokenizer_t {
        self.handle
    }

    /// `allow_special`: `<|start|>` and the like become special tokens, and not the tokens of their letters.
    pub fn encode(&self, text: impl AsRef<[u8]>, allow_special: bool) -> Result<Vec<u32>> {
        let text = text.as_ref();
        let mut tokens = vec![0; text.len()]; // no token is shorter than a byte
        let n = get(|n| unsafe {
            let text_ptr = text.as_ptr().cast();
            sys::gptoss_tokenizer_encode(
                self.handle, text_ptr, text.len(), allow_special.into(), tokens.as_mut_ptr(), tokens.len(), n,
            )
        })?;
        tokens.truncate(n);
        Ok(tokens)
    }

    /// The bytes of a text token; part of a character is normal.
    pub fn decode(&self, token: u32) -> Result<&[u8]> {
        let mut bytes = ptr::null();
        let size = get(|size| unsafe { sys::gptoss_tokenizer_decode(self.handle, token, &mut bytes, size) })?;
        Ok(unsafe { slice::from_raw_parts(bytes.cast(), size) })
    }

    /// The bytes of several tokens, special ones by name.
    pub fn decode_tokens(&self, tokens: &[u32]) -> Result<Vec<u8>> {
        let decode = |text: &mut [u8]| {
            get(|size| unsafe {
                let text_ptr = text.as_mut_ptr().cast();
                sys::gptoss_tokenizer_decode_tokens(
                    self.handle, tokens.as_ptr(), tokens.len(), text_ptr, text.len(), size,
                )
            })
        };
        let mut text = vec![0; decode(&mut [])?];
        decode(&mut text)?;
        Ok(text)
    }

    /// The id of a special token by its name, such as `<|start|>`.
    pub fn special_token(&self, name: &str) -> Result<u32> {
        let name = c_string(name)?;
        get(|token| unsafe { sys::gptoss_tokenizer_find_special_token(self.handle, name.as_ptr(), token) })
    }

    pub fn special_token_name(&self, token: u32) -> Result<&str> {
        let mut name = ptr::null();
        check(unsafe { sys::gptoss_tokenizer_get_special_token_name(self.handle, token, &mut name) })?;
        Ok(unsafe { CStr::from_ptr(name) }.to_str().unwrap_or_default())
    }

    pub fn num_text_tokens(&self) -> Result<u32> {
        get(|n| unsafe { sys::gptoss_tokenizer_get_num_text_tokens(self.handle, n) })
    }

    pub fn num_special_tokens(&self) -> Result<u32> {
        get(|n| unsafe { sys::gptoss_tokenizer_get_num_special_tokens(self.handle, n) })
    }

    pub fn num_tokens(&self) -> Result<u32> {
        get(|n| unsafe { sys::gptoss_tokenizer_get_num_tokens(self.handle, n) })
    }

    /// The tokens of a Harmony conversation, `{"messages": [...]}`, ready for the assistant's turn.
    pub fn render(&self, conversation_json: &str) -> Result<Vec<u32>> {
        let mut tokens = Vec::new();
        loop {
            let n = get(|n| unsafe {
                let json = conversation_json.as_ptr().cast();
                sys::gptoss_harmony_render(
                    self.handle, json, conversation_json.len(), tokens.as_mut_ptr(), tokens.len(), n,
                )
            })?;
            if n <= tokens.len() {
                tokens.truncate(n);
                return Ok(tokens);
            }
            tokens.resize(n, 0);
        }
    }
}

impl Clone for Tokenizer {
    fn clone(&self) -> Tokenizer {
        unsafe { sys::gptoss_tokenizer_retain(self.handle) };
        Tokenizer { handle: self.handle }
    }
}

impl Drop for Tokenizer {
    fn drop(&mut self) {
        unsafe { sys::gptoss_tokenizer_release(self.handle) };
    }
}

pub(crate) fn c_string(text: &str) -> Result<CString> {
    CString::new(text).map_err(|_| Error::invalid_argument("a NUL within a string"))
}

pub(crate) fn c_path(path: &Path) -> Result<CString> {
    c_string(path.to_str().ok_or_else(|| Error::invalid_argument("a path that is not UTF-8"))?)
}
