use crate::error::{check, get, Result};
use crate::tokenizer::Tokenizer;
use gptoss_sys as sys;
use std::os::raw::c_char;
use std::{ptr, slice, str};

/// What the assistant generates after [`Tokenizer::render`], as messages. A malformed turn is no error.
pub struct HarmonyParser {
    handle: sys::gptoss_harmony_parser_t,
}

// It belongs to one thread at a time: the methods that change it take &mut self, and it is not Sync.
unsafe impl Send for HarmonyParser {}

/// Where in a message a [`HarmonyParser`] is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HarmonyState {
    ExpectStart,
    Header,
    Content,
}

type Getter = unsafe extern "C" fn(sys::gptoss_harmony_parser_t, *mut *const c_char, *mut usize) -> sys::gptoss_status;

impl HarmonyParser {
    pub fn new(tokenizer: &Tokenizer) -> Result<HarmonyParser> {
        let mut handle = ptr::null_mut();
        check(unsafe { sys::gptoss_harmony_parser_create(tokenizer.handle(), &mut handle) })?;
        Ok(HarmonyParser { handle })
    }

    pub fn process(&mut self, token: u32) -> Result<()> {
        check(unsafe { sys::gptoss_harmony_parser_process(self.handle, token) })
    }

    pub fn reset(&mut self) -> Result<()> {
        check(unsafe { sys::gptoss_harmony_parser_reset(self.handle) })
    }

    fn text(&self, getter: Getter) -> Result<&str> {
        let mut text = ptr::null();
        let size = get(|size| unsafe { getter(self.handle, &mut text, size) })?;
        // The library gives UTF-8, valid until the parser changes.
        Ok(str::from_utf8(unsafe { slice::from_raw_parts(text.cast(), size) }).unwrap_or_default())
    }

    pub fn role(&self) -> Result<&str> {
        self.text(sys::gptoss_harmony_parser_get_role)
    }

    pub fn channel(&self) -> Result<&str> {
        self.text(sys::gptoss_harmony_parser_get_channel)
    }

    pub fn recipient(&self) -> Result<&str> {
        self.text(sys::gptoss_harmony_parser_get_recipient)
    }

    pub fn content_type(&self) -> Result<&str> {
        self.text(sys::gptoss_harmony_parser_get_content_type)
    }

    /// The text that the last token added, whole characters only.
    pub fn delta(&self) -> Result<&str> {
        self.text(sys::gptoss_harmony_parser_get_delta)
    }

    pub fn state(&self) -> Result<HarmonyState> {
        Ok(match get(|state| unsafe { sys::gptoss_harmony_parser_get_state(self.handle, state) })? {
            sys::gptoss_harmony_state_header => HarmonyState::Header,
            sys::gptoss_harmony_state_content => HarmonyState::Content,
            _ => HarmonyState::ExpectStart,
        })
    }

    pub fn is_malformed(&self) -> Result<bool> {
        Ok(get(|malformed| unsafe { sys::gptoss_harmony_parser_is_malformed(self.handle, malformed) })? != 0)
    }

    /// The messages so far as a JSON array, an unfinished one last.
    pub fn messages(&self) -> Result<String> {
        let read = |json: &mut [u8]| {
            let out = json.as_mut_ptr().cast();
            get(|size| unsafe { sys::gptoss_harmony_parser_get_messages(self.handle, out, json.len(), size) })
        };
        let mut json = vec![0; read(&mut [])?];
        read(&mut json)?;
        Ok(String::from_utf8_lossy(&json).into_owned())
    }
}

impl Drop for HarmonyParser {
    fn drop(&mut self) {
        unsafe { sys::gptoss_harmony_parser_release(self.handle) };
    }
}
