use crate::error::{check, Result};
use crate::model::Model;
use crate::tokenizer::c_path;
use gptoss_sys as sys;
use std::mem::{size_of, zeroed};
use std::path::Path;
use std::ptr;
use std::sync::Arc;

/// A LoRA adapter of a model, for [`Context::set_adapter`](crate::Context::set_adapter); clones share it.
#[derive(Clone)]
pub struct Adapter {
    handle: Arc<Handle>,
}

struct Handle {
    adapter: sys::gptoss_adapter_t,
    _model: Model, // its log callback lives as long as this
}

// The library's adapters are immutable, for any number of threads.
unsafe impl Send for Handle {}
unsafe impl Sync for Handle {}

impl Drop for Handle {
    fn drop(&mut self) {
        unsafe { sys::gptoss_adapter_release(self.adapter) };
    }
}

/// gptoss.h says more.
#[derive(Clone, Copy, Debug)]
pub struct AdapterInfo {
    pub rank: u32,
    pub device_bytes: u64,
}

impl Adapter {
    /// `path`: a directory of PEFT's, with adapter_config.json and adapter_model.safetensors, or a GGUF file.
    pub fn open(model: &Model, path: impl AsRef<Path>) -> Result<Adapter> {
        let path = c_path(path.as_ref())?;
        let mut adapter = ptr::null_mut();
        check(unsafe { sys::gptoss_adapter_create(model.handle(), path.as_ptr(), &mut adapter) })?;
        Ok(Adapter { handle: Arc::new(Handle { adapter, _model: model.clone() }) })
    }

    pub fn info(&self) -> Result<AdapterInfo> {
        let mut info: sys::gptoss_adapter_info = unsafe { zeroed() };
        info.struct_size = size_of::<sys::gptoss_adapter_info>();
        check(unsafe { sys::gptoss_adapter_get_info(self.handle(), &mut info) })?;
        Ok(AdapterInfo { rank: info.rank, device_bytes: info.device_bytes })
    }

    pub(crate) fn handle(&self) -> sys::gptoss_adapter_t {
        self.handle.adapter
    }
}
