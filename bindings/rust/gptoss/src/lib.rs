//! OpenAI's gpt-oss models on any Vulkan GPU, by libgptoss.
//!
//! ```no_run
//! # fn main() -> gptoss::Result<()> {
//! let model = gptoss::Model::open("gpt-oss-20b")?;
//! let mut context = gptoss::Context::new(&model)?;
//! context.append_text("The capital of France is")?;
//! for token in context.generate(&gptoss::GenerateOptions { max_tokens: 16, ..Default::default() })? {
//!     print!("{}", String::from_utf8_lossy(model.tokenizer()?.decode(token?)?));
//! }
//! # Ok(())
//! # }
//! ```
//!
//! # Finding the library
//!
//! A program that was linked to a `libgptoss.so` outside of the system's folders needs to be told where it is, by
//! `LD_LIBRARY_PATH` or once and for all by a `build.rs`, since Cargo hands no run path from a library to a program:
//!
//! ```no_run
//! // build.rs of a program that depends on the crate gptoss
//! if let Ok(folder) = std::env::var("DEP_GPTOSS_RUST_LIB_DIR") {
//!     println!("cargo:rustc-link-arg=-Wl,-rpath,{folder}");
//! }
//! ```
//!
//! # Threads
//!
//! [`Model`] and [`Tokenizer`] are shared by threads and cheap to clone. A [`Context`] may move to another thread, and
//! is used by one at a time, which the borrow checker sees to; a [`Canceller`] stops it from any other.

mod adapter;
mod context;
mod error;
mod generation;
mod grammar;
mod harmony;
mod model;
mod sampler;
mod taps;
mod together;
mod tokenizer;

pub use adapter::{Adapter, AdapterInfo};
pub use context::{Canceller, Context, ContextStats, KernelTime};
pub use error::{Error, Result, Status};
pub use generation::{
    GenerateOptions, Generated, Generation, Logprobs, NextToken, Output, PromptLookup, StopReason, TokenStream, Usage,
};
pub use grammar::Grammar;
pub use harmony::{HarmonyParser, HarmonyState};
pub use model::{
    devices, measure_bandwidth, DeviceInfo, DeviceType, KernelTier, KvType, LogLevel, MemoryEstimate, Model, ModelInfo,
    ModelOptions, Pooling, WeightType,
};
pub use sampler::Sampler;
pub use taps::{TapKind, TapOptions, Tapped};
pub use together::{generate_together, GenerateRequest};
pub use tokenizer::Tokenizer;

/// The version of the library that is loaded: major, minor, patch.
pub fn library_version() -> (u32, u32, u32) {
    let version = unsafe { gptoss_sys::gptoss_version() };
    (version / 10000, version / 100 % 100, version % 100)
}

/// Misuse that the compiler refuses. What is borrowed and used as it should be compiles:
/// ```no_run
/// fn use_it(mut context: gptoss::Context) {
///     drop(context.generate(&Default::default()));
///     std::thread::spawn(move || context.num_tokens());
/// }
/// ```
/// After it was dropped:
/// ```compile_fail,E0382
/// fn use_it(context: gptoss::Context) {
///     drop(context);
///     context.num_tokens();
/// }
/// ```
/// While a generation runs on it:
/// ```compile_fail,E0502
/// fn use_it(mut context: gptoss::Context) {
///     let generation = context.generate(&Default::default());
///     context.num_tokens();
///     drop(generation);
/// }
/// ```
/// Twice in one call:
/// ```compile_fail,E0499
/// fn use_it(mut context: gptoss::Context) {
///     let options = Default::default();
///     let twice = [0, 1].map(|_| gptoss::GenerateRequest::new(&mut context, &options));
/// }
/// ```
/// From two threads:
/// ```compile_fail,E0277
/// fn use_it(context: &'static gptoss::Context) {
///     std::thread::spawn(move || context.num_tokens());
/// }
/// ```
/// ```compile_fail,E0277
/// fn use_it(parser: &'static gptoss::HarmonyParser) {
///     std::thread::spawn(move || parser.is_malformed());
/// }
/// ```
#[cfg(doctest)]
struct Misuse;
