use crate::context::Context;
use crate::error::{check, Result, PANIC};
use gptoss_sys as sys;
use std::mem::size_of;
use std::os::raw::{c_int, c_void};
use std::panic::{catch_unwind, AssertUnwindSafe};
use std::ptr;
use std::slice;

/// What a tap tells of a token; gptoss.h gives the shapes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TapKind {
    Embedding = sys::gptoss_tap_kind_embedding as isize,
    Hidden = sys::gptoss_tap_kind_hidden as isize,
    Final = sys::gptoss_tap_kind_final as isize,
    Router = sys::gptoss_tap_kind_router as isize,
    Experts = sys::gptoss_tap_kind_experts as isize,
    Attention = sys::gptoss_tap_kind_attention as isize,
}

impl TapKind {
    fn from_c(kind: sys::gptoss_tap_kind) -> TapKind {
        match kind {
            sys::gptoss_tap_kind_embedding => TapKind::Embedding,
            sys::gptoss_tap_kind_hidden => TapKind::Hidden,
            sys::gptoss_tap_kind_final => TapKind::Final,
            sys::gptoss_tap_kind_router => TapKind::Router,
            sys::gptoss_tap_kind_experts => TapKind::Experts,
            _ => TapKind::Attention,
        }
    }
}

/// What was tapped of one token, until the callback returns.
#[derive(Debug)]
pub struct Tapped<'a> {
    pub kind: TapKind,
    /// 0 for the embedding, the number of layers for the final state.
    pub layer: u32,
    pub position: usize,
    pub rows: usize,
    pub columns: usize,
    /// (rows, columns)
    pub values: &'a [f32],
}

/// Which kinds, layers and positions are wanted; `None` for all of them.
#[derive(Clone, Debug, Default)]
pub struct TapOptions {
    pub kinds: Vec<TapKind>,
    pub layers: Option<Vec<u32>>,
    pub positions: Option<Vec<u32>>,
    pub first_position: usize,
}

/// What the library calls; it stays where it is for as long as the tap does.
pub(crate) type OnTap = Box<dyn FnMut(Tapped) + Send>;

unsafe extern "C" fn receive(on_tap: *mut c_void, tapped: *const sys::gptoss_tap) -> c_int {
    let (on_tap, of) = (&mut *on_tap.cast::<OnTap>(), &*tapped);
    let tapped = Tapped {
        kind: TapKind::from_c(of.kind),
        layer: of.layer,
        position: of.position,
        rows: of.num_rows,
        columns: of.num_columns,
        values: slice::from_raw_parts(of.values, of.num_rows * of.num_columns),
    };
    match catch_unwind(AssertUnwindSafe(|| on_tap(tapped))) {
        Ok(()) => 0,
        Err(panic) => {
            PANIC.with(|of_thread| *of_thread.borrow_mut() = Some(panic));
            1
        }
    }
}

impl Context {
    /// From now on, calls that compute hand `on_tap` what is wanted of each token, also of those that are computed already.
    /// Takes the place of the tap before.
    pub fn set_tap(&mut self, options: &TapOptions, callback: impl FnMut(Tapped) + Send + 'static) -> Result<()> {
        let list = |values: &Option<Vec<u32>>| values.as_ref().map_or((ptr::null(), 0), |v| (v.as_ptr(), v.len()));
        let ((layers, num_layers), (positions, num_positions)) = (list(&options.layers), list(&options.positions));
        let tap: *mut OnTap = Box::into_raw(Box::new(Box::new(callback)));
        let in_c = sys::gptoss_tap_options {
            struct_size: size_of::<sys::gptoss_tap_options>(),
            kinds: options.kinds.iter().fold(0, |kinds, &kind| kinds | kind as u32),
            layers,
            num_layers,
            positions,
            num_positions,
            first_position: options.first_position,
            callback: Some(receive),
            user_data: tap.cast(),
            values_out: ptr::null_mut(),
            max_values: 0,
            num_values_out: ptr::null_mut(),
        };
        let result = check(unsafe { sys::gptoss_context_set_tap(self.idle(), &in_c) });
        if result.is_err() {
            drop(unsafe { Box::from_raw(tap) });
            return result;
        }
        self.inner().replace_tap(tap);
        Ok(())
    }

    /// Nothing is handed over any more.
    pub fn remove_tap(&mut self) -> Result<()> {
        check(unsafe { sys::gptoss_context_set_tap(self.idle(), ptr::null()) })?;
        self.inner().replace_tap(ptr::null_mut());
        Ok(())
    }
}
