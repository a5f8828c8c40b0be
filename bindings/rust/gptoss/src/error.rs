use gptoss_sys as sys;
use std::any::Any;
use std::cell::RefCell;
use std::panic::resume_unwind;
use std::{ffi::CStr, fmt};

pub type Result<T> = std::result::Result<T, Error>;

/// Why a call failed; gptoss.h says more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Status {
    InvalidArgument,
    UnsupportedArgument,
    InvalidState,
    IoError,
    InsufficientMemory,
    InsufficientResources,
    UnsupportedSystem,
    ContextOverflow,
    DeviceLost,
    Cancelled,
    InternalError,
}

/// What the library reports.
#[derive(Clone, Debug)]
pub struct Error {
    status: Status,
    message: String,
}

impl Error {
    pub fn status(&self) -> Status {
        self.status
    }

    pub(crate) fn invalid_argument(message: &str) -> Error {
        Error { status: Status::InvalidArgument, message: message.to_string() }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Error {}

/// What failed in this thread's last call that did.
pub(crate) fn last_error() -> String {
    unsafe { CStr::from_ptr(sys::gptoss_last_error()) }.to_string_lossy().into_owned()
}

/// What a status is called.
pub(crate) fn status_text(status: sys::gptoss_status) -> String {
    unsafe { CStr::from_ptr(sys::gptoss_status_string(status)) }.to_string_lossy().into_owned()
}

pub(crate) fn check(status: sys::gptoss_status) -> Result<()> {
    check_as(status, last_error)
}

thread_local! {
    /// A panic of a callback that the library called in this thread, and whose call it then cancelled.
    pub(crate) static PANIC: RefCell<Option<Box<dyn Any + Send>>> = const { RefCell::new(None) };
}

pub(crate) fn check_as(status: sys::gptoss_status, message: impl FnOnce() -> String) -> Result<()> {
    if status == sys::gptoss_status_cancelled {
        if let Some(panic) = PANIC.with(|of_thread| of_thread.borrow_mut().take()) {
            resume_unwind(panic);
        }
    }
    let status = match status {
        sys::gptoss_status_success => return Ok(()),
        sys::gptoss_status_invalid_argument => Status::InvalidArgument,
        sys::gptoss_status_unsupported_argument => Status::UnsupportedArgument,
        sys::gptoss_status_invalid_state => Status::InvalidState,
        sys::gptoss_status_io_error => Status::IoError,
        sys::gptoss_status_insufficient_memory => Status::InsufficientMemory,
        sys::gptoss_status_insufficient_resources => Status::InsufficientResources,
        sys::gptoss_status_unsupported_system => Status::UnsupportedSystem,
        sys::gptoss_status_context_overflow => Status::ContextOverflow,
        sys::gptoss_status_device_lost => Status::DeviceLost,
        sys::gptoss_status_cancelled => Status::Cancelled,
        _ => Status::InternalError,
    };
    Err(Error { status, message: message() })
}

/// What a call stores in its last argument.
pub(crate) fn get<T: Default>(call: impl FnOnce(*mut T) -> sys::gptoss_status) -> Result<T> {
    let mut value = T::default();
    check(call(&mut value))?;
    Ok(value)
}
